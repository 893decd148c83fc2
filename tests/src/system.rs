//! One whole installation, for one test.

use crate::{
    Builder, Process, Proxy, eventually,
    servers::{
        Ran, amqp_url, database_url, drop_database, drop_queues, env_or, ops, proxied, run_ops, simulator_keys,
        with_database,
    },
};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use sqlx::{PgPool, Row, postgres::PgPoolOptions};
use std::{collections::BTreeMap, env::temp_dir, fs, net::SocketAddr, time::Duration};
use uuid::Uuid;

/// Signs the tests' tokens.
pub const JWT_SECRET: &str = "the tests' own secret, of more than 32 bytes";
/// Slow enough for a debug build on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A running installation. Dropping it ends its processes; [`System::finish`] also balances the books.
#[derive(Debug)]
pub struct System {
    /// The `api` processes.
    pub apis: Vec<Process>,
    /// The `worker` processes.
    pub workers: Vec<Process>,
    /// WeChat Pay.
    pub simulator: Process,
    /// Between the service and PostgreSQL. The test's own connection does not go through it.
    pub postgres: Proxy,
    /// Between the service and RabbitMQ.
    pub rabbitmq: Option<Proxy>,
    /// The test's own connection to the database.
    pub db: PgPool,
    /// The test's HTTP client.
    pub http: Client,
    /// The service's environment.
    pub env: BTreeMap<String, String>,
    balancer: Proxy,
    pub(crate) simulator_address: SocketAddr,
    database: String,
    direct_url: String,
    own_postgres: bool,
    own_broker: bool,
}

impl System {
    pub(crate) async fn start(builder: Builder) -> Self {
        let database = format!("recharge_test_{}", Uuid::now_v7().simple());
        let direct_url = match &builder.postgres_url {
            Some(url) => with_database(url, &database),
            None => database_url(&database),
        };
        let (postgres_url, postgres) = proxied(&direct_url, 5432).await;
        let mut env = BTreeMap::from([("DATABASE_URL".to_owned(), postgres_url)]);
        env.insert("PATH".into(), env_or("PATH", ""));
        ops(&env, &["migrate"]);
        ops(&env, &["seed"]);

        let mut rabbitmq = None;
        if builder.broker {
            let (url, proxy) = proxied(&builder.amqp_url.clone().unwrap_or_else(amqp_url), 5672).await;
            env.insert("AMQP_URL".into(), url);
            env.insert("QUEUE_PREFIX".into(), database.clone());
            rabbitmq = Some(proxy);
        }
        let balancer = Proxy::start(Vec::new()).await;
        let notify_url = format!("http://{}/api/payment/notify/wechat", balancer.address());

        let merchant_env = temp_dir().join(format!("{database}.env"));
        let clock_factor = builder.clock_factor.to_string();
        let keys = simulator_keys();
        let mut arguments = vec![
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            keys.to_str().expect("UTF-8"),
            "--env-file",
            merchant_env.to_str().expect("UTF-8"),
            "--clock-factor",
            &clock_factor,
            "--key-mode",
            builder.key_mode,
        ];
        arguments.extend(builder.simulator_arguments.iter().map(String::as_str));
        let mut simulator = Process::start("simulator", &arguments, &BTreeMap::new());
        let simulator_address = simulator.listening().await;
        for line in fs::read_to_string(&merchant_env).expect("the simulator writes it").lines() {
            if let Some((name, value)) = line.split_once('=') {
                env.insert(name.trim_start_matches("export ").into(), value.trim_matches(['"', '\'']).into());
            }
        }
        let _ = fs::remove_file(&merchant_env);
        if !builder.public_key {
            env.retain(|name, _| !name.starts_with("WECHAT_PAY_PUBLIC_KEY"));
        }
        for (name, value) in [
            ("JWT_SECRET", JWT_SECRET),
            ("DATA_ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("WECHAT_PAY_NOTIFY_URL", &notify_url),
            ("API_LISTEN", "127.0.0.1:0"),
            ("WORKER_LISTEN", "127.0.0.1:0"),
            ("SHUTDOWN_GRACE_SECONDS", "10"),
            // Most tests make many orders for one user.
            ("MAX_PENDING_ORDERS", "0"),
        ] {
            env.insert(name.into(), value.into());
        }
        env.extend(builder.env);

        let db = PgPoolOptions::new().max_connections(4).connect(&direct_url).await.expect("the database");
        let http = Client::builder().timeout(SOON).build().expect("a client");
        let (apis, workers) = (Vec::new(), Vec::new());
        let (own_postgres, own_broker) = (builder.postgres_url.is_some(), builder.amqp_url.is_some());
        let mut system = Self {
            apis,
            workers,
            simulator,
            postgres,
            rabbitmq,
            db,
            http,
            env,
            balancer,
            simulator_address,
            database,
            direct_url,
            own_postgres,
            own_broker,
        };
        for _ in 0..builder.apis {
            system.start_api().await;
        }
        for _ in 0..builder.workers {
            system.start_worker().await;
        }
        system
    }

    /// Starts one more `api` behind the address.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_api(&mut self) {
        let mut api = Process::start("api", &[], &self.env);
        let address = api.listening().await;
        self.ready(address).await;
        self.apis.push(api);
        let mut backends = Vec::new();
        for api in &mut self.apis {
            if api.is_running() {
                backends.push(api.listening().await);
            }
        }
        self.balancer.set_backends(backends);
    }

