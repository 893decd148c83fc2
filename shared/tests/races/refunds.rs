//! Refunds of one order: asked for here, begun in WeChat Pay's console, and told of.

use crate::{
    meeting::{AMY, BOB, ORDER2, assert_sound, in_turn, of, world},
    money::{is_applied, paid, succeeded, tell},
};
use shared::{
    checkout::idempotency::{Key, Operation},
    notify::Fault,
    orders::OrderNo,
    refunds::{
        self,
        create::{CreateError, Created, NotAllowed, Request},
    },
    users::UserId,
};
use sqlx::PgPool;

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

/// The first to lock the order decides what the other finds.
#[sqlx::test(migrator = "shared::MIGRATOR")]
async fn a_refund_meets_the_notification_that_pays_its_order(db: PgPool) {
    world(&db).await;
    let (settled, asked) = in_turn(&db, AMY, paid(&db, &["ORDER1"]), ask_back(db.clone(), "ORDER1", None, None)).await;
    assert_eq!((settled, new(asked).amount.get()), (1, 100));

    let (asked, settled) =
        in_turn(&db, ORDER2, ask_back(db.clone(), "ORDER2", None, None), paid(&db, &["ORDER2"])).await;
    assert_eq!((refused(asked), settled), (NotAllowed::NotPaid, 1));

    let news = |order_no: &str| tell(db.clone(), vec![succeeded(&format!("console{order_no}"), order_no, 100)]);
    let (settled, told) = in_turn(&db, AMY, paid(&db, &["ORDER4"]), news("ORDER4")).await;
    assert!(settled == 1 && is_applied(&told));
    assert_sound(&db, 105).await;
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
