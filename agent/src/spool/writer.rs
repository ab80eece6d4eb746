//! What can be done to a spool within one transaction. Each change of rows enters the books with it.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use forwarder::{Batch, Epoch, Label, Part};
use rusqlite::{Connection, params};

use crate::spool::fresh::Fresh;
use crate::spool::limits::PAGE_BYTES;
use crate::spool::rejects::Rejects;
use crate::spool::schema::{ASIDE, Identity, Names, WAITING};
use crate::spool::tally::{Account, NODE, Tallies, Weight};
use crate::spool::{Arrival, Kept, Sealed, SpoolConfig, SpoolLink, Verdict, schema, seen};

/// One transaction: everything done through it becomes durable together, or not at all.
pub struct Writer<'a> {
    tx: &'a Connection,
    config: &'a SpoolConfig,
    links: &'a [SpoolLink],
    names: &'a mut Names,
    dropped_while_lent: &'a DroppedWhileLent,
    next_id: i64,
    next_seq: u64,
    rejects: Rejects,
    last_appended: Vec<i64>,
    /// `None` where nobody wants them, or something was dropped.
    fresh: Option<Vec<Fresh>>,
    appended_bytes: u64,
    settled: Vec<(usize, RangeInclusive<i64>)>,
    dropped: DroppedWhileLent,
    settled_dropped: HashSet<(i64, i64)>,
    tallies: Tallies,
}

/// What a transaction leaves behind in memory once it is committed.
pub(super) struct Written {
    pub(super) next_id: i64,
    pub(super) next_seq: u64,
    pub(super) rejects: Rejects,
    /// For each link the last row appended for it; 0 if none was.
    pub(super) last_appended: Vec<i64>,
    /// What it appended, unless nobody wants it, or something was dropped.
    pub(super) fresh: Option<Vec<Fresh>>,
    /// What it appended, in whole pages.
    pub(super) appended_bytes: u64,
    /// Link and rows of the leases whose word is written.
    pub(super) settled: Vec<(usize, RangeInclusive<i64>)>,
    /// What it dropped while it was lent.
    dropped: DroppedWhileLent,
    /// Link and row of what was dropped so, now or before, and whose word is written.
    settled_dropped: HashSet<(i64, i64)>,
}

/// Batches that a limit dropped while they were lent, by link and row: a late receipt still counts
/// them as delivered. They leave with the word on their lease, or when it is given back and looked for.
pub(super) type DroppedWhileLent = HashMap<(i64, i64), (Arc<str>, Account, Weight)>;

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is kept.
    New,
    /// It was kept before, and may be confirmed again.
    Duplicate,
}

/// What tells a row of `batch` from all others.
struct RowLabel<'a> {
    identity: i64,
    origin: Arc<str>,
    epoch: Epoch,
    seq: u64,
    hops: Option<&'a str>,
    part_of: Option<&'a str>,
}

/// Batches of one origin, as the books need them.
struct Counted {
    origin: Arc<str>,
    weight: Weight,
}

impl Written {
    /// Brings what is known to have been dropped while it was lent up to date.
    pub(super) fn remember_dropped(&mut self, known: &mut DroppedWhileLent) {
        known.extend(self.dropped.drain());
        for key in self.settled_dropped.drain() {
            known.remove(&key);
        }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        tx: &'a Connection,
        config: &'a SpoolConfig,
        links: &'a [SpoolLink],
        (names, dropped_while_lent): (&'a mut Names, &'a DroppedWhileLent),
        (next_id, next_seq, rejects): (i64, u64, Rejects),
        fresh: Option<Vec<Fresh>>,
    ) -> Self {
        let last_appended = vec![0; links.len()];
        Self {
            tx,
            config,
            links,
            names,
            dropped_while_lent,
            next_id,
            next_seq,
            rejects,
            last_appended,
            fresh,
            appended_bytes: 0,
            settled: Vec::new(),
            dropped: DroppedWhileLent::new(),
            settled_dropped: HashSet::new(),
            tallies: Tallies::default(),
        }
    }

    /// Enters the books; the caller commits.
    pub(super) fn finish(self) -> Result<Written, rusqlite::Error> {
        self.tallies.write(self.tx)?;
        let Self { next_id, next_seq, rejects, last_appended, fresh, appended_bytes, settled, .. } = self;
        let Self { dropped, settled_dropped, .. } = self;
        Ok(Written {
            next_id,
            next_seq,
            rejects,
            last_appended,
            fresh,
            appended_bytes,
            settled,
            dropped,
            settled_dropped,
        })
    }

    /// Appends a sealed batch for its set of links, under the next number, and what was refused beside
    /// it.
    pub fn append(&mut self, sealed: &Sealed) -> Result<(), rusqlite::Error> {
        if sealed.lines > 0 {
            self.append_own(sealed, None, None)?;
        }
        self.appended_bytes += sealed.rejects.iter().map(|reject| reject.line.len() as u64).sum::<u64>();
        self.rejects.keep(self.tx, &sealed.rejects)
    }

