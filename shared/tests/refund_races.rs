//! Refunds against the real database: asked for at once by many, beside payments, and taken further at the simulator.

use chrono::TimeDelta;
use clap::Parser;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::{
    books,
    checkout::idempotency::{Key, Operation},
    clock,
    config::{self, Env},
    notify::Ladder,
    orders::OrderNo,
    payments::{self, Payment},
    refunds::{
        self, Decision, Refund, RefundEvent, RefundNo, RefundStatus, Report,
        create::{CreateError, Created, NotAllowed, Request, create},
        sql,
        step::{Stepped, step},
    },
    users::UserId,
    wechat::{Client, NativeOrder},
};
use simulator::{
    config::Cli,
    server::{self, Running},
};
use sqlx::PgPool;
use std::{path::PathBuf, sync::Arc};

/// Orders of three users, of 100 fen and 105 points each.
const ORDERS: &str = "
    insert into payment_packages (name, amount, points, bonus_points) values ('p', 100, 100, 5);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select 'ORDER' || n, 'user' || n % 3, 1, 'p', 100, 100, 5, 'wechat_native', date_trunc('second', now())
    from generate_series(10, 99) as n";

fn order_no(n: usize) -> OrderNo {
    format!("ORDER{n}").parse().expect("an order number")
}

fn payment(n: usize) -> Payment {
    Payment {
        order_no: order_no(n),
        transaction_id: format!("T{n}").parse().expect("a transaction id"),
        amount: 100.try_into().expect("an amount"),
        paid_at: clock::now(),
    }
}

async fn pay(db: &PgPool, payments: &[Payment]) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    payments::apply::apply(&mut tx, &payments.iter().collect::<Vec<_>>()).await?;
    tx.commit().await
}

async fn ask(db: &PgPool, order_no: &OrderNo, amount: Option<i64>, key: Option<&str>) -> Result<Created, CreateError> {
    let admin: UserId = "root".parse().expect("a user id");
    let key = key.map(|key| Key::new(admin.clone(), Operation::CreateRefund, key.into(), &format!("{amount:?}")));
    let amount = amount.map(|amount| amount.try_into().expect("an amount"));
    let request = Request { order_no, amount, reason: None, allow_negative_balance: false, requested_by: &admin };
    create(db, &request, key.as_ref()).await
}

async fn tell(db: &PgPool, reports: &[Report]) -> sqlx::Result<Vec<Decision>> {
    let mut tx = db.begin().await?;
    let decisions = refunds::apply::apply(&mut tx, &reports.iter().collect::<Vec<_>>(), Ladder::default()).await?;
    tx.commit().await?;
    Ok(decisions)
}

fn report(refund_no: &RefundNo, n: usize, event: RefundEvent, amount: i64) -> Report {
    Report {
        refund_no: refund_no.clone(),
        order_no: order_no(n),
        transaction_id: payment(n).transaction_id,
        wechat_refund_id: refund_no.as_str()[refund_no.as_str().len().saturating_sub(20)..].into(),
        event,
        succeeded_at: None,
        amount: amount.try_into().expect("an amount"),
        total: 100.try_into().expect("an amount"),
    }
}

