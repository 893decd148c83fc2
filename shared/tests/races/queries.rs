//! Notifications beside what WeChat Pay is asked: a query that finds the same payment, and a cancel.

use crate::{
    meeting::{AMY, ORDER1, assert_sound, in_turn, of, world},
    money::{paid, pay},
};
use clap::Parser;
use serde_json::{Value, json};
use shared::{
    checkout::{self, End, Ended, Truth},
    clock,
    config::{self, Env},
    orders::{self, PaymentStatus, sql::Scope},
    payments::Payment,
    wechat::{Client, NativeOrder, TradeState},
};
use simulator::{
    config::Cli,
    server::{self, Running},
};
use sqlx::PgPool;
use std::{path::PathBuf, sync::Arc};

/// WeChat Pay, where ORDER1 is placed.
struct Wechat {
    client: Client,
    running: Running,
    folder: PathBuf,
}

impl Wechat {
    async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("recharge-simulator-{}", uuid::Uuid::now_v7()));
        let path = folder.to_str().expect("UTF-8");
        let cli = Cli::parse_from(["simulator", "--listen", "127.0.0.1:0", "--data-dir", path]);
        let running = server::start(cli.config).await.expect("a simulator");
        let mut env = Env::of([("WECHAT_PAY_NOTIFY_URL", "http://127.0.0.1:9/notify")]);
        for line in std::fs::read_to_string(folder.join("merchant.env")).expect("its settings").lines() {
            if let Some((name, value)) = line.split_once('=') {
                env.set(name, value.trim_matches(['"', '\'']));
            }
        }
        let (merchant, keys) = config::merchant(&mut env).unwrap_or_else(|| panic!("{}", env.faults()));
        let client = Client::new(Arc::new(merchant), Arc::new(keys)).expect("a client");
        let order = NativeOrder {
            out_trade_no: &of("ORDER1"),
            description: "points",
            total: 100.try_into().expect("fen"),
            time_expire: clock::now() + chrono::TimeDelta::minutes(30),
        };
        client.place_native(&order).await.expect("an order");
        Self { client, running, folder }
    }

    /// ORDER1 is paid, and nobody is told.
    async fn pay(&self) -> Payment {
        let url = format!("http://{}/control/orders/ORDER1/pay", self.running.address);
        let answer = reqwest::Client::new().post(url).json(&json!({"notify": false})).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON");
        let transaction = self.client.find_order(&of("ORDER1")).await.expect("the order");
        self.client.payment(&transaction).expect("a payment")
    }

    async fn stop(self) {
        self.running.stop().await;
        std::fs::remove_dir_all(self.folder).expect("its own folder");
    }
}

async fn status(db: &PgPool) -> PaymentStatus {
    orders::sql::find(db, &of("ORDER1"), Scope::All).await.expect("the database").expect("ORDER1").status
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_notification_meets_a_query_that_finds_the_same_payment(db: PgPool) {
    world(&db).await;
    let wechat = Wechat::start().await;
    let told = wechat.pay().await;
    let ask = |db: PgPool| {
        let client = wechat.client.clone();
        async move { checkout::ask(&db, &client, &of("ORDER1")).await.expect("an answer") }
    };
    assert_eq!(in_turn(&db, AMY, pay(db.clone(), vec![told.clone()]), ask(db.clone())).await, (1, Truth::Paid));
    assert_sound(&db, 105).await;
    wechat.stop().await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_query_that_finds_a_payment_meets_its_notification(db: PgPool) {
    world(&db).await;
    let wechat = Wechat::start().await;
    let told = wechat.pay().await;
    let (asking, client) = (db.clone(), wechat.client.clone());
    let ask = async move { checkout::ask(&asking, &client, &of("ORDER1")).await.expect("an answer") };
    assert_eq!(in_turn(&db, AMY, ask, pay(db.clone(), vec![told])).await, (Truth::Paid, 0));
    assert_sound(&db, 105).await;
    wechat.stop().await;
}

fn cancel(db: &PgPool, wechat: &Wechat) -> impl Future<Output = Ended> + Send + use<> {
    let (db, client) = (db.clone(), wechat.client.clone());
    async move {
        let order = orders::sql::find(&db, &of("ORDER1"), Scope::All).await.expect("the database").expect("ORDER1");
        checkout::end(&db, &client, &order, End::Cancelled).await.expect("an answer")
    }
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_notification_comes_before_the_mark_of_a_cancel(db: PgPool) {
    world(&db).await;
    let wechat = Wechat::start().await;
    assert_eq!(in_turn(&db, AMY, paid(&db, &["ORDER1"]), cancel(&db, &wechat)).await, (1, Ended::Otherwise));
    assert_eq!(status(&db).await, PaymentStatus::Paid);
    assert_sound(&db, 105).await;
    wechat.stop().await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_notification_comes_behind_the_mark_of_a_cancel(db: PgPool) {
    world(&db).await;
    let wechat = Wechat::start().await;
    assert_eq!(in_turn(&db, ORDER1, cancel(&db, &wechat), paid(&db, &["ORDER1"])).await, (Ended::AsAsked, 1));
    assert_eq!(status(&db).await, PaymentStatus::Paid, "money that arrived is honoured");
    let there = wechat.client.find_order(&of("ORDER1")).await.expect("the order");
    assert_eq!(there.trade_state, TradeState::Closed, "it was closed there before it was marked here");
    assert_sound(&db, 105).await;
    wechat.stop().await;
}
