//! A batch as it travels between nodes: the `packetboat-*` headers and the body, in both directions.
//!
//! It knows no protocol: headers are names and values. A body is one of
//! - plain: the lines of all parts joined by LF, without a final LF, so that any consumer that writes a
//!   body into Graphite's socket goes on working;
//! - zstd: the parts' frames as they are stored, one after the other.
//!
//! `packetboat-parts` is `SEQ:BYTES:COUNT,...`, where BYTES are the decoded bytes with the final LF of
//! each line, and COUNT the lines. It stands where there are several parts, and where the frame of the only one does
//! not tell its decoded size.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use topology::model;

use crate::batch::{BATCH_RAW_BYTES_MAX, Batch, DecodeError, Encoding, Label};
use crate::crc::crc32c;

mod decode;
mod parts;

pub use decode::{Decoded, decode};

/// The version of all that stands here.
pub const WIRE_VERSION: &str = "1";

const WIRE: &str = "packetboat-wire";
const MESH: &str = "packetboat-mesh";
const ORIGIN: &str = "packetboat-origin";
const EPOCH: &str = "packetboat-epoch";
const SEQ: &str = "packetboat-seq";
const COUNT: &str = "packetboat-count";
const ACCEPTED: &str = "packetboat-accepted";
const HOPS: &str = "packetboat-hops";
const CRC: &str = "packetboat-crc";
const PARTS: &str = "packetboat-parts";
const CONTENT_ENCODING: &str = "content-encoding";
/// How a body of zstd frames is called.
pub const ZSTD: &str = "zstd";

/// Those of a batch's identity, and [`CRC`], [`PARTS`] and [`CONTENT_ENCODING`].
const HEADERS_MAX: usize = 8 + 3;

/// A batch in the form in which it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// To be sent with the body, whatever carries it.
    pub headers: Vec<(&'static str, String)>,
    /// The lines, plain or as zstd frames.
    pub body: Bytes,
}

/// Why a body with `packetboat-wire` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// From a node of a later version.
    #[error("wire version `{0}` is unknown here: update this node")]
    Version(String),
    /// From a node of another mesh.
    #[error("it belongs to mesh `{found}`, and this is `{ours}`")]
    Mesh {
        /// Its mesh.
        found: String,
        /// The mesh of this node.
        ours: String,
    },
    /// A header is missing or wrong.
    #[error("header {name} is {}", Shown(value))]
    Header {
        /// Which.
        name: &'static str,
        /// `None`: missing.
        value: Option<String>,
    },
    /// The body is not what was sent.
    #[error("the body's CRC32C is {found:08x}, and {announced:08x} was announced")]
    Crc {
        /// By the sender.
        announced: u32,
        /// Of the body.
        found: u32,
    },
    /// The headers and the body do not agree.
    #[error("{0}")]
    Disagree(String),
    /// A part does not decode to what was announced.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl WireError {
    /// Whether it may be taken once one of the two nodes is mended. Everything else that the sender has is
    /// refused for the same reason. The others will never be right.
    pub fn may_be_mended(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Mesh { .. })
    }
}

struct Shown<'a>(&'a Option<String>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "wrong: `{value}`"),
            None => f.write_str("missing"),
        }
    }
}

/// Brings `batch` into the form in which `node` of `mesh` sends it over a link with encoding `form`.
/// A batch without a label gets no `packetboat-*` headers; a plainly stored one is sent plain.
pub fn encode(batch: &Batch, mesh: &str, node: &str, form: model::Encoding) -> Result<Encoded, DecodeError> {
    let is_zstd = form == model::Encoding::Zstd && batch.encoding == Encoding::Zstd && batch.label.is_some();
    let body = if is_zstd { stored_body(batch) } else { plain_body(batch)? };
    let mut headers = Vec::with_capacity(HEADERS_MAX);
    if let Some(label) = &batch.label {
        headers.extend(identity(batch, label, mesh, node));
        headers.push((CRC, format!("{:08x}", crc32c(&body))));
        let is_told = !is_zstd || decode::tells_size(&body, batch.raw_bytes());
        if batch.parts.len() > 1 || !is_told {
            headers.push((PARTS, parts::write(&batch.parts)));
        }
    }
    if is_zstd {
        headers.push((CONTENT_ENCODING, ZSTD.to_owned()));
    }
    Ok(Encoded { headers, body })
}

fn identity(batch: &Batch, label: &Label, mesh: &str, node: &str) -> [(&'static str, String); 8] {
    let first = batch.parts.first().map_or(0, |part| part.seq);
    let last = batch.parts.last().map_or(0, |part| part.seq);
    [
        (WIRE, WIRE_VERSION.to_owned()),
        (MESH, mesh.to_owned()),
        (ORIGIN, label.origin.to_string()),
        (EPOCH, label.epoch.to_string()),
        (SEQ, format!("{first}-{last}")),
        (COUNT, batch.lines().to_string()),
        (ACCEPTED, accepted(&batch.accepted_ms)),
        (HOPS, hops(label, node)),
    ]
}

/// A time before 1970 cannot be written, for the dash between the two.
fn accepted(accepted_ms: &RangeInclusive<i64>) -> String {
    format!("{}-{}", (*accepted_ms.start()).max(0), (*accepted_ms.end()).max(0))
}

/// The names passed, `node` being the last of them.
fn hops(label: &Label, node: &str) -> String {
    let mut names: Vec<&str> = label.hops.iter().map(AsRef::as_ref).collect();
    if names.last() != Some(&node) {
        names.push(node);
    }
    names.join(",")
}

fn stored_body(batch: &Batch) -> Bytes {
    match batch.parts.as_slice() {
        [part] => part.body.clone(),
        parts => parts.iter().flat_map(|part| part.body.iter().copied()).collect(),
    }
}

fn plain_body(batch: &Batch) -> Result<Bytes, DecodeError> {
    if let [part] = batch.parts.as_slice()
        && let Some(lines) = part.plain_lines(batch.encoding)
    {
        let without_lf = lines.strip_suffix(b"\n").unwrap_or(lines).len();
        return Ok(lines.slice(..without_lf));
    }
    let mut lines = Vec::new();
    batch.append_lines(&mut lines)?;
    if lines.last() == Some(&b'\n') {
        lines.pop();
    }
    Ok(lines.into())
}

#[cfg(test)]
mod tests;
