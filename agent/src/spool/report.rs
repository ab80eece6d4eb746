//! What a spool holds, told to gauges, `/status.json` and the command line. Read from the tallies, so
//! it costs the same whatever the backlog.

use std::collections::BTreeMap;
use std::fmt;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::spool::limits::{Limits, Usage};
use crate::spool::{SpoolConfig, schema, seen};

/// A spool at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What the node took in, ever.
    pub accepted: Amount,
    /// Every link that the file knows, in the order in which they were first declared.
    pub links: Vec<LinkReport>,
    /// Dead letters that are kept.
    pub rejects: i64,
    /// Dead letters that went for room, since the start.
    pub rejects_trimmed: u64,
    /// Batches that have not come, by origin, of those that the topology leads here one and all.
    pub missing: BTreeMap<String, i64>,
    /// The database file, in bytes.
    pub file_bytes: u64,
    /// Pages of it that hold something, in bytes.
    pub used_bytes: u64,
    /// The write-ahead log, in bytes.
    pub wal_bytes: u64,
    /// The limit on used pages plus log, in bytes.
    pub limit_bytes: u64,
    /// Whether nothing more is taken, for the limit or a full disk.
    pub is_full: bool,
}

/// Batches, and the lines and stored bytes in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Batches.
    pub batches: i64,
    /// Lines.
    pub lines: i64,
    /// Bytes as stored.
    pub bytes: i64,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines in {} batches of {} bytes", self.lines, self.batches, self.bytes)
    }
}

/// The books of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// Its name.
    pub name: String,
    /// False: the topology no longer has it, and its backlog waits for a decision.
    pub is_configured: bool,
    /// Committed and unconfirmed.
    pub backlog: Amount,
    /// When the oldest line of the backlog was accepted, in ms since the Unix epoch.
    pub oldest_ms: Option<i64>,
    /// Confirmed by the next hop, ever.
    pub delivered: Amount,
    /// Put by with a reason.
    pub aside: Amount,
    /// Dropped at the spool's limit, ever.
    pub dropped_spool_limit: Amount,
    /// Dropped at the link's own limit, ever.
    pub dropped_link_limit: Amount,
    /// Lost with a corrupt file, ever.
    pub dropped_corrupt: Amount,
}

impl LinkReport {
    /// What was dropped, ever, by reason.
    pub fn dropped(&self) -> [(&'static str, Amount); 3] {
        [
            ("spool_limit", self.dropped_spool_limit),
            ("link_limit", self.dropped_link_limit),
            ("corrupt", self.dropped_corrupt),
        ]
    }
}

pub(super) fn report(
    db: &Connection,
    config: &SpoolConfig,
    limits: &Limits,
    usage: Usage,
    file_bytes: u64,
    is_full: bool,
) -> Result<Report, rusqlite::Error> {
    let configured: Vec<&str> = config.links.iter().map(|link| link.name.as_str()).collect();
    let missing = |origin: &String| Ok((origin.clone(), seen::missing(db, origin)?));
    Ok(Report {
        accepted: amount(db, 0, "accepted")?,
        links: links(db, &configured)?,
        rejects: rejects(db)?,
        rejects_trimmed: 0,
        missing: config.gathered.iter().map(missing).collect::<Result<_, rusqlite::Error>>()?,
        file_bytes,
        used_bytes: usage.pages_bytes,
        wal_bytes: usage.wal_bytes,
        limit_bytes: limits.max_size_bytes,
        is_full,
    })
}

/// How many dead letters are kept. They go oldest first, so that nothing needs to be counted.
fn rejects(db: &Connection) -> Result<i64, rusqlite::Error> {
    let sql = "SELECT (SELECT max(id) FROM reject) - (SELECT min(id) FROM reject) + 1";
    Ok(db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0))
}

/// The books of every link that the file knows; `configured` are those of the topology.
pub(super) fn links(db: &Connection, configured: &[&str]) -> Result<Vec<LinkReport>, rusqlite::Error> {
    let mut links = Vec::new();
    let mut names = db.prepare_cached("SELECT id, name FROM link ORDER BY id")?;
    let names = names.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    for link in names {
        let (row, name) = link?;
        links.push(link_report(db, row, name, configured)?);
    }
    Ok(links)
}

fn link_report(
    db: &Connection,
    row: i64,
    name: String,
    configured: &[&str],
) -> Result<LinkReport, rusqlite::Error> {
    let oldest_ms = match schema::next_waiting(db, row, 0)? {
        Some(id) => db
            .prepare_cached("SELECT accepted_first_ms FROM batch WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?,
        None => None,
    };
    Ok(LinkReport {
        is_configured: configured.contains(&name.as_str()),
        name,
        backlog: amount(db, row, "backlog")?,
        oldest_ms,
        delivered: amount(db, row, "delivered")?,
        aside: amount(db, row, "aside")?,
        dropped_spool_limit: amount(db, row, "dropped:spool_limit")?,
        dropped_link_limit: amount(db, row, "dropped:link_limit")?,
        dropped_corrupt: amount(db, row, "dropped:corrupt")?,
    })
}

/// An account of a link over all origins.
fn amount(db: &Connection, link: i64, reason: &str) -> Result<Amount, rusqlite::Error> {
    db.prepare_cached(
        "SELECT coalesce(sum(batches), 0), coalesce(sum(lines), 0), coalesce(sum(bytes), 0)
         FROM tally WHERE link = ?1 AND reason = ?2",
    )?
    .query_row(params![link, reason], |row| {
        Ok(Amount { batches: row.get(0)?, lines: row.get(1)?, bytes: row.get(2)? })
    })
}
