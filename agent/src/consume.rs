//! The wiring of one consumer: it subscribes to a queue of a broker and writes into Graphite.
//!
//! A message is acknowledged once Graphite has confirmed its lines. Lines that fail the line rule are
//! put by, durably, before their message is acknowledged: into a spool that holds only dead letters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use forwarder::source::subscription::SubscriptionSettings;
use forwarder::{Clock, LinkWatch, Retry, drain};
use tokio_util::sync::CancellationToken;
use topology::model::{Consumer, Mesh, WhenFull};

use crate::crew::{self, Stage};
use crate::failover::Failover;
use crate::http::{Node, Shown};
use crate::ingest::Input;
use crate::ingest::intake::{DEFAULT_QUEUE, Intake};
use crate::ingest::route::Router;
use crate::inspector::Inspector;
use crate::metrics::Metrics;
use crate::run::{ShowListeners, look_after, open_certificates, run_on_a_thread};
use crate::spool::{Desk, LinkSet, QueueConfig, Spool, SpoolConfig};
use crate::tls::{self, LinkCertificates};
use crate::uplink::{GraphiteUplink, Subscriber};

/// Messages that the broker may push before they are acknowledged: with full batches, what a pool may have in flight
/// four times over.
const PREFETCH: u16 = 1024;
/// As many as that where each has one line: Graphite's receipt takes a quarter of a second, and with fewer on the way
/// that would be the bound, not Graphite.
const PREFETCH_OF_SMALL: u16 = 16 * 1024;
/// Limit of the spool that holds the dead letters; they may have half of it.
const DEAD_LETTERS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Runs `consumer` of `mesh` until `stop`. Dead letters go to `dir`. An error is to end the process.
pub async fn run_consumer(
    mesh: &Mesh,
    consumer: &Consumer,
    dir: PathBuf,
    clock: Clock,
    stop: CancellationToken,
) -> Result<()> {
    let metrics = Arc::new(Metrics::new()?);
    let certificates = open_certificates(consumer.tls.as_ref(), &clock, &metrics).await?;
    let show = ShowListeners::bind(consumer.http, consumer.https, certificates.as_ref()).await?;
    let spool = Spool::open(dead_letters(consumer, dir), clock.now_ms())?;
    let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), clock.clone());
    let spool = run_on_a_thread(worker)?;

    let watch =
        LinkWatch::new(&consumer.name, clock.clone(), metrics.link_observer(&consumer.name, "consumer"));
    let node = Node { mesh: mesh.name.clone(), name: consumer.name.clone(), kind: "consumer" };
    let shown = Shown::new(node, Arc::clone(&metrics), desk.clone(), vec![watch.clone()], clock.clone());
    let router = Router::new(&[Vec::new()]);
    let intake = Intake::new(router, desk.clone(), Arc::clone(&metrics), clock.clone(), Duration::ZERO);
    let inspector = Inspector::new(intake.clone(), DEFAULT_QUEUE, Input::Queue, clock.clone());
    let subscriber = Subscriber::new(
        Failover::new(consumer.broker.clone(), &consumer.name),
        SubscriptionSettings {
            queue: consumer.queue.clone(),
            mesh: mesh.name.as_str().into(),
            prefetch: PREFETCH,
            prefetch_of_small: PREFETCH_OF_SMALL,
            subscribe_headers: consumer.broker.subscribe_headers.clone(),
            hold_max: forwarder::source::subscription::HOLD_MAX,
            clock: clock.clone(),
        },
        inspector,
    );
    let leases = usize::from(PREFETCH_OF_SMALL);
    let graphite = GraphiteUplink::new(&consumer.name, consumer.graphite.clone(), leases);

    let (mut draining, mut sealing, mut rest) = (Stage::default(), Stage::default(), Stage::default());
    draining.start(format!("consumer {}", consumer.name), |stop| async move {
        drain(graphite, Retry::default(), subscriber, Retry::default(), &watch, &stop).await;
        Ok(())
    });
    sealing.start("keeping dead letters", |stop| async move {
        intake.keep_sealing(stop).await;
        Ok(())
    });
    show.start(&mut rest, &shown);
    let identity = consumer.broker.tls.as_ref().and_then(|tls| tls.identity.clone());
    let links = LinkCertificates::new(identity.into_iter(), clock, metrics);
    rest.start("looking after the certificates", |stop| async move {
        tls::keep_looking(certificates, links, stop).await;
        Ok(())
    });
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
        queues: vec![QueueConfig { name: consumer.queue.clone(), refuse_at_bytes: None }],
        links: Vec::new(),
        link_sets: vec![LinkSet::default()],
        gathered: Vec::new(),
        max_size_bytes: Some(DEAD_LETTERS_BYTES_MAX),
        when_full: WhenFull::DropOldest,
    }
}