async fn assert_sound(db: &PgPool) {
    let audit = books::sql::audit(db, TimeDelta::hours(1)).await.expect("the database");
    let broken: Vec<_> = audit.checks.iter().filter(|check| check.violations > 0).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

async fn balances(db: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(sum(balance), 0)::bigint from point_accounts")
        .fetch_one(db)
        .await
        .expect("rows")
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn many_who_ask_at_once_get_no_more_than_was_paid(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders");
    pay(&db, &[payment(10), payment(13)]).await.expect("paid");
    let order_no = order_no(10);
    let asked = join_all((0..16).map(|_| ask(&db, &order_no, Some(30), None))).await;
    assert_eq!(asked.iter().filter(|asked| asked.is_ok()).count(), 3);
    let too_much = |asked: &&Result<_, _>| matches!(asked, Err(CreateError::NotAllowed(NotAllowed::TooMuch(10))));
    assert_eq!(asked.iter().filter(too_much).count(), 13);
    ask(&db, &order_no, None, None).await.expect("the rest");
    assert!(matches!(ask(&db, &order_no, None, None).await, Err(CreateError::NotAllowed(NotAllowed::NothingLeft))));
    assert_eq!(balances(&db).await, 105, "all points of the one order, and none of the other");
    assert_sound(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn one_key_makes_one_refund_and_a_refused_request_does_not_use_it_up(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders");
    let order_no = order_no(10);
    for _ in 0..2 {
        let refused = ask(&db, &order_no, Some(30), Some("k")).await;
        assert!(matches!(refused, Err(CreateError::NotAllowed(NotAllowed::NotPaid))));
    }
    pay(&db, &[payment(10)]).await.expect("paid");
    let asked = join_all((0..8).map(|_| ask(&db, &order_no, Some(30), Some("k")))).await;
    let mut numbers: Vec<_> = asked.into_iter().map(|asked| asked.expect("a refund").refund().refund_no).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 1);
    assert!(matches!(ask(&db, &order_no, Some(31), Some("k")).await, Err(CreateError::KeyConflict)));
    assert_sound(&db).await;
}

/// Payments, requests and news of refunds for the same orders and accounts, in opposite orders: they wait, and never deadlock.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn payments_and_refunds_of_the_same_accounts_never_deadlock(db: PgPool) {
    sqlx::raw_sql(ORDERS).execute(&db).await.expect("orders");
    pay(&db, &(10..55).map(payment).collect::<Vec<_>>()).await.expect("paid");
    let mut parts = Vec::new();
    for n in 10..55 {
        parts.push((n, ask(&db, &order_no(n), Some(40), None).await.expect("a refund").refund().refund_no));
    }
    let forwards: Vec<_> = parts.iter().map(|(n, no)| report(no, *n, RefundEvent::Succeeded, 40)).collect();
    let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
    let foreign = |n: usize| report(&format!("MCH{n}").parse().expect("a number"), n, RefundEvent::Succeeded, 10);
    let foreign: Vec<_> = (10..55).rev().map(foreign).collect();
    let late: Vec<_> = (10..100).rev().map(payment).collect();

    let pays = late.chunks(30).map(|set| async { pay(&db, set).await.expect("no deadlock") });
    let news = [&forwards, &backwards, &foreign].map(|set| set.chunks(15).collect::<Vec<_>>()).concat();
    let news = news.into_iter().map(|set| async { tell(&db, set).await.map(drop).expect("no deadlock") });
    let asks = (10..55).map(|n| {
        let db = &db;
        async move { ask(db, &order_no(n), Some(20), None).await.map(drop).expect("a refund") }
    });
    tokio::join!(join_all(pays), join_all(news), join_all(asks));
    assert_eq!(balances(&db).await, 90 * 105 - 45 * (70 + 3));
    assert_sound(&db).await;
}

struct Wechat {
    client: Client,
    running: Running,
    folder: PathBuf,
}

impl Wechat {
    async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("recharge-simulator-{}", uuid::Uuid::now_v7()));
        let path = folder.to_str().expect("UTF-8");
        let options = ["--listen", "127.0.0.1:0", "--key-mode", "public-key", "--refund-delay-ms", "manual"];
        let cli = Cli::parse_from(["simulator", "--data-dir", path].into_iter().chain(options));
        let running = server::start(cli.config).await.expect("a simulator");
        let mut env = Env::of([("WECHAT_PAY_NOTIFY_URL", "http://127.0.0.1:9/notify")]);
        for line in std::fs::read_to_string(folder.join("merchant.env")).expect("its settings").lines() {
            if let Some((name, value)) = line.split_once('=') {
                env.set(name, value.trim_matches(['"', '\'']));
            }
        }
        let (merchant, keys) = config::merchant(&mut env).unwrap_or_else(|| panic!("{}", env.faults()));
        let client = Client::new(Arc::new(merchant), Arc::new(keys)).expect("a client");
        Self { client, running, folder }
    }

    async fn control(&self, path: &str, body: Value) {
        let url = format!("http://{}/control/{path}", self.running.address);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
    }

    async fn next_answers(&self, endpoint: &str, fault: &str, count: usize) {
        self.control("faults/next", json!({"endpoint": endpoint, "fault": fault, "count": count})).await;
    }

    /// Order 10 is paid, there and here, and all of it is to go back.
    async fn refund(&self, db: &PgPool) -> Refund {
        sqlx::raw_sql(ORDERS).execute(db).await.expect("orders");
        let order_no = &order_no(10);
        let time_expire = clock::now() + TimeDelta::minutes(30);
        let total = 100.try_into().expect("an amount");
        let order = NativeOrder { out_trade_no: order_no, description: "p", total, time_expire };
        self.client.place_native(&order).await.expect("an order");
        self.control(&format!("orders/{order_no}/pay"), json!({"notify": false})).await;
        let transaction = self.client.find_order(order_no).await.expect("the order");
        pay(db, &[self.client.payment(&transaction).expect("a payment")]).await.expect("paid");
        ask(db, order_no, None, None).await.expect("a refund").refund()
    }

    /// Takes the refund one step further, as a worker does.
    async fn step(&self, db: &PgPool, refund_no: &RefundNo) -> Stepped {
        let due = "update payment_refunds set next_attempt_at = now() where refund_no = $1";
        sqlx::query(due).bind(refund_no.as_str()).execute(db).await.expect("the database");
        let claimed = sql::claim(db, sql::Wanted { only: None, early: TimeDelta::zero() }, 1, TimeDelta::seconds(30))
            .await
            .expect("the database");
        step(db, &self.client, &claimed[0], Ladder::default(), None, async || Ok(())).await.expect("the database")
    }

    async fn stop(self) {
        self.running.stop().await;
        std::fs::remove_dir_all(self.folder).expect("its own folder");
    }
}

