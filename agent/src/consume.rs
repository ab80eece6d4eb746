//! The wiring of one consumer: it subscribes to a queue of a broker and writes into Graphite.
//!
//! A message is acknowledged once Graphite has confirmed its lines. Lines that fail the line rule are
//! put by, durably, before their message is acknowledged: into a spool that holds only dead letters.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use forwarder::source::subscription::{Inspect, InspectError, Inspected, SubscriptionSettings};
use forwarder::{Clock, LinkWatch, Retry, drain};
use tokio_util::sync::CancellationToken;
use topology::model::{Consumer, Mesh, WhenFull};

use crate::crew::{self, Stage};
use crate::http::{self, Node, Shown};
use crate::ingest::intake::{Intake, Ticket};
use crate::ingest::line::{self, Checked};
use crate::ingest::route::Router;
use crate::ingest::{Input, Sender};
use crate::metrics::Metrics;
use crate::run::{bind, look_after, run_on_a_thread};
use crate::spool::{CommitError, Desk, Spool, SpoolConfig};
use crate::uplink::{GraphiteUplink, Subscriber};

/// Messages that the broker may push before they are acknowledged: enough for a second of one-line
/// messages, and with full batches 16 MiB.
const PREFETCH: u16 = 256;
/// Bound on what the dead letters take of the disk.
const DEAD_LETTERS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Runs `consumer` of `mesh` until `stop`. Dead letters go to `dir`. An error is to end the process.
pub async fn run_consumer(
    mesh: &Mesh,
    consumer: &Consumer,
    dir: PathBuf,
    clock: Clock,
    stop: CancellationToken,
) -> Result<()> {
    let http = bind("http", consumer.http).await?;
    let metrics = Arc::new(Metrics::new()?);
    let spool = Spool::open(dead_letters(consumer, dir), clock.now_ms())?;
    let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), clock.clone());
    let spool = run_on_a_thread(worker)?;

    let watch =
        LinkWatch::new(&consumer.name, clock.clone(), metrics.link_observer(&consumer.name, "consumer"));
    let node = Node { mesh: mesh.name.clone(), name: consumer.name.clone(), kind: "consumer" };
    let shown =
        Shown::new(node, Arc::clone(&metrics), Some(desk.clone()), vec![watch.clone()], clock.clone());
    let inspector = Inspector {
        intake: Intake::new(
            Router::new(&[]),
            desk.clone(),
            Arc::clone(&metrics),
            clock.clone(),
            std::time::Duration::ZERO,
        ),
        clock: clock.clone(),
    };
    let subscriber = Subscriber {
        upstream: consumer.broker.clone(),
        subscription: SubscriptionSettings {
            queue: consumer.queue.clone(),
            mesh: mesh.name.as_str().into(),
            prefetch: PREFETCH,
            subscribe_headers: consumer.broker.subscribe_headers.clone(),
            hold_max: forwarder::source::subscription::HOLD_MAX,
            clock,
        },
        inspect: Arc::new(inspector.clone()),
    };
    let graphite = GraphiteUplink::new(&consumer.name, consumer.graphite.clone(), usize::from(PREFETCH));

    let (mut draining, mut sealing, mut rest) = (Stage::default(), Stage::default(), Stage::default());
    draining.start(format!("consumer {}", consumer.name), |stop| async move {
        drain(graphite, Retry::default(), subscriber, Retry::default(), &watch, &stop).await;
        Ok(())
    });
    sealing.start("keeping dead letters", |stop| async move {
        inspector.intake.keep_sealing(stop).await;
        Ok(())
    });
    if let Some(listener) = http {
        let shown = shown.clone();
        rest.start("http", |stop| async move { Ok(http::serve(listener, shown, stop).await?) });
    }
    rest.start("looking after the dead letters", |stop| look_after(desk, shown, stop));
    rest.start("the dead letters", |_| async move { Ok(spool.await??) });

    tracing::info!(consumer = consumer.name, "ready");
    crew::run([draining, sealing, rest], &stop).await?;
    tracing::info!(consumer = consumer.name, "stopped");
    Ok(())
}

fn dead_letters(consumer: &Consumer, dir: PathBuf) -> SpoolConfig {
    SpoolConfig {
        dir,
        node: consumer.name.clone(),
        queue: consumer.queue.clone(),
        links: Vec::new(),
        link_sets: vec![Vec::new()],
        max_size_bytes: Some(DEAD_LETTERS_BYTES_MAX),
        when_full: WhenFull::DropOldest,
    }
}

/// Applies the line rule to messages of producers that are no nodes.
#[derive(Clone)]
struct Inspector {
    intake: Intake,
    clock: Clock,
}

impl Inspect for Inspector {
    async fn inspect(&self, body: &[u8], sender: &str) -> Result<Inspected, InspectError> {
        let mut checked = Checked::default();
        line::check(body, self.clock.now_seconds(), &mut checked);
        let (lines, count) = (std::mem::take(&mut checked.lines), std::mem::take(&mut checked.count));
        if !checked.is_empty() {
            durable(&self.intake.accept(&from(sender), &mut checked).await).await?;
        }
        Ok(Inspected { lines: Bytes::from(lines), count })
    }

    async fn set_aside(&self, body: &[u8], reason: &str, sender: &str) -> Result<(), InspectError> {
        durable(&self.intake.set_aside(&from(sender), reason, body).await).await
    }
}

fn from(sender: &str) -> Sender {
    Sender { input: Input::Queue, peer: sender.into() }
}

async fn durable(ticket: &Ticket) -> Result<(), InspectError> {
    ticket.committed().await.map_err(|error: CommitError| InspectError(error.to_string()))
}
