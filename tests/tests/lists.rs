//! Lists of orders: one's own, and the admin's search; their cursors, and what they refuse.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Builder, SOON, System, eventually};

const OWN: &str = "/api/payment/orders";
const ALL: &str = "/api/payment/admin/orders";

/// Makes orders that are not to be paid straight in the database: order `n` of user `u<n % 3>`, two of each second.
async fn make_orders(system: &System, prefix: &str, count: i32) {
    sqlx::query(
        "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
             payment_method, payment_status, expired_at, created_at)
         select $1 || lpad(n::text, 6, '0'), 'u' || n % 3, (select min(id) from payment_packages), 'p', 100, 100, 5,
             'wechat_native', (array['cancelled', 'expired'])[1 + n % 2], date_trunc('second', now()),
             timestamptz '2026-01-01T00:00:00Z' + (n / 2) * interval '1 s'
         from generate_series(1, $2) as n",
    )
    .bind(prefix)
    .bind(count)
    .execute(&system.db)
    .await
    .expect("orders");
}

async fn numbers(system: &System, condition: &str) -> Vec<String> {
    let sql = format!("select order_no from payment_orders where {condition} order by created_at desc, order_no desc");
    sqlx::query_scalar(&sql).fetch_all(&system.db).await.expect("the database")
}

