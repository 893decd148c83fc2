//! All faults at once, each naming its variable, and no value of any.

use super::*;

fn everything(env: &mut Env) -> Result<(), Faults> {
    let process = process(env);
    let secrets = (merchant(env), jwt_secret(env), data_encryption_key(env));
    let numbers = (order_ttl(env), limits(env), notify_log_retention_days(env), retries_per_second(env), ladder(env));
    match (process, secrets, numbers) {
        (Some(_), (Some(_), Some(_), Some(_)), (Some(_), Some(_), Some(_), Some(_), Some(_))) => Ok(()),
        _ => Err(env.faults()),
    }
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/openssl/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn sound(change: impl FnOnce(&mut Vec<(&'static str, String)>)) -> Result<(), Faults> {
    let mut pairs = vec![
        ("DATABASE_URL", "postgres://u:p@h/d".to_owned()),
        ("AMQP_URL", "amqp://u:p@h/%2f".to_owned()),
        ("JWT_SECRET", "x".repeat(32)),
        ("DATA_ENCRYPTION_KEY", STANDARD.encode([7; 32])),
        ("WECHAT_PAY_APP_ID", "wxd678efh567hg6787".to_owned()),
        ("WECHAT_PAY_MCH_ID", "1900000100".to_owned()),
        ("WECHAT_PAY_API_KEY", "x".repeat(32)),
        ("WECHAT_PAY_PRIVATE_KEY_PATH", fixture("merchant.pkcs8.pem")),
        ("WECHAT_PAY_CERT_PATH", fixture("merchant.cert.pem")),
        ("WECHAT_PAY_NOTIFY_URL", "https://pay.example.com/api/payment/notify/wechat".to_owned()),
        ("WECHAT_PAY_PUBLIC_KEY_PATH", fixture("platform.pub.pem")),
        ("WECHAT_PAY_PUBLIC_KEY_ID", "PUB_KEY_ID_0114232134912410000000000000".to_owned()),
    ];
    change(&mut pairs);
    let mut env = Env::of([]);
    for (name, value) in &pairs {
        env.set(name, value);
    }
    everything(&mut env)
}

fn set(name: &'static str, value: &str) -> impl FnOnce(&mut Vec<(&'static str, String)>) {
    move |pairs| {
        pairs.retain(|(other, _)| *other != name);
        pairs.push((name, value.to_owned()));
    }
}

#[test]
fn a_sound_environment_is_read() {
    sound(|_| ()).expect("no faults");
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let faults = everything(&mut Env::of([])).expect_err("nothing is there").to_string();
    insta::assert_snapshot!(faults);
}

#[test]
fn a_malformed_variable_is_named_and_its_value_is_not_shown() {
    for (name, value) in [
        ("DATABASE_URL", "hunter2"),
        ("AMQP_URL", "http://hunter2"),
        ("QUEUE_PREFIX", "hunter2 hunter2"),
        ("JWT_SECRET", "hunter2"),
        ("DATA_ENCRYPTION_KEY", "hunter2"),
        ("ORDER_TTL_MINUTES", "121"),
        ("ORDER_TTL_MINUTES", "0"),
        ("NOTIFY_LOG_RETENTION_DAYS", "0"),
        ("NOTIFY_LOG_RETENTION_DAYS", "36501"),
        ("SHUTDOWN_GRACE_SECONDS", "hunter2"),
        ("RATE_LIMIT_CREATE_PER_USER", "hunter2"),
        ("RATE_LIMIT_READ_PER_IP", "-1"),
        ("RATE_LIMIT_CALLBACK_PER_IP", "1000001"),
        ("MAX_PENDING_ORDERS", "10001"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,hunter2"),
        ("NOTIFY_RETRY_PER_SECOND", "0"),
        ("NOTIFY_RETRY_PER_SECOND", "10001"),
        ("LOG_FORMAT", "hunter2"),
        ("RUST_LOG", "api=hunter2"),
        ("DATABASE_URL", "postgres://h/d?sslmode=hunter2"),
        ("AMQP_URL", "amqp://h/%2f?heartbeat=hunter2"),
        // What stands for a value that is not UTF-8.
        ("JWT_SECRET", "\0"),
        ("WECHAT_PAY_APP_ID", "hunter2 "),
        ("WECHAT_PAY_MCH_ID", "商户"),
        ("WECHAT_PAY_API_KEY", "hunter2"),
        ("WECHAT_PAY_NOTIFY_URL", "https://h/x?hunter2"),
        ("WECHAT_PAY_NOTIFY_URL", "hunter2.example.com"),
        ("WECHAT_PAY_REFUND_NOTIFY_URL", "ftp://hunter2"),
        ("WECHAT_PAY_BASE_URL", "https://h/hunter2"),
        ("WECHAT_PAY_PUBLIC_KEY_ID", "hunter2"),
    ] {
        let faults = sound(set(name, value)).expect_err(name).to_string();
        assert!(faults.starts_with(&format!("{name} is malformed; it expects ")), "{faults}");
        assert_eq!(faults.lines().count(), 1, "{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn a_key_file_that_is_none_is_named() {
    for (name, file) in [
        ("WECHAT_PAY_PRIVATE_KEY_PATH", "nowhere.pem"),
        ("WECHAT_PAY_PRIVATE_KEY_PATH", "merchant.cert.pem"),
        ("WECHAT_PAY_CERT_PATH", "nowhere.pem"),
        ("WECHAT_PAY_CERT_PATH", "platform.pub.pem"),
        ("WECHAT_PAY_PUBLIC_KEY_PATH", "merchant.pkcs8.pem"),
    ] {
        let faults = sound(set(name, &fixture(file))).expect_err(name).to_string();
        assert!(faults.starts_with(&format!("{name} names a file that ")), "{faults}");
        assert_eq!(faults.lines().count(), 1, "{faults}");
    }
}

#[test]
fn the_public_key_and_its_id_go_together() {
    for missing in ["WECHAT_PAY_PUBLIC_KEY_PATH", "WECHAT_PAY_PUBLIC_KEY_ID"] {
        let faults = sound(|pairs| pairs.retain(|(name, _)| *name != missing)).expect_err(missing).to_string();
        assert!(faults.starts_with(&format!("{missing} is missing")), "{faults}");
    }
    sound(|pairs| pairs.retain(|(name, _)| !name.starts_with("WECHAT_PAY_PUBLIC_KEY_"))).expect("both absent is fine");
}

#[test]
fn an_empty_variable_is_an_absent_one() {
    sound(set("AMQP_URL", "")).expect("embedded mode");
}

#[test]
fn the_help_lists_every_variable() {
    insta::assert_snapshot!(help("api", "About.", everything));
}
