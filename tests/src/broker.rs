//! A RabbitMQ of a test's own, which may be restarted without harm to the others.

use crate::{eventually, wait::free_port};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use std::{
    env::temp_dir,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::timeout;
use uuid::Uuid;

/// Where Debian keeps the scripts that do not insist on a user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
/// A node takes about 15 s on a quiet machine.
const START_DEADLINE: Duration = Duration::from_mins(3);

/// For each answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A running node.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    port: u16,
    node: Child,
}

impl Broker {
    /// Starts a node; `None` where RabbitMQ is not installed (it may run in a container then).
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Option<Self> {
        if !Path::new(SCRIPTS).join("rabbitmq-server").exists() {
            return None;
        }
        let folder = temp_dir().join(format!("recharge-rabbitmq-{}", Uuid::now_v7().simple()));
        fs::create_dir_all(&folder).expect("a folder");
        let (port, dist_port) = (free_port(), free_port());
        fs::write(folder.join("enabled_plugins"), "[].").expect("a file");
        fs::write(folder.join("rabbitmq.conf"), format!("listeners.tcp.1 = 127.0.0.1:{port}\n")).expect("a file");
        fs::write(folder.join("dist_port"), dist_port.to_string()).expect("a file");
        let node = run_node(&folder);
        let broker = Self { folder, port, node };
        broker.is_up().await;
        Some(broker)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Kills it without a warning, and starts it again on what it has on disk.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.revive();
        self.is_up().await;
    }

    /// Stops it in good order, and starts it again.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn restart(&mut self) {
        self.signal("TERM");
        let node = &mut self.node;
        let ask = async || node.try_wait().expect("a child can be asked").is_some();
        eventually("RabbitMQ stops", START_DEADLINE, ask, |is_over| *is_over).await;
        self.revive();
        self.is_up().await;
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.node.wait();
    }

    /// Sends the node and all that belongs to it a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        // The script's child is the node; both are in a group of their own.
        let group = format!("-{}", self.node.id());
        let _ = Command::new("kill").args(["-s", name, "--", &group]).status();
    }

    /// Starts it again on what it has on disk, when it does not run. It takes its time to come up.
    ///
    /// # Panics
    /// When it cannot be asked, or started.
    pub fn revive(&mut self) {
        if self.node.try_wait().expect("a child can be asked").is_some() {
            self.node = run_node(&self.folder);
        }
    }

    /// Whether it lets us in.
    pub async fn answers(&self) -> bool {
        connect(&self.url()).await.is_some()
    }

    /// How many messages a queue holds that nobody has in hand; `None` when it does not say.
    pub async fn messages(&self, queue: &str) -> Option<u32> {
        messages(&self.url(), queue).await
    }

    async fn is_up(&self) {
        let ask = async || self.answers().await;
        eventually("RabbitMQ is up", START_DEADLINE, ask, |is_up| *is_up).await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How many messages a queue of the broker at `url` holds that nobody has in hand; `None` when it does not say.
pub async fn messages(url: &str, queue: &str) -> Option<u32> {
    let connection = connect(url).await?;
    let ask = async {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, FieldTable::default()).await
    };
    Some(timeout(ANSWER_TIMEOUT, ask).await.ok()?.ok()?.message_count())
}

/// A node that is starting or dying may take a connection, and then the client waits for ever.
async fn connect(url: &str) -> Option<Connection> {
    timeout(ANSWER_TIMEOUT, Connection::connect(url, ConnectionProperties::default())).await.ok()?.ok()
}

/// Publishes a message to a queue of the broker at `url`.
///
/// # Panics
/// When that fails.
pub async fn publish(url: &str, queue: &str, body: &[u8]) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker");
    let channel = connection.create_channel().await.expect("a channel");
    let (options, properties) = (BasicPublishOptions::default(), lapin::BasicProperties::default());
    let published = channel.basic_publish("".into(), queue.into(), options, body, properties).await;
    published.expect("sent").await.expect("taken");
    connection.close(200, "done".into()).await.expect("closed");
}

fn run_node(folder: &Path) -> Child {
    use std::os::unix::process::CommandExt;
    let dist_port = fs::read_to_string(folder.join("dist_port")).expect("a file");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let mut command = Command::new(format!("{SCRIPTS}/rabbitmq-server"));
    command
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("{name}@localhost"))
        .env("RABBITMQ_DIST_PORT", dist_port)
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // Else the system's own file forces its node's name.
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().expect("the node starts")
}
