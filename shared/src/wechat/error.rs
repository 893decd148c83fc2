//! What can go wrong with a call, by what may be concluded from it (wechatpay-v3.md §2.2, §9).

/// WeChat Pay's own words for a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's code as it was sent; empty when the body had none.
    pub code: String,
    /// For logs and people; never branch on it.
    pub message: String,
    /// `Request-ID`, to quote to WeChat Pay's support.
    pub request_id: String,
}

impl Refusal {
    /// Whether the code is `code`, in either of the spellings that exist (with and without underscores).
    pub fn is(&self, code: &str) -> bool {
        let letters = |text: &str| text.replace('_', "");
        letters(&self.code) == letters(code)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = if self.code.is_empty() { "no code" } else { &self.code };
        write!(f, "{} {code}: {} (Request-ID {})", self.status, self.message, self.request_id)
    }
}

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// WeChat Pay refused, and signed that: nothing was done.
    #[error("WeChat Pay refused: {0}")]
    Rejected(Refusal),
    /// The gateway refused without a signature: our request was not accepted, but nobody vouches for the answer.
    #[error("WeChat Pay's gateway refused: {0}")]
    NotAuthenticated(Refusal),
    /// Whether it was done is not known: ask, or repeat with the very same parameters. Never taken for a failure.
    #[error("the outcome is unknown: {0}")]
    Unknown(Unknown),
}

/// Why an outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// No answer: no connection, a reset, a time-out.
    #[error("no answer")]
    NoAnswer(#[source] reqwest::Error),
    /// Not even after the repeats.
    #[error("no answer in time")]
    Deadline,
    /// WeChat Pay says so itself: 202, 429, 5xx.
    #[error("WeChat Pay is busy: {0}")]
    Busy(Refusal),
    /// The answer's signature is missing, wrong or stale.
    #[error("the answer cannot be trusted: {0}")]
    Unverified(&'static str),
    /// The answer is signed by a key that is not held here.
    #[error("the answer is signed by a key that is not known here")]
    KeyMissing(String),
    /// Verified, but not what the protocol says.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

impl Error {
    /// Whether the same request may be sent again at once. Too fast is the one cause that a quick repeat makes worse.
    pub const fn may_repeat(&self) -> bool {
        match self {
            Self::Rejected(_) | Self::NotAuthenticated(_) | Self::Unknown(Unknown::KeyMissing(_)) => false,
            Self::Unknown(Unknown::Busy(refusal)) => refusal.status != 429,
            Self::Unknown(_) => true,
        }
    }

    /// Whether WeChat Pay says that we are too fast (wechatpay-v3.md §9.2).
    pub const fn is_too_fast(&self) -> bool {
        matches!(self, Self::Unknown(Unknown::Busy(refusal)) if refusal.status == 429)
    }

    /// The refusal, signed or not, if it is one.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Rejected(refusal) | Self::NotAuthenticated(refusal) => Some(refusal),
            Self::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_in_both_spellings() {
        let refusal =
            |code: &str| Refusal { status: 400, code: code.into(), message: String::new(), request_id: String::new() };
        assert!(refusal("ORDERCLOSED").is("ORDER_CLOSED"));
        assert!(refusal("ORDER_CLOSED").is("ORDER_CLOSED"));
        assert!(!refusal("ORDERPAID").is("ORDER_CLOSED"));
    }
}
