//! The API's description, made from the code: OpenAPI 3.1. A route is served by being described (`router.rs` has no other
//! way), so none can be missing.

use crate::error::Problem;
use serde::Deserialize;
use utoipa::{
    IntoParams, IntoResponses, Modify, OpenApi, ToSchema,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

/// What is said of the whole.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Recharge",
        description = "Points packages, bought with WeChat Pay and credited exactly once. Money is an integer number of \
                       fen, times are RFC 3339 in UTC, lists are keyset-paged, and every failure is a \
                       `application/problem+json` with a stable `code`.",
        license(name = "MIT OR Apache-2.0")
    ),
    modifiers(&Bearer),
    components(schemas(Problem)),
    tags(
        (name = "packages", description = "What can be bought"),
        (name = "orders", description = "Buying it"),
        (name = "points", description = "What was bought"),
        (name = "admin", description = "For callers with the role `admin`"),
        (name = "WeChat Pay", description = "For WeChat Pay alone"),
        (name = "operation", description = "For whoever runs the service"),
    )
)]
pub struct Description;

#[derive(Debug)]
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("HS256; `sub` is the user, `role` is `user` or `admin`, `exp` is required."))
            .build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Which page of a list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct PageParams {
    /// Rows on a page; 20 unless told.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// `nextCursor` of the page before, to the same filters.
    cursor: Option<String>,
}

/// An order, by its number.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct OrderNoParam {
    /// The order's number.
    #[param(rename = "orderNo", pattern = r"^[0-9A-Za-z_|*-]{6,32}$", example = "019aab38f6f07b1c9d1d2f3a4b5c6d7e")]
    order_no: String,
}

/// A refund, by its number.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct RefundNoParam {
    /// The refund's number.
    #[param(rename = "refundNo", pattern = r"^[0-9A-Za-z_|*@-]{1,64}$", example = "019aab38f6f07b1c9d1d2f3a4b5c6d7e")]
    refund_no: String,
}

/// How much of an order is to go back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct RefundRequestBody {
    /// Fen; all that is left unless told.
    #[schema(minimum = 1, required = false, example = 100)]
    amount: i64,
    /// Shown to the payer; at most 80 bytes of UTF-8.
    #[schema(min_length = 1, max_length = 80, required = false)]
    reason: String,
    /// Points that the user has spent are taken all the same; the balance goes below zero.
    #[schema(required = false)]
    allow_negative_balance: bool,
}

/// What to buy, and how to pay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct CreateOrderBody {
    /// An active package's id.
    #[schema(minimum = 1, example = 2)]
    package_id: i64,
    /// The one way there is so far.
    #[schema(pattern = "^wechat_native$", example = "wechat_native")]
    payment_method: String,
}

/// A package to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct NewPackageBody {
    /// What the buyer sees.
    #[schema(min_length = 1, max_length = 64, example = "标准包")]
    name: String,
    /// Empty unless told.
    #[schema(max_length = 500, required = false)]
    description: String,
    /// Fen.
    #[schema(minimum = 1, maximum = 100_000_000, example = 1000)]
    amount: i64,
    /// The points that are paid for.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 1000)]
    points: i64,
    /// The points on top; none unless told.
    #[schema(minimum = 0, maximum = 1_000_000_000, required = false)]
    bonus_points: i64,
    /// Whether it can be bought; it can unless told.
    #[schema(required = false)]
    is_active: bool,
    /// Smaller comes first; 0 unless told.
    #[schema(required = false)]
    sort_order: i32,
}

/// What of a package is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct PackageChangeBody {
    /// What the buyer sees.
    #[schema(min_length = 1, max_length = 64, required = false)]
    name: String,
    /// May be empty.
    #[schema(max_length = 500, required = false)]
    description: String,
    /// Fen.
    #[schema(minimum = 1, maximum = 100_000_000, required = false)]
    amount: i64,
    /// The points that are paid for.
    #[schema(minimum = 1, maximum = 1_000_000_000, required = false)]
    points: i64,
    /// The points on top.
    #[schema(minimum = 0, maximum = 1_000_000_000, required = false)]
    bonus_points: i64,
    /// Whether it can be bought.
    #[schema(required = false)]
    is_active: bool,
    /// Smaller comes first.
    #[schema(required = false)]
    sort_order: i32,
}

/// The answers that WeChat Pay understands.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct CallbackAnswer {
    /// `SUCCESS` or `FAIL`.
    code: String,
    /// The same in Chinese.
    message: String,
}

/// What WeChat Pay signs with.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct CallbackHeaders {
    /// Unix seconds, at most five minutes off.
    #[param(rename = "Wechatpay-Timestamp", example = "1795000000")]
    timestamp: String,
    /// Random text.
    #[param(rename = "Wechatpay-Nonce")]
    nonce: String,
    /// Standard base64.
    #[param(rename = "Wechatpay-Signature")]
    signature: String,
    /// Names the key that signed.
    #[param(rename = "Wechatpay-Serial")]
    serial: String,
}

/// All that WeChat Pay may hear.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForWechatPay {
    /// Committed to the notify log, and nothing else.
    #[response(status = 200)]
    Stored(#[to_schema] CallbackAnswer),
    /// A header is missing, or the body is not JSON.
    #[response(status = 400)]
    Malformed(#[to_schema] CallbackAnswer),
    /// Not signed by WeChat Pay just now.
    #[response(status = 401)]
    Unsigned(#[to_schema] CallbackAnswer),
    /// The body did not come in time.
    #[response(status = 408)]
    TooSlow(#[to_schema] CallbackAnswer),
    /// Over 64 KiB.
    #[response(status = 413)]
    TooLarge(#[to_schema] CallbackAnswer),
    /// Over the limit.
    #[response(status = 429)]
    TooMany(#[to_schema] CallbackAnswer),
    /// Not stored, or signed by a key that is not known here: send it again.
    #[response(status = 503)]
    NotStored(#[to_schema] CallbackAnswer),
}

/// What a process needs, each `up`, `down` or `unused`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "read by the derive alone")]
pub struct ReadinessBody {
    /// Whether the process can serve.
    ready: bool,
    /// PostgreSQL answers, and can be written to.
    database: String,
    /// One of WeChat Pay's keys is loaded.
    keys: String,
    /// RabbitMQ is connected. Shown, but not needed.
    broker: String,
}

/// Any caller may hear this.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForAnyone {
    /// `unauthorized`: a token was sent, and it proves nothing.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// `rate_limited`: come again after `Retry-After` seconds.
    #[response(status = 429, content_type = "application/problem+json")]
    RateLimited(#[to_schema] Problem),
    /// `internal`: our fault. Quote the request id.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] Problem),
}

/// Any caller of an admin's route may hear this beside.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForAdmins {
    /// `forbidden`: the role `admin` is missing.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
}

/// A query or a header may be wrong.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForFields {
    /// `validation_failed`: `errors` names every field that breaks a rule.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
}

/// A body may be wrong.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForBodies {
    /// `malformed_request`: not JSON, or not said to be.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// `payload_too_large`: over 64 KiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// `validation_failed`: `errors` names every field that breaks a rule.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
}

/// What the path names may not be there.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForIds {
    /// `not_found`: there is none, or it is another user's.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
}

/// WeChat Pay must be asked.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub enum ForWechat {
    /// `wechat_rejected`: WeChat Pay said no.
    #[response(status = 502, content_type = "application/problem+json")]
    Rejected(#[to_schema] Problem),
    /// `wechat_unavailable`: no answer that could be trusted. Try again in a moment.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}
