//! Reads both sides' books, and waits until nothing moves in them any more.

use super::{
    books::{Order, OurRefund, Ours, Payment, TheirRefund, Theirs},
    world::World,
};
use crate::System;
use reqwest::Method;
use serde_json::Value;
use sqlx::{PgPool, Row, postgres::PgRow};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(500);
const CALLBACKS_TO_COME: &str = "callbacks to be sent";
/// What the simulator changes in a callback before it signs it.
const LIES_IN_CONTENT: [&str; 4] = ["wrongCurrency", "wrongAppid", "wrongMchid", "badCiphertext"];

/// What has become of the callbacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callbacks {
    /// Answered 200.
    pub delivered: usize,
    /// Not sent, or without an answer.
    pub lost: usize,
    /// Answered otherwise.
    pub refused: usize,
    /// Sent twice on purpose.
    pub doubled: usize,
    /// Forged, probes, stale, or with a wrong content.
    pub lies: usize,
}

/// What is not settled yet, by what it is.
pub type Unsettled = BTreeMap<&'static str, i64>;

/// Waits until nothing is left to do on either side; answers when nothing was left to do here. What WeChat Pay still
/// repeats then, by its schedule, is known here already: it must be heard too, but nobody's points wait for it.
///
/// # Errors
/// What is left at `deadline`.
pub async fn settled(world: &mut World, deadline: Instant) -> Result<Instant, Unsettled> {
    let mut settled_at = None;
    loop {
        world.keep_up();
        let mut left = unsettled(&world.system).await;
        let is_silent = left.remove(CALLBACKS_TO_COME).is_none();
        if left.is_empty() {
            let at = *settled_at.get_or_insert_with(Instant::now);
            if is_silent || Instant::now() > deadline {
                return Ok(at);
            }
        } else if Instant::now() > deadline {
            return Err(left);
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn unsettled(system: &System) -> Unsettled {
    let health = system.control(Method::GET, "/control/health", None).await;
    let books = system.control(Method::GET, "/control/books", None).await;
    let refunds = books["refunds"].as_array().into_iter().flatten();
    let under_way = refunds.filter(|refund| refund["status"] == "PROCESSING" || refund["status"] == "ABNORMAL").count();
    let payments = books["payments"].as_array().map_or(0, Vec::len);
    let sql = "select (select count(*) from payment_notify_logs where process_status in ('received', 'retrying')),
        (select count(*) from payment_refunds where status in ('pending', 'processing', 'abnormal')),
        (select count(*) from payment_orders where paid_at is not null)";
    let row = sqlx::query(sql).fetch_one(&system.db).await;
    let Ok(row) = row else { return Unsettled::from([("the database is away", 1)]) };
    let count = |number: usize| i64::try_from(number).expect("few");
    let left = [
        (CALLBACKS_TO_COME, health["pendingNotifications"].as_i64().unwrap_or(-1)),
        ("refunds under way at WeChat Pay", count(under_way)),
        ("rows of the notify log", row.get(0)),
        ("refunds", row.get(1)),
        ("payments that are not here", count(payments) - row.get::<i64, _>(2)),
    ];
    left.into_iter().filter(|(_, number)| *number != 0).collect()
}

/// What WeChat Pay knows, but for what is still open there, and what it did to its callbacks.
pub async fn theirs(system: &System) -> (Theirs, Callbacks) {
    let books = system.control(Method::GET, "/control/books", None).await;
    let mut theirs = Theirs::default();
    for payment in list(&books["payments"]) {
        let known =
            Payment { transaction_id: text(&payment["transactionId"]), amount: payment["total"].as_i64().unwrap_or(0) };
        theirs.payments.insert(text(&payment["outTradeNo"]), known);
    }
    for refund in list(&books["refunds"]) {
        let known = TheirRefund {
            order_no: text(&refund["outTradeNo"]),
            amount: refund["refund"].as_i64().unwrap_or(0),
            status: text(&refund["status"]),
        };
        theirs.refunds.insert(text(&refund["outRefundNo"]), known);
    }
    let all = system.control(Method::GET, "/control/notifications?limit=100000000", None).await;
    let mut callbacks = Callbacks::default();
    for notification in list(&all["notifications"]) {
        for attempt in list(&notification["attempts"]) {
            count(&text(&notification["id"]), attempt, &mut theirs, &mut callbacks);
        }
    }
    (theirs, callbacks)
}

/// The orders that can still be paid.
pub async fn still_open(system: &System) -> BTreeSet<String> {
    let books = system.control(Method::GET, "/control/books", None).await;
    list(&books["open"]).map(text).collect()
}

fn count(id: &str, attempt: &Value, theirs: &mut Theirs, callbacks: &mut Callbacks) {
    let fault = attempt["fault"].as_str();
    let is_taken = matches!(attempt["status"].as_u64(), Some(200 | 204));
    match attempt["status"].as_u64() {
        Some(200 | 204) => callbacks.delivered += 1,
        Some(_) => callbacks.refused += 1,
        None => callbacks.lost += 1,
    }
    match fault {
        None | Some("drop") => {}
        Some("duplicate") => callbacks.doubled += 1,
        Some(lie) => {
            callbacks.lies += 1;
            theirs.lies += usize::from(LIES_IN_CONTENT.contains(&lie));
        }
    }
    if is_taken {
        theirs.all_acknowledged += 1;
        if matches!(fault, None | Some("duplicate")) {
            *theirs.acknowledged.entry(id.to_owned()).or_default() += 1;
        }
    }
}

/// What we know.
///
/// # Errors
/// What PostgreSQL says.
pub async fn ours(db: &PgPool) -> sqlx::Result<Ours> {
    let order = |row: &PgRow| {
        let transaction_id: Option<String> = row.get(2);
        let payment = transaction_id.map(|transaction_id| Payment { transaction_id, amount: row.get(3) });
        (row.get(0), Order { status: row.get(1), payment, points: row.get(4) })
    };
    let refund = |row: &PgRow| {
        let refund = OurRefund {
            order_no: row.get(1),
            amount: row.get(2),
            points: row.get(3),
            status: row.get(4),
            external: row.get(5),
        };
        (row.get(0), refund)
    };
    let rows = |number: i64| usize::try_from(number).expect("a count");
    Ok(Ours {
        orders: map(
            db,
            "select order_no, payment_status, transaction_id, amount, points + bonus_points from payment_orders",
            order,
        )
        .await?,
        credits: map(
            db,
            "select order_no, count(*), sum(delta)::bigint from point_entries where kind = 'recharge' group by 1",
            |row| (row.get(0), (row.get(1), row.get(2))),
        )
        .await?,
        refunds: map(
            db,
            "select refund_no, coalesce(order_no, ''), amount, points + bonus_points, status, origin = 'external'
             from payment_refunds",
            refund,
        )
        .await?,
        debits: map(
            db,
            "select refund_no, sum(delta)::bigint from point_entries where refund_no is not null group by 1",
            |row| (row.get(0), row.get(1)),
        )
        .await?,
        stored: map(
            db,
            "select coalesce(convert_from(body, 'UTF8')::jsonb ->> 'id', ''), count(*)
             from payment_notify_bodies join payment_notify_logs using (id) where not refused_at_door group by 1",
            |row| (row.get(0), rows(row.get(1))),
        )
        .await?,
        log: map(
            db,
            "select concat_ws(' ', process_status, error_code), count(*) from payment_notify_logs group by 1",
            |row| (row.get(0), rows(row.get(1))),
        )
        .await?,
    })
}

/// When each payment was credited, in milliseconds since 1970: the moment of the commit.
///
/// # Errors
/// What PostgreSQL says.
pub async fn credited_at(db: &PgPool) -> sqlx::Result<BTreeMap<String, i64>> {
    let sql = "select order_no, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000)::bigint
        from point_entries where kind = 'recharge'";
    map(db, sql, |row| (row.get(0), row.get(1))).await
}

async fn map<T>(
    db: &PgPool,
    sql: &'static str,
    read: impl Fn(&PgRow) -> (String, T),
) -> sqlx::Result<BTreeMap<String, T>> {
    Ok(sqlx::query(sql).fetch_all(db).await?.iter().map(read).collect())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
