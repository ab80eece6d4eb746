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
use topology::model::{Agent, Collect, Link, Mesh, StompUpstream, TlsServer, Upstream};

use crate::backlogs::{Backlogs, Carrier};
use crate::collect::Collecting;
use crate::crew::{self, Stage};
use crate::failover::Failover;
use crate::http::{self, Node, Shown};
use crate::ingest::clients::Clients;
use crate::ingest::intake::Intake;
use crate::ingest::stomp::Guests;
use crate::ingest::{graphite, stomp};
use crate::metrics::Metrics;
use crate::spool::{Desk, DeskWorker, Rest, Spool, SpoolError, SpoolSource, Subscribers};
use crate::tls::{self, Acceptor, Certificates, ClientCertificate, Doors, HttpsListener, LinkCertificates};
use crate::uplink::{GraphiteUplink, StompUplink};
use crate::users::{Peers, Users};

/// How often the spool is looked after, and the forecasts are fed.
const TICK: Duration = Duration::from_secs(1);

/// Runs `agent` of `mesh` until `stop`, then drains. An error is to end the process.
pub async fn run_agent(mesh: &Mesh, agent: &Agent, clock: Clock, stop: CancellationToken) -> Result<()> {
    let metrics = Arc::new(Metrics::new()?);
    let certificates = open_certificates(agent.tls.as_ref(), &clock, &metrics).await?;
    let listeners = Listeners::bind(agent, certificates.as_ref()).await?;
    let backlogs = Backlogs::of(mesh, agent);
    let spool = Spool::open(backlogs.spool(mesh, agent), clock.now_ms())?;
    let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), clock.clone());
    let spool = run_on_a_thread(worker)?;

    let intake = Intake::new(
        backlogs.router.clone(),
        desk.clone(),
        Arc::clone(&metrics),
        clock.clone(),
        agent.spool.commit_interval,
    );
    let watch = |name: &str| LinkWatch::new(name, clock.clone(), metrics.link_observer(name, "agent"));
    let collects: Vec<(&Collect, LinkWatch)> =
        agent.collect.iter().map(|collect| (collect, watch(&collect.name))).collect();
    let mut links: Vec<(SpoolSource, &Link, &str, LinkWatch)> = Vec::new();
    let mut subscribers = Vec::new();
    for (number, backlog) in backlogs.all.iter().enumerate() {
        match &backlog.carrier {
            Carrier::Link { link, destination } => {
                let source = SpoolSource::new(desk.clone(), number);
                links.push((source, &agent.forward[*link], destination, watch(&backlog.name)));
            }
            Carrier::Subscribers => {
                let observer = metrics.link_observer(&backlog.name, "agent");
                subscribers.push(Subscribers::new(
                    desk.clone(),
                    number,
                    Rest::default(),
                    observer,
                    clock.clone(),
                ));
            }
        }
    }
    let watches: Vec<LinkWatch> = links
        .iter()
        .map(|(.., watch)| watch)
        .chain(collects.iter().map(|(_, watch)| watch))
        .cloned()
        .collect();
    let node = Node { mesh: mesh.name.clone(), name: agent.name.clone(), kind: "agent" };
    let shown = Shown::new(node, Arc::clone(&metrics), desk.clone(), watches.clone(), clock.clone());

    let (mut ingest, mut sealing, mut forwarding, mut rest) =
        (Stage::default(), Stage::default(), Stage::default(), Stage::default());
    let guests = Guests {
        users: Users::new(&agent.users, clock.clone()).context("the users of the topology cannot be used")?,
        clients: Clients::new(agent.limits),
    };
    let served = Served {
        mesh,
        agent,
        guests,
        intake: &intake,
        subscribers: subscribers.into(),
        metrics: &metrics,
        clock: &clock,
    };
    let show = listeners.start(&mut ingest, served);
    for (collect, watch) in collects {
        let collecting = Collecting::new(mesh, agent, collect, intake.clone(), clock.clone());
        ingest.start(format!("collecting from {}", collect.name), |stop| async move {
            collecting.run(watch, stop).await;
            Ok(())
        });
    }
    sealing.start("sealing batches", |stop| async move {
        intake.keep_sealing(stop).await;
        Ok(())
    });
    for (source, link, destination, watch) in links {
        let hop = Hop::new(mesh, agent, link, destination);
        forwarding.start(format!("link {}", watch.name()), |stop| hop.forward(source, watch, stop));
    }
    show.start(&mut rest, &shown);
    let identities = dialled(agent).filter_map(|upstream| upstream.tls.as_ref()?.identity.clone());
    let shown_certificates = LinkCertificates::new(identities, clock.clone(), Arc::clone(&metrics));
    rest.start("looking after the certificates", |stop| async move {
        tls::keep_looking(certificates, shown_certificates, stop).await;
        Ok(())
    });
    rest.start("looking after the spool", |stop| look_after(desk, shown, stop));
    let dir = agent.spool.dir.display().to_string();
    rest.start("the spool", |_| async move { spool.await?.context(dir) });

    tracing::info!(agent = agent.name, spool = %agent.spool.dir.display(), "ready");
    crew::run([ingest, sealing, forwarding, rest], &stop).await?;
    tracing::info!(agent = agent.name, "stopped");
    Ok(())
}

