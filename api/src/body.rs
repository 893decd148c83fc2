//! Reading a request's body, within a limit and a time.

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use std::time::Duration;

/// The largest body that is read, in bytes. For callbacks the contract says so; no other body of ours comes near it.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// What is read and thrown away of a larger one, so that its sender hears why before the connection is closed.
const MAX_DRAINED_BYTES: usize = 1024 * 1024;
/// WeChat Pay waits 5 s for the whole answer (wechatpay-v3.md §4.6); nobody else has reason to be slower.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Over [`MAX_BODY_BYTES`].
    TooLarge,
    /// It did not come within the time.
    TooSlow,
    /// The connection broke, or the framing did.
    Broken,
}

/// Reads the whole body.
pub async fn read(body: Body) -> Result<Vec<u8>, BodyError> {
    tokio::time::timeout(TIMEOUT, read_all(body)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read_all(body: Body) -> Result<Vec<u8>, BodyError> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut drained) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk.map_err(|_| BodyError::Broken)?;
        if drained == 0 && bytes.len() + chunk.len() <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&chunk);
            continue;
        }
        drained += chunk.len();
        if drained > MAX_DRAINED_BYTES {
            return Err(BodyError::TooLarge);
        }
    }
    if drained == 0 { Ok(bytes) } else { Err(BodyError::TooLarge) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read(Body::empty()).await, Ok(Vec::new()));
        assert_eq!(read(Body::from(vec![7; MAX_BODY_BYTES])).await.map(|body| body.len()), Ok(MAX_BODY_BYTES));
        assert_eq!(read(Body::from(vec![7; MAX_BODY_BYTES + 1])).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_left() {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 4096])));
        assert_eq!(read(Body::from_stream(endless)).await, Err(BodyError::TooLarge));
    }
}
