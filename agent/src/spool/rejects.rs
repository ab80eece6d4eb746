//! The dead letters of a spool. They are a help to whoever looks for a mistake, and never take the room of what
//! is good: the oldest go.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::spool::limits::Limits;
use crate::spool::{Reject, SpoolConfig};

/// How many are kept.
const ROWS_MAX: i64 = 10_000;
/// Bound on their bytes, whatever the spool may hold.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What they may have of a spool, where there are metrics to keep, and where they are all that is kept.
const SHARE: u64 = 8;
const SHARE_ALONE: u64 = 2;

const INSERT: &str = "INSERT INTO reject (at_ms, input, sender, reason, line) VALUES (?1, ?2, ?3, ?4, ?5)";
const DELETE_OLDEST: &str =
    "DELETE FROM reject WHERE id = (SELECT min(id) FROM reject) RETURNING length(line)";
/// SQLite knows the length of a blob without reading it.
const COUNT: &str = "SELECT count(*), coalesce(sum(length(line)), 0) FROM reject";

/// What there is of them and may be. A copy goes into each transaction, and back once that is committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rejects {
    rows: i64,
    bytes: i64,
    bytes_max: i64,
    /// Those that went for room, since the start.
    pub(super) trimmed: u64,
}

impl Rejects {
    /// Counts those that are kept, and trims what an earlier release let grow.
    pub(super) fn count(
        db: &Connection,
        config: &SpoolConfig,
        limits: &Limits,
    ) -> Result<Self, rusqlite::Error> {
        let (rows, bytes) = db.query_row(COUNT, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let share = if config.links.is_empty() { SHARE_ALONE } else { SHARE };
        let bytes_max = i64::try_from(BYTES_MAX.min(limits.max_size_bytes / share)).unwrap_or(i64::MAX);
        let mut counted = Self { rows, bytes, bytes_max, trimmed: 0 };
        counted.trim(db)?;
        Ok(counted)
    }

    /// Takes over what a transaction has left. Says so once when the oldest go; the metrics count them.
    pub(super) fn committed(&mut self, left: Self, dir: &Path) {
        if self.trimmed == 0 && left.trimmed > 0 {
            tracing::warn!(
                dir = %dir.display(),
                "the dead letters have all the room they may have: from now on the oldest of them go"
            );
        }
        *self = left;
    }

    /// Adds `rejects`, and forgets the oldest beyond the bounds.
    pub(super) fn keep(&mut self, db: &Connection, rejects: &[Reject]) -> Result<(), rusqlite::Error> {
        for reject in rejects {
            let line = &reject.line;
            db.prepare_cached(INSERT)?.execute(params![
                reject.at_ms,
                reject.from.input.as_str(),
                &*reject.from.peer,
                reject.reason,
                line,
            ])?;
            self.rows += 1;
            self.bytes += i64::try_from(line.len()).unwrap_or(i64::MAX);
        }
        self.trim(db)
    }

    /// The newest stays whatever its size: it may be a whole body that was taken off a queue.
    fn trim(&mut self, db: &Connection) -> Result<(), rusqlite::Error> {
        while self.rows > 1 && (self.rows > ROWS_MAX || self.bytes > self.bytes_max) {
            let bytes: i64 = db.prepare_cached(DELETE_OLDEST)?.query_row([], |row| row.get(0))?;
            self.rows -= 1;
            self.bytes -= bytes;
            self.trimmed += 1;
        }
        Ok(())
    }
}
