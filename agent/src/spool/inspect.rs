//! Looks into a spool without owning it, running or not: read-only, in short reads, so that the owner's
//! log does not grow for it.

use std::path::{Path, PathBuf};

use forwarder::crc::crc32c;
use forwarder::{Encoding, Epoch};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;

use crate::spool::file::{self, OpenError};
use crate::spool::report::{self, Amount, LinkReport};
use crate::spool::{Number, schema};

/// Rows that one read fetches.
const SLICE: usize = 1000;

/// A spool that somebody else may own.
pub struct Inspection {
    db: Connection,
    path: PathBuf,
}

/// A line that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Grows with time.
    pub id: i64,
    /// When, in ms since the Unix epoch.
    pub at_ms: i64,
    /// The way in.
    pub input: String,
    /// The peer's address, or the queue's name.
    pub sender: String,
    /// Why.
    pub reason: String,
    /// The line, as far as it is text.
    pub line: String,
}

/// A batch that a spool holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it is known by.
    pub number: Number,
    /// Where it belongs.
    pub queue: String,
    /// The names of the nodes that it passed before.
    pub hops: Option<String>,
    /// The number that it had before it was split.
    pub part_of: Option<String>,
    /// Each ended by LF; or why they cannot be read.
    pub lines: Result<Vec<u8>, String>,
}

