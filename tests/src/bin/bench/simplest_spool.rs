//! The yardstick, not a product: the simplest spool with the right durability. Plaintext over TCP, one thread that
//! checks the lines of a connection, blobs of up to 1000 lines, zstd level 1, SQLite with WAL and
//! `synchronous=FULL`, as many blobs to a commit as have queued; out as STOMP SENDs with receipts, and what has
//! its receipt is deleted by the next commit.
//!
//! It runs as a process of its own, so that what it uses can be read as an agent's. It trusts its upstream and
//! its disk: at a fault it ends.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use memchr::{memchr, memchr_iter, memmem};
use rusqlite::{Connection, params};

use crate::lines::QUEUE;

const LINES_OF_A_BLOB: usize = 1000;
const BLOB_BYTES: usize = 80 * 1024;
const BLOBS_QUEUED: usize = 128;
const BLOBS_OF_A_COMMIT: usize = 32;
/// Blobs that are read, and sent, at once; as many may be without their receipt meanwhile.
const BLOBS_OF_A_WRITE: usize = 16;
const READ_BYTES: usize = 256 * 1024;
const BLOB_RAW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// After this time without a blob the writer looks for what to delete.
const IDLE: Duration = Duration::from_millis(20);
const PAGES_GIVEN_BACK: &str = "PRAGMA incremental_vacuum(2000)";
const REDIAL: Duration = Duration::from_millis(100);

/// Where it listens, sends to, and keeps its lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    #[arg(long)]
    database: PathBuf,
}

#[derive(Default)]
struct Blob {
    bytes: Vec<u8>,
    lines: usize,
}

/// How far the lines have come.
struct Road {
    marks: Mutex<Marks>,
    changed: Condvar,
}

#[derive(Default)]
struct Marks {
    /// Blobs that wait for their commit.
    queued: usize,
    /// The last row that is committed.
    committed: i64,
    /// The last row that has its receipt.
    confirmed: i64,
}

impl Road {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Marks)) {
        change(&mut self.marks());
        self.changed.notify_all();
    }

    fn wait_while(&self, waits: impl FnMut(&mut Marks) -> bool) -> MutexGuard<'_, Marks> {
        self.changed.wait_while(self.marks(), waits).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the process is ended.
pub(crate) fn run(place: &Place) -> Result<()> {
    let database = open(&place.database)?;
    let last = "SELECT coalesce(max(id), 0) FROM blobs";
    let committed = database.query_row(last, [], |row| row.get(0))?;
    let road = Road { marks: Mutex::new(Marks { committed, ..Marks::default() }), changed: Condvar::new() };
    let road: &'static Road = Box::leak(Box::new(road));
    let (blobs, queued) = sync_channel(BLOBS_QUEUED);
    thread::spawn(move || or_end(commit(database, &queued, road)));
    let (upstream, reader) = (place.upstream, open(&place.database)?);
    thread::spawn(move || or_end(forward(upstream, &reader, road)));
    for connection in TcpListener::bind(place.listen)?.incoming() {
        let (connection, blobs) = (connection?, blobs.clone());
        // A connection that breaks ends with what it has sent.
        thread::spawn(move || take(connection, &blobs, road));
    }
    Ok(())
}

fn or_end(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("the simplest spool: {error:#}");
        std::process::exit(1);
    }
}

fn open(path: &Path) -> Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(10))?;
    database.execute_batch(
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         PRAGMA cache_size=-8000;
         CREATE TABLE IF NOT EXISTS blobs (id INTEGER PRIMARY KEY AUTOINCREMENT, lines BLOB NOT NULL) STRICT;",
    )?;
    Ok(database)
}

/// The connection closes once all its lines are committed.
fn take(mut connection: TcpStream, blobs: &SyncSender<Blob>, road: &Road) -> Result<()> {
    let queue = |blob: &mut Blob| {
        let next = Blob { bytes: Vec::with_capacity(BLOB_BYTES), lines: 0 };
        road.marks().queued += 1;
        blobs.send(mem::replace(blob, next)).context("the writer has ended")
    };
    let (mut buffer, mut filled, mut blob) = (vec![0; READ_BYTES], 0, Blob::default());
    loop {
        let read = connection.read(&mut buffer[filled..])?;
        if read == 0 {
            break;
        }
        filled += read;
        // Good lines that follow each other are copied together.
        let (mut good_from, mut start) = (0, 0);
        for end in memchr_iter(b'\n', &buffer[..filled]) {
            if is_metric(&buffer[start..end]) {
                blob.lines += 1;
            } else {
                blob.bytes.extend_from_slice(&buffer[good_from..start]);
                good_from = end + 1;
            }
            start = end + 1;
            if blob.lines == LINES_OF_A_BLOB {
                blob.bytes.extend_from_slice(&buffer[good_from..start]);
                good_from = start;
                queue(&mut blob)?;
            }
        }
        blob.bytes.extend_from_slice(&buffer[good_from..start]);
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if blob.lines > 0 && road.marks().queued == 0 {
            queue(&mut blob)?;
        }
    }
    if blob.lines > 0 {
        queue(&mut blob)?;
    }
    drop(road.wait_while(|marks| marks.queued > 0));
    Ok(())
}

/// `name value timestamp`.
fn is_metric(line: &[u8]) -> bool {
    let Some(name_end) = memchr(b' ', line) else { return false };
    let rest = &line[name_end + 1..];
    let Some(value_end) = memchr(b' ', rest) else { return false };
    let value = std::str::from_utf8(&rest[..value_end]).ok().and_then(|value| value.parse::<f64>().ok());
    let timestamp = &rest[value_end + 1..];
    name_end > 0
        && value.is_some_and(f64::is_finite)
        && !timestamp.is_empty()
        && timestamp.iter().all(u8::is_ascii_digit)
}

