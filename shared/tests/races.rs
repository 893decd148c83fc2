//! Transactions that meet. The test holds a row, so that the first stands in its middle and the second behind it; then it
//! lets go. Who stands where PostgreSQL itself says, so nothing here depends on time.

use clap::Parser;
use serde_json::{Value, json};
use shared::{
    books, checkout,
    checkout::{
        End, Ended, Truth,
        idempotency::{Key, Operation},
    },
    clock,
    config::{self, Env},
    notify::{
        Closing, Fault, Ladder, NewNotify, NotifyHeaders, NotifyId, NotifyType, Outcome, ProcessStatus, retry,
        sql as log,
    },
    orders::{self, OrderNo, PaymentStatus, sql::Scope},
    payments::{self, Payment},
    refunds::{
        self, RefundEvent, Report,
        create::{CreateError, Created, NotAllowed, Request},
    },
    users::UserId,
    wechat::{Client, NativeOrder, TradeState},
};
use simulator::{
    config::Cli,
    server::{self, Running},
};
use sqlx::{AssertSqlSafe, PgPool, PgTransaction, postgres::PgPoolOptions};
use std::{path::PathBuf, pin::Pin, str::FromStr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Two orders for each of three users, of 100 fen, 100 points and 5 on top.
const WORLD: &str = "
    insert into payment_packages (name, amount, points) values ('p', 100, 100);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select 'ORDER' || n, (array['amy', 'bob', 'carl'])[1 + (n - 1) % 3], 1, 'p', 100, 100, 5, 'wechat_native',
        date_trunc('second', now()) + interval '1 hour'
    from generate_series(1, 6) as n;
    insert into point_accounts (user_id, balance) values ('amy', 0), ('bob', 0), ('carl', 0)";

/// What the test holds.
const ORDER1: &str = "select from payment_orders where order_no = 'ORDER1' for update";
const ORDER2: &str = "select from payment_orders where order_no = 'ORDER2' for update";
const AMY: &str = "select from point_accounts where user_id = 'amy' for update";
const BOB: &str = "select from point_accounts where user_id = 'bob' for update";
const PACE: &str = "select from payment_notify_retry_pace for update";

fn of<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

async fn world(db: &PgPool) {
    sqlx::raw_sql(WORLD).execute(db).await.expect("orders");
}

async fn hold(db: &PgPool, gate: &'static str) -> PgTransaction<'static> {
    let mut tx = db.begin().await.expect("a transaction");
    sqlx::query(gate).execute(&mut *tx).await.expect(gate);
    tx
}

/// Waits until so many sessions stand at a lock.
async fn standing(db: &PgPool, expected: i64) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let sql =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let sessions: i64 = sqlx::query_scalar(sql).fetch_one(db).await.expect("the database");
        if sessions == expected {
            return;
        }
        assert!(Instant::now() < until, "{sessions} sessions stand at a lock, not {expected}");
        tokio::task::yield_now().await;
    }
}

/// Lets `first` stand at the gate and `second` behind it or behind `first`, then opens it; answers what came of both.
fn in_turn<A: Send + 'static, B: Send + 'static>(
    db: &PgPool,
    gate: &'static str,
    first: impl Future<Output = A> + Send + 'static,
    second: impl Future<Output = B> + Send + 'static,
) -> Pin<Box<impl Future<Output = (A, B)>>> {
    Box::pin(async move {
        let gate = hold(db, gate).await;
        let first = tokio::spawn(first);
        standing(db, 1).await;
        let second = tokio::spawn(second);
        standing(db, 2).await;
        gate.rollback().await.expect("open");
        (first.await.expect("no panic"), second.await.expect("no panic"))
    })
}

/// The books are right, so many points are out, and nobody had to be shot.
async fn assert_sound(db: &PgPool, points: i64) {
    let audit = books::sql::audit(db, chrono::TimeDelta::hours(1)).await.expect("an audit");
    assert!(audit.ok, "{:?}", audit.checks.iter().filter(|check| check.violations > 0).collect::<Vec<_>>());
    let out = "select sum(balance)::bigint from point_accounts";
    assert_eq!(sqlx::query_scalar::<_, i64>(out).fetch_one(db).await.expect("accounts"), points);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(sqlx::query_scalar::<_, i64>(deadlocks).fetch_one(db).await.expect("figures"), 0);
}

