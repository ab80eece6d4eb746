//! Takes over what can be read of a corrupt spool: every batch whose bytes are those that were
//! written, and the dead letters. A batch whose deliveries cannot be read waits for every link again:
//! twice is harmless, lost is not. What is lost is entered as such (see `balance`).

use std::path::Path;
use std::sync::Arc;

use forwarder::crc::crc32c;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::spool::balance::balance;
use crate::spool::schema;
use crate::spool::tally::{Account, Tallies, Weight};

/// What came over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) batches: u64,
    pub(super) lines: u64,
    /// Batches that were seen, and whose rows or bytes are damaged.
    pub(super) unreadable_batches: u64,
    /// Lines that are lost, of all links.
    pub(super) lost_lines: i64,
}

/// Whether an error means that the file's content is damaged.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Copies from the file `from`, whatever state it is in, into the new and empty `into`. Errors are
/// those of `into` only.
pub(super) fn salvage(from: &Path, into: &mut Connection) -> Result<Salvaged, rusqlite::Error> {
    let mut salvaged = Salvaged::default();
    let Ok(from) = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
        return Ok(salvaged);
    };
    let tx = into.transaction()?;
    for table in ["queue", "identity", "link", "tally", "seen", "reject"] {
        copy_table(&from, &tx, table)?;
    }
    // These say what is there now: they are counted anew with each batch that comes over.
    tx.execute("DELETE FROM tally WHERE reason IN ('backlog', 'aside')", [])?;
    let links = schema::link_rows(&tx)?;
    for id in Ids::of(&from) {
        match read(&from, id) {
            Ok(Some(batch)) => match take_over(&from, &tx, &links, id, &batch) {
                Ok(()) => {
                    salvaged.batches += 1;
                    salvaged.lines += batch.lines.unsigned_abs();
                }
                Err(error) if is_nonsense(&error) => salvaged.unreadable_batches += 1,
                Err(error) => return Err(error),
            },
            Ok(None) => {}
            Err(Damaged) => salvaged.unreadable_batches += 1,
        }
    }
    salvaged.lost_lines = balance(&tx)?.lines;
    tx.commit()?;
    Ok(salvaged)
}

/// Whether a row was read that no release wrote: a damaged page may still look like one.
fn is_nonsense(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// Copies a table of names or numbers as far as it can be read.
fn copy_table(from: &Connection, tx: &Connection, table: &str) -> Result<(), rusqlite::Error> {
    let Ok(mut rows) = from.prepare(&format!("SELECT * FROM {table}")) else {
        return Ok(());
    };
    let columns = rows.column_count();
    let places = vec!["?"; columns].join(", ");
    let mut insert = tx.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({places})"))?;
    let Ok(mut rows) = rows.query([]) else {
        return Ok(());
    };
    while let Ok(Some(row)) = rows.next() {
        let Ok(values) = (0..columns).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>() else {
            continue;
        };
        match insert.execute(rusqlite::params_from_iter(values)) {
            Err(error) if !is_nonsense(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Every id that may be there, in order. Behind one that cannot be looked for, each number may be one, so that a
/// damaged page of rows hides only its own.
struct Ids<'a> {
    from: &'a Connection,
    after: i64,
    /// No number is tried beyond it.
    last: i64,
    /// Numbers tried one after the other.
    tried: u32,
}

impl<'a> Ids<'a> {
    /// A damaged page of rows hides fewer; one that leads to pages may hide as many as it likes, and they cannot be
    /// read one by one either.
    const TRIED_MAX: u32 = 65_536;

    fn of(from: &'a Connection) -> Self {
        let last = |table: &str| {
            let last = from.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0)).ok();
            last.map(|last: Option<i64>| last.unwrap_or(0))
        };
        // A batch needs both rows.
        let last = [last("batch"), last("body")].into_iter().flatten().min();
        Self { from, after: 0, last: last.unwrap_or(i64::MAX), tried: 0 }
    }

    /// The smallest id behind `after`; a batch needs both rows, so one that either table knows will do.
    fn known(&self, after: i64) -> Result<Option<i64>, Damaged> {
        match [self.known_to("batch", after), self.known_to("body", after)] {
            [Ok(None), Ok(None)] => Ok(None),
            found => found.into_iter().flatten().flatten().min().map(Some).ok_or(Damaged),
        }
    }

    fn known_to(&self, table: &str, after: i64) -> Result<Option<i64>, Damaged> {
        let mut next =
            self.from.prepare_cached(&format!("SELECT id FROM {table} WHERE id > ?1 ORDER BY id LIMIT 1"))?;
        match next.query_row([after], |row| row.get(0)).optional()? {
            // SQLite takes a page at its word that its rows are in order.
            Some(id) if id <= after => Err(Damaged),
            id => Ok(id),
        }
    }

    /// The smallest id that is known behind the damage.
    fn behind_damage(&self) -> Option<i64> {
        let (mut damaged, mut step) = (self.after, 1_i64);
        let mut known = loop {
            let number = damaged.checked_add(step).filter(|number| *number <= self.last)?;
            if self.known(number).is_ok() {
                break number;
            }
            (damaged, step) = (number, step.saturating_mul(2));
        };
        while known - damaged > 1 {
            let between = damaged + (known - damaged) / 2;
            match self.known(between) {
                Ok(_) => known = between,
                Err(Damaged) => damaged = between,
            }
        }
        self.known(known).ok().flatten()
    }
}

impl Iterator for Ids<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let next = match self.known(self.after) {
            Ok(next) => {
                self.tried = 0;
                next?
            }
            Err(Damaged) if self.tried < Self::TRIED_MAX => {
                self.tried += 1;
                self.after.checked_add(1).filter(|next| *next <= self.last)?
            }
            Err(Damaged) => {
                self.tried = 0;
                self.behind_damage()?
            }
        };
        self.after = next;
        Some(next)
    }
}

