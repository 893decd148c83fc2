//! One whole installation, for one test.

use crate::{
    Callback, Process, Proxy, eventually,
    servers::{
        Ran, amqp_url, database_url, drop_database, drop_queues, env_or, ops, proxied, run_ops, simulator_keys,
        with_database,
    },
};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{PgPool, Row, postgres::PgPoolOptions};
use std::{collections::BTreeMap, env::temp_dir, fs, net::SocketAddr, time::Duration};
use uuid::Uuid;

/// Signs the tests' tokens.
pub const JWT_SECRET: &str = "the tests' own secret, of more than 32 bytes";
/// Slow enough for a debug build on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// What a test asks for.
#[derive(Clone, Debug)]
pub struct Builder {
    apis: usize,
    workers: usize,
    broker: bool,
    amqp_url: Option<String>,
    postgres_url: Option<String>,
    simulator_arguments: Vec<String>,
    clock_factor: u32,
    key_mode: &'static str,
    public_key: bool,
    env: BTreeMap<String, String>,
}

impl Default for Builder {
    fn default() -> Self {
        let env = BTreeMap::new();
        Self {
            apis: 1,
            workers: 1,
            broker: true,
            amqp_url: None,
            postgres_url: None,
            simulator_arguments: Vec::new(),
            clock_factor: 1,
            key_mode: "public-key",
            public_key: true,
            env,
        }
    }
}

impl Builder {
    /// So many `api` processes behind one address.
    #[must_use]
    pub const fn apis(mut self, apis: usize) -> Self {
        self.apis = apis;
        self
    }

    /// So many `worker` processes.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Without RabbitMQ.
    #[must_use]
    pub const fn embedded(mut self) -> Self {
        self.broker = false;
        self
    }

    /// With this RabbitMQ, instead of the one that the tests share.
    #[must_use]
    pub fn amqp(mut self, url: &str) -> Self {
        self.amqp_url = Some(url.to_owned());
        self
    }

    /// With this PostgreSQL, instead of the one that the tests share.
    #[must_use]
    pub fn postgres(mut self, url: &str) -> Self {
        self.postgres_url = Some(url.to_owned());
        self
    }

    /// The simulator has these arguments besides.
    #[must_use]
    pub fn simulator(mut self, arguments: &[&str]) -> Self {
        self.simulator_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The simulator's retries come so many times faster than WeChat Pay's.
    #[must_use]
    pub const fn clock_factor(mut self, factor: u32) -> Self {
        self.clock_factor = factor;
        self
    }

    /// The simulator signs with its platform certificate, and the service has no public key of its.
    #[must_use]
    pub const fn certificates(mut self) -> Self {
        self.key_mode = "certificate";
        self.public_key = false;
        self
    }

    /// The simulator signs with both keys in turn, as while a merchant moves from one to the other.
    #[must_use]
    pub const fn both_keys(mut self) -> Self {
        self.key_mode = "mixed";
        self
    }

    /// The service's processes have this variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts everything, and waits until it is ready.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(self) -> System {
        System::start(self).await
    }
}

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
    simulator_address: SocketAddr,
    database: String,
    direct_url: String,
    own_postgres: bool,
    own_broker: bool,
}

impl System {
    async fn start(builder: Builder) -> Self {
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

    /// Makes an order of the package that sorts `nth`. No worker asks WeChat Pay about it, see [`Self::ask_about`]: what a
    /// callback does is then its own doing.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn order(&self, user: &str, nth: usize) -> Value {
        let packages = self.get("/api/payment/packages", user).await;
        let body = json!({"packageId": packages["items"][nth]["id"], "paymentMethod": "wechat_native"});
        let answer = self.request(Method::POST, "/api/payment/orders", user, Some(&body)).await;
        let (status, order) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
        assert_eq!(status, StatusCode::CREATED, "{order}");
        sqlx::query("update payment_orders set next_check_at = null where order_no = $1")
            .bind(order["orderNo"].as_str())
            .execute(&self.db)
            .await
            .expect("the database");
        order
    }

    /// Lets the workers ask WeChat Pay about the orders, from 5 s after now, as if they were made now.
    ///
    /// # Panics
    /// When that fails.
    pub async fn ask_about(&self, order_nos: &[String]) {
        sqlx::query("update payment_orders set next_check_at = now() + interval '5 seconds' where order_no = any($1)")
            .bind(order_nos)
            .execute(&self.db)
            .await
            .expect("the database");
    }

    /// Makes `count` pending orders straight in the database and at the simulator, for tests that need many. Order `n`
    /// belongs to user `u<n % users>`, costs 100 fen, and gives 100 and 5 points.
    ///
    /// # Panics
    /// When that fails.
    pub async fn bulk_orders(&self, count: usize, users: usize) -> Vec<String> {
        let numbers: Vec<String> = (0..count).map(|_| Uuid::now_v7().simple().to_string()).collect();
        let owners: Vec<String> = (0..count).map(|n| format!("u{}", n % users)).collect();
        sqlx::query(
            "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
                 payment_method, code_url, expired_at, next_check_at)
             select no, owner, (select min(id) from payment_packages), 'bulk', 100, 100, 5, 'wechat_native',
                 'weixin://bulk', date_trunc('second', now()) + interval '30 minutes', null
             from unnest($1::text[], $2::text[]) as new (no, owner)",
        )
        .bind(&numbers)
        .bind(&owners)
        .execute(&self.db)
        .await
        .expect("orders are stored");
        for number in &numbers {
            let body = json!({"outTradeNo": number, "total": 100, "notifyUrl": self.notify_url()});
            self.control(Method::POST, "/control/orders", Some(&body)).await;
        }
        numbers
    }

    /// The URL of a path of the simulator's.
    pub fn control_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.simulator_address)
    }

    /// Asks the simulator's control API, for an answer that is a success.
    ///
    /// # Panics
    /// When it is none.
    pub async fn control(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let request = self.http.request(method, self.control_url(path));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.expect("the simulator answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Pays an order at the simulator, which then sends its callback.
    pub async fn pay(&self, order_no: &str) {
        self.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&json!({}))).await;
    }

    /// Pays an order at the simulator, which then sends nothing; answers the callback for the test to send.
    pub async fn pay_silently(&self, order_no: &str) -> Callback {
        let body = json!({"notify": false});
        self.control(Method::POST, &format!("/control/orders/{order_no}/pay"), Some(&body)).await;
        self.sign(&json!({"outTradeNo": order_no})).await
    }

    /// A callback of the simulator's making, signed but not sent.
    pub async fn sign(&self, wish: &Value) -> Callback {
        Callback::of(&self.control(Method::POST, "/control/sign", Some(wish)).await)
    }

    /// Sends a callback to the service; answers the status and the code in the body.
    ///
    /// # Panics
    /// When there is no answer, or one that WeChat Pay would not understand.
    pub async fn send(&self, callback: &Callback) -> (StatusCode, String) {
        let answer = callback.send(&self.http, &self.notify_url()).await.expect("an answer");
        let (status, json) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
        (status, json["code"].as_str().expect("a code").to_owned())
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