fn order_nos(items: &[Value]) -> Vec<&str> {
    items.iter().map(|order| order["orderNo"].as_str().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_their_own_orders_newest_first() {
    let system = Builder::default().workers(0).start().await;
    make_orders(&system, "ORDER-", 90).await;
    let orders = [system.order("u1", 0).await, system.order("u1", 1).await];
    let user = system.user("u1");
    let list = user.get(OWN).await;
    assert_eq!(list["items"][0], orders[1], "as it was told when it was made");
    assert_eq!(list["items"][1], orders[0]);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(20));
    for (query, condition) in [
        ("", "user_id = 'u1'"),
        ("?status=pending", "user_id = 'u1' and payment_status = 'pending'"),
        ("?status=expired", "user_id = 'u1' and payment_status = 'expired'"),
        ("?status=refunded", "false"),
    ] {
        for limit in [1, 7, 100] {
            let walked = user.walk(&format!("{OWN}{query}"), limit).await;
            assert_eq!(order_nos(&walked), numbers(&system, condition).await, "{query}");
        }
    }
    let admins = system.admin("u2").walk(OWN, 100).await;
    assert_eq!(order_nos(&admins), numbers(&system, "user_id = 'u2'").await, "an admin's own");
    assert_eq!(system.user("stranger").get(OWN).await, json!({"items": [], "nextCursor": null}));
    let (status, json) = system.nobody().ask(Method::GET, OWN, None).await;
    assert_eq!((status, &json["code"]), (401, &json!("unauthorized")));
    for (query, fields) in [
        ("status=Paid", vec!["status"]),
        ("status=", vec!["status"]),
        ("userId=u2", vec!["userId"]),
        ("status=unpaid&limit=0&cursor=x&page=2", vec!["status", "limit", "page"]),
        ("limit=101&cursor=x", vec!["limit", "cursor"]),
    ] {
        assert_eq!(user.faults(Method::GET, &format!("{OWN}?{query}"), None).await, fields, "{query}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_search_all_orders() {
    let system = Builder::default().start().await;
    make_orders(&system, "ORDER-", 90).await;
    let order = system.order("u1", 0).await;
    let order_no = order["orderNo"].as_str().expect("a number");
    system.pay(order_no).await;
    let admin = system.admin("root");
    let ask = async || admin.get(&format!("{ALL}?orderNo={order_no}")).await["items"][0].clone();
    let paid = eventually("the payment", SOON, ask, |order| order["paymentStatus"] == "paid").await;
    let transaction_id = paid["transactionId"].as_str().expect("an id");

    for (query, condition) in [
        (String::new(), "true"),
        ("?status=cancelled".into(), "payment_status = 'cancelled'"),
        ("?userId=u2".into(), "user_id = 'u2'"),
        ("?userId=u2&status=expired".into(), "user_id = 'u2' and payment_status = 'expired'"),
        ("?from=2026-01-01T08:00:10%2B08:00".into(), "created_at >= '2026-01-01T00:00:10Z'"),
        ("?to=2026-01-01T00:00:10Z".into(), "created_at < '2026-01-01T00:00:10Z'"),
        (
            "?from=2026-01-01T08:00:10+08:00&to=2026-01-01T00:00:20Z&userId=u0&status=expired".into(),
            "created_at >= '2026-01-01T00:00:10Z' and created_at < '2026-01-01T00:00:20Z' and user_id = 'u0'
                 and payment_status = 'expired'",
        ),
        (format!("?orderNo={order_no}"), "transaction_id is not null"),
        (format!("?transactionId={transaction_id}"), "transaction_id is not null"),
        (format!("?transactionId={transaction_id}&orderNo={order_no}&status=paid"), "transaction_id is not null"),
        (format!("?transactionId={transaction_id}&userId=u2"), "false"),
        ("?orderNo=ORDER-000000".into(), "false"),
        ("?transactionId=4200000000".into(), "false"),
    ] {
        for limit in [8, 100] {
            let walked = admin.walk(&format!("{ALL}{query}"), limit).await;
            assert_eq!(order_nos(&walked), numbers(&system, condition).await, "{query}");
        }
    }
    for (query, fields) in [
        ("status=new", vec!["status"]),
        ("userId=a.b", vec!["userId"]),
        ("userId=", vec!["userId"]),
        ("orderNo=abc", vec!["orderNo"]),
        ("orderNo=%00%00%00%00%00%00", vec!["orderNo"]),
        ("transactionId=%E5%8F%B7", vec!["transactionId"]),
        ("from=today", vec!["from"]),
        ("from=2026-01-01T00:00:00", vec!["from"]),
        ("to=1767225600", vec!["to"]),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", vec!["to"]),
        ("status=paid&status=paid", vec!["status"]),
        ("sort=asc", vec!["sort"]),
    ] {
        assert_eq!(admin.faults(Method::GET, &format!("{ALL}?{query}"), None).await, fields, "{query}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_for_its_own_list_only() {
    let system = Builder::default().workers(0).start().await;
    make_orders(&system, "ORDER-", 30).await;
    let (user, admin) = (system.user("u1"), system.admin("root"));
    let cursor = async |path: &str| {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = admin.get(&format!("{path}{joint}limit=1")).await;
        page["nextCursor"].as_str().expect("a cursor").to_owned()
    };
    let all = cursor(ALL).await;
    let expired = cursor(&format!("{ALL}?status=expired")).await;
    let own = user.get(&format!("{OWN}?limit=1")).await["nextCursor"].as_str().expect("a cursor").to_owned();
    let packages = cursor("/api/payment/packages").await;
    let admin_packages = cursor("/api/payment/admin/packages").await;
    let mut forged = all.clone().into_bytes();
    let last = forged.last_mut().expect("a cursor");
    *last = if *last == b'A' { b'E' } else { b'A' };
    let forged = String::from_utf8(forged).expect("base64");

    for (path, cursor) in [
        (ALL, &expired),
        (ALL, &own),
        (ALL, &packages),
        (ALL, &forged),
        (ALL, &"x".to_owned()),
        (ALL, &String::new()),
        (&format!("{ALL}?status=expired"), &all),
        (&format!("{ALL}?status=cancelled"), &expired),
        (&format!("{ALL}?status=expired&userId=u1"), &expired),
        (&format!("{ALL}?status=expired&from=2026-01-01T00:00:00Z"), &expired),
        (OWN, &all),
        ("/api/points/entries", &own),
        ("/api/payment/packages", &admin_packages),
        ("/api/payment/admin/packages", &packages),
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}cursor={cursor}");
        assert_eq!(admin.faults(Method::GET, &path, None).await, ["cursor"], "{path}");
    }
    for (path, cursor) in
        [(ALL, &all), ("/api/payment/packages", &packages), ("/api/payment/admin/packages", &admin_packages)]
    {
        admin.get(&format!("{path}?limit=3&cursor={cursor}")).await;
    }
    // The order of the parameters and the spelling of an instant are not part of the filter.
    let from = cursor(&format!("{ALL}?status=expired&from=2026-01-01T00:00:01Z")).await;
    admin.get(&format!("{ALL}?from=2026-01-01T08:00:01.000%2B08:00&cursor={from}&status=expired")).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_is_not_disturbed_by_new_orders() {
    let system = Builder::default().workers(0).start().await;
    make_orders(&system, "M", 60).await;
    let before = numbers(&system, "true").await;
    let admin = system.admin("root");
    let (mut seen, mut path) = (Vec::new(), format!("{ALL}?limit=7"));
    for round in 0.. {
        let page = admin.get(&path).await;
        seen.extend(page["items"].as_array().expect("a list").iter().cloned());
        if round < 5 {
            // Of the same instants as those that were there, with numbers before and behind theirs; and a newer one.
            make_orders(&system, &format!("A{round}"), 60).await;
            make_orders(&system, &format!("Z{round}"), 60).await;
            system.order("u1", 0).await;
        }
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("{ALL}?limit=7&cursor={cursor}");
    }
    let met: Vec<_> = order_nos(&seen).into_iter().filter(|number| number.starts_with('M')).collect();
    assert_eq!(met, before, "each of them once, in their order");
    system.finish().await;
}
