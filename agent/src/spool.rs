//! The durable queue of one agent: one directory, one SQLite file, one owner, one writer.
//!
//! [`Spool`] is synchronous and takes `now`; `desk` runs it on a thread of its own and commits in
//! groups; `source` lends its batches to the pump of a link. rusqlite is named in this module and
//! its children only. It knows no sockets and no protocol.
//!
//! Everything that changes a row changes the tally that counts it in the same transaction, so that no
//! gauge can drift.

mod arrival;
mod balance;
mod begin;
mod commit;
mod config;
mod desk;
mod file;
mod fresh;
mod inspect;
mod leases;
mod lent;
mod limits;
mod rejects;
mod report;
mod reserve;
mod salvage;
mod schema;
mod seal;
mod seen;
mod source;
mod subscribers;
mod tally;
mod writer;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use forwarder::{Epoch, Returns};
use rusqlite::{Connection, TransactionBehavior, ffi, params};
use topology::model::WhenFull;

use crate::ingest::{Input, Sender};

pub use arrival::{Arrival, Kept, Number};
use begin::{Begun, draw_epoch};
pub use commit::{Commit, CommitError};
pub use config::{LinkConfig, LinkSet, QueueConfig, SpoolConfig};
pub use desk::{Desk, DeskClosed, DeskWorker, Entry, Slot};
pub use file::OpenError;
use file::{BUSY_TIMEOUT, SpoolFile};
use fresh::FreshBatches;
pub use inspect::{DeadLetter, Held, Inspection};
use leases::{LinkLeases, Span};
pub use lent::Lent;
use lent::Portion;
use limits::{Limits, PAGE_BYTES, Usage};
use rejects::Rejects;
pub use report::{Amount, LinkReport, Report};
use reserve::{Reserve, disk_free_bytes};
use schema::Names;
pub use seal::Sealed;
pub use source::SpoolSource;
pub use subscribers::{DELIVERIES_MAX, Loan, LoanEnd, Rest, Standing, Subscribers};
use writer::DroppedWhileLent;
pub use writer::{Taken, Writer};

/// Free pages that one idle moment returns to the disk.
const VACUUM_SLICE_PAGES: u64 = 2048;
/// With no more than this in use the file is written anew: to return its free pages one by one takes longer.
const REWRITE_PAGES_MAX: u64 = 512;
/// So much of the disk the log has from the start: more than the confirmations of one group write.
const LOG_CLAIMED_BYTES: u64 = 1024 * 1024;
/// What a transaction writes beside its bodies, about; it and they are in the log and in the database.
const TRANSACTION_BYTES: u64 = 2 * 4 * PAGE_BYTES;
/// What a full log and one more group bring into the database at most.
const GROWTH_CLAIMED_BYTES: u64 = 8 * 1024 * 1024;

/// Lines that were sealed and are not compressed yet.
#[derive(Debug, Default)]
pub struct RawBatch {
    /// Lines, each ended by LF.
    pub raw: Vec<u8>,
    /// How many lines.
    pub lines: u32,
    /// When the first and the last line were accepted, in ms since the Unix epoch.
    pub accepted_ms: (i64, i64),
    /// Bounds of the lines' timestamps, in seconds since the Unix epoch.
    pub timestamps: (i64, i64),
    /// Lines by [`Input`], for the counters.
    pub inputs: [u64; Input::ALL.len()],
    /// What was refused beside them.
    pub rejects: Vec<Reject>,
}

/// A refused line, or a whole body, on its way to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// When it was refused, in ms since the Unix epoch.
    pub at_ms: i64,
    /// Who sent it.
    pub from: Sender,
    /// Why.
    pub reason: Cow<'static, str>,
    /// What it was.
    pub line: Vec<u8>,
}

/// Why an operation of an open spool failed, by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Refuse and keep sending.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// Set the file aside, salvage, go on.
    #[error("the spool's file is corrupt")]
    Corrupt(#[source] rusqlite::Error),
    /// End the process before another receipt.
    #[error("the spool cannot be used any more: look at its disk, and at what the kernel says of it")]
    Fatal(#[source] rusqlite::Error),
    /// The corrupt file could not be replaced: end the process.
    #[error("the corrupt spool could not be replaced")]
    Replace(#[from] OpenError),
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            _ if file::is_disk_full(&error) => Self::Full(error),
            Some(DatabaseCorrupt | NotADatabase) => Self::Corrupt(error),
            _ => Self::Fatal(error),
        }
    }
}

