//! What WeChat Pay encrypts for us: `AEAD_AES_256_GCM` under the `APIv3` key (wechatpay-v3.md §4.3).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::borrow::Cow;

/// The `APIv3` key: 32 ASCII characters, used as they are (not hex, not base64).
#[derive(Debug)]
pub struct ApiV3Key(LessSafeKey);

/// The key has another length.
#[derive(Debug, thiserror::Error)]
#[error("an APIv3 key has exactly 32 bytes")]
pub struct BadApiV3Key;

impl std::str::FromStr for ApiV3Key {
    type Err = BadApiV3Key;

    fn from_str(text: &str) -> Result<Self, BadApiV3Key> {
        let key = UnboundKey::new(&AES_256_GCM, text.as_bytes()).map_err(|_| BadApiV3Key)?;
        Ok(Self(LessSafeKey::new(key)))
    }
}

/// An encrypted object, as it stands in a notification or a list of certificates.
#[derive(Debug, Deserialize)]
pub struct Resource<'a> {
    /// `transaction` or `refund`; absent for certificates.
    #[serde(borrow, default)]
    pub original_type: Option<Cow<'a, str>>,
    /// `AEAD_AES_256_GCM`.
    #[serde(borrow)]
    pub algorithm: Cow<'a, str>,
    /// Standard base64 of the ciphertext and its 16-byte tag.
    #[serde(borrow)]
    pub ciphertext: Cow<'a, str>,
    /// Authenticated with it; absent, null and empty are the same.
    #[serde(borrow, default)]
    pub associated_data: Option<Cow<'a, str>>,
    /// 12 bytes, as they are.
    #[serde(borrow)]
    pub nonce: Cow<'a, str>,
}

/// Why a resource did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Another algorithm, a nonce that is not 12 bytes, no base64, or shorter than its tag.
    #[error("the resource is malformed")]
    Malformed,
    /// Key, nonce or associated data differ; nothing is returned in part.
    #[error("the resource does not open under the APIv3 key")]
    Tag,
}

impl ApiV3Key {
    /// The same for the same key, and no help to whoever wants to know it: a tag over nothing, under a nonce that WeChat
    /// Pay's, which are visible ASCII, never are.
    pub fn fingerprint(&self) -> [u8; 16] {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from("fingerprint"), &mut []);
        tag.expect("nothing is not too long").as_ref().try_into().expect("a tag has 16 bytes")
    }

    /// Decrypts `resource.ciphertext`.
    ///
    /// # Errors
    /// [`ResourceError::Tag`] when key, nonce or associated data differ, [`ResourceError::Malformed`] for all else.
    pub fn open(&self, resource: &Resource<'_>) -> Result<Vec<u8>, ResourceError> {
        if resource.algorithm != "AEAD_AES_256_GCM" {
            return Err(ResourceError::Malformed);
        }
        let nonce =
            Nonce::try_assume_unique_for_key(resource.nonce.as_bytes()).map_err(|_| ResourceError::Malformed)?;
        let mut text = STANDARD.decode(resource.ciphertext.as_bytes()).map_err(|_| ResourceError::Malformed)?;
        if text.len() < AES_256_GCM.tag_len() {
            return Err(ResourceError::Malformed);
        }
        let associated_data = Aad::from(resource.associated_data.as_deref().unwrap_or_default());
        let length = self.0.open_in_place(nonce, associated_data, &mut text).map_err(|_| ResourceError::Tag)?.len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
    const PLAINTEXT: &[u8] = include_bytes!("../../tests/fixtures/node/plaintext.json");
    const WITH_AAD: &str = include_str!("../../tests/fixtures/node/resource.json");
    const WITHOUT_AAD: &str = include_str!("../../tests/fixtures/node/resource-without-aad.json");

    fn resource(json: &str) -> Resource<'_> {
        serde_json::from_str(json).expect("a resource")
    }

    fn key(text: &str) -> ApiV3Key {
        text.parse().expect("a key")
    }

    #[test]
    fn what_node_encrypted_opens() {
        for json in [WITH_AAD, WITHOUT_AAD] {
            assert_eq!(key(KEY).open(&resource(json)).as_deref(), Ok(PLAINTEXT));
        }
    }

    #[test]
    fn absent_null_and_empty_associated_data_are_the_same() {
        for value in [None, Some(Cow::from(""))] {
            let resource = Resource { associated_data: value, ..resource(WITHOUT_AAD) };
            assert_eq!(key(KEY).open(&resource).as_deref(), Ok(PLAINTEXT));
        }
        let null = WITHOUT_AAD.replacen('{', r#"{"associated_data":null,"#, 1);
        assert_eq!(key(KEY).open(&resource(&null)).as_deref(), Ok(PLAINTEXT));
    }

    #[test]
    fn another_key_nonce_or_associated_data_does_not_open() {
        let other = key("0123456789abcdefghijklmnopqrstuX");
        assert_eq!(other.open(&resource(WITH_AAD)), Err(ResourceError::Tag));
        let nonce = Resource { nonce: "000000000000".into(), ..resource(WITH_AAD) };
        assert_eq!(key(KEY).open(&nonce), Err(ResourceError::Tag));
        let associated_data = Resource { associated_data: Some("refund".into()), ..resource(WITH_AAD) };
        assert_eq!(key(KEY).open(&associated_data), Err(ResourceError::Tag));
    }

    #[test]
    fn a_malformed_resource_is_an_error_and_no_panic() {
        for malformed in [
            Resource { nonce: "short".into(), ..resource(WITH_AAD) },
            Resource { ciphertext: "*".into(), ..resource(WITH_AAD) },
            Resource { ciphertext: "".into(), ..resource(WITH_AAD) },
            Resource { ciphertext: "QUJD".into(), ..resource(WITH_AAD) },
            Resource { algorithm: "AEAD_SM4_GCM".into(), ..resource(WITH_AAD) },
        ] {
            assert_eq!(key(KEY).open(&malformed), Err(ResourceError::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!("short".parse::<ApiV3Key>().is_err());
        assert!("0123456789abcdefghijklmnopqrstuvw".parse::<ApiV3Key>().is_err());
    }
}
