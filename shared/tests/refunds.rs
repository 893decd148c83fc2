//! Refunds against the real database: what is claimed and when, and the transactions around the decisions.

use chrono::TimeDelta;
use shared::{
    checkout::idempotency::{Key, Operation},
    notify::{Fault, Ladder, retry::By},
    orders::OrderNo,
    payments::Payment,
    refunds::{
        Decision, Refund, RefundEvent, RefundNo, RefundStatus, Report,
        apply::{apply, fail},
        by_hand::{End, retry, settle},
        create::{CreateError, Created, NotAllowed, Request, create, preview},
        dead_letter::{DeadLetterError, create_misdirected},
        sql::{self, Trouble, Wanted},
    },
    users::UserId,
};
use sqlx::PgPool;
use tokio::task::JoinSet;

const LEASE: TimeDelta = TimeDelta::seconds(30);

const ORDERS: &str = "
    insert into payment_packages (name, amount, points, bonus_points) values ('p', 100, 100, 5);
    insert into payment_orders
        (order_no, user_id, package_id, package_name, amount, points, bonus_points, payment_method, expired_at)
    select 'ORDER' || n, 'alice', 1, 'p', 100, 100, 5, 'wechat_native', date_trunc('second', now())
    from generate_series(1, 4) as n;
    update payment_orders set payment_status = 'paid', transaction_id = 'T' || order_no, paid_at = now()
    where order_no <> 'ORDER4';
    insert into point_accounts (user_id, balance) values ('alice', 315);
    insert into point_entries (user_id, kind, delta, bonus_delta, balance_after, order_no)
    select 'alice', 'recharge', 105, 5, 105 * n, 'ORDER' || n from generate_series(1, 3) as n";

async fn world(db: &PgPool) {
    sqlx::raw_sql(ORDERS).execute(db).await.expect("three paid orders and one that is not");
}

fn order_no(text: &str) -> OrderNo {
    text.parse().expect("an order number")
}

fn root() -> UserId {
    "root".parse().expect("a user id")
}

async fn try_refund(db: &PgPool, order: &str, fen: Option<i64>, key: Option<&Key>) -> Result<Created, CreateError> {
    let request = Request {
        order_no: &order_no(order),
        amount: fen.map(|fen| fen.try_into().expect("an amount")),
        reason: None,
        allow_negative_balance: false,
        requested_by: &root(),
    };
    create(db, &request, key).await
}

async fn refund(db: &PgPool, order: &str, fen: i64) -> Refund {
    try_refund(db, order, Some(fen), None).await.expect("accepted").refund()
}

fn report(refund: &Refund, event: RefundEvent) -> Report {
    Report {
        refund_no: refund.refund_no.clone(),
        order_no: refund.order_no.clone().unwrap_or_else(|| order_no("elsewhere")),
        transaction_id: refund.transaction_id.clone(),
        wechat_refund_id: format!("W{}", &refund.refund_no.as_str()[..31]),
        event,
        succeeded_at: None,
        amount: refund.amount,
        total: refund.total,
    }
}

async fn tell(db: &PgPool, reports: &[Report]) -> Vec<Decision> {
    let mut tx = db.begin().await.expect("a transaction");
    let decisions = apply(&mut tx, &reports.iter().collect::<Vec<_>>(), Ladder::default()).await.expect("applied");
    tx.commit().await.expect("committed");
    decisions
}

async fn now(db: &PgPool, refund: &Refund) -> Refund {
    sql::find(db, &refund.refund_no).await.expect("the database").expect("it is there")
}

async fn balance(db: &PgPool) -> i64 {
    sqlx::query_scalar("select balance from point_accounts").fetch_one(db).await.expect("the account")
}

async fn assert_balanced(db: &PgPool) {
    let audit = shared::books::sql::audit(db, TimeDelta::seconds(60)).await.expect("the books");
    let off: Vec<_> = audit.checks.iter().filter(|check| check.violations > 0).collect();
    assert!(audit.ok, "{off:?}");
}

async fn claim(db: &PgPool, only: Option<&[RefundNo]>, early: TimeDelta) -> Vec<RefundNo> {
    let wanted = Wanted { only, early };
    let due = sql::count_due(db, wanted, 10).await.expect("counted");
    let claimed = sql::claim(db, wanted, 10, LEASE).await.expect("claimed");
    assert_eq!(usize::try_from(due).ok(), Some(claimed.len()), "what is counted is what is claimed");
    claimed.into_iter().map(|refund| refund.refund_no).collect()
}

