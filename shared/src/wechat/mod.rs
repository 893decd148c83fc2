//! The only place that speaks WeChat Pay's protocol (`APIv3`, direct merchant).
//!
//! `wechatpay-v3.md` in the sources' comments names the sections of our protocol reference.

pub mod client;
pub mod error;
pub mod keys;
pub mod notification;
pub mod resource;
pub mod signature;

mod model;
mod transport;

pub use client::{Client, NativeOrder};
pub use error::Error;
pub use keys::{KeyRing, PlatformKey};
pub use model::{NewRefund, Refund, RefundNotice, RefundStatus, TradeState, Transaction};
pub use notification::Opener;
pub use resource::ApiV3Key;
pub use signature::Signer;

use url::Url;

/// The official host (wechatpay-v3.md §1.1).
pub const OFFICIAL_BASE_URL: &str = "https://api.mch.weixin.qq.com";
/// The official host in another city: same paths, same signatures.
pub const BACKUP_BASE_URL: &str = "https://api2.mch.weixin.qq.com";

/// Who we are to WeChat Pay, and the keys between us.
#[derive(Debug)]
pub struct Merchant {
    /// `appid`, bound to the merchant.
    pub app_id: String,
    /// `mchid`.
    pub mch_id: String,
    /// Opens what WeChat Pay encrypts for us.
    pub api_key: ApiV3Key,
    /// Signs what we send.
    pub signer: Signer,
    /// Public-key mode: the id of the key that answers should be signed with.
    pub public_key_id: Option<String>,
    /// Where the API is.
    pub base_url: Url,
    /// Where payment callbacks should go.
    pub notify_url: String,
    /// Where refund callbacks should go.
    pub refund_notify_url: String,
}
