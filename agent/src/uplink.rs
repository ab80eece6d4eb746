//! How a link of the topology reaches its upstream: what is connected anew after each loss.

use std::sync::Arc;
use std::time::Duration;

use forwarder::sink::graphite::{Delays, Load, Pool, PoolHealth, PoolLimits};
use forwarder::sink::stomp::{StompSink, StompSinkSettings};
use forwarder::source::subscription::{CourierEnd, Inspect, Subscription, SubscriptionSettings};
use forwarder::stomp::ConnectError;
use forwarder::{Connect, Retry, Transport};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use topology::model::GraphiteUpstream;

use crate::failover::Failover;

/// Bytes of lines that a pool holds unconfirmed.
const GRAPHITE_WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// How long a pool may take to get its first connection; then it is said why, and tried again.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// Dials a broker, or another agent, to send to it.
pub(crate) struct StompUplink {
    /// Where and as whom.
    pub upstream: Failover,
    /// What is sent there, and how.
    pub sink: StompSinkSettings,
}

impl Connect for StompUplink {
    type Session = StompSink<Transport>;
    type Error = ConnectError;

    async fn connect(&mut self) -> Result<Self::Session, ConnectError> {
        let connection = self.upstream.connect().await?;
        Ok(StompSink::new(connection, self.sink.clone()))
    }

    fn disappointed(&mut self) {
        self.upstream.move_on();
    }

    async fn better(&mut self) {
        self.upstream.first_is_back().await;
    }
}

/// Opens a pool of connections to Graphite.
pub(crate) struct GraphiteUplink {
    upstream: GraphiteUpstream,
    limits: PoolLimits,
    health: Arc<PoolHealth>,
}

/// No connection to Graphite came to stand in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection to Graphite: {}", .0.as_deref().unwrap_or("no answer"))]
pub(crate) struct GraphiteDown(Option<String>);

impl GraphiteUplink {
    /// A pool for the link or consumer `name` that holds `leases` unconfirmed.
    pub(crate) fn new(name: &str, upstream: GraphiteUpstream, leases: usize) -> Self {
        let window = Load { leases, bytes: GRAPHITE_WINDOW_BYTES };
        Self { upstream, limits: PoolLimits::with_window(window), health: Arc::new(PoolHealth::new(name)) }
    }
}

impl Connect for GraphiteUplink {
    type Session = Pool;
    type Error = GraphiteDown;

    async fn connect(&mut self) -> Result<Pool, GraphiteDown> {
        let delays = Box::new(|| {
            let mut retry = Retry::default();
            let delays: Delays = Box::new(move || retry.delay());
            delays
        });
        let pool = Pool::open(&self.upstream, self.limits, delays, Arc::clone(&self.health));
        timeout(OPEN_WITHIN, pool).await.map_err(|_| GraphiteDown(self.health.last_error()))
    }
}

/// Dials a broker, or an agent, to subscribe to a queue.
pub(crate) struct Subscriber<I> {
    /// Where and as whom.
    pub upstream: Failover,
    /// To what.
    pub subscription: SubscriptionSettings,
    /// Checks the lines that come.
    pub inspect: Arc<I>,
}

impl<I: Inspect + 'static> Connect for Subscriber<I> {
    type Session = (Subscription<I>, BoxFuture<'static, CourierEnd>);
    type Error = ConnectError;

    async fn connect(&mut self) -> Result<Self::Session, ConnectError> {
        let connection = self.upstream.connect().await?;
        let (subscription, courier) =
            Subscription::open(connection, self.subscription.clone(), Arc::clone(&self.inspect));
        Ok((subscription, courier.run().boxed()))
    }

    async fn better(&mut self) {
        self.upstream.first_is_back().await;
    }
}