/// A batch whose bytes are those that were written.
struct Readable {
    columns: Vec<Value>,
    lines: i64,
    bytes: Vec<u8>,
    identity: i64,
}

/// Its row or its bytes are damaged.
struct Damaged;

impl From<rusqlite::Error> for Damaged {
    fn from(_: rusqlite::Error) -> Self {
        Self
    }
}

fn read(from: &Connection, id: i64) -> Result<Option<Readable>, Damaged> {
    let batch = from
        .prepare_cached("SELECT * FROM batch WHERE id = ?1")?
        .query_row([id], |row| {
            let columns =
                (0..row.as_ref().column_count()).map(|column| row.get(column)).collect::<Result<_, _>>()?;
            Ok((columns, row.get("lines")?, row.get("identity")?, row.get::<_, u32>("checksum")?))
        })
        .optional()?;
    let Some((columns, lines, identity, checksum)) = batch else {
        return Ok(None);
    };
    let mut body = from.prepare_cached("SELECT bytes FROM body WHERE id = ?1")?;
    let bytes: Vec<u8> = body.query_row([id], |row| row.get(0))?;
    if crc32c(&bytes) != checksum {
        return Err(Damaged);
    }
    Ok(Some(Readable { columns, lines, bytes, identity }))
}

fn take_over(
    from: &Connection,
    tx: &Connection,
    links: &[i64],
    id: i64,
    batch: &Readable,
) -> Result<(), rusqlite::Error> {
    let deliveries = deliveries(from, links, id)
        .unwrap_or_else(|_| links.iter().map(|&link| (link, schema::WAITING, None)).collect());
    if deliveries.is_empty() {
        return Ok(());
    }
    let places = vec!["?"; batch.columns.len()].join(", ");
    tx.prepare_cached(&format!("INSERT INTO batch VALUES ({places})"))?
        .execute(rusqlite::params_from_iter(&batch.columns))?;
    tx.prepare_cached(schema::INSERT_BODY)?.execute(params![id, batch.bytes])?;
    let origin = origin(tx, batch.identity)?;
    let weight = Weight {
        batches: 1,
        lines: batch.lines,
        bytes: i64::try_from(batch.bytes.len()).unwrap_or(i64::MAX),
    };
    let mut tallies = Tallies::default();
    for (link, state, reason) in deliveries {
        tx.prepare_cached(schema::INSERT_DELIVERY)?.execute(params![link, state, id, reason])?;
        let account = if state == schema::WAITING { Account::Backlog } else { Account::Aside };
        tallies.add(link, &Arc::from(origin.as_str()), account, weight);
    }
    tallies.write(tx)
}

/// The origin behind a row of `identity`. One that could not be read gets a number of its own, so that
/// nobody takes its batches for those of another, and the only name that the books know, if they do.
fn origin(tx: &Connection, identity: i64) -> Result<String, rusqlite::Error> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO identity (id, origin, epoch) VALUES (?1, coalesce(
             (SELECT min(origin) FROM tally WHERE reason = 'accepted' HAVING min(origin) = max(origin)), 'unknown'
         ), randomblob(16))",
    )?
    .execute([identity])?;
    tx.prepare_cached("SELECT origin FROM identity WHERE id = ?1")?.query_row([identity], |row| row.get(0))
}

