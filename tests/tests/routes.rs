//! Every route that the service describes, asked as nobody, as another user, as the owner and as an admin: who gets what
//! is pinned, and a route that is new shows up here.

use reqwest::{Method, header};
use serde_json::{Value, json};
use system_tests::{Builder, System, ops};

/// The status, and the code of a problem.
async fn answer(system: &System, method: &Method, path: &str, token: Option<&str>, body: Option<&Value>) -> String {
    let mut request = system.http.request(method.clone(), system.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let is_problem =
        answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/problem+json");
    // A stream of events has no end: its status is enough.
    let code = if is_problem { answer.json::<Value>().await.expect("JSON")["code"].clone() } else { Value::Null };
    code.as_str().map_or_else(|| status.to_string(), |code| format!("{status} {code}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_what() {
    let system = Builder::default().workers(0).start().await;
    let package = system.get("/api/payment/packages", "alice").await["items"][0]["id"].clone();
    let order = system.order("alice", 0).await;
    let callers = [
        ("nobody", None),
        ("another", Some(system.token("mallory"))),
        ("owner", Some(system.token("alice"))),
        ("admin", Some(ops(&system.env, &["token", "--user", "root", "--admin"]))),
    ];
    let description: Value =
        system.http.get(system.url("/openapi.json")).send().await.expect("an answer").json().await.expect("JSON");

    let mut lines = Vec::new();
    for (path, operations) in description["paths"].as_object().expect("paths") {
        let concrete = path
            .replace("{orderNo}", order["orderNo"].as_str().expect("a number"))
            .replace("{id}", &package.to_string());
        for name in operations.as_object().expect("operations").keys() {
            let method: Method = name.to_uppercase().parse().expect("a method");
            let body = match (&method, path.as_str()) {
                (&Method::POST, "/api/payment/orders") => {
                    Some(json!({"packageId": package, "paymentMethod": "wechat_native"}))
                }
                (&Method::POST, "/api/payment/admin/orders/{orderNo}/refunds") => Some(json!({})),
                (&Method::POST, "/api/payment/admin/notify-logs/retry") => Some(json!({"status": "dead"})),
                (&Method::POST, "/api/payment/admin/packages") => Some(json!({"name": "p", "amount": 1, "points": 1})),
                (&Method::PATCH, _) => Some(json!({"sortOrder": 1})),
                _ => None,
            };
            lines.push(format!("{method} {path}"));
            for (who, token) in &callers {
                let answer = answer(&system, &method, &concrete, token.as_deref(), body.as_ref()).await;
                lines.push(format!("    {who}: {answer}"));
            }
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
    system.finish().await;
}
