//! Orders, refunds, callbacks and certificates, as a merchant sees them.

use crate::support::{World, certificate, verifies};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn an_order_is_made_paid_and_notified() {
    let world = World::start(&[]).await;
    let answer = world.make_order("SO000001").await;
    assert_eq!(answer.status, 200);
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
    let request_id = answer.headers["request-id"].to_str().unwrap();
    assert!(request_id.ends_with("-0"), "{request_id}");

    let body = json!({"codeUrl": answer.json()["code_url"], "payerTotal": 80});
    let (status, paid) = world.control(Method::POST, "/pay", body).await;
    assert_eq!((status, &paid["state"]), (200, &json!("SUCCESS")));

    let callback = world.callbacks(1).await.remove(0);
    assert!(verifies(&world.public_key, &callback.headers, &callback.body));
    let envelope = callback.envelope();
    assert_eq!(envelope["id"], paid["notificationId"]);
    assert_eq!(envelope["event_type"], "TRANSACTION.SUCCESS");
    let plain = world.decrypt(&callback);
    assert_eq!(plain["transaction_id"], paid["transactionId"]);
    assert_eq!(plain["amount"]["total"], 100);
    assert_eq!(plain["amount"]["payer_total"], 80);

    let answer = world.v3(Method::GET, &world.query("SO000001"), "").await;
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
    assert_eq!(answer.json()["trade_state"], "SUCCESS");
    let (status, error) = world.control(Method::POST, "/orders/SO000001/pay", json!({})).await;
    assert_eq!((status, &error["error"]), (409, &json!("the order is already paid")));
}

#[tokio::test]
async fn what_is_not_what_was_signed_is_refused_without_a_signature() {
    let world = World::start(&[]).await;
    let target = "/v3/pay/transactions/native";
    let authorization = world.authorization(&Method::POST, target, "{}");
    let body = world.order("SO000001");
    let answer = world.v3_signed(Method::POST, target, &body, authorization).await.unwrap();
    assert_eq!(answer.status, 401);
    assert!(!answer.is_signed());
    let error = answer.json();
    assert_eq!(error["code"], "SIGN_ERROR");
    let shown = error["detail"]["sign_information"]["truncated_sign_message"].as_str().unwrap();
    assert!(shown.starts_with("POST\n/v3/pay/transactions/native\n"), "{shown}");
    let (_, known) = world.control(Method::GET, "/orders", json!({})).await;
    assert_eq!(known["orders"], json!([]));
}

#[tokio::test]
async fn closing_answers_204_and_the_signature_is_over_an_empty_body() {
    let world = World::start(&[]).await;
    world.make_order("SO|00001").await;
    let body = json!({"mchid": world.env["WECHAT_PAY_MCH_ID"]}).to_string();
    let target = "/v3/pay/transactions/out-trade-no/SO%7C00001/close";
    let answer = world.v3(Method::POST, target, &body).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert!(verifies(&world.public_key, &answer.headers, b""));
    let answer = world.make_order("SO|00001").await;
    assert_eq!(answer.json()["code"], "ORDER_CLOSED");
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
}

#[tokio::test]
async fn a_refund_succeeds_by_itself_and_is_notified() {
    let world = World::start(&["--refund-delay-ms", "600"]).await;
    world.make_order("SO000001").await;
    let unpaid = json!({"notify": false});
    world.control(Method::POST, "/orders/SO000001/pay", unpaid).await;
    let refund = json!({
        "out_trade_no": "SO000001", "out_refund_no": "RF1", "notify_url": world.notify_url,
        "amount": {"refund": 40, "total": 100, "currency": "CNY"},
    });
    let target = "/v3/refund/domestic/refunds";
    let answer = world.v3(Method::POST, target, &refund.to_string()).await;
    assert_eq!(answer.json()["status"], "PROCESSING");

    let callback = world.callbacks(1).await.remove(0);
    assert_eq!(callback.envelope()["event_type"], "REFUND.SUCCESS");
    let plain = world.decrypt(&callback);
    assert_eq!(plain["refund_status"], "SUCCESS");
    assert_eq!(plain["amount"]["refund"], 40);
    let answer = world.v3(Method::GET, &format!("{target}/RF1"), "").await;
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
    assert_eq!(answer.json()["status"], "SUCCESS");
    let (_, books) = world.control(Method::GET, "/books", json!({})).await;
    assert_eq!(books["totals"]["refunded"], 40);
}

#[tokio::test]
async fn a_refused_callback_comes_again_under_the_same_id_with_another_signature() {
    let world = World::start(&[]).await;
    world.answers.lock().unwrap().extend([StatusCode::ACCEPTED, StatusCode::FOUND]);
    world.make_order("SO000001").await;
    world.control(Method::POST, "/orders/SO000001/pay", json!({})).await;
    let callbacks = world.callbacks(3).await;
    let (first, last) = (&callbacks[0], &callbacks[2]);
    assert_eq!(first.body, last.body);
    assert_ne!(first.headers["wechatpay-nonce"], last.headers["wechatpay-nonce"]);
    let (_, order) = world.control(Method::POST, "/orders/SO000001/notify", json!({})).await;
    let statuses: Vec<_> = order["notification"]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [202, 302, 204, 204]);
}

