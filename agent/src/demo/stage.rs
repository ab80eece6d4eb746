//! The mesh of the demo: what runs, in which order it starts and stops, and what can be done to it.
//!
//! The agents, the consumer and the topology are the product's. Graphite is a stand-in, and the link from
//! us-east to eu leads through a proxy that can be cut.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use forwarder::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::Mesh;

use crate::consume::run_consumer;
use crate::crew::{self, Stage};
use crate::demo::graphite;
use crate::demo::ledger::Ledger;
use crate::demo::link::Link;
use crate::demo::lookout::{Lookout, Seen};
use crate::demo::places::{AgentPorts, CONSUMER, DMZ, EU, NodePorts, Places, US};
use crate::demo::producers::Producers;
use crate::demo::verdict::Verdict;
use crate::run::run_agent;

/// Of so many metrics one comes from the DMZ.
pub(super) const DMZ_PART: u32 = 10;

/// What everybody on the stage has in hand. Clones are the same things.
#[derive(Clone)]
pub(super) struct Props {
    pub(super) clock: Clock,
    pub(super) link: Link,
    /// What us-east and dmz-web have receipted.
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
    /// Where us-east shows itself.
    pub(crate) http: SocketAddr,
    /// So that a test can have an agent receipt what never comes.
    #[cfg(test)]
    pub(crate) accepted: Ledger,
}

/// Sets the mesh up with `rate` metrics a second, has it run until `play` is over, takes it down in order,
/// and tells what became of every metric.
pub(crate) async fn run(rate: u32, play: impl AsyncFnOnce(&mut Director) -> Result<()>) -> Result<Verdict> {
    let dir = tempfile::Builder::new().prefix("packetboat-demo-").tempdir();
    let dir = dir.context("cannot make a directory for the demo's spools; TMPDIR names another place")?;
    let places = Places::find().await.context("cannot listen on loopback")?;
    let mesh = Arc::new(places.mesh(dir.path())?);
    let props = Props {
        clock: Clock::system(),
        link: Link::new(),
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

/// Starts everything but the producers. Who dials is stopped before who is dialled.
fn start(places: Places, mesh: &Arc<Mesh>, dir: &Path, props: &Props) -> Result<([Stage; 4], NodePorts)> {
    let Props { clock, link, arrived, .. } = props.clone();
    let upstream = places.nodes.eu.stomp.address();
    let (mut dialling, mut eu, mut dmz, mut rest) =
        (Stage::default(), Stage::default(), Stage::default(), Stage::default());
    rest.start("the demo's Graphite", |stop| graphite::serve(places.graphite, arrived, stop));
    rest.start("the demo's link", |stop| link.serve(places.link, upstream, stop));
    for (stage, name) in [(&mut dialling, US), (&mut eu, EU), (&mut dmz, DMZ)] {
        let (mesh, clock) = (Arc::clone(mesh), clock.clone());
        stage.start(name, |stop| async move { run_agent(&mesh, mesh.agent(name)?, clock, stop).await });
    }
    let (mesh, dead_letters) = (Arc::clone(mesh), dir.join(CONSUMER));
    dialling.start(CONSUMER, |stop| async move {
        run_consumer(&mesh, mesh.consumer(CONSUMER)?, dead_letters, clock, stop).await
    });
    Ok(([dialling, eu, dmz, rest], places.nodes))
}

/// Produces and looks on, until `play` is over.
async fn perform(
    rate: u32,
    mesh: &Mesh,
    ports: &NodePorts,
    props: &Props,
    play: impl AsyncFnOnce(&mut Director) -> Result<()>,
) -> Result<()> {
    let producers = |region, agent: &AgentPorts, names| Producers {
        region,
        stomp: agent.stomp.address(),
        plaintext: agent.graphite.address(),
        queue: mesh.queue.clone(),
        names,
        accepted: props.accepted.clone(),
    };
    let in_dmz = rate / DMZ_PART;
    let (us, dmz) = (producers("us", &ports.us, rate - in_dmz), producers("dmz", &ports.dmz, in_dmz));
    let lookout = Lookout {
        props: props.clone(),
        us: ports.us.http.address(),
        dmz: ports.dmz.http.address(),
        eu: ports.eu.http.address(),
        consumer: ports.consumer_http.address(),
        produced: CancellationToken::new(),
    };
    let (show, seen) = watch::channel(lookout.first_look().await?);
    let enough = CancellationToken::new();
    let mut director = Director {
        link: props.link.clone(),
        seen,
        enough: enough.clone(),
        http: lookout.us,
        #[cfg(test)]
        accepted: props.accepted.clone(),
    };
    let producing = async {
        tokio::try_join!(us.run(&props.clock, &enough), dmz.run(&props.clock, &enough))?;
        lookout.produced.cancel();
        Ok(())
    };
    let all_the_time = async { tokio::try_join!(producing, lookout.keep_looking(show)) };
    tokio::select! {
        played = play(&mut director) => played,
        ended = all_the_time => ended.map(|_| ()),
    }
}
