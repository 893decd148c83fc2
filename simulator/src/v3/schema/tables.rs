//! The fields of each call, from sections 5.2, 6.3, 7.1 and 7.6 of the protocol reference.

use super::{Field, Kind, Pattern};

static OUT_TRADE_NO_PATTERN: Pattern = Pattern {
    text: r"^[0-9a-zA-Z_\-\|\*]+$",
    matches: |text| !text.is_empty() && text.bytes().all(|b| is_number_byte(b, b"_-|*")),
};

static OUT_REFUND_NO_PATTERN: Pattern = Pattern {
    text: r"^[0-9a-zA-Z_\-\|\*\@]+$",
    matches: |text| !text.is_empty() && text.bytes().all(|b| is_number_byte(b, b"_-|*@")),
};

static URL_PATTERN: Pattern =
    Pattern { text: r"^https?://([^\s/?#\[\]\@]+\@)?([^\s/?#\@:]+)(?::\d{2,5})?([^\s?#\[\]]*)$", matches: is_url };

fn is_number_byte(byte: u8, marks: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || marks.contains(&byte)
}

/// Whether a `notify_url` has the form of section 4.9: its pattern, by hand. A longer host never hurts, and what may follow it includes a port.
pub fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let host_and_path = |rest: &str| {
        let ends = |c: char| c.is_whitespace() || "/?#@:".contains(c);
        let (host, path) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        !host.is_empty() && !path.contains(|c: char| c.is_whitespace() || "?#[]".contains(c))
    };
    let user = |user: &str| !user.is_empty() && !user.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c));
    host_and_path(rest) || rest.split_once('@').is_some_and(|(name, rest)| user(name) && host_and_path(rest))
}

const fn text(name: &'static str, label: &'static str, max: usize) -> Field {
    Field { name, label, required: false, kind: Kind::Text { min: 0, max, pattern: None } }
}

const fn integer(name: &'static str, label: &'static str, min: i64) -> Field {
    Field { name, label, required: false, kind: Kind::Integer { min } }
}

const fn object(name: &'static str, label: &'static str, fields: &'static [Field]) -> Field {
    Field { name, label, required: false, kind: Kind::Object(fields) }
}

/// The same, and it must be there; a string must not be empty.
const fn required(field: Field) -> Field {
    let Field { name, label, kind, .. } = field;
    let kind = match kind {
        Kind::Text { min: 0, max, pattern: None } => Kind::Text { min: 1, max, pattern: None },
        other => other,
    };
    Field { name, label, required: true, kind }
}

const fn out_trade_no() -> Field {
    let kind = Kind::Text { min: 6, max: 32, pattern: Some(&OUT_TRADE_NO_PATTERN) };
    Field { name: "out_trade_no", label: "商户订单号", required: false, kind }
}

const fn out_refund_no() -> Field {
    let kind = Kind::Text { min: 1, max: 64, pattern: Some(&OUT_REFUND_NO_PATTERN) };
    Field { name: "out_refund_no", label: "商户退款单号", required: false, kind }
}

const fn notify_url(min: usize, max: usize) -> Field {
    let kind = Kind::Text { min, max, pattern: Some(&URL_PATTERN) };
    Field { name: "notify_url", label: "通知地址", required: false, kind }
}

/// `out_trade_no` in a path.
pub static OUT_TRADE_NO_IN_PATH: Field = out_trade_no();
/// `out_refund_no` in a path.
pub static OUT_REFUND_NO_IN_PATH: Field = out_refund_no();