    /// Appends what came from another node, unless it came before.
    pub fn take(&mut self, arrival: &Arrival) -> Result<Taken, rusqlite::Error> {
        let number = &arrival.number;
        let identity = Names::row_of(self.tx, &number.origin, number.epoch)?;
        if !seen::record(self.tx, identity, number.seq)? {
            return Ok(Taken::Duplicate);
        }
        let hops = Some(arrival.hops.as_str());
        match &arrival.kept {
            Kept::Whole(sealed) => {
                let origin = Arc::clone(&number.origin);
                let label =
                    RowLabel { identity, origin, epoch: number.epoch, seq: number.seq, hops, part_of: None };
                self.append_batch(sealed, label)?;
            }
            Kept::Split(pieces) => {
                let part_of = number.to_string();
                for sealed in pieces {
                    self.append_own(sealed, hops, Some(&part_of))?;
                }
            }
        }
        Ok(Taken::New)
    }

    /// Under the next number of this node.
    fn append_own(
        &mut self,
        sealed: &Sealed,
        hops: Option<&str>,
        part_of: Option<&str>,
    ) -> Result<(), rusqlite::Error> {
        let identity = self.names.own;
        let Identity { origin, epoch } = self.names.identity(self.tx, identity)?;
        self.append_batch(sealed, RowLabel { identity, origin, epoch, seq: self.next_seq, hops, part_of })?;
        self.next_seq += 1;
        Ok(())
    }

    fn append_batch(&mut self, sealed: &Sealed, label: RowLabel<'_>) -> Result<(), rusqlite::Error> {
        let id = self.next_id;
        let link_set = &self.config.link_sets[sealed.link_set];
        self.tx.prepare_cached(schema::INSERT_BATCH)?.execute(params![
            id,
            self.names.queues[link_set.queue],
            label.identity,
            label.seq,
            sealed.lines,
            sealed.raw_bytes,
            sealed.body.len(),
            schema::encoding_to_row(sealed.encoding),
            sealed.checksum,
            sealed.accepted_ms.0,
            sealed.accepted_ms.1,
            sealed.timestamps.0,
            sealed.timestamps.1,
            label.hops,
            label.part_of,
        ])?;
        self.tx.prepare_cached(schema::INSERT_BODY)?.execute(params![id, &sealed.body[..]])?;
        let weight = Weight {
            batches: 1,
            lines: i64::from(sealed.lines),
            bytes: i64::try_from(sealed.body.len()).unwrap_or(i64::MAX),
        };
        self.appended_bytes += (sealed.body.len() as u64).next_multiple_of(PAGE_BYTES);
        self.tallies.add(NODE, &label.origin, Account::Accepted, weight);
        for &link in &link_set.links {
            let row = self.links[link].row;
            self.tx.prepare_cached(schema::INSERT_DELIVERY)?.execute(params![
                row,
                WAITING,
                id,
                None::<&str>
            ])?;
            self.tallies.add(row, &label.origin, Account::Accepted, weight);
            self.tallies.add(row, &label.origin, Account::Backlog, weight);
            self.last_appended[link] = id;
        }
        if let Some(fresh) = &mut self.fresh {
            fresh.push(Fresh { id, link_set: sealed.link_set, batch: batch(sealed, label) });
        }
        self.next_id += 1;
        Ok(())
    }

    /// Ends the delivery of `rows`, of one lease or several, over link number `link` on the next hop's word. A batch
    /// goes when no link needs it.
    pub fn settle(
        &mut self,
        link: usize,
        rows: RangeInclusive<i64>,
        verdict: &Verdict,
    ) -> Result<(), rusqlite::Error> {
        self.settled.push((link, rows.clone()));
        let link = self.links[link].row;
        let (first, last) = (*rows.start(), *rows.end());
        let account = match verdict {
            Verdict::Delivered => Account::Delivered,
            Verdict::SetAside(_) => Account::Aside,
        };
        for Counted { origin, weight } in self.weigh_waiting(link, first, last)? {
            self.tallies.transfer(link, &origin, Account::Backlog, account, weight);
        }
        let settled = match verdict {
            Verdict::Delivered => {
                let deleted =
                    self.tx.prepare_cached(schema::DELETE_WAITING)?.execute(params![link, first, last])?;
                self.release_batches(first, last)?;
                deleted
            }
            Verdict::SetAside(reason) => self
                .tx
                .prepare_cached(schema::SET_WAITING_ASIDE)?
                .execute(params![link, first, last, reason])?,
        };
        if settled < rows.clone().count() {
            rows.for_each(|id| self.settle_dropped(link, id, verdict));
        }
        Ok(())
    }

    /// What waits for a link between two rows, by identity.
    fn weigh_waiting(&mut self, link: i64, first: i64, last: i64) -> Result<Vec<Counted>, rusqlite::Error> {
        let mut statement = self.tx.prepare_cached(schema::WEIGH_WAITING)?;
        let mut rows = statement.query(params![link, first, last])?;
        let mut counted = Vec::new();
        while let Some(row) = rows.next()? {
            let origin = self.names.identity(self.tx, row.get(0)?)?.origin;
            let weight = Weight { batches: row.get(1)?, lines: row.get(2)?, bytes: row.get(3)? };
            counted.push(Counted { origin, weight });
        }
        Ok(counted)
    }

