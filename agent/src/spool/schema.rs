//! The tables of a spool's file, their version, and the small reads and writes on names.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use forwarder::crc::crc32c;
use forwarder::{Batch, Encoding, Epoch, Label, Part};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::spool::seen;

/// `application_id` of a spool: "PKTB".
pub(super) const APPLICATION_ID: i32 = 0x504b_5442;
/// What each version added. A new file goes through all of them; an older one through the rest.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];
/// The version that this release writes.
pub(super) const VERSION: i32 = {
    #[expect(clippy::cast_possible_truncation, reason = "a handful of migrations")]
    let version = MIGRATIONS.len() as i32;
    version
};

/// A delivery that waits for its link.
pub(super) const WAITING: i64 = 0;
/// A delivery that was put by with a reason.
pub(super) const ASIDE: i64 = 1;

/// The pragmas of every owner's connection. FULL: a receipt survives a power cut; NORMAL may forget
/// a commit that was receipted.
pub(super) fn set_up(db: &Connection, checkpoint_pages: u32) -> Result<(), rusqlite::Error> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", checkpoint_pages)?;
    db.pragma_update(None, "journal_size_limit", u64::from(checkpoint_pages) * 4096)?;
    db.pragma_update(None, "cache_size", -4096)?;
    // What a VACUUM writes anew is small, and the folder of temporary files may be anywhere.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    // Without this guarantee SQLite plans most statements anew for each value that is bound to them.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Brings the file to [`VERSION`]. A new file gets its lasting properties first: `auto_vacuum` can only
/// be chosen before the first table.
pub(super) fn migrate(db: &mut Connection) -> Result<(), rusqlite::Error> {
    let version: i32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let tx = db.transaction()?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        tx.execute_batch(migration)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

pub(super) const INSERT_BATCH: &str = "
    INSERT INTO batch (id, queue, identity, seq, lines, raw_bytes, stored_bytes, encoding, checksum,
                       accepted_first_ms, accepted_last_ms, timestamp_min, timestamp_max, hops, part_of)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
pub(super) const INSERT_BODY: &str = "INSERT INTO body (id, bytes) VALUES (?1, ?2)";
pub(super) const INSERT_DELIVERY: &str =
    "INSERT INTO delivery (link, state, batch, reason) VALUES (?1, ?2, ?3, ?4)";
pub(super) const DELETE_DELIVERY: &str = "DELETE FROM delivery WHERE link = ?1 AND state = ?2 AND batch = ?3";
/// What the books need of a batch.
pub(super) const READ_BATCH: &str = "SELECT identity, lines, stored_bytes FROM batch WHERE id = ?1";

/// What the books need of the batches within a span that wait for a link.
pub(super) const WEIGH_WAITING: &str = "
    SELECT batch.identity, count(*), sum(batch.lines), sum(batch.stored_bytes)
    FROM delivery CROSS JOIN batch ON batch.id = delivery.batch
    WHERE delivery.link = ?1 AND delivery.state = 0 AND delivery.batch BETWEEN ?2 AND ?3
    GROUP BY batch.identity";
pub(super) const DELETE_WAITING: &str =
    "DELETE FROM delivery WHERE link = ?1 AND state = 0 AND batch BETWEEN ?2 AND ?3";
pub(super) const SET_WAITING_ASIDE: &str =
    "UPDATE delivery SET state = 1, reason = ?4 WHERE link = ?1 AND state = 0 AND batch BETWEEN ?2 AND ?3";

/// Deletes the batches within a span that no link needs. What is needed is found by the primary key, link by link, so
/// that `delivery` needs no second index.
pub(super) const DELETE_UNNEEDED: &str = "
    DELETE FROM batch WHERE id BETWEEN ?1 AND ?2 AND NOT EXISTS (
        SELECT 1 FROM link CROSS JOIN delivery
        WHERE delivery.link = link.id AND delivery.state IN (0, 1) AND delivery.batch = batch.id)";
/// Deletes the bodies within a span that have no batch any more.
pub(super) const DELETE_BODIES: &str = "
    DELETE FROM body WHERE id BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.id = body.id)";

