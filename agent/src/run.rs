//! The wiring of one agent, in the order of the road: listeners, intake, spool, links.
//!
//! Whatever runs is a task of a crew: one that ends before it was told to ends the agent with its name
//! and its error, and systemd starts it again. Stopping goes down the same road: the listeners finish
//! what they have received, the open batches are committed, the links wait for the receipts of what is
//! in flight; the rest stays in the spool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use forwarder::sink::stomp::{RECEIPT_DEADLINE, StompSinkSettings, WINDOW_BYTES, WINDOW_COUNT};
use forwarder::{Clock, LinkWatch, Retry, Trouble, keep_pumping};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use topology::model::{Agent, Link, Mesh, Upstream};

use crate::crew::{self, Stage};
use crate::http::{self, Node, Shown};
use crate::ingest::intake::Intake;
use crate::ingest::route::Router;
use crate::ingest::{graphite, stomp};
use crate::metrics::Metrics;
use crate::spool::{Desk, DeskWorker, LinkConfig, Spool, SpoolConfig, SpoolError, SpoolSource};
use crate::uplink::{GraphiteUplink, StompUplink};

/// How often the spool is looked after, and the forecasts are fed.
const TICK: Duration = Duration::from_secs(1);

/// Runs `agent` of `mesh` until `stop`, then drains. An error is to end the process.
pub async fn run_agent(mesh: &Mesh, agent: &Agent, clock: Clock, stop: CancellationToken) -> Result<()> {
    let listeners = Listeners::bind(agent).await?;
    let metrics = Arc::new(Metrics::new()?);
    let spool = Spool::open(spool_config(mesh, agent), clock.now_ms())?;
    let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), clock.clone());
    let spool = run_on_a_thread(worker)?;

    let intake = Intake::new(
        router(agent),
        desk.clone(),
        Arc::clone(&metrics),
        clock.clone(),
        agent.spool.commit_interval,
    );
    let watch =
        |link: &Link| LinkWatch::new(&link.name, clock.clone(), metrics.link_observer(&link.name, "agent"));
    let watches: Vec<LinkWatch> = agent.forward.iter().map(watch).collect();
    let node = Node { mesh: mesh.name.clone(), name: agent.name.clone(), kind: "agent" };
    let shown = Shown::new(node, Arc::clone(&metrics), Some(desk.clone()), watches.clone(), clock.clone());

    let (mut ingest, mut sealing, mut links, mut rest) =
        (Stage::default(), Stage::default(), Stage::default(), Stage::default());
    let http = listeners.start(&mut ingest, mesh, &intake, &metrics, &clock);
    sealing.start("sealing batches", |stop| async move {
        intake.keep_sealing(stop).await;
        Ok(())
    });
    for (number, (link, watch)) in agent.forward.iter().zip(watches).enumerate() {
        let source = SpoolSource::new(desk.clone(), number);
        links.start(format!("link {}", link.name), |stop| {
            forward(mesh.name.clone(), agent.name.clone(), link.clone(), source, watch, stop)
        });
    }
    if let Some(listener) = http {
        let shown = shown.clone();
        rest.start("http", |stop| async move { Ok(http::serve(listener, shown, stop).await?) });
    }
    rest.start("looking after the spool", |stop| look_after(desk, shown, stop));
    rest.start("the spool", |_| async move { Ok(spool.await??) });

    tracing::info!(agent = agent.name, spool = %agent.spool.dir.display(), "ready");
    crew::run([ingest, sealing, links, rest], &stop).await?;
    tracing::info!(agent = agent.name, "stopped");
    Ok(())
}

/// The sockets of an agent: all are bound before its spool is opened.
struct Listeners {
    stomp: Option<TcpListener>,
    graphite: Option<(TcpListener, UdpSocket)>,
    http: Option<TcpListener>,
}

impl Listeners {
    async fn bind(agent: &Agent) -> Result<Self> {
        Ok(Self {
            stomp: bind("stomp", agent.listen.stomp).await?,
            graphite: agent.listen.graphite.map(graphite::bind).transpose()?,
            http: bind("http", agent.listen.http).await?,
        })
    }