fn payment(order_no: &str) -> Payment {
    Payment {
        order_no: of(order_no),
        transaction_id: of(&format!("T{order_no}")),
        amount: 100.try_into().expect("fen"),
        paid_at: clock::now(),
    }
}

/// Applies payments as a notification does: how many settled their order.
async fn pay(db: PgPool, payments: Vec<Payment>) -> usize {
    let mut tx = db.begin().await.expect("a transaction");
    let applied = payments::apply::apply(&mut tx, &payments.iter().collect::<Vec<_>>()).await;
    let decisions = applied.expect("no deadlock");
    tx.commit().await.expect("committed");
    assert!(!decisions.iter().any(|decision| matches!(decision, payments::Decision::Refuse(_))), "{decisions:?}");
    decisions.iter().filter(|decision| matches!(decision, payments::Decision::Settle(_))).count()
}

fn paid(db: &PgPool, order_nos: &[&str]) -> impl Future<Output = usize> + Send + use<> {
    pay(db.clone(), order_nos.iter().map(|order_no| payment(order_no)).collect())
}

fn succeeded(refund_no: &str, order_no: &str, fen: i64) -> Report {
    Report {
        refund_no: of(refund_no),
        order_no: of(order_no),
        transaction_id: of(&format!("T{order_no}")),
        wechat_refund_id: format!("{:.32}", format!("W{refund_no}")),
        event: RefundEvent::Succeeded,
        succeeded_at: Some(clock::now()),
        amount: fen.try_into().expect("fen"),
        total: 100.try_into().expect("fen"),
    }
}

/// Applies news of refunds as a notification does.
async fn tell(db: PgPool, reports: Vec<Report>) -> Vec<refunds::Decision> {
    let mut tx = db.begin().await.expect("a transaction");
    let told = refunds::apply::apply(&mut tx, &reports.iter().collect::<Vec<_>>(), Ladder::default()).await;
    let decisions = told.expect("no deadlock");
    tx.commit().await.expect("committed");
    decisions
}

/// Asks for a refund of all that is left, or of a part.
async fn ask_back(
    db: PgPool,
    order_no: &'static str,
    fen: Option<i64>,
    key: Option<&str>,
) -> Result<Created, CreateError> {
    let (order_no, root): (OrderNo, UserId) = (of(order_no), of("root"));
    let key = key.map(|key| Key::new(root.clone(), Operation::CreateRefund, key.to_owned(), "the same"));
    let amount = fen.map(|fen| fen.try_into().expect("fen"));
    let request =
        Request { order_no: &order_no, amount, reason: None, allow_negative_balance: false, requested_by: &root };
    refunds::create::create(&db, &request, key.as_ref()).await
}

fn new(created: Result<Created, CreateError>) -> refunds::Refund {
    match created.expect("a refund") {
        Created::New(refund) => refund,
        Created::Repeated(refund) => panic!("{refund:?} is not new"),
    }
}