async fn state(db: &PgPool, refund_no: &RefundNo) -> (RefundStatus, Option<String>, bool) {
    let refund = sql::find(db, refund_no).await.expect("the database").expect("the refund");
    (refund.status, refund.failure_reason, refund.next_attempt_at.is_some())
}

/// Money may take days to come, and then the first call after it may fail for another cause.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn waiting_for_money_takes_no_step_of_the_ladder(db: PgPool) {
    let wechat = Wechat::start().await;
    let refund_no = wechat.refund(&db).await.refund_no;
    for age_hours in [0, 1, 5, 100] {
        let aged = "update payment_refunds set created_at = now() - make_interval(hours => $1)";
        sqlx::query(aged).bind(age_hours).execute(&db).await.expect("the database");
        for _ in 0..3 {
            wechat.next_answers("refund", "apiNotEnough", 1).await;
            let Stepped::Again { after, step: None } = wechat.step(&db, &refund_no).await else { panic!("it waits") };
            let hours = after.as_seconds_f64() / 3_600.0;
            let expected = f64::from(age_hours).min(6.0);
            assert!((hours - expected).abs() <= expected * 0.2 + 0.01, "{hours} after {age_hours} hours");
        }
    }
    wechat.next_answers("refund", "apiError", 3).await;
    let failed = wechat.step(&db, &refund_no).await;
    assert!(matches!(failed, Stepped::Again { step: Some(0), .. }), "{failed:?}");
    let (status, why, is_due) = state(&db, &refund_no).await;
    assert_eq!((status, is_due), (RefundStatus::Pending, true));
    assert!(why.is_some_and(|why| why.starts_with("outcome_unknown: ")));

    assert_eq!(wechat.step(&db, &refund_no).await, Stepped::Changed(Some(order_no(10))));
    assert_eq!(state(&db, &refund_no).await, (RefundStatus::Processing, None, true));
    assert_sound(&db).await;
    wechat.stop().await;
}