/// What the ways in lead to.
struct Served<'a> {
    mesh: &'a Mesh,
    agent: &'a Agent,
    guests: Guests,
    intake: &'a Intake,
    /// Of each queue, if it has any.
    subscribers: Arc<[Subscribers]>,
    metrics: &'a Arc<Metrics>,
    clock: &'a Clock,
}

/// The sockets of an agent: all are bound before its spool is opened.
struct Listeners {
    stomp: Doors,
    graphite: Doors,
    graphite_udp: Option<UdpSocket>,
    show: ShowListeners,
}

impl Listeners {
    async fn bind(agent: &Agent, certificates: Option<&Certificates>) -> Result<Self> {
        let listen = &agent.listen;
        let stomp = bind("stomp", listen.stomp).await?;
        let stomp_tls = bind("stomp_tls", listen.stomp_tls).await?;
        let (graphite, graphite_udp) = listen.graphite.map(graphite::bind).transpose()?.unzip();
        let graphite_tls = listen.graphite_tls.map(graphite::bind_tls).transpose()?;
        let over_tls = |listener: Option<TcpListener>, clients| -> Result<_> {
            listener.map(|listener| Ok((listener, acceptor(certificates, clients)?))).transpose()
        };
        Ok(Self {
            stomp: Doors::new(stomp, over_tls(stomp_tls, stomp_clients(agent))?),
            graphite: Doors::new(graphite, over_tls(graphite_tls, ClientCertificate::Required)?),
            graphite_udp,
            show: ShowListeners::bind(listen.http, listen.https, certificates).await?,
        })
    }

    /// Starts the ways in; hands back what shows the agent, which outlives them.
    fn start(self, ingest: &mut Stage, served: Served<'_>) -> ShowListeners {
        let Served { mesh, agent, guests, intake, subscribers, metrics, clock } = served;
        if !self.stomp.is_empty() {
            let destinations = mesh.queues.iter().map(|queue| queue.name.clone()).collect();
            let mut settings = stomp::Settings::new(&mesh.name, &agent.name, destinations);
            settings.serves = agent.serve;
            settings.peers = Peers::new(&mesh.peers(&agent.name));
            let guests = guests.clone();
            let (intake, clock) = (intake.clone(), clock.clone());
            ingest.start("stomp listener", |stop| async move {
                stomp::serve(self.stomp, settings, guests, intake, subscribers, clock, stop).await;
                Ok(())
            });
        }
        if !self.graphite.is_empty() {
            let (intake, clock) = (intake.clone(), clock.clone());
            ingest.start("graphite listener", |stop| async move {
                graphite::serve_tcp(self.graphite, intake, clock, guests.clients, stop).await;
                Ok(())
            });
        }
        if let Some(udp) = self.graphite_udp {
            let (intake, clock, metrics) = (intake.clone(), clock.clone(), Arc::clone(metrics));
            ingest.start("graphite listener (UDP)", |stop| async move {
                graphite::serve_udp(udp, intake, clock, metrics, stop).await;
                Ok(())
            });
        }
        self.show
    }
}

/// The sockets on which a node shows itself.
pub(crate) struct ShowListeners {
    http: Option<TcpListener>,
    https: Option<HttpsListener>,
}

impl ShowListeners {
    /// Binds what the topology names.
    pub(crate) async fn bind(
        http: Option<SocketAddr>,
        https: Option<SocketAddr>,
        certificates: Option<&Certificates>,
    ) -> Result<Self> {
        let http = bind("http", http).await?;
        let https = match bind("https", https).await? {
            Some(listener) => {
                Some(HttpsListener::new(listener, acceptor(certificates, ClientCertificate::Required)?))
            }
            None => None,
        };
        Ok(Self { http, https })
    }

