//! A preallocated file that is given up when the disk is full: with no room at all even DELETE and a
//! checkpoint fail, and nothing that was sent could ever be deleted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// The reserve of one spool.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    is_held: bool,
    /// The disk had room when it was given up: a quota has none, and only an attempt tells what it leaves.
    is_quota: bool,
}

impl Reserve {
    /// Takes `bytes` of the disk, unless they are taken already. A disk without room for them is no
    /// error: it is tried again later.
    pub(super) fn take(path: PathBuf, bytes: u64) -> Self {
        let is_held = fs::metadata(&path).is_ok_and(|file| file.len() == bytes);
        let mut reserve = Self { path, bytes, is_held, is_quota: false };
        reserve.retake();
        reserve
    }

    /// Gives the room to the spool.
    pub(super) fn release(&mut self) -> io::Result<()> {
        self.is_held = false;
        self.is_quota = disk_free_bytes(&self.path).is_ok_and(|free| free >= self.bytes * 2);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the room again once the disk has twice as much, and gives it to us; tells whether it is held.
    pub(super) fn retake(&mut self) -> bool {
        if !self.is_held && disk_free_bytes(&self.path).is_ok_and(|free| free >= self.bytes * 2) {
            self.is_held = self.allocate().is_ok();
            if !self.is_held {
                // What was allocated of it is better free.
                drop(fs::remove_file(&self.path));
            }
        }
        self.is_held
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        let attempted = if self.is_quota { 2 * self.bytes } else { self.bytes };
        match fallocate(&file, FallocateFlags::empty(), 0, attempted) {
            Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(self.bytes), &mut file).map(drop)?,
            done => done?,
        }
        file.set_len(self.bytes)?;
        file.sync_all()
    }
}

/// Bytes that are free to us on the disk that holds `path` or its directory.
pub(super) fn disk_free_bytes(path: &Path) -> io::Result<u64> {
    let dir = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let disk = statvfs(dir)?;
    Ok(disk.f_bavail * disk.f_frsize)
}