/// The open spool. Dropping it releases the directory.
pub struct Spool {
    db: Connection,
    file: SpoolFile,
    reserve: Reserve,
    config: SpoolConfig,
    links: Vec<SpoolLink>,
    names: Names,
    dropped_while_lent: DroppedWhileLent,
    fresh: FreshBatches,
    limits: Limits,
    epoch: Epoch,
    next_id: i64,
    next_seq: u64,
    rejects: Rejects,
    is_disk_full: bool,
    /// As it was measured last.
    usage: Usage,
    /// By which it may have grown since.
    unmeasured_bytes: u64,
    /// Since it was last looked after.
    was_used: bool,
    /// When a corrupt file was replaced last, in ms since the Unix epoch.
    replaced_ms: Option<i64>,
}

/// A link of the configuration, its row, and what is lent to it.
struct SpoolLink {
    row: i64,
    leases: Arc<LinkLeases>,
}

/// What the next hop said of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has it.
    Delivered,
    /// It does not take it; kept with this reason.
    SetAside(String),
}

impl Spool {
    /// Opens the spool of `config`, or makes it. The caller has checked the whole topology.
    pub fn open(config: SpoolConfig, now_ms: i64) -> Result<Self, OpenError> {
        let mut file = SpoolFile::lock(&config.dir)?;
        let epoch = draw_epoch().map_err(|cause| OpenError::Io { path: config.dir.clone(), cause })?;
        let disk_free = disk_free_bytes(&config.dir)
            .map_err(|cause| OpenError::Io { path: config.dir.clone(), cause })?;
        // What the spool has already is no less its own than what is free, or each start would find
        // the limit lower.
        let limits = Limits::new(config.max_size_bytes, config.when_full, disk_free + file.held_bytes());
        let mut reserve = Reserve::take(file.reserve(), limits.reserve_bytes);
        let mut begun = Begun::open(&mut file, &config, &limits, epoch, now_ms);
        let is_disk_full = begun.as_ref().is_err_and(OpenError::is_disk_full);
        if is_disk_full {
            give_up_reserve(&mut reserve, &config);
            begun = Begun::open(&mut file, &config, &limits, epoch, now_ms);
        }
        let Begun { db, names, links, next_id, rejects } = begun?;
        let mut spool = Self {
            db,
            file,
            reserve,
            config,
            links,
            names,
            dropped_while_lent: DroppedWhileLent::new(),
            fresh: FreshBatches::none(),
            limits,
            epoch,
            next_id,
            next_seq: 1,
            rejects,
            is_disk_full,
            usage: Usage::default(),
            unmeasured_bytes: 0,
            was_used: false,
            replaced_ms: None,
        };
        spool.measure();
        spool.claim_log();
        Ok(spool)
    }