/// `POST /v3/pay/transactions/native`
pub static NATIVE: &[Field] = &[
    required(text("appid", "公众号ID", 32)),
    required(text("mchid", "直连商户号", 32)),
    required(text("description", "商品描述", 127)),
    required(out_trade_no()),
    text("time_expire", "交易结束时间", 64),
    text("attach", "附加数据", 128),
    required(notify_url(0, 255)),
    text("goods_tag", "订单优惠标记", 32),
    Field { name: "support_fapiao", label: "电子发票入口开放标识", required: false, kind: Kind::Bool },
    required(object(
        "amount",
        "金额信息",
        &[required(integer("total", "总金额", 1)), text("currency", "货币类型", 16)],
    )),
    object(
        "detail",
        "优惠功能",
        &[
            integer("cost_price", "订单原价", 0),
            text("invoice_id", "商品小票ID", 32),
            Field {
                name: "goods_detail",
                label: "单品列表",
                required: false,
                kind: Kind::Array { min: 1, max: 6000, items: &Kind::Object(ORDER_GOODS) },
            },
        ],
    ),
    object(
        "scene_info",
        "场景信息",
        &[
            required(text("payer_client_ip", "用户终端IP", 45)),
            text("device_id", "商户端设备号", 32),
            object(
                "store_info",
                "商户门店信息",
                &[
                    required(text("id", "门店编号", 32)),
                    text("name", "门店名称", 256),
                    text("area_code", "地区编码", 32),
                    text("address", "详细地址", 512),
                ],
            ),
        ],
    ),
    object(
        "settle_info",
        "结算信息",
        &[Field { name: "profit_sharing", label: "是否指定分账", required: false, kind: Kind::Bool }],
    ),
];

static ORDER_GOODS: &[Field] = &[
    required(text("merchant_goods_id", "商户侧商品编码", 32)),
    text("wechatpay_goods_id", "微信支付商品编码", 32),
    text("goods_name", "商品名称", 256),
    required(integer("quantity", "商品数量", 1)),
    required(integer("unit_price", "商品单价", 0)),
];

/// `POST …/close`: the one field, which the gateway reports as part of the path when missing.
pub static CLOSE: &[Field] = &[text("mchid", "直连商户号", 32)];

/// `POST /v3/refund/domestic/refunds`
pub static REFUND: &[Field] = &[
    text("transaction_id", "微信支付订单号", 32),
    out_trade_no(),
    required(out_refund_no()),
    text("reason", "退款原因", 80),
    notify_url(8, 256),
    Field {
        name: "funds_account",
        label: "退款资金来源",
        required: false,
        kind: Kind::Enum(&["AVAILABLE", "UNSETTLED"]),
    },
    required(object(
        "amount",
        "金额信息",
        &[
            required(integer("refund", "退款金额", 1)),
            required(integer("total", "原订单金额", 1)),
            required(text("currency", "退款币种", 16)),
            Field {
                name: "from",
                label: "退款出资账户及金额",
                required: false,
                kind: Kind::Array {
                    min: 0,
                    max: 16,
                    items: &Kind::Object(&[
                        Field {
                            name: "account",
                            label: "出资账户类型",
                            required: true,
                            kind: Kind::Enum(&["AVAILABLE", "UNAVAILABLE"]),
                        },
                        required(integer("amount", "出资金额", 1)),
                    ]),
                },
            },
        ],
    )),
    Field {
        name: "goods_detail",
        label: "退款商品",
        required: false,
        kind: Kind::Array { min: 1, max: 6000, items: &Kind::Object(REFUND_GOODS) },
    },
];

static REFUND_GOODS: &[Field] = &[
    required(text("merchant_goods_id", "商户侧商品编码", 32)),
    text("wechatpay_goods_id", "微信支付商品编码", 32),
    text("goods_name", "商品名称", 256),
    required(integer("unit_price", "商品单价", 0)),
    required(integer("refund_amount", "商品退款金额", 0)),
    required(integer("refund_quantity", "商品退货数量", 1)),
];

/// `POST …/apply-abnormal-refund`
pub static ABNORMAL_REFUND: &[Field] = &[
    required(out_refund_no()),
    Field {
        name: "type",
        label: "异常退款处理方式",
        required: true,
        kind: Kind::Enum(&["USER_BANK_CARD", "MERCHANT_BANK_CARD"]),
    },
    Field { name: "bank_type", label: "开户银行", required: false, kind: Kind::Enum(BANKS) },
    text("bank_account", "收款银行卡号", 1024),
    text("real_name", "收款用户姓名", 1024),
];

static BANKS: &[&str] = &[
    "CMB_DEBIT",
    "COMM_DEBIT",
    "ABC_DEBIT",
    "CCB_DEBIT",
    "ICBC_DEBIT",
    "BOC_DEBIT",
    "PAB_DEBIT",
    "SPDB_DEBIT",
    "CITIC_DEBIT",
    "CEB_DEBIT",
    "CMBC_DEBIT",
    "CIB_DEBIT",
    "GDB_DEBIT",
    "PSBC_DEBIT",
    "NBCB_DEBIT",
];
