//! Each sample of section 9.4, and what has no sample.

use super::{super::answer::compact, tables::*, *};

fn order(change: impl FnOnce(&mut Value)) -> String {
    let mut body = json!({
        "appid": "wxd678efh567hg6787", "mchid": "1900000100", "description": "demo",
        "out_trade_no": "SO20260101000001", "amount": {"total": 100, "currency": "CNY"},
        "notify_url": "https://pay.example.com/notify/wechat/transaction",
    });
    change(&mut body);
    body.to_string()
}

#[track_caller]
fn check_fails(body: &str, detail: &Value, message: &str) {
    let answer = read(body.as_bytes(), NATIVE).unwrap_err();
    let text = format!("{answer:?}");
    assert_eq!((answer.status(), answer.code()), (400, Some("PARAM_ERROR")));
    assert!(text.contains(message), "{text}");
    assert!(answer.detail_for_test().is_some_and(|one| compact(one) == compact(detail)), "{text}");
}

#[test]
fn a_good_order_passes() {
    assert!(read(order(|_| {}).as_bytes(), NATIVE).is_ok());
}

#[test]
fn what_is_missing_is_named() {
    let body = order(|body| {
        body.as_object_mut().unwrap().remove("mchid");
    });
    check_fails(
        &body,
        &json!({"location": "body", "value": ""}),
        "输入源“/body/mchid”映射到字段“直连商户号”必填性规则校验失败，此字段为必填项",
    );
}

#[test]
fn lengths_are_in_bytes_and_the_detail_has_the_length() {
    check_fails(
        &order(|body| body["out_trade_no"] = json!("1")),
        &json!({"location": "body", "value": 1}),
        "输入源“/body/out_trade_no”映射到值字段“商户订单号”字符串规则校验失败，字节数 1，小于最小值 6",
    );
    // 43 characters of 3 bytes each.
    check_fails(
        &order(|body| body["attach"] = json!("附".repeat(43))),
        &json!({"location": "body", "value": 129}),
        "输入源“/body/attach”映射到值字段“附加数据”字符串规则校验失败，字节数 129，大于最大值 128",
    );
    assert!(read(order(|body| body["attach"] = json!("附".repeat(42))).as_bytes(), NATIVE).is_ok());
}

#[test]
fn patterns_are_printed_and_the_detail_has_the_value() {
    check_fails(
        &order(|body| body["out_trade_no"] = json!("订单号")),
        &json!({"location": "body", "value": "订单号"}),
        "字符串必须匹配正则表达式“^[0-9a-zA-Z_",
    );
    for url in ["", " https://pay.example.com/", "https://pay.example.com/?a=1", "ftp://a/b", "https://"] {
        check_fails(
            &order(|body| body["notify_url"] = json!(url)),
            &json!({"location": "body", "value": url}),
            "输入源“/body/notify_url”映射到值字段“通知地址”字符串规则校验失败，字符串必须匹配正则表达式“",
        );
    }
    for url in ["http://127.0.0.1:8080/notify", "http://user@host/a", "https://host", "http://a:1/b"] {
        let body = order(|body| body["notify_url"] = json!(url));
        assert!(read(body.as_bytes(), NATIVE).is_ok(), "{url}");
    }
}

#[test]
fn amounts_are_integers_of_at_least_one_fen() {
    check_fails(
        &order(|body| body["amount"]["total"] = json!(0)),
        &json!({"location": "body", "value": 0}),
        "输入源“/body/amount/total”映射到数值字段“总金额”规则校验失败，值低于最小值 1",
    );
    for value in [json!(0.01), json!("1"), json!(1.0), json!(18_446_744_073_709_551_615_u64)] {
        check_fails(
            &order(|body| body["amount"]["total"] = value.clone()),
            &json!({"location": "body", "value": value}),
            "无法将 JSON 输入源“/body/amount/total”映射到目标字段“总金额”中，此字段需要一个合法的 64 位有符号整数",
        );
    }
}

#[test]
fn types_are_strict_and_null_is_not_absent() {
    for value in [json!(4), json!(null)] {
        check_fails(
            &order(|body| body["attach"] = value.clone()),
            &json!({"location": "body", "value": value}),
            "无法将 JSON 输入源“/body/attach”映射到目标字段“附加数据”中，此字段需要一个 string 类型的 Json 值",
        );
    }
    check_fails(
        &order(|body| body["amount"] = json!([1])),
        &json!({"location": "body", "value": [1]}),
        "无法将 JSON 输入源“/body/amount”映射到目标字段“金额信息”中，此字段需要一个合法的 Json 对象",
    );
}

#[test]
fn unknown_members_and_wide_characters_are_refused() {
    check_fails(
        &order(|body| body["amount"]["sub"] = json!(1)),
        &json!({"location": "body", "value": 1}),
        "/body/amount/sub",
    );
    check_fails(
        &order(|body| body["description"] = json!("充值\u{1f600}")),
        &json!({"location": "body", "value": "充值\u{1f600}"}),
        "1至3字节",
    );
    check_fails("{", &json!({"location": "body", "value": ""}), "JSON");
    check_fails("[]", &json!({"location": "body", "value": []}), "Json 对象");
}

#[test]
fn a_path_is_checked_under_its_own_name() {
    let answer = check_path(&"1".repeat(35), &OUT_TRADE_NO_IN_PATH).unwrap_err();
    let text = format!("{answer:?}");
    let message =
        "输入源“/uri_template/out_trade_no”映射到值字段“商户订单号”字符串规则校验失败，字节数 35，大于最大值 32";
    assert!(text.contains(message), "{text}");
}

#[test]
fn a_refund_needs_its_currency_and_cny_is_the_only_one() {
    let body = json!({
        "out_trade_no": "SO20260101000001", "out_refund_no": "RF|1@*", "amount": {"refund": 1, "total": 1},
    });
    let answer = read(body.to_string().as_bytes(), REFUND).unwrap_err();
    assert!(format!("{answer:?}").contains("/body/amount/currency"), "{answer:?}");
    assert!(check_currency(Some(&json!({"currency": "CNY"}))).is_ok());
    assert!(check_currency(Some(&json!({"currency": "USD"}))).is_err());
}
