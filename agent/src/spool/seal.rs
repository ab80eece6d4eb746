//! Compresses a batch, once: it stays in this form to the end of the road.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use forwarder::crc::crc32c;
use forwarder::{Encoding, Part};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use crate::ingest::Input;
use crate::spool::{RawBatch, Reject};

/// Level 1: higher ones cost more and gain nothing on metric lines.
const ZSTD_LEVEL: i32 = 1;
/// Of the table in which matches are looked for, a quarter of the level's own. What a line repeats stands a few lines before
/// it: a smaller table forgets the rest, finds nearer matches (3 % fewer bytes), and stays in the nearest cache.
const ZSTD_HASH_LOG: u32 = 11;

/// A batch in the form in which it is stored and sent.
#[derive(Debug)]
pub struct Sealed {
    pub(super) link_set: usize,
    pub(super) lines: u32,
    pub(super) raw_bytes: u32,
    pub(super) encoding: Encoding,
    pub(super) body: Bytes,
    /// The lines, where they are not to be decoded again if they go on at once.
    pub(super) plain: Option<Bytes>,
    pub(super) checksum: u32,
    pub(super) accepted_ms: (i64, i64),
    pub(super) timestamps: (i64, i64),
    pub(super) inputs: [u64; Input::ALL.len()],
    pub(super) rejects: Vec<Reject>,
}

impl Sealed {
    /// A batch that stays as another node sealed it; `times` are when it was accepted and the bounds of its
    /// lines' timestamps, as in [`RawBatch`].
    pub fn passed(
        part: &Part,
        encoding: Encoding,
        link_set: usize,
        (accepted_ms, timestamps): ((i64, i64), (i64, i64)),
        inputs: [u64; Input::ALL.len()],
    ) -> Self {
        // Copied, or it would keep all that came in one read with it.
        let body = Bytes::copy_from_slice(&part.body);
        let plain = part.plain.clone();
        let (lines, raw_bytes) = (part.lines, part.raw_bytes);
        let checksum = crc32c(&body);
        let rejects = Vec::new();
        Self {
            link_set,
            lines,
            raw_bytes,
            encoding,
            body,
            plain,
            checksum,
            accepted_ms,
            timestamps,
            inputs,
            rejects,
        }
    }

    /// What it takes of the disk, about.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.body.len() as u64
    }
}

/// Seals batches; keeps its memory from batch to batch.
#[derive(Default)]
pub(super) struct Press(Mutex<Vec<Plate>>);

/// What one batch at a time is compressed with, and into.
struct Plate {
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
}

impl Press {
    /// Compresses `batch` for `link_set`.
    pub(super) fn seal(&self, batch: RawBatch, link_set: usize) -> Sealed {
        // Only a lack of memory lets zstd fail here; the lines are as good uncompressed.
        let raw = Bytes::from(batch.raw);
        let (encoding, body) = match self.compress(&raw) {
            Ok(body) => (Encoding::Zstd, Bytes::from(body)),
            Err(_) => (Encoding::Plain, raw.clone()),
        };
        Sealed {
            link_set,
            lines: batch.lines,
            raw_bytes: u32::try_from(raw.len()).unwrap_or(u32::MAX),
            encoding,
            checksum: crc32c(&body),
            body,
            plain: Some(raw),
            accepted_ms: batch.accepted_ms,
            timestamps: batch.timestamps,
            inputs: batch.inputs,
            rejects: batch.rejects,
        }
    }

    /// Into no more memory than it needs, as it may wait for its commit.
    fn compress(&self, raw: &[u8]) -> io::Result<Vec<u8>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut plate = match kept {
            Some(plate) => plate,
            None => Plate::new()?,
        };
        plate.compressed.clear();
        plate.compressed.reserve(compress_bound(raw.len()));
        plate.compressor.compress_to_buffer(raw, &mut plate.compressed)?;
        let body = plate.compressed.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(plate);
        Ok(body)
    }
}

impl Plate {
    fn new() -> io::Result<Self> {
        let mut compressor = Compressor::new(ZSTD_LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
        Ok(Self { compressor, compressed: Vec::new() })
    }
}
