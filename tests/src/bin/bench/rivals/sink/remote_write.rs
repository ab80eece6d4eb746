//! A receiver of Prometheus' remote write: POSTs of snappy-compressed protobuf, of which it reads only the
//! names and the timestamps. The decoder copies nothing, or it would be slower than what it is to measure.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use memchr::memmem;

use super::Shared;
use crate::lines::number_of_point;

const READ_BYTES: usize = 1024 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";

pub(super) fn serve(mut connection: TcpStream, shared: &Shared) -> Result<()> {
    let (mut buffer, mut block) = (Vec::new(), vec![0; READ_BYTES]);
    let mut decoder = snap::raw::Decoder::new();
    loop {
        while let Some((body, used)) = first_request(&buffer)? {
            let points = decoder.decompress_vec(body)?;
            enter(&points, shared)?;
            buffer.drain(..used);
            connection.write_all(ANSWER)?;
        }
        match connection.read(&mut block)? {
            0 => return Ok(()),
            read => buffer.extend_from_slice(&block[..read]),
        }
    }
}

/// The body of the request that `bytes` begin with, once it is whole, and how many bytes the request takes.
fn first_request(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_end]).context("a head is no text")?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("a request without Content-Length")?;
    let end = head_end + 4 + length.trim().parse::<usize>()?;
    Ok(bytes.get(head_end + 4..end).map(|body| (body, end)))
}

/// `WriteRequest { 1: TimeSeries { 1: Label { 1: name, 2: value }, 2: Sample { 2: milliseconds } } }`
fn enter(write_request: &[u8], shared: &Shared) -> Result<()> {
    let mut arrivals = shared.arrivals();
    let now = Instant::now();
    for field in Fields(write_request) {
        let (1, Value::Bytes(series)) = field? else { continue };
        let mut name: &[u8] = b"";
        for field in Fields(series) {
            match field? {
                (1, Value::Bytes(label)) => name = value_of_name(label)?.unwrap_or(name),
                (2, Value::Bytes(sample)) => {
                    arrivals.enter(number_of_point(name, seconds_of(sample)?), now);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The value of a label, if it is the one that holds the name of the series.
fn value_of_name(label: &[u8]) -> Result<Option<&[u8]>> {
    let mut is_name = false;
    for field in Fields(label) {
        match field? {
            (1, Value::Bytes(name)) => is_name = name == b"__name__",
            (2, Value::Bytes(value)) if is_name => return Ok(Some(value)),
            _ => {}
        }
    }
    Ok(None)
}

fn seconds_of(sample: &[u8]) -> Result<usize> {
    for field in Fields(sample) {
        if let (2, Value::Number(milliseconds)) = field? {
            return Ok(usize::try_from(milliseconds / 1000)?);
        }
    }
    bail!("a sample without a timestamp")
}

/// The fields of a protobuf message, one after the other.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length.
    Other,
}

impl<'a> Iterator for Fields<'a> {
    /// Number and value.
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field().context("a protobuf message is cut"))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.bytes(8).map(|_| Value::Other)?,
            5 => self.bytes(4).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.bytes(length)?)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Seven bits to a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::arrivals::Arrivals;
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        bytes.push(number.to_le_bytes()[0]);
        bytes
    }

    /// One series with one label besides its name, and one sample.
    fn write_request(name: &str, milliseconds: u64) -> Vec<u8> {
        let label = |name: &str, value: &str| {
            field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let value = [&[1 << 3 | 1], &1.5_f64.to_le_bytes()[..]].concat();
        let sample = [value, vec![2 << 3], varint(milliseconds)].concat();
        field(1, &[label("dc", "eu"), label("__name__", name), field(2, &sample)].concat())
    }

    #[test]
    fn names_and_timestamps_are_read() {
        let shared = Shared::default();
        *shared.arrivals() = Arrivals::new(100_000);
        let two = [
            write_request("bench.c000007", 1_700_000_000_000),
            write_request("bench.c000007", 1_700_000_003_000),
        ];
        enter(&two.concat(), &shared).unwrap();
        let arrivals = shared.arrivals();
        assert_eq!((arrivals.lines, arrivals.foreign), (2, 0));
    }

    #[test]
    fn what_is_cut_is_an_error() {
        let whole = write_request("bench.c000007", 1_700_000_000_000);
        for cut in 1..whole.len() {
            enter(&whole[..cut], &Shared::default()).unwrap_err();
        }
    }

    #[test]
    fn a_request_is_taken_once_it_is_whole() {
        let request = b"POST /api/v1/write HTTP/1.1\r\nContent-Length: 3\r\nHost: here\r\n\r\nabc";
        for cut in 0..request.len() {
            assert!(first_request(&request[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        assert_eq!(first_request(request).unwrap(), Some((&b"abc"[..], request.len())));
    }
}
