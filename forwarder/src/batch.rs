//! The nouns that travel: a [`Batch`] is the only thing that moves on the road.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Cursor};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use zstd::bulk::Decompressor;

/// Raw bytes of the largest batch, and of the largest SEND that joins several.
pub const BATCH_RAW_BYTES_MAX: usize = 64 * 1024;
/// Parts of the largest SEND that joins several: their `packetboat-parts`, 30 bytes each at most, pass with the
/// other headers where a head may have 8 kB. Brokers refuse longer ones, each at a limit of its own.
pub const BATCH_PARTS_MAX: usize = 200;
/// Lines of the largest batch that an agent seals.
pub const BATCH_LINES_MAX: u32 = 1000;

/// The start of an origin under which its sequence numbers are unique: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub [u8; 16]);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// How the bytes of a part are stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Lines, each ended by LF.
    Plain,
    /// One zstd frame with content checksum over lines that each end in LF.
    Zstd,
}

/// Who made a batch. The sequence numbers are with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The node that took the lines in.
    pub origin: Arc<str>,
    /// The start of that node.
    pub epoch: Epoch,
    /// Names of the nodes passed, in order.
    pub hops: Vec<Arc<str>>,
}

/// One batch as its origin sealed it, in the form in which it goes to the end of the road.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number within `(origin, epoch)`.
    pub seq: u64,
    /// Lines it holds.
    pub lines: u32,
    /// Bytes of its lines, decoded.
    pub raw_bytes: u32,
    /// The lines as [`Batch::encoding`] says.
    pub body: Bytes,
    /// The lines, each ended by LF, where they are still at hand: then nothing is decoded.
    pub plain: Option<Bytes>,
}

/// One or more neighbouring parts that travel together: one SEND, one receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `None`: from a producer that is not a node, so that it has no identity.
    pub label: Option<Label>,
    /// How every part is encoded.
    pub encoding: Encoding,
    /// Never empty; consecutive `seq`, same label; at most [`BATCH_PARTS_MAX`], of at most [`BATCH_RAW_BYTES_MAX`] raw
    /// bytes together.
    pub parts: Vec<Part>,
    /// When the first and the last line were accepted, in ms since the Unix epoch.
    pub accepted_ms: RangeInclusive<i64>,
}

/// A body that is not what its sender said.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// zstd could not decode it: cut, corrupt, or larger than was said.
    #[error("the zstd body of part {seq} does not decode to {raw_bytes} bytes: {cause}")]
    Zstd {
        /// The part.
        seq: u64,
        /// What its sender said.
        raw_bytes: u32,
        /// What zstd says.
        cause: io::Error,
    },
    /// It decoded to another size.
    #[error("part {seq} holds {found} bytes, but {raw_bytes} were announced")]
    Size {
        /// The part.
        seq: u64,
        /// What its sender said.
        raw_bytes: u32,
        /// What there was.
        found: usize,
    },
}

impl Batch {
    /// Lines in all parts.
    pub fn lines(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.lines)).sum()
    }

    /// Decoded bytes of all parts.
    pub fn raw_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.raw_bytes as usize).sum()
    }

    /// Appends the lines of all parts to `out`, each ended by LF, decoding where needed. A part that
    /// does not decode to the size announced for it is an error, and no more is decoded than `out` has room for.
    pub fn append_lines(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        out.reserve(self.raw_bytes());
        for part in &self.parts {
            match part.plain_lines(self.encoding) {
                Some(lines) => out.extend_from_slice(lines),
                None => decode_zstd(part, out)?,
            }
        }
        Ok(())
    }
}

impl Part {
    /// Its lines, each ended by LF, unless they would have to be decoded.
    pub(crate) fn plain_lines(&self, encoding: Encoding) -> Option<&Bytes> {
        match encoding {
            Encoding::Plain => Some(&self.body),
            Encoding::Zstd => self.plain.as_ref(),
        }
    }
}

/// Appends the lines of `part` to `out`, which has room for them; leaves it as it was if it fails.
fn decode_zstd(part: &Part, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (seq, raw_bytes, start) = (part.seq, part.raw_bytes, out.len());
    let wanted = raw_bytes as usize;
    match decompress(&part.body, out) {
        Ok(found) if found == wanted => Ok(()),
        Ok(found) => {
            out.truncate(start);
            Err(DecodeError::Size { seq, raw_bytes, found })
        }
        Err(cause) => Err(DecodeError::Zstd { seq, raw_bytes, cause }),
    }
}

/// Appends what `body` decodes to, and tells its bytes; more than `out` has room for are an error.
fn decompress(body: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    thread_local! {
        /// Kept from part to part: to get its memory takes a fifth of the time that decoding takes.
        static KEPT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        let mut end = Cursor::new(&mut *out);
        end.set_position(end.get_ref().len() as u64);
        decompressor.decompress_to_buffer(body, &mut end)
    })
}