type Delivery = (i64, i64, Option<String>);

fn deliveries(from: &Connection, links: &[i64], id: i64) -> Result<Vec<Delivery>, rusqlite::Error> {
    let mut found = Vec::new();
    let mut statement =
        from.prepare_cached("SELECT reason FROM delivery WHERE link = ?1 AND state = ?2 AND batch = ?3")?;
    for &link in links {
        for state in [schema::WAITING, schema::ASIDE] {
            let reason = statement.query_row(params![link, state, id], |row| row.get(0)).optional()?;
            found.extend(reason.map(|reason| (link, state, reason)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::RangeInclusive;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    const PAGE_BYTES: usize = 4096;

    /// Both tables with these ids and nothing else, and their file.
    fn tables(ids: RangeInclusive<i64>, step: usize) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tables.db");
        let db = Connection::open(&path).unwrap();
        for table in ["batch", "body"] {
            db.execute(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY)"), []).unwrap();
            for id in ids.clone().step_by(step) {
                db.execute(&format!("INSERT INTO {table} VALUES (?1)"), [id]).unwrap();
            }
        }
        (dir, path)
    }

    fn root(path: &Path, table: &str) -> usize {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        Connection::open(path).unwrap().query_row(sql, [table], |row| row.get(0)).unwrap()
    }

    /// The newest page is the likeliest.
    #[test]
    fn behind_a_damaged_last_page_nothing_is_tried_that_the_other_table_does_not_know() {
        const LAST: i64 = 5000;
        let (_dir, path) = tables(1..=LAST, 1);
        let mut file = fs::read(&path).unwrap();
        let page = &file[(root(&path, "batch") - 1) * PAGE_BYTES..][..PAGE_BYTES];
        let last_child = u32::from_be_bytes(page[8..12].try_into().unwrap());
        let damaged = (usize::try_from(last_child).unwrap() - 1) * PAGE_BYTES;
        file[damaged..][..PAGE_BYTES].fill(0xa5);
        fs::write(&path, file).unwrap();
        assert!(Ids::of(&Connection::open(&path).unwrap()).eq(1..=LAST));
    }

    #[test]
    fn a_page_out_of_order_is_walked_once() {
        let (_dir, path) = tables(5..=13, 4);
        let mut file = fs::read(&path).unwrap();
        for table in ["batch", "body"] {
            let page = (root(&path, table) - 1) * PAGE_BYTES;
            // A cell: the length of the record, the row's id, and a record of one NULL.
            let cell = file[page..][..PAGE_BYTES].windows(4).position(|cell| cell == [2, 13, 2, 0]).unwrap();
            file[page + cell + 1] = 3;
        }
        fs::write(&path, file).unwrap();
        let db = Connection::open(&path).unwrap();
        assert_eq!(Ids::of(&db).take(100).collect::<Vec<_>>(), [5, 9]);
    }

    /// However the next id is looked for: one number after the other, or with growing steps.
    #[test]
    fn nothing_behind_a_damaged_page_is_stepped_over() {
        const LAST: i64 = 5000;
        let (_dir, path) = tables(1..=LAST, 1);
        let mut file = fs::read(&path).unwrap();
        for table in ["batch", "body"] {
            let page = &file[(root(&path, table) - 1) * PAGE_BYTES..][..PAGE_BYTES];
            let first = usize::from(u16::from_be_bytes([page[12], page[13]]));
            let child = u32::from_be_bytes(page[first..first + 4].try_into().unwrap());
            let damaged = (usize::try_from(child).unwrap() - 1) * PAGE_BYTES;
            file[damaged..][..PAGE_BYTES].fill(0xa5);
        }
        fs::write(&path, file).unwrap();
        let db = Connection::open(&path).unwrap();
        let mut leap = Ids { tried: Ids::TRIED_MAX, ..Ids::of(&db) };
        let first = leap.next().unwrap();
        assert!((2..LAST).contains(&first), "{first}");
        assert_eq!(Ids::of(&db).known(first - 2).ok(), None);
        assert!(leap.eq(first + 1..=LAST));
        assert!(Ids::of(&db).eq(1..=LAST));
    }
}
