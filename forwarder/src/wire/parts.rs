//! The parts of a joined body: the `packetboat-parts` header, and the cutting of a body by it.

use bytes::Bytes;

use super::{BATCH_RAW_BYTES_MAX, WireError};
use crate::batch::{Encoding, Part};

/// What the header says about one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) seq: u64,
    pub(super) raw_bytes: u32,
    pub(super) lines: u32,
}

pub(super) fn write(parts: &[Part]) -> String {
    let each = parts.iter().map(|part| format!("{}:{}:{}", part.seq, part.raw_bytes, part.lines));
    each.collect::<Vec<_>>().join(",")
}

/// Reads the header. `None`: it is not one. What it announces is not checked yet; each part has at
/// least one byte, so that a list longer than the largest batch is not read to its end.
pub(super) fn read(text: &str) -> Option<Vec<Announced>> {
    let mut parts = Vec::new();
    for item in text.split(',') {
        let (seq, rest) = item.split_once(':')?;
        let (raw_bytes, lines) = rest.split_once(':')?;
        let (seq, raw_bytes, lines) = (seq.parse().ok()?, raw_bytes.parse().ok()?, lines.parse().ok()?);
        parts.push(Announced { seq, raw_bytes, lines });
        if parts.len() > BATCH_RAW_BYTES_MAX {
            return None;
        }
    }
    Some(parts)
}

/// Cuts `body` into the parts that were announced.
pub(super) fn cut(body: &Bytes, encoding: Encoding, announced: &[Announced]) -> Result<Vec<Part>, WireError> {
    match encoding {
        Encoding::Plain => cut_plain(body, announced),
        Encoding::Zstd => cut_zstd(body, announced),
    }
}

/// A plain body lacks the final LF, which is put back.
fn cut_plain(body: &Bytes, announced: &[Announced]) -> Result<Vec<Part>, WireError> {
    let raw_bytes: usize = announced.iter().map(|part| part.raw_bytes as usize).sum();
    if raw_bytes != body.len() + 1 {
        let found = body.len() + 1;
        return Err(WireError::Disagree(format!("the body holds {found} bytes, {raw_bytes} were announced")));
    }
    let mut rest = Bytes::from([body.as_ref(), b"\n"].concat());
    Ok(announced.iter().map(|part| part.with(rest.split_to(part.raw_bytes as usize))).collect())
}

/// Each part is one zstd frame, whose end the frame itself tells.
fn cut_zstd(body: &Bytes, announced: &[Announced]) -> Result<Vec<Part>, WireError> {
    let mut rest = body.clone();
    let mut parts = Vec::with_capacity(announced.len());
    for part in announced {
        let frame_bytes = zstd::zstd_safe::find_frame_compressed_size(&rest)
            .ok()
            .filter(|&bytes| bytes <= rest.len())
            .ok_or_else(|| WireError::Disagree(format!("part {} is not a whole zstd frame", part.seq)))?;
        parts.push(part.with(rest.split_to(frame_bytes)));
    }
    if !rest.is_empty() {
        let left = rest.len();
        return Err(WireError::Disagree(format!("{left} bytes follow the last announced part")));
    }
    Ok(parts)
}

impl Announced {
    fn with(self, body: Bytes) -> Part {
        Part { seq: self.seq, lines: self.lines, raw_bytes: self.raw_bytes, body, plain: None }
    }
}

/// Checks the decoded lines of all parts, one after the other, against what was announced.
pub(super) fn check_lines(lines: &[u8], parts: &[Part]) -> Result<(), WireError> {
    let mut rest = lines;
    for part in parts {
        let (own, after) = rest.split_at_checked(part.raw_bytes as usize).unwrap_or((rest, &[]));
        let found = memchr::memchr_iter(b'\n', own).count();
        if own.last() != Some(&b'\n') || found != part.lines as usize {
            let (seq, lines) = (part.seq, part.lines);
            return Err(WireError::Disagree(format!("part {seq} is not {lines} whole lines, but {found}")));
        }
        rest = after;
    }
    Ok(())
}
