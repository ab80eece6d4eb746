//! The first transaction of a start: its epoch, and the links as they are declared now.

use std::sync::Arc;

use forwarder::Epoch;
use rusqlite::{Connection, TransactionBehavior};

use crate::spool::file::SpoolFile;
use crate::spool::leases::LinkLeases;
use crate::spool::limits::Limits;
use crate::spool::rejects::Rejects;
use crate::spool::schema::{self, Names};
use crate::spool::{OpenError, SpoolConfig, SpoolLink, salvage};

/// A new one for each start.
pub(super) fn draw_epoch() -> Result<Epoch, std::io::Error> {
    let mut epoch = [0; 16];
    getrandom::fill(&mut epoch).map_err(std::io::Error::from)?;
    Ok(Epoch(epoch))
}

/// An open file that knows of this start.
pub(super) struct Begun {
    pub(super) db: Connection,
    pub(super) names: Names,
    pub(super) links: Vec<SpoolLink>,
    pub(super) next_id: i64,
    pub(super) rejects: Rejects,
}

impl Begun {
    /// Opens the file, or makes it. One that turns out to be corrupt is replaced.
    pub(super) fn open(
        file: &mut SpoolFile,
        config: &SpoolConfig,
        limits: &Limits,
        epoch: Epoch,
        now_ms: i64,
    ) -> Result<Self, OpenError> {
        let mut begun = Self::enter(file.open_database(now_ms)?, config, limits, epoch);
        if begun.as_ref().is_err_and(salvage::is_corrupt) {
            begun = Self::enter(file.replace_corrupt(now_ms)?, config, limits, epoch);
        }
        begun.map_err(|cause| OpenError::sqlite(&file.database(), cause))
    }

    /// Sets up `db` and makes the first transaction.
    pub(super) fn enter(
        mut db: Connection,
        config: &SpoolConfig,
        limits: &Limits,
        epoch: Epoch,
    ) -> Result<Self, rusqlite::Error> {
        schema::set_up(&db, limits.checkpoint_pages())?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let names =
            Names::start(&tx, config.queues.iter().map(|queue| queue.name.as_str()), &config.node, epoch)?;
        let mut links = Vec::new();
        for link in &config.links {
            let row = schema::link_row(&tx, &link.name)?;
            let last_waiting = schema::last_waiting(&tx, row)?;
            links.push(SpoolLink { row, leases: Arc::new(LinkLeases::new(last_waiting)) });
        }
        let next_id = schema::last_batch(&tx)? + 1;
        let rejects = Rejects::count(&tx, config, limits)?;
        tx.commit()?;
        Ok(Self { db, names, links, next_id, rejects })
    }
}