    /// Starts one more `worker`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_worker(&mut self) {
        let mut worker = Process::start("worker", &[], &self.env);
        let address = worker.listening().await;
        self.ready(address).await;
        self.workers.push(worker);
    }

    async fn ready(&self, address: SocketAddr) {
        let broker = if self.rabbitmq.is_some() { "up" } else { "unused" };
        let ask = async || {
            let answer = self.http.get(format!("http://{address}/readyz")).send().await.ok()?;
            answer.json::<Value>().await.ok()
        };
        let is_ready = |answer: &Option<Value>| {
            answer.as_ref().is_some_and(|answer| answer["ready"] == true && answer["broker"] == broker)
        };
        eventually("readiness", SOON, ask, is_ready).await;
    }

    /// The URL of a path of the service.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.balancer.address())
    }

    /// The callback's URL.
    pub fn notify_url(&self) -> String {
        self.url("/api/payment/notify/wechat")
    }

    /// Runs `ops` to its end, past the proxy before the database.
    pub fn ops(&self, arguments: &[&str]) -> Ran {
        let mut env = self.env.clone();
        env.insert("DATABASE_URL".into(), self.direct_url.clone());
        run_ops(&env, arguments)
    }

    /// A token for `user`.
    pub fn token(&self, user: &str) -> String {
        ops(&self.env, &["token", "--user", user])
    }

    /// Asks the service as `user`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn request(&self, method: Method, path: &str, user: &str, body: Option<&Value>) -> Response {
        let request = self.http.request(method, self.url(path)).bearer_auth(self.token(user));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// Asks the service as `user`, for a JSON answer of status 200.
    ///
    /// # Panics
    /// When the answer is another.
    pub async fn get(&self, path: &str, user: &str) -> Value {
        let answer = self.request(Method::GET, path, user, None).await;
        let (status, json) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
        assert_eq!(status, StatusCode::OK, "{path}: {json}");
        json
    }

    /// How many rows of the notify log have each status (and error code, where there is one).
    ///
    /// # Panics
    /// When the database is away.
    pub async fn log(&self) -> BTreeMap<String, i64> {
        let rows = sqlx::query(
            "select concat_ws(' ', process_status, error_code), count(*) from payment_notify_logs group by 1",
        )
        .fetch_all(&self.db)
        .await
        .expect("the database");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until the log is exactly this.
    pub async fn wait_for_log(&self, expected: &[(&str, i64)]) {
        let expected: BTreeMap<String, i64> = expected.iter().map(|(status, rows)| ((*status).into(), *rows)).collect();
        eventually("the notify log", SOON, async || self.log().await, |log| *log == expected).await;
    }

    /// One number out of the database.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.db).await.expect("the database")
    }

    /// Waits until one number is what it should be.
    pub async fn wait_for_count(&self, what: &str, sql: &'static str, expected: i64) {
        eventually(what, SOON * 2, async || self.count(sql).await, |count| *count == expected).await;
    }

    /// Balances the books and ends the installation. Every system test ends with it.
    ///
    /// # Panics
    /// When something does not add up, or PostgreSQL saw a deadlock.
    pub async fn finish(self) {
        let audit = self.ops(&["audit", "--json"]);
        assert_eq!(audit.code, Some(0), "the books: {}{}", audit.out, audit.err);
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        assert_eq!(self.count(deadlocks).await, 0, "a deadlock");
        let Self { apis, workers, simulator, db, database, rabbitmq, own_postgres, own_broker, .. } = self;
        let had_broker = rabbitmq.is_some() && !own_broker;
        drop((apis, workers, simulator, rabbitmq));
        db.close().await;
        if !own_postgres {
            drop_database(&database).await;
        }
        if had_broker {
            drop_queues(&database).await;
        }
    }
}