#[tokio::test]
async fn a_probe_comes_first_and_the_truth_follows() {
    let world = World::start(&["--seed", "1"]).await;
    world.make_order("SO000001").await;
    world.control(Method::PUT, "/orders/SO000001/faults", json!({"probe": 1})).await;
    world.control(Method::POST, "/orders/SO000001/pay", json!({})).await;
    let callbacks = world.callbacks(2).await;
    let signature = callbacks[0].headers["wechatpay-signature"].to_str().unwrap();
    assert!(signature.starts_with("WECHATPAY/SIGNTEST/"), "{signature}");
    assert!(verifies(&world.public_key, &callbacks[1].headers, &callbacks[1].body));
}

#[tokio::test]
async fn a_reset_answer_was_executed_all_the_same() {
    let world = World::start(&[]).await;
    let next = json!({"endpoint": "native", "fault": "apiReset", "count": 1});
    world.control(Method::POST, "/faults/next", next).await;
    let (target, body) = ("/v3/pay/transactions/native", world.order("SO000001"));
    let authorization = world.authorization(&Method::POST, target, &body);
    assert!(world.v3_signed(Method::POST, target, &body, authorization).await.is_err());
    let answer = world.v3(Method::GET, &world.query("SO000001"), "").await;
    assert_eq!(answer.json()["trade_state"], "NOTPAY");
}

#[tokio::test]
async fn answers_can_be_unsigned_falsely_signed_or_late() {
    let world = World::start(&[]).await;
    world.make_order("SO000001").await;
    for fault in ["apiUnsigned", "apiBadSignature", "apiStale", "apiProbe"] {
        let next = json!({"endpoint": "query", "fault": fault});
        world.control(Method::POST, "/faults/next", next).await;
        let answer = world.v3(Method::GET, &world.query("SO000001"), "").await;
        assert_eq!(answer.status, 200);
        let good = answer.is_signed() && verifies(&world.public_key, &answer.headers, &answer.body);
        assert!(!good, "{fault}");
    }
    let answer = world.v3(Method::GET, &world.query("SO000001"), "").await;
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
}

#[tokio::test]
async fn certificates_decrypt_and_the_newest_signs_after_a_rotation() {
    let world = World::start(&["--key-mode", "certificate"]).await;
    let (_, rotated) = world.control(Method::POST, "/certificates/rotate", json!({})).await;
    let answer = world.v3(Method::GET, "/v3/certificates", "").await;
    let list = answer.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let newest = &list["data"][1];
    let pem = String::from_utf8(world.open(&newest["encrypt_certificate"])).unwrap();
    let (serial, key) = certificate(&pem);
    assert_eq!((&json!(serial), &json!(serial)), (&newest["serial_no"], &rotated["serial"]));
    assert!(verifies(&key, &answer.headers, &answer.body));
    assert_eq!(answer.headers["wechatpay-serial"].to_str().unwrap(), serial);
}

#[tokio::test]
async fn without_certificates_there_is_a_signed_404() {
    let world = World::start(&[]).await;
    let answer = world.v3(Method::GET, "/v3/certificates", "").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("RESOURCE_NOT_EXISTS")));
    assert!(verifies(&world.public_key, &answer.headers, &answer.body));
}

#[tokio::test]
async fn callbacks_made_to_order_verify_or_not_as_asked() {
    let world = World::start(&[]).await;
    world.make_order("SO000001").await;
    world.control(Method::POST, "/orders/SO000001/pay", json!({"notify": false})).await;
    for (key, good) in [("publicKey", true), ("forged", false), ("probe", false)] {
        let ask = json!({"outTradeNo": "SO000001", "key": key, "overrides": {"amount": {"total": 7}}});
        let (_, made) = world.control(Method::POST, "/sign", ask).await;
        let headers = made["headers"].as_object().unwrap();
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.as_str().unwrap().parse().unwrap()));
        let body = made["body"].as_str().unwrap().as_bytes().to_vec();
        let callback = crate::support::Callback { headers: headers.collect(), body };
        assert_eq!(verifies(&world.public_key, &callback.headers, &callback.body), good, "{key}");
        assert_eq!(world.decrypt(&callback)["amount"]["total"], 7);
    }
}

#[tokio::test]
async fn a_shifted_clock_makes_requests_stale_and_orders_close_by_themselves() {
    let world = World::start(&[]).await;
    world.make_order("SO000001").await;
    let shift = json!({"clockOffsetSeconds": 8 * 86_400});
    let (status, _) = world.control(Method::PUT, "/settings", shift).await;
    assert_eq!(status, 200);
    let answer = world.v3(Method::GET, &world.query("SO000001"), "").await;
    assert_eq!(answer.status, 401);
    let (_, order) = world.control(Method::GET, "/orders/SO000001", json!({})).await;
    assert_eq!(order["state"], "CLOSED");
}

#[tokio::test]
async fn bad_control_calls_are_explained() {
    let world = World::start(&[]).await;
    for (method, path, body, status) in [
        (Method::GET, "/orders/nothing", json!({}), 404),
        (Method::POST, "/orders/nothing/pay", json!({}), 404),
        (Method::POST, "/pay", json!({}), 400),
        (Method::POST, "/pay", json!({"codeUrl": "weixin://x"}), 404),
        (Method::POST, "/orders", json!({"outTradeNo": "x"}), 400),
        (Method::POST, "/orders", json!("text"), 400),
        (Method::PUT, "/settings", json!({"clockFactor": 0}), 400),
        (Method::PUT, "/faults", json!({"drop": 7}), 400),
        (Method::POST, "/faults/next", json!({"endpoint": "native", "fault": "drop"}), 400),
        (Method::POST, "/sign", json!({}), 400),
        (Method::GET, "/unknown", json!({}), 404),
        (Method::DELETE, "/books", json!({}), 405),
    ] {
        let (got, answer) = world.control(method, path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
}