/// What waits for a link within a span of batches, oldest first, with its bytes.
pub(super) const LEND: &str = "
    SELECT batch.id, batch.identity, batch.seq, batch.lines, batch.raw_bytes, batch.encoding,
           batch.checksum, batch.accepted_first_ms, batch.accepted_last_ms, batch.hops, body.bytes
    FROM delivery JOIN batch ON batch.id = delivery.batch JOIN body ON body.id = delivery.batch
    WHERE delivery.link = ?1 AND delivery.state = 0 AND delivery.batch BETWEEN ?2 AND ?3
    ORDER BY delivery.batch";

/// Reads a row of [`LEND`]: its id, and the batch unless its bytes are not those that were written.
pub(super) fn read_batch(
    row: &Row<'_>,
    names: &mut Names,
    db: &Connection,
) -> Result<(i64, Option<Batch>), rusqlite::Error> {
    let id = row.get(0)?;
    let identity = names.identity(db, row.get(1)?)?;
    let body = row.get_ref(10)?.as_blob()?;
    let encoding = encoding_of_row(row.get(5)?);
    let (Some(encoding), true) = (encoding, crc32c(body) == row.get::<_, u32>(6)?) else {
        return Ok((id, None));
    };
    let hops = hops(row.get_ref(9)?.as_str_or_null()?);
    let part = Part {
        seq: row.get(2)?,
        lines: row.get(3)?,
        raw_bytes: row.get(4)?,
        body: Bytes::copy_from_slice(body),
        plain: None,
    };
    let label = Label { origin: identity.origin, epoch: identity.epoch, hops };
    let accepted_ms = row.get(7)?..=row.get(8)?;
    Ok((id, Some(Batch { label: Some(label), encoding, parts: vec![part], accepted_ms })))
}

/// Reads the names of `batch.hops`.
pub(super) fn hops(column: Option<&str>) -> Vec<Arc<str>> {
    column.iter().flat_map(|hops| hops.split(',')).map(Arc::from).collect()
}

/// The row of `link` for `name`, made if need be: a backlog belongs to a link's declared name.
pub(super) fn link_row(db: &Connection, name: &str) -> Result<i64, rusqlite::Error> {
    named_row(db, "link", name)
}

/// The last batch that waits for a link; 0 if none does.
pub(super) fn last_waiting(db: &Connection, link: i64) -> Result<i64, rusqlite::Error> {
    let sql = "SELECT max(batch) FROM delivery WHERE link = ?1 AND state = ?2";
    Ok(db.query_row(sql, params![link, WAITING], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0))
}

/// The last batch of all; 0 if there is none.
pub(super) fn last_batch(db: &Connection) -> Result<i64, rusqlite::Error> {
    Ok(db.query_row("SELECT max(id) FROM batch", [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0))
}

/// The first batch after `after`.
pub(super) fn next_batch(db: &Connection, after: i64) -> Result<Option<i64>, rusqlite::Error> {
    let sql = "SELECT id FROM batch WHERE id > ?1 ORDER BY id LIMIT 1";
    db.prepare_cached(sql)?.query_row([after], |row| row.get(0)).optional()
}

/// The first batch after `after` that waits for `link`.
pub(super) fn next_waiting(db: &Connection, link: i64, after: i64) -> Result<Option<i64>, rusqlite::Error> {
    let sql =
        "SELECT batch FROM delivery WHERE link = ?1 AND state = 0 AND batch > ?2 ORDER BY batch LIMIT 1";
    db.prepare_cached(sql)?.query_row([link, after], |row| row.get(0)).optional()
}

/// What waits for a link, in stored bytes, as the books say.
pub(super) fn backlog_bytes(db: &Connection, link: i64) -> Result<i64, rusqlite::Error> {
    let sql = "SELECT coalesce(sum(bytes), 0) FROM tally WHERE link = ?1 AND reason = 'backlog'";
    db.prepare_cached(sql)?.query_row([link], |row| row.get(0))
}

/// The pages of the file, and how many of them are free.
pub(super) fn page_counts(db: &Connection) -> Result<(u64, u64), rusqlite::Error> {
    let count = |pragma| db.prepare_cached(pragma)?.query_row([], |row| row.get(0));
    Ok((count("PRAGMA page_count")?, count("PRAGMA freelist_count")?))
}

/// The rows of every link that the file knows, configured or not.
pub(super) fn link_rows(db: &Connection) -> Result<Vec<i64>, rusqlite::Error> {
    db.prepare_cached("SELECT id FROM link")?.query_map([], |row| row.get(0))?.collect()
}

fn named_row(db: &Connection, table: &str, name: &str) -> Result<i64, rusqlite::Error> {
    db.execute(&format!("INSERT INTO {table} (name) VALUES (?1) ON CONFLICT (name) DO NOTHING"), [name])?;
    db.query_row(&format!("SELECT id FROM {table} WHERE name = ?1"), [name], |row| row.get(0))
}

/// Origin and epoch behind a row of `identity`.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) origin: Arc<str>,
    pub(super) epoch: Epoch,
}

