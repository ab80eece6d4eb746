//! Looks at everything on the road of the demo, in the order of the road.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::demo::broker;
use crate::demo::ledger::Counts;
use crate::demo::nodes::{self, AgentSeen, ConsumerSeen};
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
    pub(crate) agent: AgentSeen,
    pub(crate) link_is_cut: bool,
    /// Bytes that came over the link, ever.
    pub(crate) link_bytes: u64,
    pub(crate) broker: broker::Load,
    pub(crate) consumer: ConsumerSeen,
    pub(crate) graphite: Counts,
    /// Metrics that the agent has receipted.
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
            agent: AgentSeen::default(),
            link_is_cut: false,
            link_bytes: 0,
            broker: broker::Load::default(),
            consumer: ConsumerSeen::default(),
            graphite: Counts::default(),
            accepted: 0,
            outstanding: None,
        }
    }

    /// Whether nothing more is to be waited for: everything has come, or nothing is on its way any more.
    pub(crate) fn is_settled(&self) -> bool {
        let on_the_way = self.agent.backlog > 0 || self.broker != broker::Load::default();
        self.outstanding.is_some_and(|outstanding| outstanding == 0 || !on_the_way)
    }
}

/// Who looks, and where.
pub(super) struct Lookout {
    pub(super) props: Props,
    pub(super) agent_http: SocketAddr,
    pub(super) consumer_http: SocketAddr,
    /// Cancelled once the producers have stopped.
    pub(super) produced: CancellationToken,
}

impl Lookout {
    /// What has left one place when it is looked at is at the next one, or further on.
    async fn look(&self) -> Result<Seen> {
        let Props { link, broker, accepted, arrived, .. } = &self.props;
        let produced = self.produced.is_cancelled();
        let counted = accepted.counts().metrics;
        let agent = nodes::agent(self.agent_http).await?;
        let consumer = nodes::consumer(self.consumer_http).await?;
        Ok(Seen {
            at: Instant::now(),
            agent,
            link_is_cut: link.is_cut(),
            link_bytes: link.carried_bytes(),
            broker: broker.load(),
            consumer,
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
                Ok(seen) if seen.agent.link == "up" && seen.consumer.link == "up" => return Ok(seen),
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

    fn seen(outstanding: Option<u64>, backlog: u64, waiting: usize, lent: usize) -> Seen {
        let agent = AgentSeen { backlog, ..AgentSeen::default() };
        let broker = broker::Load { waiting, lent };
        Seen { agent, broker, outstanding, ..Seen::nothing(Instant::now()) }
    }

    #[test]
    fn it_is_settled_when_all_has_come_or_nothing_can() {
        assert!(!seen(None, 0, 0, 0).is_settled(), "more is produced");
        assert!(!seen(Some(1), 1, 0, 0).is_settled(), "in the spool");
        assert!(!seen(Some(1), 0, 1, 0).is_settled(), "at the broker");
        assert!(!seen(Some(1), 0, 0, 1).is_settled(), "with the consumer");
        assert!(seen(Some(1), 0, 0, 0).is_settled(), "lost");
        assert!(seen(Some(0), 1, 1, 1).is_settled(), "only the receipts are outstanding");
    }
}