    /// Shows `shown` on each of them.
    pub(crate) fn start(self, stage: &mut Stage, shown: &Shown) {
        if let Some(listener) = self.http {
            let shown = shown.clone();
            stage.start("http", |stop| async move {
                http::serve(listener, shown, stop).await;
                Ok(())
            });
        }
        if let Some(listener) = self.https {
            let shown = shown.clone();
            stage.start("https", |stop| async move {
                http::serve(listener, shown, stop).await;
                Ok(())
            });
        }
    }
}

/// Reads the certificate of a node, if it has one.
pub(crate) async fn open_certificates(
    files: Option<&TlsServer>,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<Option<Certificates>> {
    match files {
        Some(files) => {
            let opened = Certificates::open(files, clock.clone(), Arc::clone(metrics)).await;
            Ok(Some(opened.context("cannot set up TLS for the listeners")?))
        }
        None => Ok(None),
    }
}

fn acceptor(certificates: Option<&Certificates>, clients: ClientCertificate) -> Result<Acceptor> {
    let certificates = certificates.context("a listener with TLS needs tls.cert and tls.key")?;
    Ok(certificates.acceptor(clients))
}

/// Where there is a `client_ca`, nobody gets in without a certificate, except to STOMP those who log in
/// with a passcode.
fn stomp_clients(agent: &Agent) -> ClientCertificate {
    if agent.users.iter().any(|user| user.passcode.is_some()) {
        ClientCertificate::Optional
    } else {
        ClientCertificate::Required
    }
}

/// Every STOMP upstream that an agent dials.
fn dialled(agent: &Agent) -> impl Iterator<Item = &StompUpstream> {
    let forward = agent.forward.iter().filter_map(|link| match &link.upstream {
        Upstream::Stomp(upstream) => Some(upstream),
        Upstream::Graphite(_) => None,
    });
    forward.chain(agent.collect.iter().map(|collect| &collect.upstream))
}

/// Binds what the topology names, if it does.
pub(crate) async fn bind(what: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    let listener =
        bound.with_context(|| format!("cannot listen on {address} for {what}; is the port taken?"))?;
    Ok(Some(listener))
}

/// Runs the spool on a thread of its own; the future tells how that ended.
pub(crate) fn run_on_a_thread(worker: DeskWorker) -> Result<oneshot::Receiver<Result<(), SpoolError>>> {
    let (ended, spool) = oneshot::channel();
    let thread = std::thread::Builder::new().name("spool".to_owned());
    thread.spawn(move || drop(ended.send(worker.run()))).context("cannot start the spool's thread")?;
    Ok(spool)
}

/// One queue of one link, on its way to the next node: it has a connection of its own.
struct Hop {
    mesh: String,
    node: String,
    link: Link,
    destination: String,
}

impl Hop {
    fn new(mesh: &Mesh, agent: &Agent, link: &Link, destination: &str) -> Self {
        let (mesh, node) = (mesh.name.clone(), agent.name.clone());
        Self { mesh, node, link: link.clone(), destination: destination.to_owned() }
    }

    /// Pumps its backlog until `stop`.
    async fn forward(self, mut source: SpoolSource, watch: LinkWatch, stop: CancellationToken) -> Result<()> {
        let retry = Retry::default();
        match self.link.upstream {
            Upstream::Stomp(upstream) => {
                let sink = StompSinkSettings {
                    queue: self.destination,
                    mesh: self.mesh.into(),
                    node: self.node.into(),
                    encoding: self.link.encoding,
                    is_agent: upstream.is_agent,
                    send_headers: upstream.send_headers.clone(),
                    window_count: WINDOW_COUNT,
                    window_bytes: WINDOW_BYTES,
                    receipt_deadline: RECEIPT_DEADLINE,
                };
                let uplink = StompUplink { upstream: Failover::new(upstream, &sink.node), sink };
                keep_pumping(&mut source, uplink, retry, Trouble::new(), &watch, &stop).await?;
            }
            Upstream::Graphite(upstream) => {
                let uplink = GraphiteUplink::new(watch.name(), upstream, WINDOW_COUNT);
                keep_pumping(&mut source, uplink, retry, Trouble::unsuspecting(), &watch, &stop).await?;
            }
        }
        Ok(())
    }
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
