//! The spool as the pump of one link sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use forwarder::{Lease, Receipt, Returns, Source, SourceEnd};
use tokio::sync::oneshot;

use crate::spool::leases::{LinkLeases, key_of};
use crate::spool::{Desk, Lent, Verdict};

/// Raw bytes that are read ahead at a time; they are held as they are stored, a sixth of it.
const READ_AHEAD_BYTES: usize = 2 * 1024 * 1024;
/// With fewer leases ready than this, more are asked for: the desk may be in the middle of an fsync.
const READY_MIN: usize = 16;

/// Lends what waits for one link. One for each link.
pub struct SpoolSource {
    desk: Desk,
    link: usize,
    leases: Arc<LinkLeases>,
    /// Read ahead; dropped with the source, they are given back.
    ready: VecDeque<Lease>,
    /// Asked for. Kept here so that a cancelled wait loses nothing.
    asked: Option<oneshot::Receiver<Vec<Lent>>>,
}

impl SpoolSource {
    /// A source for link number `link`.
    pub fn new(desk: Desk, link: usize) -> Self {
        let leases = desk.leases(link);
        Self { desk, link, leases, ready: VecDeque::new(), asked: None }
    }

    /// Asks the desk for more, unless it was asked already.
    fn ask(&mut self) -> Result<(), SourceEnd> {
        if self.asked.is_none() {
            self.asked = Some(self.desk.lend(self.link, READ_AHEAD_BYTES).map_err(|_| SourceEnd::Closed)?);
        }
        Ok(())
    }

    /// Takes what was asked for, once there is something. Cancel-safe.
    async fn receive(&mut self) {
        let Some(asked) = &mut self.asked else { return };
        let lent = tokio::select! {
            lent = asked => lent,
            () = self.leases.given_back() => return self.desk.nudge(),
        };
        self.asked = None;
        // Where that is nothing it is asked again.
        for Lent { first, batch, .. } in lent.unwrap_or_default() {
            let owner: Arc<dyn Returns> = self.leases.clone();
            self.ready.push_back(Lease::new(key_of(first), batch, owner));
        }
    }

    fn end(&self, lease: Lease, verdict: Verdict) -> Result<(), SourceEnd> {
        self.desk.end_lease(self.link, lease.key(), verdict).map_err(|_| SourceEnd::Closed)?;
        lease.end();
        Ok(())
    }
}

impl Drop for SpoolSource {
    fn drop(&mut self) {
        let Some(mut asked) = self.asked.take() else {
            return;
        };
        // From here on the desk takes back what it reads; what it has already read is taken back here.
        asked.close();
        for lent in asked.try_recv().unwrap_or_default() {
            self.leases.give_back(key_of(lent.first));
        }
    }
}

impl Source for SpoolSource {
    async fn lease(&mut self) -> Result<Lease, SourceEnd> {
        loop {
            // Whoever has asked before the next commit is lent it without a read.
            if self.ready.len() < READY_MIN {
                self.ask()?;
            }
            if let Some(lease) = self.ready.pop_front() {
                return Ok(lease);
            }
            self.receive().await;
        }
    }

    async fn confirm(&mut self, lease: Lease, receipt: Receipt) -> Result<(), SourceEnd> {
        debug_assert_eq!(lease.key(), receipt.key());
        self.end(lease, Verdict::Delivered)
    }

    async fn set_aside(&mut self, lease: Lease, reason: &str) -> Result<(), SourceEnd> {
        self.end(lease, Verdict::SetAside(reason.to_owned()))
    }
}
