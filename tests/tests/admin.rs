//! What admins may do: packages and statistics. And that nobody else may.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Builder, SOON, System, eventually};

const PACKAGES: &str = "/api/payment/admin/packages";
const STATISTICS: &str = "/api/payment/admin/statistics";

fn members(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_come_in() {
    let system = Builder::default().workers(0).start().await;
    let (nobody, user, admin) = (system.nobody(), system.user("alice"), system.admin("root"));
    let package = json!({"name": "p", "amount": 1, "points": 1});
    for (method, path, body, status) in [
        (Method::GET, PACKAGES, None, 200),
        (Method::POST, PACKAGES, Some(&package), 201),
        (Method::PATCH, "/api/payment/admin/packages/1", Some(&json!({})), 200),
        (Method::GET, "/api/payment/admin/orders", None, 200),
        (Method::GET, STATISTICS, None, 200),
        // Not even what is wrong with the request, or what exists.
        (Method::POST, PACKAGES, Some(&json!({})), 422),
        (Method::PATCH, "/api/payment/admin/packages/999", Some(&json!({})), 404),
        (Method::GET, "/api/payment/admin/orders?x=y", None, 422),
    ] {
        let (refused, json) = nobody.ask(method.clone(), path, body).await;
        assert_eq!((refused, &json["code"]), (401, &json!("unauthorized")), "{method} {path}");
        let (refused, json) = user.ask(method.clone(), path, body).await;
        assert_eq!((refused, &json["code"]), (403, &json!("forbidden")), "{method} {path}");
        assert_eq!(admin.ask(method.clone(), path, body).await.0, status, "{method} {path}");
    }
    assert_eq!(system.count("select count(*) from audit_log").await, 1, "the admin's package and nothing else");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_made_changed_and_taken_off() {
    let system = Builder::default().workers(0).start().await;
    let (admin, buyer) = (system.admin("root"), system.user("alice"));
    let wish = json!({"name": "春节包", "amount": 888, "points": 888, "bonusPoints": 88, "sortOrder": 15});
    let (status, package) = admin.ask(Method::POST, PACKAGES, Some(&wish)).await;
    assert_eq!(status, 201);
    for (member, value) in wish.as_object().expect("an object") {
        assert_eq!(&package[member], value);
    }
    assert_eq!(
        (&package["isActive"], &package["description"], &package["currency"]),
        (&json!(true), &json!(""), &json!("CNY"))
    );

    let order = |list: &Value| -> Vec<i64> {
        list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|package| package["sortOrder"].as_i64().expect("a number"))
            .collect()
    };
    assert_eq!(order(&admin.get(PACKAGES).await), [10, 15, 20, 30, 40]);
    assert_eq!(order(&buyer.get("/api/payment/packages").await), [10, 15, 20, 30, 40]);
    let path = format!("{PACKAGES}/{}", package["id"]);
    let off = json!({"isActive": false, "amount": 666, "description": "已下架"});
    let (status, changed) = admin.ask(Method::PATCH, &path, Some(&off)).await;
    assert_eq!((status, &changed["amount"], &changed["name"]), (200, &json!(666), &package["name"]));
    assert_ne!(changed["updatedAt"], package["updatedAt"]);
    for same in [json!({}), off] {
        assert_eq!(
            admin.ask(Method::PATCH, &path, Some(&same)).await,
            (200, changed.clone()),
            "nothing left to change"
        );
    }
    assert_eq!(order(&buyer.get("/api/payment/packages").await), [10, 20, 30, 40]);
    assert_eq!(order(&admin.get(PACKAGES).await), [10, 15, 20, 30, 40], "admins see it still");
    assert_eq!(admin.walk(PACKAGES, 2).await, *admin.get(PACKAGES).await["items"].as_array().expect("a list"));

    let log: Vec<(String, String, String, Value)> =
        sqlx::query_as("select actor, action, subject, detail from audit_log order by id")
            .fetch_all(&system.db)
            .await
            .expect("the log");
    let id = package["id"].to_string();
    let told = json!({"isActive": {"from": true, "to": false}, "amount": {"from": 888, "to": 666},
        "description": {"from": "", "to": "已下架"}});
    assert_eq!(log.len(), 2);
    assert_eq!((log[0].0.as_str(), log[0].1.as_str(), &log[0].2), ("root", "package.create", &id));
    assert_eq!(log[1], ("root".into(), "package.change".into(), id, told));
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_breaks_a_rule_is_told_which() {
    let system = Builder::default().workers(0).start().await;
    let admin = system.admin("root");
    let before = admin.get(PACKAGES).await;
    let one = format!("{PACKAGES}/1");
    let sound = json!({"name": "p", "amount": 1, "points": 1});
    for (fault, value) in [
        ("name", json!(null)),
        ("name", json!("")),
        ("name", json!("包".repeat(65))),
        ("name", json!("a\u{0}b")),
        ("description", json!("述".repeat(501))),
        ("description", json!("\u{0}")),
        ("amount", json!(0)),
        ("amount", json!(100_000_001)),
        ("amount", json!(1.5)),
        ("amount", json!("1")),
        ("points", json!(0)),
        ("points", json!(1_000_000_001)),
        ("bonusPoints", json!(-1)),
        ("bonusPoints", json!(1_000_000_001)),
        ("isActive", json!("true")),
        ("sortOrder", json!(2_147_483_648_i64)),
        ("sortOrder", json!(null)),
        ("currency", json!("USD")),
        ("id", json!(1)),
    ] {
        let mut body = sound.clone();
        body[fault] = value.clone();
        assert_eq!(admin.faults(Method::POST, PACKAGES, Some(&body)).await, [fault], "{body}");
        assert_eq!(admin.faults(Method::PATCH, &one, Some(&json!({fault: value}))).await, [fault], "{body}");
    }
    assert_eq!(admin.faults(Method::POST, PACKAGES, Some(&json!({}))).await, ["name", "amount", "points"]);
    assert_eq!(admin.faults(Method::PATCH, &one, Some(&json!([]))).await, [""]);
    for path in ["999999", "x", "99999999999999999999", "-1"] {
        let (status, json) = admin.ask(Method::PATCH, &format!("{PACKAGES}/{path}"), Some(&json!({}))).await;
        assert_eq!((status, &json["code"]), (404, &json!("not_found")), "{path}");
    }
    let bare = admin.ask(Method::POST, PACKAGES, None).await;
    assert_eq!((bare.0, &bare.1["code"]), (400, &json!("malformed_request")));
    assert_eq!(admin.get(PACKAGES).await, before, "a refusal changes nothing");
    assert_eq!(system.count("select count(*) from audit_log").await, 0);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_keeps_what_it_was_made_with() {
    let system = Builder::default().start().await;
    let (admin, buyer) = (system.admin("root"), system.user("alice"));
    let order = system.order("alice", 1).await;
    let path = format!("{PACKAGES}/{}", order["packageId"]);
    let other = json!({"name": "另一个", "amount": 99_999, "points": 1, "bonusPoints": 0, "isActive": false});
    assert_eq!(admin.ask(Method::PATCH, &path, Some(&other)).await.0, 200);

    let order_no = order["orderNo"].as_str().expect("a number");
    system.pay(order_no).await;
    let ask = async || buyer.get(&format!("/api/payment/orders/{order_no}")).await;
    let paid = eventually("the payment", SOON, ask, |order| order["paymentStatus"] == "paid").await;
    for member in ["packageId", "packageName", "amount", "points", "bonusPoints"] {
        assert_eq!(paid[member], order[member], "{member}");
    }
    let points = order["points"].as_i64().expect("points") + order["bonusPoints"].as_i64().expect("points");
    assert_eq!(buyer.get("/api/points/balance").await["balance"], points);
    system.finish().await;
}

/// Buys and pays the packages that sort `nth`, and waits for the points.
async fn buy(system: &System, nth: &[usize]) -> (i64, i64) {
    let (mut amount, mut points) = (0, 0);
    for &nth in nth {
        let order = system.order("alice", nth).await;
        system.pay(order["orderNo"].as_str().expect("a number")).await;
        let number = |member: &str| order[member].as_i64().expect("a number");
        amount += number("amount");
        points += number("points") + number("bonusPoints");
    }
    let ask = async || system.get("/api/points/balance", "alice").await["balance"].as_i64();
    eventually("the points", SOON, ask, |balance| *balance == Some(points)).await;
    (amount, points)
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_what_was_sold() {
    let system = Builder::default().start().await;
    let admin = system.admin("root");
    let empty = admin.get(STATISTICS).await;
    assert_eq!(members(&empty), ["bucket", "byPackage", "from", "series", "to", "totals"]);
    assert_eq!((&empty["bucket"], &empty["byPackage"]), (&json!("day"), &json!([])));
    assert_eq!(empty["series"].as_array().map(Vec::len), Some(7));
    assert_eq!(empty["totals"]["conversionRate"], Value::Null);

    let (amount, points) = buy(&system, &[0, 1, 1]).await;
    let unpaid = system.order("bob", 0).await;
    for bucket in ["day", "hour"] {
        let answer = admin.get(&format!("{STATISTICS}?bucket={bucket}")).await;
        let totals = json!({"orders": 4, "paidOrders": 3, "paidAmount": amount, "refundedAmount": 0, "netAmount": amount,
            "points": points, "conversionRate": 0.75});
        assert_eq!(answer["totals"], totals);
        let series = answer["series"].as_array().expect("a list");
        assert_eq!(series.len(), if bucket == "day" { 7 } else { 168 });
        assert_eq!(members(&series[0]), ["orders", "paidAmount", "paidOrders", "refundedAmount", "start"]);
        for start in series.iter().map(|bucket| bucket["start"].as_str().expect("an instant")) {
            // A day of Shanghai's begins at 16:00 UTC.
            assert!(start.ends_with(if bucket == "day" { "T16:00:00Z" } else { ":00:00Z" }), "{start}");
        }
        let sum = |member: &str| series.iter().map(|bucket| bucket[member].as_i64().expect("a number")).sum::<i64>();
        assert_eq!((sum("orders"), sum("paidOrders"), sum("paidAmount")), (4, 3, amount), "the series adds up");
        let by_package = answer["byPackage"].as_array().expect("a list");
        assert_eq!(by_package.len(), 2);
        let first = json!({"packageId": unpaid["packageId"], "packageName": unpaid["packageName"], "orders": 2,
            "paidOrders": 1, "paidAmount": unpaid["amount"], "refundedAmount": 0});
        assert_eq!(by_package[0], first);
        assert_eq!((&by_package[1]["orders"], &by_package[1]["paidOrders"]), (&json!(2), &json!(2)));
    }
    // An edge between two orders, to the microsecond.
    let at = unpaid["createdAt"].as_str().expect("an instant");
    let from = admin.get(&format!("{STATISTICS}?from={at}")).await;
    assert_eq!((&from["totals"]["orders"], &from["totals"]["conversionRate"]), (&json!(1), &json!(0.0)));
    let to = admin.get(&format!("{STATISTICS}?to={at}")).await;
    assert_eq!((&to["totals"]["orders"], &to["to"]), (&json!(3), &json!(at)));
    let later = admin.get(&format!("{STATISTICS}?from=2020-01-01T00:00:00%2B08:00&to=2020-01-02T00:00:00+08:00")).await;
    assert_eq!((&later["totals"]["orders"], &later["from"]), (&json!(0), &json!("2019-12-31T16:00:00Z")));
    assert_eq!(later["series"].as_array().map(Vec::len), Some(1));

    for (query, fields) in [
        ("bucket=week", vec!["bucket"]),
        ("from=yesterday&to=2026-01-01&x=y", vec!["from", "to", "x"]),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", vec!["to"]),
        ("from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", vec!["to"]),
        ("from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&bucket=hour", vec!["to"]),
        ("from=2020-01-01T00:00:00Z", vec!["from"]),
        ("from=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z", vec!["from"]),
    ] {
        assert_eq!(admin.faults(Method::GET, &format!("{STATISTICS}?{query}"), None).await, fields, "{query}");
    }
    system.finish().await;
}