    /// Starts the ways in; hands back what shows the agent, which outlives them.
    fn start(
        self,
        ingest: &mut Stage,
        mesh: &Mesh,
        intake: &Intake,
        metrics: &Arc<Metrics>,
        clock: &Clock,
    ) -> Option<TcpListener> {
        if let Some(listener) = self.stomp {
            let settings = stomp::Settings::new(vec![mesh.queue.clone()]);
            let (intake, clock) = (intake.clone(), clock.clone());
            ingest.start("stomp listener", |stop| async move {
                stomp::serve(listener, settings, intake, clock, stop).await;
                Ok(())
            });
        }
        if let Some((tcp, udp)) = self.graphite {
            let (tcp_intake, tcp_clock) = (intake.clone(), clock.clone());
            ingest.start("graphite listener", |stop| async move {
                graphite::serve_tcp(tcp, tcp_intake, tcp_clock, graphite::Limits::default(), stop).await;
                Ok(())
            });
            let (intake, clock, metrics) = (intake.clone(), clock.clone(), Arc::clone(metrics));
            ingest.start("graphite listener (UDP)", |stop| async move {
                graphite::serve_udp(udp, intake, clock, metrics, stop).await;
                Ok(())
            });
        }
        self.http
    }
}

/// Binds what the topology names, if it does.
pub(crate) async fn bind(what: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    let listener =
        bound.with_context(|| format!("cannot listen on {address} for {what}; is the port taken?"))?;
    Ok(Some(listener))
}

fn router(agent: &Agent) -> Router {
    if agent.forward.is_empty() { Router::to_one_link() } else { Router::new(&agent.forward) }
}

fn spool_config(mesh: &Mesh, agent: &Agent) -> SpoolConfig {
    let mut links: Vec<LinkConfig> = agent
        .forward
        .iter()
        .map(|link| LinkConfig { name: link.name.clone(), max_size_bytes: link.max_size_bytes })
        .collect();
    if links.is_empty() {
        links.push(LinkConfig { name: format!("subscribers:{}", mesh.queue), max_size_bytes: None });
    }
    SpoolConfig {
        dir: agent.spool.dir.clone(),
        node: agent.name.clone(),
        queue: mesh.queue.clone(),
        links,
        link_sets: router(agent).link_sets().to_vec(),
        max_size_bytes: agent.spool.max_size_bytes,
        when_full: agent.spool.when_full,
    }
}

/// Runs the spool on a thread of its own; the future tells how that ended.
pub(crate) fn run_on_a_thread(worker: DeskWorker) -> Result<oneshot::Receiver<Result<(), SpoolError>>> {
    let (ended, spool) = oneshot::channel();
    let thread = std::thread::Builder::new().name("spool".to_owned());
    thread.spawn(move || drop(ended.send(worker.run()))).context("cannot start the spool's thread")?;
    Ok(spool)
}

/// Pumps the spool over one link until `stop`.
async fn forward(
    mesh: String,
    node: String,
    link: Link,
    mut source: SpoolSource,
    watch: LinkWatch,
    stop: CancellationToken,
) -> Result<()> {
    let retry = Retry::default();
    match link.upstream {
        Upstream::Stomp(upstream) => {
            let sink = StompSinkSettings {
                queue: link.queue,
                mesh: mesh.into(),
                node: node.into(),
                encoding: link.encoding,
                send_headers: upstream.send_headers.clone(),
                window_count: WINDOW_COUNT,
                window_bytes: WINDOW_BYTES,
                receipt_deadline: RECEIPT_DEADLINE,
            };
            let uplink = StompUplink { upstream, sink };
            keep_pumping(&mut source, uplink, retry, Trouble::new(), &watch, &stop).await?;
        }
        Upstream::Graphite(upstream) => {
            let uplink = GraphiteUplink::new(&link.name, upstream, WINDOW_COUNT);
            keep_pumping(&mut source, uplink, retry, Trouble::unsuspecting(), &watch, &stop).await?;
        }
    }
    Ok(())
}

/// Looks after the spool and feeds the forecasts until `stop`.
pub(crate) async fn look_after(desk: Desk, shown: Shown, stop: CancellationToken) -> Result<()> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        desk.tick().await?;
        shown.tick().await?;
    }
    Ok(())
}