fn commit(mut database: Connection, blobs: &Receiver<Blob>, road: &Road) -> Result<()> {
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    let (mut deleted, mut may_shrink) = (0, false);
    loop {
        let first = match blobs.recv_timeout(IDLE) {
            Ok(blob) => Some(blob),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let confirmed = road.marks().confirmed;
        if first.is_none() && confirmed == deleted {
            may_shrink = may_shrink && shrink(&database)?;
            continue;
        }
        let transaction = database.transaction()?;
        let mut count = 0;
        for blob in first.into_iter().chain(blobs.try_iter()).take(BLOBS_OF_A_COMMIT) {
            let lines = compressor.compress(&blob.bytes)?;
            transaction.prepare_cached("INSERT INTO blobs (lines) VALUES (?1)")?.execute([lines])?;
            count += 1;
        }
        let last = transaction.last_insert_rowid();
        if confirmed > deleted {
            transaction.prepare_cached("DELETE FROM blobs WHERE id <= ?1")?.execute(params![confirmed])?;
            (deleted, may_shrink) = (confirmed, true);
        }
        transaction.commit()?;
        road.change(|marks| {
            marks.queued -= count;
            marks.committed = if count > 0 { last } else { marks.committed };
        });
    }
}

/// Tells whether there may be more to give back.
fn shrink(database: &Connection) -> Result<bool> {
    let mut statement = database.prepare_cached(PAGES_GIVEN_BACK)?;
    let mut rows = statement.query([])?;
    let mut more = false;
    while rows.next()?.is_some() {
        more = true;
    }
    Ok(more)
}

/// For ever: dials, sends all there is, and waits for more, until the session breaks.
fn forward(upstream: SocketAddr, database: &Connection, road: &'static Road) -> Result<()> {
    loop {
        if let Ok(connection) = TcpStream::connect(upstream) {
            send(connection, database, road)?;
        }
        thread::sleep(REDIAL);
    }
}

/// A session: which rows are without their receipt, in the order in which they were sent, until it breaks.
#[derive(Default)]
struct Session {
    open: Mutex<(VecDeque<i64>, bool)>,
    changed: Condvar,
}

impl Session {
    fn open(&self) -> MutexGuard<'_, (VecDeque<i64>, bool)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error is the database's; when the session breaks it returns.
fn send(mut connection: TcpStream, database: &Connection, road: &'static Road) -> Result<()> {
    if crate::producer::open_session(&mut connection).is_err() {
        return Ok(());
    }
    let session = Arc::new(Session::default());
    let Ok(mut receipts) = connection.try_clone() else { return Ok(()) };
    let counting = thread::spawn({
        let session = Arc::clone(&session);
        move || {
            count_receipts(&mut receipts, &session, road);
            session.open().1 = true;
            session.changed.notify_all();
            road.change(|_| ());
        }
    });
    let (mut sent, mut out) = (road.marks().confirmed, Vec::new());
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    loop {
        drop(road.wait_while(|marks| marks.committed <= sent && !session.open().1));
        out.clear();
        let mut rows = VecDeque::new();
        let mut statement =
            database.prepare_cached("SELECT id, lines FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let mut found = statement.query(params![sent, BLOBS_OF_A_WRITE as u64])?;
        while let Some(row) = found.next()? {
            sent = row.get(0)?;
            let lines = decompressor.decompress(row.get_ref(1)?.as_blob()?, BLOB_RAW_BYTES_MAX)?;
            write!(
                out,
                "SEND\ndestination:{QUEUE}\npersistent:true\nreceipt:{sent}\ncontent-length:{}\n\n",
                lines.len()
            )?;
            out.extend_from_slice(&lines);
            out.push(0);
            rows.push_back(sent);
        }
        let full = |open: &mut (VecDeque<i64>, bool)| open.0.len() > BLOBS_OF_A_WRITE && !open.1;
        let waited = session.changed.wait_while(session.open(), full);
        waited.unwrap_or_else(PoisonError::into_inner).0.append(&mut rows);
        if session.open().1 || connection.write_all(&out).is_err() {
            break;
        }
    }
    // It may be broken already.
    connection.shutdown(Shutdown::Both).ok();
    ensure!(counting.join().is_ok(), "the thread that counts receipts panicked");
    Ok(())
}

/// Until the session breaks. They come in the order of their SENDs.
fn count_receipts(receipts: &mut TcpStream, session: &Session, road: &Road) {
    let receipt = memmem::Finder::new("\nreceipt-id:");
    let (mut buffer, mut filled) = (vec![0; 64 * 1024], 0);
    while let Ok(read @ 1..) = receipts.read(&mut buffer[filled..]) {
        filled += read;
        let whole = memchr::memrchr(0, &buffer[..filled]).map_or(0, |end| end + 1);
        let came = receipt.find_iter(&buffer[..whole]).count();
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        let last = session.open().0.drain(..came).next_back();
        session.changed.notify_all();
        if let Some(confirmed) = last {
            road.marks().confirmed = confirmed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_metric;

    #[test]
    fn a_metric_has_a_name_a_number_and_a_time() {
        for line in ["a 1 1", "a.b -1.5e3 1700000000"] {
            assert!(is_metric(line.as_bytes()), "{line}");
        }
        for line in ["", "a", "a 1", " 1 1", "a x 1", "a inf 1", "a 1 ", "a 1 x", "a 1 1 1"] {
            assert!(!is_metric(line.as_bytes()), "{line}");
        }
    }
}
