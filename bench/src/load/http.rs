//! As little of an HTTP/1.1 client as will do: whole requests out, whole answers in, over a connection that stays.

use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of head and body.
    length: usize,
}

/// Reads the head, when all of it is there. `None` for one that has no length is an answer that never ends.
fn head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())?;
    Some(Head { status, length: end + 4 + length })
}

/// A connection that stays.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(4_096) })
    }

    /// Sends the request and reads the whole answer; its status.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let mut expected = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            expected = expected.or_else(|| head(&self.answer));
            if let Some(Head { status, length }) = expected
                && self.answer.len() >= length
            {
                return Ok(status);
            }
        }
    }

    /// The last answer, head and body.
    pub fn answer(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

/// One request on a connection of its own: the status, and the answer with its head.
pub async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> io::Result<(u16, String)> {
    let mut connection = Connection::open(address).await?;
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\n");
    let status = connection.exchange(request.as_bytes()).await?;
    Ok((status, connection.answer()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(head(whole), Some(Head { status: 200, length: whole.len() }));
        assert_eq!(head(&whole[..whole.len() - 4]), None, "its end is missing");
        assert_eq!(head(&whole[..whole.len() - 2]), Some(Head { status: 200, length: whole.len() }));
        assert_eq!(
            head(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").map(|head| head.status),
            Some(503)
        );
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n\r\n"), None, "it has no length");
    }
}