/// The rows that stand for names in `batch`.
#[derive(Debug)]
pub(super) struct Names {
    /// The queues, as the configuration numbers them.
    pub(super) queues: Vec<i64>,
    /// This start of this node.
    pub(super) own: i64,
    known: HashMap<i64, Identity>,
}

impl Names {
    /// Stores `epoch`, drawn for this start of `node`, so that a spool restored from a copy, or a second
    /// host under one name, never uses a number again. Forgets epochs that no batch refers to.
    pub(super) fn start<'a>(
        db: &Connection,
        queues: impl Iterator<Item = &'a str>,
        node: &str,
        epoch: Epoch,
    ) -> Result<Self, rusqlite::Error> {
        let queues = queues.map(|queue| named_row(db, "queue", queue)).collect::<Result<_, _>>()?;
        // Which epochs a backlog refers to is only cheap to say of an empty one.
        db.execute(
            "DELETE FROM identity
             WHERE NOT EXISTS (SELECT 1 FROM batch) AND id NOT IN (SELECT identity FROM seen)",
            [],
        )?;
        // It is there already where a corrupt file was replaced under way.
        db.execute("INSERT OR IGNORE INTO identity (origin, epoch) VALUES (?1, ?2)", params![node, epoch.0])?;
        let own = "SELECT id FROM identity WHERE origin = ?1 AND epoch = ?2";
        let own = db.query_row(own, params![node, epoch.0], |row| row.get(0))?;
        Ok(Self { queues, own, known: HashMap::new() })
    }

    /// The row of `identity` for a start of a node, made if need be. Not kept in mind: the transaction
    /// that makes it may fail.
    pub(super) fn row_of(db: &Connection, origin: &str, epoch: Epoch) -> Result<i64, rusqlite::Error> {
        let find = "SELECT id FROM identity WHERE origin = ?1 AND epoch = ?2";
        let found =
            db.prepare_cached(find)?.query_row(params![origin, epoch.0], |row| row.get(0)).optional()?;
        if let Some(row) = found {
            return Ok(row);
        }
        db.execute("INSERT INTO identity (origin, epoch) VALUES (?1, ?2)", params![origin, epoch.0])?;
        let row = db.last_insert_rowid();
        seen::bound_epochs(db, origin)?;
        Ok(row)
    }

    /// What a row of `identity` stands for.
    pub(super) fn identity(&mut self, db: &Connection, row: i64) -> Result<Identity, rusqlite::Error> {
        if let Some(known) = self.known.get(&row) {
            return Ok(known.clone());
        }
        let identity = db.query_row("SELECT origin, epoch FROM identity WHERE id = ?1", [row], |found| {
            Ok(Identity { origin: found.get::<_, String>(0)?.into(), epoch: Epoch(found.get(1)?) })
        })?;
        self.known.insert(row, identity.clone());
        Ok(identity)
    }
}

/// How `batch.encoding` is written.
pub(super) fn encoding_to_row(encoding: Encoding) -> i64 {
    match encoding {
        Encoding::Plain => 0,
        Encoding::Zstd => 1,
    }
}

/// How `batch.encoding` is read; `None` for what no release has written.
pub(super) fn encoding_of_row(column: i64) -> Option<Encoding> {
    match column {
        0 => Some(Encoding::Plain),
        1 => Some(Encoding::Zstd),
        _ => None,
    }
}
