//! How an agent collects: it dials a node or a broker, subscribes, keeps what comes in its own spool, and
//! only then acknowledges it.

use std::sync::Arc;

use forwarder::sink::store::{Store, StoreError, StoreSink};
use forwarder::source::subscription::{HOLD_MAX, SubscriptionSettings};
use forwarder::{Batch, Clock, Connect, LinkWatch, Retry, drain};
use tokio_util::sync::CancellationToken;
use topology::model::{Agent, Collect, Mesh};

use crate::failover::Failover;
use crate::ingest::intake::{DEFAULT_QUEUE, Intake};
use crate::ingest::line::{self, Checked};
use crate::ingest::{Input, Sender};
use crate::inspector::Inspector;
use crate::uplink::Subscriber;

/// Messages that may come before they are acknowledged: with full batches 8 MiB.
const PREFETCH: u16 = 128;

/// One node or broker that is collected from.
pub(crate) struct Collecting {
    into: IntoSpool,
    from: Subscriber<Inspector>,
}

impl Collecting {
    /// What `agent` of `mesh` collects by `collect`.
    pub(crate) fn new(mesh: &Mesh, agent: &Agent, collect: &Collect, intake: Intake, clock: Clock) -> Self {
        // The topology names only queues of the mesh here.
        let queue = mesh.queues.iter().position(|queue| queue.name == collect.queue).unwrap_or(DEFAULT_QUEUE);
        let inspector = Inspector::new(intake.clone(), queue, Input::Collect, clock.clone());
        let from = Subscriber::new(
            Failover::new(collect.upstream.clone(), &agent.name),
            SubscriptionSettings {
                queue: collect.queue.clone(),
                mesh: mesh.name.as_str().into(),
                prefetch: PREFETCH,
                prefetch_of_small: PREFETCH,
                subscribe_headers: collect.upstream.subscribe_headers.clone(),
                hold_max: HOLD_MAX,
                clock: clock.clone(),
            },
            inspector,
        );
        let into = IntoSpool(Arc::new(Collected {
            intake,
            queue,
            from: Sender { input: Input::Collect, peer: collect.name.as_str().into() },
            node: agent.name.clone(),
            origins: mesh.origins(&collect.from),
            clock,
        }));
        Self { into, from }
    }

    /// Collects until `stop`.
    pub(crate) async fn run(self, watch: LinkWatch, stop: CancellationToken) {
        drain(self.into, Retry::default(), self.from, Retry::default(), &watch, &stop).await;
    }
}

/// The spool as the end of a link.
struct Collected {
    intake: Intake,
    queue: usize,
    from: Sender,
    node: String,
    /// The origins that the topology places behind the link.
    origins: Vec<String>,
    clock: Clock,
}

impl Store for Collected {
    async fn store(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.intake.full()[self.queue] {
            return Err(full());
        }
        let mut lines = Vec::new();
        batch.append_lines(&mut lines).map_err(|error| StoreError::Refused(error.to_string()))?;
        let ticket = match &batch.label {
            Some(label) if label.hops.iter().any(|hop| **hop == *self.node) => {
                return Err(StoreError::Refused(format!("loop: it has passed `{}` before", self.node)));
            }
            Some(label) if self.origins.iter().any(|origin| **origin == *label.origin) => {
                self.intake.pass(&self.from, self.queue, batch, &lines).await
            }
            // From nobody that the topology knows there: from here on it is ours.
            _ => {
                let mut checked = Checked::default();
                line::check(&lines, self.clock.now_seconds(), &mut checked);
                self.intake.accept(&self.from, self.queue, &mut checked).await
            }
        };
        ticket.committed().await.map_err(|error| StoreError::Closed(error.to_string()))
    }
}

fn full() -> StoreError {
    StoreError::Closed("the spool is full: what was collected is given back".to_owned())
}

/// Opens the spool as the end of a link: there is one only while it has room, so that no message is taken
/// that would have to wait.
struct IntoSpool(Arc<Collected>);

impl Connect for IntoSpool {
    type Session = StoreSink<Collected>;
    type Error = StoreError;

    async fn connect(&mut self) -> Result<Self::Session, StoreError> {
        if self.0.intake.full()[self.0.queue] {
            return Err(full());
        }
        Ok(StoreSink::new(Arc::clone(&self.0)))
    }
}
