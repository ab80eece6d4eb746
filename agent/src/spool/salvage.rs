//! Takes over what can be read of a corrupt spool: every batch whose bytes are those that were
//! written, and the dead letters. A batch whose deliveries cannot be read waits for every link again:
//! twice is harmless, lost is not. What is lost is entered as such (see `balance`).

use std::ops::RangeInclusive;
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
    for id in ids(&from) {
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

/// Every id that may be there. Each is looked up by itself, so that one damaged page hides only its
/// own rows.
fn ids(from: &Connection) -> RangeInclusive<i64> {
    let bound = |function: &str, table: &str| {
        from.query_row(&format!("SELECT {function}(id) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))
            .ok()
            .flatten()
    };
    let first = [bound("min", "batch"), bound("min", "body")].into_iter().flatten().min();
    let last = [bound("max", "batch"), bound("max", "body")].into_iter().flatten().max();
    first.unwrap_or(1)..=last.unwrap_or(0)
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
