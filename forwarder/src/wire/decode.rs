//! Reads a body with `packetboat-*` headers back into a batch, and believes none of them unchecked.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::parts::{self, Announced};
use super::*;
use crate::batch::Epoch;

/// A longer name of a node is none.
const NAME_BYTES_MAX: usize = 255;

/// What a node sent, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// As it came.
    pub batch: Batch,
    /// The lines of all its parts, each ended by LF.
    pub lines: Vec<u8>,
}

/// Reads what a node of `mesh` sent. `Ok(None)`: the body carries no `packetboat-wire`, so it comes from
/// some other producer. Every size is bounded before it is used, and every part is decoded once to
/// check it. The lines are not checked by the line rule, and whether `packetboat-hops` names this node
/// is for the caller to ask.
pub fn decode<'h>(
    header: impl Fn(&'static str) -> Option<&'h str>,
    body: &Bytes,
    mesh: &str,
) -> Result<Option<Decoded>, WireError> {
    match header(WIRE) {
        None => return Ok(None),
        Some(WIRE_VERSION) => {}
        Some(other) => return Err(WireError::Version(other.to_owned())),
    }
    let headers = Wanted(header);
    let found = headers.read(MESH, |text| Some(text.to_owned()))?;
    if found != mesh {
        return Err(WireError::Mesh { found, ours: mesh.to_owned() });
    }
    headers.check_crc(body)?;
    let encoding = headers.encoding()?;
    let announced = headers.announced(encoding, body)?;
    let batch = Batch {
        label: Some(headers.label()?),
        encoding,
        parts: parts::cut(body, encoding, &announced)?,
        accepted_ms: headers.read(ACCEPTED, times)?,
    };
    let mut lines = Vec::new();
    batch.append_lines(&mut lines)?;
    parts::check_lines(&lines, &batch.parts)?;
    Ok(Some(Decoded { batch, lines }))
}

/// Headers that must be there and in order.
struct Wanted<F>(F);

impl<'h, F: Fn(&'static str) -> Option<&'h str>> Wanted<F> {
    fn read<T>(&self, name: &'static str, parse: impl Fn(&'h str) -> Option<T>) -> Result<T, WireError> {
        let value = (self.0)(name);
        let wrong = || WireError::Header { name, value: value.map(str::to_owned) };
        value.and_then(parse).ok_or_else(wrong)
    }

    fn check_crc(&self, body: &[u8]) -> Result<(), WireError> {
        let announced = self.read(CRC, |text| u32::from_str_radix(text, 16).ok())?;
        let found = crc32c(body);
        if announced == found { Ok(()) } else { Err(WireError::Crc { announced, found }) }
    }

    fn encoding(&self) -> Result<Encoding, WireError> {
        match (self.0)(CONTENT_ENCODING) {
            None => Ok(Encoding::Plain),
            Some(ZSTD) => Ok(Encoding::Zstd),
            Some(other) => Err(WireError::Header { name: CONTENT_ENCODING, value: Some(other.to_owned()) }),
        }
    }

    fn label(&self) -> Result<Label, WireError> {
        let hops = |text: &str| text.split(',').map(name).collect();
        Ok(Label {
            origin: self.read(ORIGIN, name)?,
            epoch: self.read(EPOCH, epoch)?,
            hops: self.read(HOPS, hops)?,
        })
    }

    /// The parts that must be found in the body, their sizes within bounds and their numbers in order.
    fn announced(&self, encoding: Encoding, body: &[u8]) -> Result<Vec<Announced>, WireError> {
        let (first, last) = self.read(SEQ, range)?;
        let lines: u32 = self.read(COUNT, |text| text.parse().ok())?;
        let parts = match (self.0)(PARTS) {
            Some(_) => self.read(PARTS, parts::read)?,
            None => vec![Announced { seq: first, raw_bytes: only_part_bytes(encoding, body)?, lines }],
        };
        let raw_bytes: u64 = parts.iter().map(|part| u64::from(part.raw_bytes)).sum();
        if raw_bytes > BATCH_RAW_BYTES_MAX as u64 || parts.iter().any(|part| part.raw_bytes == 0) {
            return Err(WireError::Disagree(format!(
                "a batch holds 1 to {BATCH_RAW_BYTES_MAX} bytes, not {raw_bytes}"
            )));
        }
        if !parts.iter().map(|part| part.seq).eq(first..=last) {
            return Err(WireError::Disagree(format!("its parts are not the batches {first} to {last}")));
        }
        if parts.iter().map(|part| u64::from(part.lines)).sum::<u64>() != u64::from(lines) {
            return Err(WireError::Disagree(format!("its parts do not hold {lines} lines")));
        }
        Ok(parts)
    }
}

/// Whether the first frame of `body` says itself that it decodes to so many bytes.
pub(super) fn tells_size(body: &[u8], raw_bytes: usize) -> bool {
    frame_size(body) == Some(raw_bytes as u64)
}

fn frame_size(body: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(body).ok().flatten()
}

/// Decoded bytes of a body that says nothing about parts, and so is one.
fn only_part_bytes(encoding: Encoding, body: &[u8]) -> Result<u32, WireError> {
    let raw_bytes = match encoding {
        Encoding::Plain => Some(body.len() as u64 + 1),
        Encoding::Zstd => frame_size(body),
    };
    raw_bytes
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| WireError::Disagree("the body does not tell its decoded size".to_owned()))
}

fn name(text: &str) -> Option<Arc<str>> {
    let is_name = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
    is_name.then(|| text.into())
}

fn epoch(text: &str) -> Option<Epoch> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    Some(Epoch(bits.to_be_bytes()))
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-')?;
    Some((number(first)?, number(last)?))
}

/// A number that every node can keep, and the one after it too: a spool counts in 64 bits with a sign.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&number| number < i64::MAX.unsigned_abs())
}

fn times(text: &str) -> Option<RangeInclusive<i64>> {
    let (first, last) = range(text)?;
    Some(i64::try_from(first).ok()?..=i64::try_from(last).ok()?)
}