fn refused(created: Result<Created, CreateError>) -> NotAllowed {
    match created {
        Err(CreateError::NotAllowed(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn is_applied(decisions: &[refunds::Decision]) -> bool {
    decisions.iter().all(|decision| decision.change().is_some())
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn two_notifications_of_one_payment_credit_once(db: PgPool) {
    world(&db).await;
    let twice = in_turn(&db, AMY, paid(&db, &["ORDER1"]), paid(&db, &["ORDER1"])).await;
    assert_eq!(twice, (1, 0));
    assert_sound(&db, 105).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn the_first_two_payments_of_a_user_make_one_account(db: PgPool) {
    world(&db).await;
    sqlx::raw_sql("delete from point_accounts").execute(&db).await.expect("nobody has one");
    let gate = "insert into point_accounts (user_id, balance) values ('amy', 0)";
    assert_eq!(in_turn(&db, gate, paid(&db, &["ORDER1"]), paid(&db, &["ORDER4"])).await, (1, 1));
    assert_sound(&db, 210).await;
}

/// Each holds what the other wants next, unless both take them in one order.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn sets_with_orders_and_accounts_in_opposite_order_wait_for_each_other(db: PgPool) {
    world(&db).await;
    let (first, second) = (paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), paid(&db, &["ORDER3", "ORDER1"]));
    assert_eq!(in_turn(&db, ORDER2, first, second).await, (3, 0));
    assert_sound(&db, 315).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn sets_that_share_accounts_only_wait_for_each_other(db: PgPool) {
    world(&db).await;
    let (first, second) = (paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), paid(&db, &["ORDER6", "ORDER4"]));
    assert_eq!(in_turn(&db, BOB, first, second).await, (3, 2));
    assert_sound(&db, 525).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn payments_and_refunds_of_other_orders_share_accounts(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER4", "ORDER5", "ORDER6"]).await;
    let news = |order_nos: &[&str]| {
        tell(db.clone(), order_nos.iter().map(|no| succeeded(&format!("console{no}"), no, 50)).collect())
    };
    let (settled, told) =
        in_turn(&db, BOB, paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), news(&["ORDER6", "ORDER4"])).await;
    assert!(settled == 3 && is_applied(&told));
    assert_sound(&db, 6 * 105 - 2 * 52).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn refunds_and_payments_of_other_orders_share_accounts(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER4", "ORDER5", "ORDER6"]).await;
    let news = ["ORDER4", "ORDER5", "ORDER6"].map(|no| succeeded(&format!("console{no}"), no, 100));
    let (told, settled) = in_turn(&db, BOB, tell(db.clone(), news.into()), paid(&db, &["ORDER3", "ORDER1"])).await;
    assert!(settled == 2 && is_applied(&told));
    assert_sound(&db, 2 * 105).await;
}

/// A database may sort texts as people do, `b` before `Bob`; locks are taken by bytes all the same.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn the_order_of_locks_is_not_the_languages(db: PgPool) {
    let name = format!("recharge_test_{}", uuid::Uuid::now_v7().simple());
    let run = async |sql: String| sqlx::raw_sql(AssertSqlSafe(sql)).execute(&db).await.expect("the server");
    run(format!(
        "create database {name} template template0 encoding 'UTF8' locale 'C.UTF-8' locale_provider icu icu_locale 'en-US'"
    ))
    .await;
    let english = PgPoolOptions::new().connect_with((*db.connect_options()).clone().database(&name)).await;
    let outcome = tokio::spawn(meet_in_english(english.expect("the new database"))).await;
    run(format!("drop database {name} with (force)")).await;
    assert_eq!(outcome.expect("no deadlock"), 3);
}

async fn meet_in_english(db: PgPool) -> usize {
    shared::MIGRATOR.run(&db).await.expect("migrated");
    world(&db).await;
    let rename = "alter table point_entries disable trigger all; alter table point_accounts disable trigger all;
        update payment_orders set user_id = case user_id when 'bob' then 'b' when 'carl' then 'Bob' else 'amy' end;
        update point_accounts set user_id = case user_id when 'bob' then 'b' when 'carl' then 'Bob' else 'amy' end;
        alter table point_entries enable trigger all; alter table point_accounts enable trigger all";
    sqlx::raw_sql(rename).execute(&db).await.expect("other names");
    paid(&db, &["ORDER4", "ORDER6"]).await;
    let news = ["ORDER4", "ORDER6"].map(|no| succeeded(&format!("console{no}"), no, 100));
    let gate = "select from point_accounts where user_id = 'b' for update";
    let (settled, told) =
        in_turn(&db, gate, paid(&db, &["ORDER1", "ORDER2", "ORDER3"]), tell(db.clone(), news.into())).await;
    assert!(is_applied(&told));
    settled
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn two_refunds_of_one_order_never_take_too_much(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER1", "ORDER2", "ORDER4"]).await;
    let (first, second) =
        in_turn(&db, AMY, ask_back(db.clone(), "ORDER1", None, None), ask_back(db.clone(), "ORDER1", None, None)).await;
    assert_eq!((new(first).amount.get(), refused(second)), (100, NotAllowed::NothingLeft));

    let part = |order_no| ask_back(db.clone(), order_no, Some(60), None);
    let (first, second) = in_turn(&db, BOB, part("ORDER2"), part("ORDER2")).await;
    assert_eq!((new(first).amount.get(), refused(second)), (60, NotAllowed::TooMuch(40)));

    let again = || ask_back(db.clone(), "ORDER4", Some(60), Some("key"));
    let (first, second) = in_turn(&db, AMY, again(), again()).await;
    assert_eq!(new(first).refund_no, second.expect("a repeat").refund().refund_no);
    assert_sound(&db, 3 * 105 - 105 - 63 - 63).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_refund_that_is_asked_for_meets_news_of_another_one(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER1", "ORDER2"]).await;
    let first = new(ask_back(db.clone(), "ORDER1", Some(40), None).await);
    let news = succeeded(first.refund_no.as_str(), "ORDER1", 40);
    let (rest, told) =
        in_turn(&db, AMY, ask_back(db.clone(), "ORDER1", None, None), tell(db.clone(), vec![news])).await;
    assert_eq!(new(rest).amount.get(), 60);
    assert!(is_applied(&told));
    assert_sound(&db, 105).await;

    let first = new(ask_back(db.clone(), "ORDER2", Some(40), None).await);
    let news = succeeded(first.refund_no.as_str(), "ORDER2", 40);
    let (told, rest) =
        in_turn(&db, BOB, tell(db.clone(), vec![news]), ask_back(db.clone(), "ORDER2", None, None)).await;
    assert_eq!(new(rest).amount.get(), 60);
    assert!(is_applied(&told));
    assert_sound(&db, 0).await;
}

/// WeChat Pay executes one of the two, and refuses ours.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_refund_of_ours_crosses_one_from_the_console(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER1", "ORDER2"]).await;
    let console = |order_no| tell(db.clone(), vec![succeeded(&format!("console{order_no}"), order_no, 100)]);
    let (ours, told) = in_turn(&db, AMY, ask_back(db.clone(), "ORDER1", None, None), console("ORDER1")).await;
    assert!(is_applied(&told));
    let mut tx = db.begin().await.expect("a transaction");
    assert!(refunds::apply::fail(&mut tx, &new(ours), "nothing is left").await.expect("failed"));
    tx.commit().await.expect("committed");
    assert_sound(&db, 105).await;

    let (told, ours) = in_turn(&db, BOB, console("ORDER2"), ask_back(db.clone(), "ORDER2", None, None)).await;
    assert!(is_applied(&told));
    assert_eq!(refused(ours), NotAllowed::NothingLeft);
    assert_sound(&db, 0).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn news_of_a_refund_from_the_console_comes_twice_at_once(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER1"]).await;
    let news = || tell(db.clone(), vec![succeeded("console", "ORDER1", 100)]);
    let (first, second) = in_turn(&db, AMY, news(), news()).await;
    assert!(is_applied(&first));
    assert_eq!(second, [refunds::Decision::Duplicate]);
    assert_sound(&db, 0).await;
}

/// Our call is refused for good by one worker's answer, and news of it comes to another: the first to lock decides.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_refund_that_fails_meets_news_that_contradicts_it(db: PgPool) {
    world(&db).await;
    paid(&db, &["ORDER1"]).await;
    let ours = new(ask_back(db.clone(), "ORDER1", None, None).await);
    let news = tell(db.clone(), vec![succeeded(ours.refund_no.as_str(), "ORDER1", 100)]);
    let failing = {
        let db = db.clone();
        async move {
            let mut tx = db.begin().await.expect("a transaction");
            let failed = refunds::apply::fail(&mut tx, &ours, "refused").await.expect("no deadlock");
            tx.commit().await.expect("committed");
            failed
        }
    };
    let (failed, told) = in_turn(&db, AMY, failing, news).await;
    assert!(failed);
    assert_eq!(told, [refunds::Decision::Refuse(Fault::RefundContradicted)]);
    assert_sound(&db, 105).await;
}

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

/// Rows of the log that failed and are due again.
async fn failed(db: &PgPool, count: usize) -> Vec<NotifyId> {
    let notify = || NewNotify {
        id: NotifyId::generate(),
        notify_type: NotifyType::Payment,
        rejected: None,
        client_ip: None,
        headers: NotifyHeaders::default(),
        body: b"{}".to_vec(),
    };
    let rows: Vec<_> = (0..count).map(|_| notify()).collect();
    log::insert(db, &rows.iter().collect::<Vec<_>>()).await.expect("stored");
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let outcome = Outcome::Retry { step: 0, after: chrono::TimeDelta::zero(), fault: Fault::OrderNotFound };
    close(db.begin().await.expect("a transaction"), &ids, &outcome).await;
    ids
}

async fn close(mut tx: PgTransaction<'_>, ids: &[NotifyId], outcome: &Outcome) {
    let closing = |id: &NotifyId| Closing { id: *id, order_no: None, outcome: outcome.clone() };
    let closings: Vec<_> = ids.iter().map(closing).collect();
    log::close(&mut tx, &closings, "here:1", None).await.expect("closed");
    tx.commit().await.expect("committed");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_worker_passes_by_what_is_being_given_back_by_hand(db: PgPool) {
    world(&db).await;
    let ids = failed(&db, 3).await;
    let gate = hold(&db, PACE).await;
    let retrying = db.clone();
    let retried = tokio::spawn(async move {
        let root: UserId = of("root");
        let by = retry::By { actor: &root, reason: None };
        retry::retry_all(&retrying, by, &retry::Filter::of(ProcessStatus::Retrying), 10_000).await.expect("retried")
    });
    standing(&db, 1).await;
    let mut tx = db.begin().await.expect("a transaction");
    assert!(log::claim(&mut tx, &ids).await.expect("claimed").is_empty(), "and waits for nobody");
    drop(tx);
    gate.rollback().await.expect("open");
    assert_eq!(retried.await.expect("no panic"), ids);
    let mut tx = db.begin().await.expect("a transaction");
    assert_eq!(log::claim(&mut tx, &ids).await.expect("claimed").len(), 3);
    close(tx, &ids, &Outcome::Duplicate).await;
    assert_sound(&db, 0).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_a_worker_has_in_hand_neither_rescue_nor_an_operator_touches(db: PgPool) {
    world(&db).await;
    let ids = failed(&db, 3).await;
    // The worker stands in the middle of its set.
    let gate = hold(&db, AMY).await;
    let (working, held) = (db.clone(), ids[..2].to_vec());
    let worker = tokio::spawn(async move {
        let mut tx = working.begin().await.expect("a transaction");
        assert_eq!(log::claim(&mut tx, &held).await.expect("claimed").len(), 2);
        payments::apply::apply(&mut tx, &[&payment("ORDER1")]).await.expect("applied");
        close(tx, &held, &Outcome::Processed).await;
    });
    standing(&db, 1).await;

    let root: UserId = of("root");
    let by = retry::By { actor: &root, reason: None };
    let retried = retry::retry_one(&db, by, ids[0]).await.expect("asked");
    assert_eq!(retried, Some(retry::Retried::Unchanged));
    let mut rescue = db.begin().await.expect("a transaction");
    let due = log::claim_due(&mut rescue, 10, chrono::TimeDelta::zero()).await.expect("claimed");
    assert_eq!(due.iter().map(|row| row.id).collect::<Vec<_>>(), ids[2..]);
    gate.rollback().await.expect("open");
    worker.await.expect("no panic");
    close(rescue, &ids[2..], &Outcome::Duplicate).await;

    let mut rescue = db.begin().await.expect("a transaction");
    assert!(log::claim_due(&mut rescue, 10, chrono::TimeDelta::zero()).await.expect("claimed").is_empty());
    assert!(log::claim(&mut rescue, &ids).await.expect("claimed").is_empty());
    assert_sound(&db, 105).await;
}
