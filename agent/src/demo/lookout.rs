//! Looks at everything on the road of the demo, in the order of the road.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::demo::ledger::Counts;
use crate::demo::nodes::{self, NodeSeen};
use crate::demo::stage::Props;

/// How often it looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it asks whether everything stands, at the start,
const START_EVERY: Duration = Duration::from_millis(20);
/// and how long that may take.
const START_MAX: Duration = Duration::from_secs(30);

/// The demo at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) us: NodeSeen,
    pub(crate) dmz: NodeSeen,
    pub(crate) eu: NodeSeen,
    pub(crate) consumer: NodeSeen,
    pub(crate) link_is_cut: bool,
    /// Bytes that came over the link, ever.
    pub(crate) link_bytes: u64,
    pub(crate) graphite: Counts,
    /// Metrics that us-east and dmz-web have receipted.
    pub(crate) accepted: u64,
    /// Once the producers have stopped: the metrics that are still to come.
    pub(crate) outstanding: Option<u64>,
}

impl Seen {
    /// Before anything has happened.
    #[cfg(test)]
    pub(crate) fn nothing(at: Instant) -> Self {
        Self {
            at,
            us: NodeSeen::default(),
            dmz: NodeSeen::default(),
            eu: NodeSeen::default(),
            consumer: NodeSeen::default(),
            link_is_cut: false,
            link_bytes: 0,
            graphite: Counts::default(),
            accepted: 0,
            outstanding: None,
        }
    }

    /// Whether every link does.
    fn stands(&self) -> bool {
        [&self.us, &self.eu, &self.consumer].iter().all(|node| node.link == "up")
    }

    /// Whether nothing more is to be waited for: everything has come, or nothing is on its way any more.
    pub(crate) fn is_settled(&self) -> bool {
        let on_the_way = [&self.us, &self.dmz, &self.eu].iter().any(|agent| agent.backlog > 0);
        self.outstanding.is_some_and(|outstanding| outstanding == 0 || !on_the_way)
    }
}

/// Who looks, and where.
pub(super) struct Lookout {
    pub(super) props: Props,
    pub(super) us: SocketAddr,
    pub(super) dmz: SocketAddr,
    pub(super) eu: SocketAddr,
    pub(super) consumer: SocketAddr,
    /// Cancelled once the producers have stopped.
    pub(super) produced: CancellationToken,
}

impl Lookout {
    /// What has left one place when it is looked at is at the next one, or further on.
    async fn look(&self) -> Result<Seen> {
        let Props { link, accepted, arrived, .. } = &self.props;
        let produced = self.produced.is_cancelled();
        let counted = accepted.counts().metrics;
        let (us, dmz) = (nodes::look(self.us).await?, nodes::look(self.dmz).await?);
        let (eu, consumer) = (nodes::look(self.eu).await?, nodes::look(self.consumer).await?);
        Ok(Seen {
            at: Instant::now(),
            us,
            dmz,
            eu,
            consumer,
            link_is_cut: link.is_cut(),
            link_bytes: link.carried_bytes(),
            graphite: arrived.counts(),
            accepted: counted,
            outstanding: produced.then(|| self.outstanding()),
        })
    }

    /// Metrics that are still to come. As long as there must be some, at least so many: to look for each one
    /// takes long, and nothing can be counted meanwhile.
    fn outstanding(&self) -> u64 {
        let Props { accepted, arrived, .. } = &self.props;
        match accepted.counts().metrics.saturating_sub(arrived.counts().metrics) {
            0 => accepted.missing_in(arrived),
            at_least => at_least,
        }
    }

    /// Waits until every node answers and every link stands.
    pub(super) async fn first_look(&self) -> Result<Seen> {
        let since = Instant::now();
        loop {
            let seen = self.look().await;
            match seen {
                Ok(seen) if seen.stands() => return Ok(seen),
                seen => ensure!(since.elapsed() < START_MAX, "the mesh does not come to stand: {seen:?}"),
            }
            sleep(START_EVERY).await;
        }
    }

    /// Shows what it sees for as long as it is polled.
    pub(super) async fn keep_looking(&self, show: watch::Sender<Seen>) -> Result<()> {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            show.send_replace(self.look().await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outstanding: Option<u64>, [us, dmz, eu]: [u64; 3], is_settled: bool) {
        let agent = |backlog| NodeSeen { backlog, ..NodeSeen::default() };
        let seen = Seen::nothing(Instant::now());
        let seen = Seen { us: agent(us), dmz: agent(dmz), eu: agent(eu), outstanding, ..seen };
        assert_eq!(seen.is_settled(), is_settled, "{seen:?}");
    }

    #[test]
    fn it_is_settled_when_all_has_come_or_nothing_can() {
        check(None, [0, 0, 0], false);
        check(Some(1), [1, 0, 0], false);
        check(Some(1), [0, 1, 0], false);
        check(Some(1), [0, 0, 1], false);
        check(Some(1), [0, 0, 0], true);
        // Only the next hops' words are outstanding.
        check(Some(0), [1, 1, 1], true);
    }
}