    /// Runs `work` in one transaction and fsyncs it. On an error nothing of it has happened.
    pub fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, SpoolError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let next = (self.next_id, self.next_seq, self.rejects);
        let fresh = self.fresh.prepare(&self.links, self.next_id).then(Vec::new);
        let known = (&mut self.names, &self.dropped_while_lent);
        let mut writer = Writer::new(&tx, &self.config, &self.links, known, next, fresh);
        let done = work(&mut writer)?;
        let mut written = writer.finish()?;
        tx.commit()?;
        self.was_used = true;
        (self.next_id, self.next_seq) = (written.next_id, written.next_seq);
        self.fresh.committed(written.fresh.take());
        self.rejects.committed(written.rejects, &self.config.dir);
        written.remember_dropped(&mut self.dropped_while_lent);
        for (link, last) in self.links.iter().zip(written.last_appended) {
            link.leases.committed(last);
        }
        for (link, rows) in written.settled {
            self.links[link].leases.settled(&rows);
        }
        self.unmeasured_bytes += TRANSACTION_BYTES + 2 * written.appended_bytes;
        if self.excess_bytes() > 0 || self.unmeasured_bytes > self.limits.margin_bytes() / 4 {
            self.measure();
        }
        Ok(done)
    }

    /// Takes the oldest batches that wait for link number `link`, to be lent: what was given back
    /// first, then on from where it was. At most `raw_bytes_max` bytes of lines, but at least one
    /// batch. One whose bytes are not those that were written is set aside.
    pub fn lend(&mut self, link: usize, raw_bytes_max: usize) -> Result<Vec<Lent>, SpoolError> {
        let span = self.links[link].leases.next_span();
        let mut portion = Portion::new(raw_bytes_max);
        if !self.fresh.lend(link, &self.config.link_sets, &span, &mut portion) {
            self.read_waiting(link, &span, &mut portion)?;
        }
        let lent = portion.into_lent();
        // Only now: what is lent and does not arrive would stay so until the next start.
        let SpoolLink { row, leases } = &self.links[link];
        leases.lent(&span, &lent);
        self.fresh.forget_lent(&self.links);
        if span.is_given_back {
            // Of those that a limit dropped meanwhile no late receipt can come any more.
            span.rows.for_each(|id| drop(self.dropped_while_lent.remove(&(*row, id))));
        }
        Ok(lent)
    }

    /// From here on what waits is read from the file, as after a pause: nothing is kept at hand.
    pub fn forget_fresh(&mut self) {
        self.fresh = FreshBatches::none();
    }

    fn read_waiting(&mut self, link: usize, span: &Span, portion: &mut Portion) -> Result<(), SpoolError> {
        let mut damaged = Vec::new();
        let mut statement = self.db.prepare_cached(schema::LEND)?;
        let mut rows = statement.query(params![self.links[link].row, span.rows.start(), span.rows.end()])?;
        while let Some(found) = rows.next()? {
            if !span.is_free(found.get(0)?) {
                continue;
            }
            let (id, batch) = schema::read_batch(found, &mut self.names, &self.db)?;
            let Some(batch) = batch else {
                damaged.push(id);
                continue;
            };
            if !portion.add(id, batch) {
                break;
            }
        }
        drop(rows);
        drop(statement);
        for id in damaged {
            self.transact(|writer| writer.settle(link, id..=id, &Verdict::SetAside("checksum".to_owned())))?;
        }
        Ok(())
    }

    /// Takes back what was read to be lent and was not wanted any more.
    fn take_back(&self, link: usize, unwanted: &[Lent]) {
        for lent in unwanted {
            self.links[link].leases.give_back(leases::key_of(lent.first));
        }
    }

    /// Whether nothing more is to be taken, for the limit or a full disk.
    pub fn is_full(&self) -> bool {
        self.is_disk_full || (self.limits.when_full == WhenFull::Refuse && self.excess_bytes() > 0)
    }

    /// Whether the oldest may have to go before something is appended.
    fn drops_oldest(&self) -> bool {
        self.limits.when_full == WhenFull::DropOldest
            || self.config.links.iter().any(|link| link.max_size_bytes.is_some())
    }

    /// Whether nothing more is to be taken for a queue, by its number: for its own limit, or as [`Self::is_full`].
    fn full_queues(&self) -> Arc<[bool]> {
        let is_full = self.is_full();
        let queues = self.config.queues.iter().enumerate();
        queues.map(|(number, queue)| is_full || self.is_at_limit(number, queue)).collect()
    }

    fn is_at_limit(&self, number: usize, queue: &QueueConfig) -> bool {
        let Some(limit) = queue.refuse_at_bytes else { return false };
        let sets = self.config.link_sets.iter().filter(|set| set.queue == number);
        let waits = |link: &usize| {
            // Where the books cannot be read, the next transaction says what is wrong.
            let bytes = schema::backlog_bytes(&self.db, self.links[*link].row).unwrap_or(0);
            u64::try_from(bytes).unwrap_or(0) >= limit
        };
        sets.flat_map(|set| &set.links).any(waits)
    }

    /// Whether the disk is full: nothing is taken, whatever the limit.
    fn is_disk_full(&self) -> bool {
        self.is_disk_full
    }

    /// How many bytes of the oldest have to go before `sealed` is appended.
    fn bytes_to_drop<'a>(&self, sealed: impl Iterator<Item = &'a Sealed>) -> u64 {
        if self.limits.when_full == WhenFull::Refuse {
            return 0;
        }
        match self.excess_bytes() {
            0 => 0,
            excess => excess + sealed.map(Sealed::stored_bytes).sum::<u64>(),
        }
    }

    /// By how many bytes the limit is passed.
    fn excess_bytes(&self) -> u64 {
        self.limits.excess_bytes(self.usage)
    }

    /// To measure takes a tenth of a small commit, so it is done when it is about to matter.
    fn measure(&mut self) {
        // Where the use cannot be read, the next transaction says what is wrong.
        if let Ok(usage) = self.usage() {
            (self.usage, self.unmeasured_bytes) = (usage, 0);
        }
    }

    fn usage(&self) -> Result<Usage, rusqlite::Error> {
        let (pages, free) = schema::page_counts(&self.db)?;
        Ok(Usage { pages_bytes: pages.saturating_sub(free) * PAGE_BYTES, wal_bytes: self.file.wal_bytes() })
    }

    /// The disk is full: gives up the reserve, so that confirm, delete and checkpoint succeed. Nothing
    /// more is taken until it is there again.
    fn give_up_reserve(&mut self) {
        if !std::mem::replace(&mut self.is_disk_full, true) {
            give_up_reserve(&mut self.reserve, &self.config);
        }
        // Somebody may have taken it. The log has room of its own, and begins anew once all of it is copied to
        // where there is room, too; where that fails, the next attempt to write says what is wrong.
        drop(self.db.pragma(None, "wal_checkpoint", "PASSIVE", |_| Ok(())));
    }

    /// Takes the room in which what was confirmed is written, whatever happens to the disk.
    fn claim_log(&self) {
        // If there is none, the reserve is given up for it.
        self.file.claim_log(LOG_CLAIMED_BYTES).unwrap_or_default();
    }

    /// Takes the room to which the database grows when the log is copied into it. Without it nothing may
    /// be appended: the log could never be emptied again. [`SpoolError::Full`] if there is none.
    fn claim_growth(&self) -> Result<(), SpoolError> {
        let growth = GROWTH_CLAIMED_BYTES.min(self.limits.reserve_bytes);
        match self.file.claim_growth(growth) {
            Err(error) if file::lacks_room(&error) => {
                Err(SpoolError::Full(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None)))
            }
            // What else may be wrong is SQLite's to find.
            _ => Ok(()),
        }
    }

    /// To be called about once a second: takes the reserve again once there is room, and while nothing
    /// else is to do returns free pages, and a log that has grown, to the disk.
    fn look_after(&mut self) -> Result<(), SpoolError> {
        if self.reserve.retake() && self.is_disk_full {
            self.is_disk_full = false;
            tracing::info!(dir = %self.config.dir.display(), "the spool's disk has room again: metrics are taken");
        }
        if !std::mem::take(&mut self.was_used) {
            self.forget_fresh();
            self.shrink()?;
            self.cut_log()?;
        }
        self.measure();
        Ok(())
    }

    /// Empties a log that grew beyond its size while somebody read the file. It counts as used, and a
    /// spool that is full of it, with nothing to confirm, would wait for ever for the next commit to do so.
    fn cut_log(&self) -> Result<(), SpoolError> {
        if self.file.wal_bytes() > 2 * u64::from(self.limits.checkpoint_pages()) * PAGE_BYTES {
            // A reader is not waited for: there is a next second.
            self.db.busy_timeout(Duration::ZERO)?;
            let cut = self.db.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()));
            self.db.busy_timeout(BUSY_TIMEOUT)?;
            self.claim_log();
            cut?;
        }
        Ok(())
    }

    /// Returns free pages if a quarter of them is free: all of an almost empty file, else a slice.
    fn shrink(&self) -> Result<(), SpoolError> {
        let (pages, free) = schema::page_counts(&self.db)?;
        if free <= VACUUM_SLICE_PAGES || free * 4 <= pages {
            return Ok(());
        }
        if pages - free <= REWRITE_PAGES_MAX {
            // The file is cut when the log is copied into it.
            self.db.execute_batch("VACUUM; PRAGMA wal_checkpoint(PASSIVE)")?;
        } else {
            self.db.pragma(None, "incremental_vacuum", VACUUM_SLICE_PAGES, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Goes on in a new file with what can be read of the corrupt one. What is lent stays lent; all else that
    /// waits there is lent anew, wherever the link had got to.
    fn replace_corrupt(&mut self, now_ms: i64, cause: rusqlite::Error) -> Result<(), SpoolError> {
        // A disk that damages a file within a minute would fill itself with them.
        if self.replaced_ms.is_some_and(|last| now_ms < last + 60_000) {
            return Err(SpoolError::Fatal(cause));
        }
        self.replaced_ms = Some(now_ms);
        // SQLite must not hold the file while it is moved.
        self.db = Connection::open_in_memory()?;
        let db = self.file.replace_corrupt(now_ms)?;
        let begun = Begun::enter(db, &self.config, &self.limits, self.epoch)?;
        self.forget_fresh();
        (self.db, self.names, self.rejects) = (begun.db, begun.names, begun.rejects);
        for (link, anew) in self.links.iter_mut().zip(begun.links) {
            link.row = anew.row;
            link.leases.start_over(anew.leases.last_committed());
        }
        self.measure();
        Ok(())
    }

    /// What it holds.
    pub fn report(&self) -> Result<Report, SpoolError> {
        let (usage, file_bytes) = (self.usage()?, self.file.database_bytes());
        let report = report::report(&self.db, &self.config, &self.limits, usage, file_bytes, self.is_full())?;
        Ok(Report { rejects_trimmed: self.rejects.trimmed, ..report })
    }
}

fn give_up_reserve(reserve: &mut Reserve, config: &SpoolConfig) {
    let dir = config.dir.display();
    match reserve.release() {
        Ok(()) => tracing::error!(
            %dir, "the spool's disk is full: metrics are refused, what is kept is still sent; free some space"
        ),
        Err(error) => {
            tracing::error!(%dir, %error, "the spool's disk is full, and its reserve cannot be given up")
        }
    }
}

#[cfg(test)]
mod tests;