impl Inspection {
    /// Opens the spool in `dir` for reading.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = file::existing_database(dir)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match Connection::open_with_flags(&path, flags) {
            Ok(db) => Ok(Self { db, path }),
            Err(cause) => Err(OpenError::Sqlite { path, cause }),
        }
    }

    /// The books of every link.
    pub fn links(&self) -> Result<Vec<LinkReport>, OpenError> {
        report::links(&self.db, &[]).map_err(|cause| self.failed(cause))
    }

    /// Calls `show` with the dead letters, oldest first, from those accepted at `since_ms` on.
    pub fn dead_letters(
        &self,
        since_ms: i64,
        mut show: impl FnMut(DeadLetter) -> std::io::Result<()>,
    ) -> Result<(), OpenError> {
        let mut after = 0;
        loop {
            let slice = self.slice(after, since_ms).map_err(|cause| self.failed(cause))?;
            let Some(last) = slice.last() else { return Ok(()) };
            after = last.id;
            for letter in slice {
                show(letter).map_err(OpenError::Output)?;
            }
        }
    }

    /// Counts every row again and compares with the books, then reads every batch and compares with its
    /// checksum. Returns what is wrong, in words; nothing if all is well.
    pub fn verify(&self) -> Result<Vec<String>, OpenError> {
        let mut faults = self.recount().map_err(|cause| self.failed(cause))?;
        let mut after = 0;
        while let Some(last) = self.check_bytes(after, &mut faults).map_err(|cause| self.failed(cause))? {
            after = last;
        }
        Ok(faults)
    }

    /// One read, so that rows and books are of one moment. 100,000 batches take a second or two.
    fn recount(&self) -> Result<Vec<String>, rusqlite::Error> {
        let mut statement = self.db.prepare(
            "WITH rows AS (
                 SELECT link, CASE state WHEN 0 THEN 'backlog' ELSE 'aside' END AS reason,
                        count(*) AS batches, sum(lines) AS lines, sum(stored_bytes) AS bytes
                 FROM delivery JOIN batch ON batch.id = delivery.batch GROUP BY link, state
             ), books AS (
                 SELECT link, reason, sum(batches) AS batches, sum(lines) AS lines, sum(bytes) AS bytes
                 FROM tally WHERE reason IN ('backlog', 'aside') GROUP BY link, reason
             )
             SELECT name, reason, coalesce(rows.batches, 0), coalesce(rows.lines, 0), coalesce(rows.bytes, 0),
                    coalesce(books.batches, 0), coalesce(books.lines, 0), coalesce(books.bytes, 0)
             FROM rows FULL JOIN books USING (link, reason) LEFT JOIN link ON link.id = link",
        )?;
        let mut found = statement.query([])?;
        let mut faults = Vec::new();
        while let Some(row) = found.next()? {
            let amount = |first| {
                Ok::<_, rusqlite::Error>(Amount {
                    batches: row.get(first)?,
                    lines: row.get(first + 1)?,
                    bytes: row.get(first + 2)?,
                })
            };
            let (counted, booked) = (amount(2)?, amount(5)?);
            if counted != booked {
                let link = row.get::<_, Option<String>>(0)?.unwrap_or_else(|| "unknown".to_owned());
                let account: String = row.get(1)?;
                faults.push(format!("link {link}, {account}: counted {counted}, but the books say {booked}"));
            }
        }
        Ok(faults)
    }

    /// Checks the bytes of some batches after `after`; tells the last one, `None` at the end.
    fn check_bytes(&self, after: i64, faults: &mut Vec<String>) -> Result<Option<i64>, rusqlite::Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT batch.id, checksum, bytes FROM batch LEFT JOIN body ON body.id = batch.id
             WHERE batch.id > ?1 ORDER BY batch.id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, SLICE])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let checksum: u32 = row.get(1)?;
            if row.get_ref(2)?.as_blob_or_null()?.map(crc32c) != Some(checksum) {
                faults.push(format!("batch {id}: its bytes are missing, or are not those that were written"));
            }
            last = Some(id);
        }
        Ok(last)
    }

    /// Calls `show` with every batch that the spool holds, oldest first: what waits, and what was set aside.
    pub fn batches(&self, mut show: impl FnMut(Held) -> std::io::Result<()>) -> Result<(), OpenError> {
        let mut after = 0;
        // One batch to a read: so that none is long, whatever the batches hold.
        while let Some((id, held)) = self.held(after).map_err(|cause| self.failed(cause))? {
            after = id;
            show(held).map_err(OpenError::Output)?;
        }
        Ok(())
    }

    fn held(&self, after: i64) -> Result<Option<(i64, Held)>, rusqlite::Error> {
        let sql = "SELECT batch.id, queue.name, origin, epoch, seq, raw_bytes, encoding, hops, part_of, bytes
                   FROM batch JOIN queue ON queue.id = batch.queue JOIN identity ON identity.id = batch.identity
                   JOIN body ON body.id = batch.id
                   WHERE batch.id > ?1 ORDER BY batch.id LIMIT 1";
        self.db
            .prepare_cached(sql)?
            .query_row([after], |row| {
                let body = row.get_ref(9)?.as_blob()?;
                let lines = match schema::encoding_of_row(row.get(6)?) {
                    Some(Encoding::Zstd) => zstd::bulk::decompress(body, row.get(5)?),
                    Some(Encoding::Plain) => Ok(body.to_vec()),
                    None => Err(std::io::ErrorKind::InvalidData.into()),
                };
                let number = Number {
                    origin: row.get::<_, String>(2)?.into(),
                    epoch: Epoch(row.get(3)?),
                    seq: row.get(4)?,
                };
                let held = Held {
                    number,
                    queue: row.get(1)?,
                    hops: row.get(7)?,
                    part_of: row.get(8)?,
                    lines: lines.map_err(|error| error.to_string()),
                };
                Ok((row.get(0)?, held))
            })
            .optional()
    }

    fn slice(&self, after: i64, since_ms: i64) -> Result<Vec<DeadLetter>, rusqlite::Error> {
        let sql = "SELECT id, at_ms, input, sender, reason, line FROM reject
                   WHERE id > ?1 AND at_ms >= ?2 ORDER BY id LIMIT ?3";
        let mut statement = self.db.prepare_cached(sql)?;
        let letters = statement.query_map(params![after, since_ms, SLICE], |row| {
            Ok(DeadLetter {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                input: row.get(2)?,
                sender: row.get(3)?,
                reason: row.get(4)?,
                line: String::from_utf8_lossy(row.get_ref(5)?.as_blob()?).into_owned(),
            })
        })?;
        letters.collect()
    }

    fn failed(&self, cause: rusqlite::Error) -> OpenError {
        OpenError::Sqlite { path: self.path.clone(), cause }
    }
}
