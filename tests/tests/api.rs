//! The REST contract: who may ask what, and what a refusal looks like.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use system_tests::{Builder, JWT_SECRET, System, ops, simulator_keys};

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("an answer");
    let content_type = answer.headers()[header::CONTENT_TYPE].to_str().expect("a text").to_owned();
    assert!(answer.headers().contains_key("x-request-id"));
    let status = answer.status();
    let json: Value = answer.json().await.expect("JSON");
    if !status.is_success() {
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(json["status"], status.as_u16());
        for member in ["type", "title", "detail", "code", "requestId"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {json}");
        }
    }
    (status, json)
}

async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, json) = answer(request).await;
    (status.as_u16(), json["code"].as_str().expect("a code").to_owned())
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.into())
}

fn post(system: &System, body: impl Into<reqwest::Body>) -> RequestBuilder {
    let request = system.http.post(system.url("/api/payment/orders")).bearer_auth(system.token("alice"));
    request.header(header::CONTENT_TYPE, "application/json").body(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_a_rule_is_told_which() {
    let system = Builder::default().workers(0).start().await;
    let packages = system.get("/api/payment/packages", "alice").await;
    let id = &packages["items"][0]["id"];

    for (body, fields) in [
        (json!({}), vec!["packageId", "paymentMethod"]),
        (json!({"packageId": id}), vec!["paymentMethod"]),
        (json!({"packageId": id.to_string(), "paymentMethod": "wechat_native"}), vec!["packageId"]),
        (json!({"packageId": 0, "paymentMethod": "alipay"}), vec!["packageId", "paymentMethod"]),
        (json!({"packageId": 1.5, "paymentMethod": "wechat_native"}), vec!["packageId"]),
        (json!({"packageId": null, "paymentMethod": null}), vec!["packageId", "paymentMethod"]),
        (json!({"packageId": id, "paymentMethod": "wechat_native", "amount": 1}), vec!["amount"]),
        (json!([1]), vec![""]),
        (json!("x"), vec![""]),
    ] {
        let (status, json) = answer(post(&system, body.to_string())).await;
        assert_eq!((status.as_u16(), &json["code"]), (422, &json!("validation_failed")), "{body}");
        let named: Vec<_> =
            json["errors"].as_array().expect("errors").iter().map(|error| error["field"].clone()).collect();
        assert_eq!(named, fields, "{body}");
    }
    for body in ["", "{", "nonsense", "{\"packageId\":1,}"] {
        assert_eq!(refused(post(&system, body)).await, code(400, "malformed_request"), "{body}");
    }
    let as_text = system.http.post(system.url("/api/payment/orders")).bearer_auth(system.token("alice")).body("{}");
    assert_eq!(refused(as_text).await, code(400, "malformed_request"), "it does not say that it is JSON");
    assert_eq!(refused(post(&system, " ".repeat(65 * 1024))).await, code(413, "payload_too_large"));
    let unknown = json!({"packageId": 999_999, "paymentMethod": "wechat_native"}).to_string();
    assert_eq!(refused(post(&system, unknown)).await, code(409, "package_unavailable"));
    sqlx::query("update payment_packages set is_active = false where id = $1")
        .bind(id.as_i64())
        .execute(&system.db)
        .await
        .expect("the database");
    let inactive = json!({"packageId": id, "paymentMethod": "wechat_native"}).to_string();
    assert_eq!(refused(post(&system, inactive)).await, code(409, "package_unavailable"));
    assert_eq!(system.count("select count(*) from payment_orders").await, 0, "a refusal leaves nothing behind");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_leads_nowhere_is_not_found() {
    let system = Builder::default().workers(0).start().await;
    let get = |path: &str| system.http.get(system.url(path)).bearer_auth(system.token("alice"));
    for path in [
        "/nowhere",
        "/api/payment/packages/999999",
        "/api/payment/packages/x",
        "/api/payment/packages/99999999999999999999",
        "/api/payment/orders/abcdef",
        "/api/payment/orders/a",
        "/api/payment/orders/%E8%AE%A2%E5%8D%95%E5%8F%B7",
        "/api/payment/orders/%00%00%00%00%00%00",
        "/api/payment/orders/abcdef/qrcode.svg",
    ] {
        assert_eq!(refused(get(path)).await, code(404, "not_found"), "{path}");
    }
    for path in [
        "/api/points/entries?limit=0",
        "/api/points/entries?limit=101",
        "/api/points/entries?cursor=made-up",
        "/api/points/entries?page=2",
        "/api/points/balance?x=1",
    ] {
        assert_eq!(refused(get(path)).await, code(422, "validation_failed"), "{path}");
    }
    let wrong_method = system.http.delete(system.url("/api/points/balance"));
    assert_eq!(refused(wrong_method).await, code(405, "method_not_allowed"));
    system.finish().await;
}

/// Each is wrong in one way only.
fn tokens_that_prove_nothing() -> Vec<String> {
    let hs256 = |claims: &Value, secret: &str| {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
    };
    let sound = json!({"sub": "alice", "exp": 9_999_999_999_i64});
    let rsa = std::fs::read(simulator_keys().join("apiclient_key.pem")).expect("a key");
    let rsa = EncodingKey::from_rsa_pem(&rsa).expect("a key");
    let public = std::fs::read_to_string(simulator_keys().join("pub_key.pem")).expect("a key");
    assert_eq!(hs256(&sound, JWT_SECRET).split('.').count(), 3);
    vec![
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.".into(),
        encode(&Header::new(Algorithm::RS256), &sound, &rsa).expect("a token"),
        // Signed with a public key as if it were a secret.
        hs256(&sound, &public),
        hs256(&sound, "another secret, of more than 32 bytes as well"),
        hs256(&json!({"sub": "alice"}), JWT_SECRET),
        hs256(&json!({"exp": 9_999_999_999_i64}), JWT_SECRET),
        hs256(&json!({"sub": "x".repeat(65), "exp": 9_999_999_999_i64}), JWT_SECRET),
        hs256(&json!({"sub": "alice", "role": "root", "exp": 9_999_999_999_i64}), JWT_SECRET),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_and_admins_see_an_order() {
    let system = Builder::default().start().await;
    let order = system.order("alice", 0).await;
    let path = format!("/api/payment/orders/{}", order["orderNo"].as_str().expect("a number"));
    let get = |token: &str| system.http.get(system.url(&path)).bearer_auth(token);

    assert_eq!(answer(get(&system.token("alice"))).await.0, StatusCode::OK);
    let admin = ops(&system.env, &["token", "--user", "root", "--admin"]);
    assert_eq!(answer(get(&admin)).await.0, StatusCode::OK);
    assert_eq!(refused(get(&system.token("mallory"))).await, code(404, "not_found"), "not even that it exists");

    let expired = ops(&system.env, &["token", "--user", "alice", "--ttl", "1s"]);
    let is_expired = async || answer(get(&expired)).await.0;
    system_tests::eventually("the token expires", system_tests::SOON, is_expired, |status| {
        *status == StatusCode::UNAUTHORIZED
    })
    .await;
    let mut bodies = Vec::new();
    let mut tokens = vec![String::new(), "x".into(), expired.clone(), admin[..admin.len() - 2].to_owned()];
    tokens.extend(tokens_that_prove_nothing());
    for token in &tokens {
        let (status, mut json) = answer(get(token)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token}");
        json["requestId"] = Value::Null;
        bodies.push(json);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "why is not told apart: {bodies:?}");
    for path in ["/api/points/balance", "/api/points/entries", &path] {
        assert_eq!(refused(system.http.get(system.url(path))).await, code(401, "unauthorized"), "{path}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_for_everybody_in_their_order() {
    let system = Builder::default().workers(0).start().await;
    let (status, all) = answer(system.http.get(system.url("/api/payment/packages"))).await;
    assert_eq!((status, &all["nextCursor"]), (StatusCode::OK, &Value::Null));
    let items = all["items"].as_array().expect("a list");
    assert_eq!(items.len(), 4);
    for package in items {
        let path = format!("/api/payment/packages/{}", package["id"]);
        assert_eq!(answer(system.http.get(system.url(&path))).await, (StatusCode::OK, package.clone()));
        let members: Vec<_> = package.as_object().expect("an object").keys().cloned().collect();
        let expected = [
            "amount",
            "bonusPoints",
            "createdAt",
            "currency",
            "description",
            "id",
            "isActive",
            "name",
            "points",
            "sortOrder",
            "updatedAt",
        ];
        assert_eq!(members, expected);
    }
    let (mut walked, mut path) = (Vec::new(), "/api/payment/packages?limit=1".to_owned());
    loop {
        let (_, page) = answer(system.http.get(system.url(&path))).await;
        walked.extend(page["items"].as_array().expect("a list").clone());
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/api/payment/packages?limit=1&cursor={cursor}");
    }
    assert_eq!(&walked, items, "a walk returns each exactly once");
    let with_bad_token = system.http.get(system.url("/api/payment/packages")).bearer_auth("x");
    assert_eq!(refused(with_bad_token).await, code(401, "unauthorized"), "who claims to be somebody must prove it");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_the_callers_when_it_is_sane() {
    let system = Builder::default().workers(0).start().await;
    let ask = async |id: &str| {
        let request = system.http.request(Method::GET, system.url("/healthz")).header("X-Request-Id", id);
        request.send().await.expect("an answer").headers()["x-request-id"].to_str().expect("a text").to_owned()
    };
    assert_eq!(ask("abc-123_X.y").await, "abc-123_X.y");
    for bad in ["a b", "a\"b", &"x".repeat(129), ""] {
        assert_ne!(ask(bad).await, bad);
    }
    system.finish().await;
}
