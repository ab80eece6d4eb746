//! How a link of the topology reaches its upstream: what is connected anew after each loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forwarder::sink::graphite::{Delays, Load, Pool, PoolHealth, PoolLimits};
use forwarder::sink::stomp::{StompSink, StompSinkSettings};
use forwarder::source::subscription::{CourierEnd, Inspect, Subscription, SubscriptionSettings};
use forwarder::stomp::{ConnectError, StompEnd};
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

    fn served(&mut self) {
        self.upstream.served();
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
        if let Ok(pool) = timeout(OPEN_WITHIN, pool).await {
            return Ok(pool);
        }
        // The next pool begins with another: some that do not answer may take all of the time.
        self.upstream.endpoints.rotate_left(1);
        Err(GraphiteDown(self.health.last_error()))
    }
}

/// Dials a broker, or an agent, to subscribe to a queue.
pub(crate) struct Subscriber<I> {
    upstream: Failover,
    subscription: SubscriptionSettings,
    inspect: Arc<I>,
    /// The upstream has answered the last subscription with ERROR.
    is_refused: Arc<AtomicBool>,
}

impl<I> Subscriber<I> {
    /// One that subscribes at `upstream`; `inspect` checks the lines that come.
    pub(crate) fn new(upstream: Failover, subscription: SubscriptionSettings, inspect: I) -> Self {
        Self { upstream, subscription, inspect: Arc::new(inspect), is_refused: Arc::default() }
    }
}

impl<I: Inspect + 'static> Connect for Subscriber<I> {
    type Session = (Subscription<I>, BoxFuture<'static, CourierEnd>);
    type Error = ConnectError;

    async fn connect(&mut self) -> Result<Self::Session, ConnectError> {
        if self.is_refused.swap(false, Ordering::Relaxed) {
            self.upstream.move_on();
        }
        let connection = self.upstream.connect().await?;
        let (subscription, courier) =
            Subscription::open(connection, self.subscription.clone(), Arc::clone(&self.inspect));
        let is_refused = Arc::clone(&self.is_refused);
        let courier = courier.run().inspect(move |end| {
            is_refused.store(matches!(end, CourierEnd::Stomp(StompEnd::Error(_))), Ordering::Relaxed);
        });
        Ok((subscription, courier.boxed()))
    }

    fn served(&mut self) {
        self.upstream.served();
    }

    async fn better(&mut self) {
        self.upstream.first_is_back().await;
    }
}

#[cfg(test)]
mod tests {
    use forwarder::Clock;
    use forwarder::source::subscription::{InspectError, Inspected};
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::failover::tests::{accept, failover, listener};

    struct Nothing;

    impl Inspect for Nothing {
        async fn inspect(&self, _: &[u8], _: &str) -> Result<Inspected, InspectError> {
            Err(InspectError("nothing comes".to_owned()))
        }

        async fn set_aside(&self, _: &[u8], _: &str, _: &str) -> Result<(), InspectError> {
            Err(InspectError("nothing comes".to_owned()))
        }
    }

    /// A node of a cluster may let everybody in without the queue's home.
    #[tokio::test]
    async fn an_endpoint_that_refuses_the_subscription_is_passed_over() {
        let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
        let settings = SubscriptionSettings {
            queue: "/queue/graphite".to_owned(),
            mesh: "acme".into(),
            prefetch: 1,
            prefetch_of_small: 1,
            subscribe_headers: Vec::new(),
            hold_max: Duration::from_secs(60),
            clock: Clock::system(),
        };
        let mut subscriber = Subscriber::new(failover(&[first_port, second_port], false), settings, Nothing);
        let (session, mut stream) = tokio::join!(subscriber.connect(), accept(&first));
        stream.write_all(b"ERROR\nmessage:its home is down\n\n\0").await.unwrap();
        let (_subscription, courier) = session.unwrap();
        assert!(matches!(courier.await, CourierEnd::Stomp(StompEnd::Error(_))));
        tokio::select! {
            (session, _) = async { tokio::join!(subscriber.connect(), accept(&second)) } => assert!(session.is_ok()),
            _ = accept(&first) => panic!("it came back"),
        }
    }
}
