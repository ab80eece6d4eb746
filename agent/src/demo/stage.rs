//! The mesh of the demo: what runs, in which order it starts and stops, and what can be done to it.
//!
//! The agent, the consumer and the topology are the product's. The broker and Graphite are stand-ins; the
//! link between the agent and the broker is a proxy that can be cut.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use forwarder::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::Mesh;
use topology::model::Listen;

use crate::consume::run_consumer;
use crate::crew::{self, Stage};
use crate::demo::broker::Broker;
use crate::demo::graphite;
use crate::demo::ledger::Ledger;
use crate::demo::link::Link;
use crate::demo::lookout::{Lookout, Seen};
use crate::demo::places::{AGENT, CONSUMER, NodePorts, Places};
use crate::demo::producers::Producers;
use crate::demo::verdict::Verdict;
use crate::run::run_agent;

/// What everybody on the stage has in hand. Clones are the same things.
#[derive(Clone)]
pub(super) struct Props {
    pub(super) clock: Clock,
    pub(super) link: Link,
    pub(super) broker: Broker,
    /// What the agent has receipted.
    pub(super) accepted: Ledger,
    /// What has come to Graphite.
    pub(super) arrived: Ledger,
}

/// For who plays with the demo: what can be done to it, and what is seen of it.
pub(crate) struct Director {
    /// The link between the regions.
    pub(crate) link: Link,
    /// What was seen last.
    pub(crate) seen: watch::Receiver<Seen>,
    /// Has the producers stop.
    pub(crate) enough: CancellationToken,
    /// Where the agent listens.
    pub(crate) listen: Listen,
    /// So that a test can have the agent receipt what never comes.
    #[cfg(test)]
    pub(crate) accepted: Ledger,
}

/// Sets the mesh up with `rate` metrics a second, has it run until `play` is over, takes it down in order,
/// and tells what became of every metric.
pub(crate) async fn run(rate: u32, play: impl AsyncFnOnce(&mut Director) -> Result<()>) -> Result<Verdict> {
    let dir = tempfile::Builder::new().prefix("packetboat-demo-").tempdir();
    let dir = dir.context("cannot make a directory for the demo's spool; TMPDIR names another place")?;
    let places = Places::find().await.context("cannot listen on loopback")?;
    let mesh = Arc::new(places.mesh(dir.path())?);
    let props = Props {
        clock: Clock::system(),
        link: Link::new(),
        broker: Broker::new(&mesh.queue),
        accepted: Ledger::default(),
        arrived: Ledger::default(),
    };
    let (stages, ports) = start(places, &mesh, dir.path(), &props)?;
    let stop = CancellationToken::new();
    let playing = async {
        perform(rate, &mesh, &ports, &props, play).await?;
        stop.cancel();
        Ok(())
    };
    tokio::try_join!(crew::run(stages, &stop), playing)?;
    Ok(Verdict::of(&props.accepted, &props.arrived))
}

/// Starts everything but the producers. It is stopped in the order of the road.
fn start(places: Places, mesh: &Arc<Mesh>, dir: &Path, props: &Props) -> Result<([Stage; 3], NodePorts)> {
    let Props { clock, link, broker, arrived, .. } = props.clone();
    let upstream = places.broker.local_addr()?;
    let (mut agent, mut consumer, mut rest) = (Stage::default(), Stage::default(), Stage::default());
    rest.start("the demo's Graphite", |stop| graphite::serve(places.graphite, arrived, stop));
    rest.start("the demo's broker", |stop| broker.serve(places.broker, stop));
    rest.start("the demo's link", |stop| link.serve(places.link, upstream, stop));
    let (its_mesh, its_clock) = (Arc::clone(mesh), clock.clone());
    agent.start(
        AGENT,
        |stop| async move { run_agent(&its_mesh, its_mesh.agent(AGENT)?, its_clock, stop).await },
    );
    let (its_mesh, dead_letters) = (Arc::clone(mesh), dir.join(CONSUMER));
    consumer.start(CONSUMER, |stop| async move {
        run_consumer(&its_mesh, its_mesh.consumer(CONSUMER)?, dead_letters, clock, stop).await
    });
    Ok(([agent, consumer, rest], places.nodes))
}

/// Produces and looks on, until `play` is over.
async fn perform(
    rate: u32,
    mesh: &Mesh,
    ports: &NodePorts,
    props: &Props,
    play: impl AsyncFnOnce(&mut Director) -> Result<()>,
) -> Result<()> {
    let producers = Producers {
        stomp: ports.agent_stomp.address(),
        plaintext: ports.agent_graphite.address(),
        queue: mesh.queue.clone(),
        names: rate,
        accepted: props.accepted.clone(),
    };
    let lookout = Lookout {
        props: props.clone(),
        agent_http: ports.agent_http.address(),
        consumer_http: ports.consumer_http.address(),
        produced: CancellationToken::new(),
    };
    let (show, seen) = watch::channel(lookout.first_look().await?);
    let enough = CancellationToken::new();
    let mut director = Director {
        link: props.link.clone(),
        seen,
        enough: enough.clone(),
        listen: mesh.agent(AGENT)?.listen.clone(),
        #[cfg(test)]
        accepted: props.accepted.clone(),
    };
    let producing = async {
        producers.run(&props.clock, &enough).await?;
        lookout.produced.cancel();
        Ok(())
    };
    let all_the_time = async { tokio::try_join!(producing, lookout.keep_looking(show)) };
    tokio::select! {
        played = play(&mut director) => played,
        ended = all_the_time => ended.map(|_| ()),
    }
}
