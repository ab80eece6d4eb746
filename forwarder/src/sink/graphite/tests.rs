//! The pool against receivers that behave and misbehave.

mod kernel;
mod losses;
mod receipt;
mod slowness;
mod turnover;
mod witness;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use topology::model::{Endpoint, GraphiteConfirm, GraphiteUpstream};

use super::receiver::{Peer, Receiver};
use super::{Load, NewDelays, Pool, PoolHealth, PoolLimits};
use crate::batch::{Batch, Encoding, Epoch, Label, Part};
use crate::lease::{Lease, LeaseKey, Returns};
use crate::sink::{Event, Sink, SinkEnd};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Source(Mutex<Vec<u64>>);

impl Returns for Source {
    fn give_back(&self, key: LeaseKey) {
        self.0.lock().expect("source").push(key.0);
    }
}

impl Source {
    fn lease(self: &Arc<Self>, key: u64, origin: Option<&str>, text: impl Into<String>) -> Lease {
        let text = text.into();
        let part = Part {
            seq: key,
            lines: u32::try_from(text.lines().count()).expect("lines"),
            raw_bytes: u32::try_from(text.len()).expect("bytes"),
            body: Bytes::from(text),
            plain: None,
        };
        let label =
            origin.map(|origin| Label { origin: origin.into(), epoch: Epoch([7; 16]), hops: Vec::new() });
        let batch = Batch { label, encoding: Encoding::Plain, parts: vec![part], accepted_ms: 0..=0 };
        Lease::new(LeaseKey(key), batch, self.clone())
    }

    /// A lease of one line that tells its key.
    fn line(self: &Arc<Self>, key: u64) -> Lease {
        self.lease(key, Some("us-east"), format!("m.{key} {key} 1700000000\n"))
    }

    fn given_back(&self) -> Vec<u64> {
        let mut keys = self.0.lock().expect("source").clone();
        keys.sort_unstable();
        keys
    }
}

/// Limits that make a test short; what a test is not about is long.
fn limits() -> PoolLimits {
    PoolLimits {
        turnover_age: Duration::from_millis(30),
        dry_after: Duration::from_millis(20),
        stalled_after: Duration::from_millis(50),
        witness_after: Duration::from_millis(20),
        ..PoolLimits::with_window(Load { leases: 1000, bytes: 16 * 1024 * 1024 })
    }
}

fn upstream(endpoints: &[Endpoint], connections: usize) -> GraphiteUpstream {
    GraphiteUpstream { endpoints: endpoints.to_vec(), connections, confirm: GraphiteConfirm::HalfClose }
}

fn soon() -> NewDelays {
    Box::new(|| Box::new(|| Duration::from_millis(5)))
}

struct Rig {
    pool: Pool,
    health: Arc<PoolHealth>,
    source: Arc<Source>,
}

impl Rig {
    async fn open(upstream: &GraphiteUpstream, limits: PoolLimits) -> Self {
        let health = Arc::new(PoolHealth::new("test"));
        let open = Pool::open(upstream, limits, soon(), health.clone());
        Self {
            pool: tokio::time::timeout(PATIENCE, open).await.expect("a connection"),
            health,
            source: Arc::default(),
        }
    }

    async fn to(receiver: &Receiver, connections: usize, limits: PoolLimits) -> Self {
        Self::open(&upstream(&[receiver.endpoint()], connections), limits).await
    }

    async fn send(&mut self, lease: Lease) {
        self.pool.send(lease).await.expect("send");
    }

    async fn send_lines(&mut self, keys: impl IntoIterator<Item = u64>) {
        for key in keys {
            let lease = self.source.line(key);
            self.send(lease).await;
        }
    }

    /// What becomes of a lease; these tests send whether there is room or not.
    async fn event(&mut self) -> Result<Event, SinkEnd> {
        loop {
            match self.any_event().await {
                Ok(Event::Room) => {}
                event => return event,
            }
        }
    }

    async fn any_event(&mut self) -> Result<Event, SinkEnd> {
        tokio::time::timeout(PATIENCE, self.pool.event()).await.expect("an event in time")
    }

    /// Drives the pool, without an event, until `done`.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let started = tokio::time::Instant::now();
        while !done(self) {
            assert!(started.elapsed() < PATIENCE, "it never comes");
            let step = tokio::time::timeout(Duration::from_millis(1), self.pool.event());
            assert!(matches!(step.await, Err(_) | Ok(Ok(Event::Room))), "no lease's event yet");
        }
    }

    async fn confirmed(&mut self) -> u64 {
        match self.event().await.expect("a standing pool") {
            Event::Confirmed(lease, receipt) => {
                assert_eq!(receipt.key(), lease.key());
                lease.end().0
            }
            other => panic!("{other:?}"),
        }
    }

    async fn all_confirmed(&mut self, count: usize) -> Vec<u64> {
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(self.confirmed().await);
        }
        keys
    }

    async fn lost(&mut self) -> Lease {
        match self.event().await.expect("a standing pool") {
            Event::Lost(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// Sends what is lost again until `count` leases are confirmed; how many were lost.
    async fn persist(&mut self, count: usize) -> usize {
        let (mut confirmed, mut lost) = (0, 0);
        while confirmed < count {
            match self.event().await.expect("a standing pool") {
                Event::Confirmed(lease, _) => {
                    confirmed += 1;
                    lease.end();
                }
                Event::Lost(lease) => {
                    lost += 1;
                    self.send(lease).await;
                }
                other => panic!("{other:?}"),
            }
        }
        lost
    }
}

fn reads_all() -> impl Fn(Peer) + Send + Sync {
    |mut peer: Peer| peer.read_to_fin()
}

/// Misbehaves on the first connection only.
fn first(script: impl Fn(Peer) + Send + Sync + 'static) -> impl Fn(Peer) + Send + Sync {
    move |mut peer: Peer| {
        if peer.nth == 0 {
            script(peer);
        } else {
            peer.read_to_fin();
        }
    }
}
