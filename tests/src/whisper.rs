//! Reads back what carbon has written: whisper files, value by value.
//!
//! The format is three kinds of big-endian records: a header (aggregation, longest retention,
//! xFilesFactor, number of archives), one description per archive (offset, seconds per point, points),
//! then the points (timestamp, value). An archive is a ring whose slot 0 holds its first timestamp.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::points::Points;

const HEADER_BYTES: u64 = 16;
const POINT_BYTES: u64 = 12;

/// The folder of whisper files of one carbon.
#[derive(Debug)]
pub struct Whisper {
    folder: PathBuf,
}

impl Whisper {
    /// The files under `folder`, which need not be there yet.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The value at `timestamp`, in the finest archive. `None`: not written (yet).
    pub fn value(&self, name: &str, timestamp: i64) -> Option<f64> {
        Archive::open(&self.file(name)).and_then(|archive| archive.value(timestamp)).ok().flatten()
    }

    /// The numbers of the points that are not there, or with another value than was sent.
    pub fn missing(&self, points: &Points, numbers: Range<usize>) -> Vec<usize> {
        let is_missing = |number: &usize| {
            let point = points.point(*number);
            let found = self.value(&point.name, point.timestamp);
            found.map(|value| value.to_string()) != Some(point.value)
        };
        numbers.filter(is_missing).collect()
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.wsp", name.replace('.', "/")))
    }
}

/// The first, finest archive of a file.
#[derive(Debug)]
struct Archive {
    file: File,
    offset: u64,
    seconds_per_point: i64,
    points: i64,
}

impl Archive {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let [offset, seconds_per_point, points] =
            [0, 4, 8].map(|field| read_u32(&file, HEADER_BYTES + field));
        Ok(Self {
            offset: offset?.into(),
            seconds_per_point: seconds_per_point?.into(),
            points: points?.into(),
            file,
        })
    }

    fn value(&self, timestamp: i64) -> io::Result<Option<f64>> {
        let first = i64::from(read_u32(&self.file, self.offset)?);
        let step = timestamp.div_euclid(self.seconds_per_point);
        let slot = (step - first / self.seconds_per_point).rem_euclid(self.points);
        let at = self.offset + slot.unsigned_abs() * POINT_BYTES;
        let written = i64::from(read_u32(&self.file, at)?) == step * self.seconds_per_point;
        let mut value = [0; 8];
        self.file.read_exact_at(&mut value, at + 4)?;
        Ok(written.then(|| f64::from_be_bytes(value)))
    }
}

fn read_u32(file: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_be_bytes(bytes))
}
