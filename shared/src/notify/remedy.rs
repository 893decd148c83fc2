//! What an operator can do about each reason for which a notification was given up.

/// What the error code means, and what to do; in a sentence or two.
pub fn remedy(code: &str) -> &'static str {
    match code {
        "signature_invalid" => {
            "The stored signature fails under the key that it names, though the door let it in: the keys of api and worker \
             differ. Give all processes the same WECHAT_PAY_PUBLIC_KEY_PATH and WECHAT_PAY_PUBLIC_KEY_ID, then retry."
        }
        "signature_probe" => {
            "WeChat Pay sent a wrong signature on purpose, to see it refused; it was. There is nothing to do."
        }
        "timestamp_stale" => {
            "It was over five minutes old when it came, so it was refused and WeChat Pay sends it again. If this happens \
             often, set this machine's clock right (NTP)."
        }
        "key_unavailable" => {
            "No key is known for the serial number that signed it. Check WECHAT_PAY_PUBLIC_KEY_ID, and that the workers \
             reach WECHAT_PAY_BASE_URL to fetch certificates; then retry."
        }
        "malformed_notification" => {
            "WeChat Pay signed it, but it is not as its protocol says. Compare the body with WeChat Pay's documentation, and \
             ask its support with the header request-id; a retry helps only after an update of this service."
        }
        "decrypt_failed" => {
            "It cannot be decrypted with WECHAT_PAY_API_KEY: the APIv3 key was changed, here or at WeChat Pay. Set the key \
             that was valid when it was sent, restart the workers, then retry."
        }
        "event_unsupported" => "It is about another product than payments and refunds. There is nothing to do.",
        "mchid_mismatch" => {
            "It is for another merchant than WECHAT_PAY_MCH_ID. Correct the variable and retry; or correct the callback URL \
             at that merchant."
        }
        "appid_mismatch" => {
            "It is for another app than WECHAT_PAY_APP_ID. Correct the variable and retry; or correct the callback URL of \
             that app's orders, and send stray money back with `ops refund dead-letter`."
        }
        "order_not_found" => {
            "No order has this number, even after hours. Was the database restored from an older copy, or do two \
             installations share one merchant? Bring the order back and retry, or send the money back with \
             `ops refund dead-letter`."
        }
        "amount_mismatch" => {
            "What was paid is not the order's amount, so nothing was credited. Compare both; send the money back with \
             `ops refund dead-letter`, or correct the order and retry."
        }
        "currency_mismatch" => "It was not paid in CNY, so nothing was credited. Refund the payment at WeChat Pay.",
        "trade_state_unexpected" => {
            "It says success and its trade_state says otherwise, so nothing was credited. Ask WeChat Pay about the order \
             (POST …/admin/orders/{orderNo}/sync); what it answers is applied."
        }
        "paid_twice" => {
            "Another payment has settled this order already; the user has paid twice. Send this second payment back with \
             `ops refund dead-letter`. A retry changes nothing."
        }
        "order_not_paid" => {
            "Money went back from an order whose payment never came here, though WeChat Pay was asked about it. Ask again \
             (POST …/admin/orders/{orderNo}/sync), then retry."
        }
        "refund_mismatch" => {
            "WeChat Pay's refund has another amount, payment or refund_id than the one here, so nothing was changed. Compare \
             both in WeChat Pay's console, and ask its support with the header request-id."
        }
        "refund_contradicted" => {
            "The refund has ended otherwise here, and its points with it. Look at it in WeChat Pay's console; when the money \
             truly went back, correct the account by hand."
        }
        "handler_panicked" => {
            "A bug of this service at this one notification; the worker's log has the details at the time of the attempt. \
             Report it, and retry after the update."
        }
        "database_refused" => {
            "A constraint of the database refused the change, and so kept the books right. The message names the constraint; \
             look at the order and its payments, correct them, then retry."
        }
        "database_error" => {
            "PostgreSQL failed again and again while it was applied; the message has its error code. Look at PostgreSQL's \
             log and its disk, then retry."
        }
        "poison" => {
            "Handling it killed the worker several times, so it was set aside. Look for the end of the worker in the logs \
             (out of memory, a crash); retry it alone after an update."
        }
        _ => "The message says what went wrong. Retry when the cause is gone.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Fault;

    #[test]
    fn every_reason_has_its_own_advice() {
        let faults = Fault::each();
        let codes = faults.iter().map(Fault::code).chain(["anything else"]);
        let mut advice: Vec<_> = codes.map(remedy).collect();
        let all = advice.len();
        advice.sort_unstable();
        advice.dedup();
        assert_eq!(advice.len(), all, "no two share one");
        assert!(advice.iter().all(|text| text.ends_with('.') && !text.contains("  ")), "{advice:#?}");
    }
}