    fn settle_dropped(&mut self, link: i64, id: i64, verdict: &Verdict) {
        let key = (link, id);
        let dropped = self.dropped.get(&key).or_else(|| self.dropped_while_lent.get(&key));
        let Some((origin, account, weight)) = dropped else { return };
        if self.settled_dropped.insert(key) && *verdict == Verdict::Delivered {
            self.tallies.transfer(link, origin, *account, Account::Delivered, *weight);
        }
    }

    /// Keeps the limits where they say `drop_oldest`: the spool's, which `excess_bytes` is over, and
    /// each link's own.
    pub fn drop_excess(&mut self, excess_bytes: u64) -> Result<(), rusqlite::Error> {
        if excess_bytes > 0 {
            self.drop_oldest(i64::try_from(excess_bytes).unwrap_or(i64::MAX))?;
        }
        for (number, link) in self.config.links.iter().enumerate() {
            let Some(max) = link.max_size_bytes else { continue };
            let backlog = schema::backlog_bytes(self.tx, self.links[number].row)?;
            let excess = backlog.saturating_sub(i64::try_from(max).unwrap_or(i64::MAX));
            if excess > 0 {
                self.drop_oldest_of(number, excess)?;
            }
        }
        Ok(())
    }

    /// Drops the oldest batches, those that are not lent first, until `bytes` stored bytes are free.
    fn drop_oldest(&mut self, bytes: i64) -> Result<(), rusqlite::Error> {
        // Links that are no longer configured hold backlogs, too.
        let links = schema::link_rows(self.tx)?;
        let mut freed = 0;
        for lent_too in [false, true] {
            let mut after = 0;
            while freed < bytes {
                let Some(id) = schema::next_batch(self.tx, after)? else {
                    break;
                };
                after = id;
                let is_lent = self.links.iter().any(|link| link.leases.is_out(id));
                if lent_too || !is_lent {
                    for &link in &links {
                        self.drop_delivery(link, id, Account::DroppedSpoolLimit)?;
                    }
                    freed += self.counted(id)?.weight.bytes;
                    self.release_batches(id, id)?;
                }
            }
        }
        Ok(())
    }

    /// Drops the oldest of one link until `bytes` stored bytes of its backlog are gone, lent ones only
    /// if nothing else is left. The batches stay while another link needs them.
    fn drop_oldest_of(&mut self, link: usize, bytes: i64) -> Result<(), rusqlite::Error> {
        let SpoolLink { row, leases } = &self.links[link];
        let mut freed = 0;
        for lent_too in [false, true] {
            let mut after = 0;
            while freed < bytes {
                let Some(id) = schema::next_waiting(self.tx, *row, after)? else {
                    break;
                };
                after = id;
                if lent_too || !leases.is_out(id) {
                    freed += self.counted(id)?.weight.bytes;
                    self.drop_delivery(*row, id, Account::DroppedLinkLimit)?;
                    self.release_batches(id, id)?;
                }
            }
        }
        Ok(())
    }

    fn drop_delivery(&mut self, link: i64, id: i64, dropped: Account) -> Result<(), rusqlite::Error> {
        for (state, account) in [(WAITING, Account::Backlog), (ASIDE, Account::Aside)] {
            let deleted =
                self.tx.prepare_cached(schema::DELETE_DELIVERY)?.execute(params![link, state, id])?;
            if deleted > 0 {
                self.fresh = None;
                let Counted { origin, weight } = self.counted(id)?;
                self.tallies.transfer(link, &origin, account, dropped, weight);
                if self.links.iter().any(|known| known.row == link && known.leases.is_out(id)) {
                    self.dropped.insert((link, id), (origin, dropped, weight));
                }
            }
        }
        Ok(())
    }

    /// Deletes the batches between two rows that no link needs any more.
    fn release_batches(&self, first: i64, last: i64) -> Result<(), rusqlite::Error> {
        self.tx.prepare_cached(schema::DELETE_UNNEEDED)?.execute([first, last])?;
        self.tx.prepare_cached(schema::DELETE_BODIES)?.execute([first, last])?;
        Ok(())
    }

    fn counted(&mut self, id: i64) -> Result<Counted, rusqlite::Error> {
        let (identity, lines, bytes): (i64, i64, i64) = self
            .tx
            .prepare_cached(schema::READ_BATCH)?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let origin = self.names.identity(self.tx, identity)?.origin;
        Ok(Counted { origin, weight: Weight { batches: 1, lines, bytes } })
    }
}

/// What a row is lent as.
fn batch(sealed: &Sealed, row: RowLabel<'_>) -> Batch {
    let label = Label { origin: row.origin, epoch: row.epoch, hops: schema::hops(row.hops) };
    let part = Part {
        seq: row.seq,
        lines: sealed.lines,
        raw_bytes: sealed.raw_bytes,
        body: sealed.body.clone(),
        plain: sealed.plain.clone(),
    };
    let accepted_ms = sealed.accepted_ms.0..=sealed.accepted_ms.1;
    Batch { label: Some(label), encoding: sealed.encoding, parts: vec![part], accepted_ms }
}
