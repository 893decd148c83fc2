//! Requests that are signed before they are sent: making them on all cores, and the file that holds them.

use crate::{
    callback::Sender,
    orders::{Numbers, transaction_id},
};
use anyhow::{Context, ensure};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    ops::Range,
    path::Path,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds since 1970.
fn unix_seconds() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

/// Signs the callbacks of these orders into `file`. Their timestamps are of now: the door takes them for five minutes.
pub fn sign(sender: &Sender, numbers: &Numbers, range: Range<u64>, file: &Path) -> anyhow::Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let all: Vec<u64> = range.collect();
    let parts: Vec<anyhow::Result<Vec<Vec<u8>>>> = thread::scope(|scope| {
        let signers: Vec<_> = all
            .chunks(all.len().div_ceil(cores).max(1))
            .map(|part| {
                scope.spawn(move || {
                    let sign = |n: &u64| sender.request(&numbers.order_no(*n), &transaction_id(*n), unix_seconds()?);
                    part.iter().map(sign).collect()
                })
            })
            .collect();
        signers.into_iter().map(|signer| signer.join().expect("signing does not panic")).collect()
    });
    let mut out = BufWriter::new(File::create(file)?);
    for part in parts {
        for request in part? {
            write_one(&mut out, &request)?;
        }
    }
    Ok(out.flush()?)
}

fn write_one(out: &mut impl Write, request: &[u8]) -> anyhow::Result<()> {
    out.write_all(&u32::try_from(request.len())?.to_le_bytes())?;
    Ok(out.write_all(request)?)
}

/// A file of requests, in memory.
#[derive(Debug)]
pub struct Requests {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Requests {
    /// Reads a file that [`sign`] wrote.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        Self::parse(fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?)
    }

    fn parse(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let (mut places, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let start = at + 4;
            let length = bytes.get(at..start).context("a length is cut off")?;
            let length = u32::from_le_bytes(length.try_into()?);
            at = start + usize::try_from(length)?;
            ensure!(at <= bytes.len(), "a request is cut off");
            places.push(start..at);
        }
        Ok(Self { bytes, places })
    }

    /// The bytes of the `n`-th.
    pub fn get(&self, n: usize) -> &[u8] {
        &self.bytes[self.places[n].clone()]
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let mut bytes = Vec::new();
        for request in [&b"GET /"[..], b"", b"POST /x"] {
            write_one(&mut bytes, request).unwrap();
        }
        let requests = Requests::parse(bytes.clone()).unwrap();
        assert_eq!(requests.len(), 3);
        assert_eq!((requests.get(0), requests.get(1), requests.get(2)), (&b"GET /"[..], &b""[..], &b"POST /x"[..]));
        bytes.pop();
        assert!(Requests::parse(bytes).is_err(), "the last one is cut off");
        assert!(Requests::parse(vec![1, 0]).is_err());
    }
}