async fn make_due(db: &PgPool, seconds_ago: i64) {
    sqlx::query("update payment_refunds set next_attempt_at = now() - make_interval(secs => $1) where next_attempt_at is not null")
        .bind(seconds_ago)
        .execute(db)
        .await
        .expect("the database");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_claimed_refund_is_anothers_only_when_the_claim_ends_or_does_not_count(db: PgPool) {
    world(&db).await;
    let nos = [refund(&db, "ORDER1", 10).await.refund_no];
    let zero = TimeDelta::zero();
    assert!(claim(&db, None, TimeDelta::seconds(-2)).await.is_empty(), "the broker has two seconds to deliver it");
    assert_eq!(claim(&db, Some(&nos), zero).await, nos);
    assert!(claim(&db, None, zero).await.is_empty() && claim(&db, Some(&nos), zero).await.is_empty(), "claimed");
    assert_eq!(claim(&db, Some(&nos), LEASE).await, nos, "delivered again: whoever claimed it is gone");
    make_due(&db, 1).await;
    assert_eq!(claim(&db, None, zero).await, nos, "the claim has ended");
    make_due(&db, 3).await;
    assert_eq!(claim(&db, None, TimeDelta::seconds(-2)).await, nos, "the broker has lost it");
    let others = [RefundNo::generate()];
    assert!(claim(&db, Some(&others), LEASE).await.is_empty());
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn questions_are_asked_when_they_are_due_and_not_before(db: PgPool) {
    world(&db).await;
    let accepted = refund(&db, "ORDER1", 10).await;
    tell(&db, &[report(&accepted, RefundEvent::Accepted)]).await;
    let nos = [accepted.refund_no.clone()];
    assert!(claim(&db, Some(&nos), TimeDelta::hours(1)).await.is_empty(), "a call may come early, a question need not");
    make_due(&db, 0).await;
    assert_eq!(claim(&db, None, TimeDelta::seconds(-2)).await, nos, "no broker names it");
    tell(&db, &[report(&accepted, RefundEvent::Succeeded)]).await;
    assert_eq!(now(&db, &accepted).await.next_attempt_at, None);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_is_put_off_must_not_have_moved_on(db: PgPool) {
    world(&db).await;
    let pending = refund(&db, "ORDER1", 10).await;
    let trouble = Some(Trouble { code: "no_auth", message: "m" });
    sql::put_off(&db, &pending, None, trouble).await.expect("put off");
    let dead = now(&db, &pending).await;
    assert_eq!((dead.attempts, dead.next_attempt_at), (1, None));
    assert_eq!(dead.failure_reason.as_deref(), Some("no_auth: m"));
    assert_eq!(sql::dead(&db, 10).await.expect("the database"), std::slice::from_ref(&pending.refund_no));

    let by = By { actor: &root(), reason: Some("put right") };
    let unknown = RefundNo::generate();
    let woken = retry(&db, by, &[pending.refund_no.clone(), unknown]).await.expect("woken");
    assert_eq!(woken, std::slice::from_ref(&pending.refund_no));
    assert!(sql::dead(&db, 10).await.expect("the database").is_empty());
    let nos = [pending.refund_no.clone()];
    assert_eq!(claim(&db, None, TimeDelta::seconds(-2)).await, nos, "no broker names it, so none is waited for");
    sql::put_off(&db, &dead, None, trouble).await.expect("put off");
    assert!(now(&db, &pending).await.next_attempt_at.is_some(), "an operator's word is newer than that attempt");

    tell(&db, &[report(&pending, RefundEvent::Stuck)]).await;
    sql::put_off(&db, &pending, None, trouble).await.expect("put off");
    let stuck = now(&db, &pending).await;
    assert_eq!((stuck.status, stuck.next_attempt_at.is_some()), (RefundStatus::Abnormal, true));
    sql::put_off(&db, &stuck, Some(LEASE), trouble).await.expect("put off");
    let reason = now(&db, &pending).await.failure_reason.expect("a reason");
    assert!(reason.contains("waits for an operator"), "a question that failed hides nothing: {reason}");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn trouble_that_has_passed_is_not_told_any_more(db: PgPool) {
    world(&db).await;
    let pending = refund(&db, "ORDER1", 10).await;
    tell(&db, &[report(&pending, RefundEvent::Accepted)]).await;
    let accepted = now(&db, &pending).await;
    let trouble = Some(Trouble { code: "outcome_unknown", message: "no answer" });
    sql::put_off(&db, &accepted, Some(LEASE), trouble).await.expect("put off");
    let asked = now(&db, &pending).await;
    assert_eq!(asked.failure_reason.as_deref(), Some("outcome_unknown: no answer"));
    sql::put_off(&db, &asked, Some(LEASE), None).await.expect("put off");
    assert_eq!(now(&db, &pending).await.failure_reason, None);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_set_is_decided_in_its_order_and_comes_to_the_same_twice(db: PgPool) {
    world(&db).await;
    let (first, second) = (refund(&db, "ORDER1", 60).await, refund(&db, "ORDER1", 40).await);
    let other = refund(&db, "ORDER2", 100).await;
    assert_eq!(balance(&db).await, 105);
    let news = [
        report(&first, RefundEvent::Succeeded),
        report(&second, RefundEvent::Succeeded),
        report(&first, RefundEvent::Succeeded),
        report(&other, RefundEvent::Closed),
        report(&other, RefundEvent::Succeeded),
    ];
    let decisions = tell(&db, &news).await;
    assert!(matches!(
        decisions[..],
        [
            Decision::Apply(_),
            Decision::Apply(_),
            Decision::Duplicate,
            Decision::Apply(_),
            Decision::Refuse(Fault::RefundContradicted)
        ]
    ));
    let again = tell(&db, &news[..4]).await;
    assert!(again.iter().all(|decision| *decision == Decision::Duplicate), "{again:?}");
    assert_eq!(balance(&db).await, 210);
    assert_balanced(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn one_that_failed_gives_back_what_it_took_once(db: PgPool) {
    world(&db).await;
    let pending = refund(&db, "ORDER1", 33).await;
    assert_eq!(balance(&db).await, 315 - 34);
    for expected in [true, false] {
        let mut tx = db.begin().await.expect("a transaction");
        assert_eq!(fail(&mut tx, &pending, "m").await.expect("the database"), expected);
        tx.commit().await.expect("committed");
        assert_eq!(balance(&db).await, 315);
    }
    let stale = refund(&db, "ORDER1", 1).await;
    make_due(&db, 0).await;
    let mut tx = db.begin().await.expect("a transaction");
    assert!(!fail(&mut tx, &stale, "m").await.expect("the database"), "another worker has it in hand");
    tx.rollback().await.expect("rolled back");
    let accepted = refund(&db, "ORDER1", 33).await;
    tell(&db, &[report(&accepted, RefundEvent::Accepted)]).await;
    let mut tx = db.begin().await.expect("a transaction");
    assert!(!fail(&mut tx, &accepted, "m").await.expect("the database"), "WeChat Pay has it");
    tx.rollback().await.expect("rolled back");
    assert_balanced(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn requests_and_news_at_once_never_take_too_much_nor_wait_for_each_other(db: PgPool) {
    world(&db).await;
    let mut racing = JoinSet::new();
    for n in 0..60 {
        let db = db.clone();
        racing.spawn(async move {
            let order = ["ORDER1", "ORDER2", "ORDER3"][n % 3];
            let Ok(created) = try_refund(&db, order, Some(10), None).await else { return 0 };
            let refund = created.refund();
            let end = if n % 2 == 0 { RefundEvent::Succeeded } else { RefundEvent::Closed };
            tell(&db, &[report(&refund, RefundEvent::Accepted)]).await;
            tell(&db, &[report(&refund, end)]).await;
            1
        });
    }
    let accepted: i64 = racing.join_all().await.into_iter().sum();
    assert!(accepted >= 30, "what was closed leaves room: {accepted}");
    assert_balanced(&db).await;
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(sqlx::query_scalar::<_, i64>(deadlocks).fetch_one(&db).await.expect("figures"), 0);
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_key_stands_for_one_request(db: PgPool) {
    world(&db).await;
    let key = |asked: &str| Key::new(root(), Operation::CreateRefund, "key".into(), asked);
    let first = try_refund(&db, "ORDER1", Some(10), Some(&key("a"))).await.expect("accepted");
    assert!(matches!(first, Created::New(_)));
    let again = try_refund(&db, "ORDER1", Some(10), Some(&key("a"))).await.expect("the same");
    assert!(matches!(&again, Created::Repeated(_)));
    assert_eq!(again.refund().refund_no, first.refund().refund_no);
    let other = try_refund(&db, "ORDER1", Some(11), Some(&key("b"))).await;
    assert!(matches!(other, Err(CreateError::KeyConflict)), "{other:?}");
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_preview_says_what_would_be_and_does_nothing(db: PgPool) {
    world(&db).await;
    let request = Request {
        order_no: &order_no("ORDER1"),
        amount: None,
        reason: None,
        allow_negative_balance: false,
        requested_by: &root(),
    };
    let seen = preview(&db, &request).await.expect("it is allowed");
    assert_eq!((seen.amount.get(), seen.points, seen.balance_after), (100, 105, 210));
    assert_eq!(balance(&db).await, 315);
    let unpaid = preview(&db, &Request { order_no: &order_no("ORDER4"), ..request.clone() }).await;
    assert!(matches!(unpaid, Err(CreateError::NotAllowed(NotAllowed::NotPaid))), "{unpaid:?}");
    let unknown = preview(&db, &Request { order_no: &order_no("ORDER5"), ..request }).await;
    assert!(matches!(unknown, Err(CreateError::NoOrder)), "{unknown:?}");
}

fn payment(order: &str, transaction_id: &str, fen: i64) -> Payment {
    Payment {
        order_no: order_no(order),
        transaction_id: transaction_id.parse().expect("a transaction id"),
        amount: fen.try_into().expect("an amount"),
        paid_at: chrono::DateTime::from_timestamp(4_000_000_000, 0).expect("an instant"),
    }
}

async fn give_back(db: &PgPool, payment: &Payment) -> Result<Refund, DeadLetterError> {
    let mut tx = db.begin().await?;
    let refund = create_misdirected(&mut tx, payment, None, &root()).await?;
    tx.commit().await?;
    Ok(refund)
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn stray_money_is_given_back_once_and_only_when_it_is_astray(db: PgPool) {
    world(&db).await;
    let refused = async |payment: Payment, why: NotAllowed| {
        let given = give_back(&db, &payment).await;
        assert!(matches!(&given, Err(DeadLetterError::NotAllowed(found)) if *found == why), "{why:?}: {given:?}");
    };
    refused(payment("ORDER1", "TORDER1", 100), NotAllowed::Settled).await;
    refused(payment("ORDER4", "T9", 100), NotAllowed::Settles).await;
    let old = Payment { paid_at: chrono::DateTime::UNIX_EPOCH, ..payment("ORDER1", "T9", 100) };
    refused(old, NotAllowed::TooLate).await;

    let twice = payment("ORDER1", "T9", 100);
    let mut racing = JoinSet::new();
    for _ in 0..5 {
        let (db, twice) = (db.clone(), twice.clone());
        racing.spawn(async move { give_back(&db, &twice).await });
    }
    let given: Vec<_> = racing.join_all().await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(given.len(), 1, "{given:?}");
    refused(twice.clone(), NotAllowed::NothingLeft).await;
    tell(&db, &[report(&given[0], RefundEvent::Closed)]).await;
    assert_eq!(give_back(&db, &twice).await.expect("a new number").amount.get(), 100);
    assert_eq!(balance(&db).await, 315);
    assert_balanced(&db).await;
}

#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn what_is_stuck_is_settled_by_hand_with_or_without_an_order(db: PgPool) {
    world(&db).await;
    let ours = refund(&db, "ORDER1", 100).await;
    let stray = give_back(&db, &payment("nowhere", "T9", 77)).await.expect("it is astray");
    let by = By { actor: &root(), reason: Some("paid in cash") };
    let early = settle(&db, by, &ours.refund_no, End::Closed, Ladder::default()).await.expect_err("it is pending");
    assert!(early.to_string().ends_with("is pending, not abnormal"), "{early}");
    for refund in [&ours, &stray] {
        tell(&db, &[report(refund, RefundEvent::Stuck)]).await;
    }
    let done = settle(&db, by, &ours.refund_no, End::Closed, Ladder::default()).await.expect("settled");
    assert_eq!((done.status, balance(&db).await), (RefundStatus::Closed, 315));
    let done = settle(&db, by, &stray.refund_no, End::Success, Ladder::default()).await.expect("settled");
    assert_eq!(done.status, RefundStatus::Success);
    let deeds: i64 =
        sqlx::query_scalar("select count(*) from audit_log where action = 'refund.settle' and actor = 'root'")
            .fetch_one(&db)
            .await
            .expect("the audit log");
    assert_eq!(deeds, 2);
    assert_balanced(&db).await;
}
