//! The agent that is measured: a fresh one in a temporary folder, seen from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::packetboat::Packetboat;
use tests::ports::Port;
use tests::scratch::Scratch;
use tests::wait::{until, when};

use crate::lines::QUEUE;
use crate::producer::Sent;
use crate::upstream::Upstream;
use crate::usage::{cpu_seconds, peak_rss_mib};

const STOP_LIMIT: Duration = Duration::from_secs(30);
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// One agent with one link. What is first is dropped first.
pub(crate) struct Subject {
    agent: Packetboat,
    stub: Option<Upstream>,
    stomp: Port,
    graphite: Port,
    _http: Port,
    upstream: Port,
    scratch: Scratch,
}

impl Subject {
    /// One to whose upstream nobody listens.
    pub(crate) fn with_link_down() -> Result<Self> {
        Self::start(false)
    }

    /// One whose link to a stub stands.
    pub(crate) fn with_link_up() -> Result<Self> {
        let subject = Self::start(true)?;
        until(DRAIN_LIMIT, "the link", || when(subject.metric("packetboat_link_up") == 1.0, "down"));
        Ok(subject)
    }

    fn start(link_up: bool) -> Result<Self> {
        let scratch = Scratch::new("bench");
        let [stomp, graphite, http, upstream] = [(); 4].map(|()| Port::free());
        let stub = link_up.then(|| Upstream::start(upstream.address())).transpose()?;
        let topology = format!(
            "mesh: bench\nqueue: {QUEUE}\n\
             brokers:\n  up:\n    urls: [\"stomp://{}\"]\n\
             agents:\n  edge:\n    listen: {{ stomp: \"{}\", graphite: \"{}\", http: \"{}\" }}\n    \
             spool: {{ dir: {} }}\n    forward: {{ to: up }}\n",
            upstream.address(),
            stomp.address(),
            graphite.address(),
            http.address(),
            scratch.path().join("spool").display(),
        );
        let topology = scratch.write("topology.yaml", &topology);
        let agent = Packetboat::agent("edge", &topology, http.address(), &scratch);
        Ok(Self { agent, stub, stomp, graphite, _http: http, upstream, scratch })
    }

    /// Where it takes STOMP.
    pub(crate) fn stomp(&self) -> SocketAddr {
        self.stomp.address()
    }

    /// Where it takes plaintext.
    pub(crate) fn graphite(&self) -> SocketAddr {
        self.graphite.address()
    }

    /// Where its upstream is, or is to be.
    pub(crate) fn upstream(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The stub that its link stands to.
    pub(crate) fn stub(&self) -> Result<&Upstream> {
        self.stub.as_ref().context("this agent's link is down")
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.agent.id()
    }

    /// Adds the CPU time that it needs meanwhile to what `send` carries into it.
    pub(crate) fn measured(&self, send: impl FnOnce() -> Result<Sent>) -> Result<Sent> {
        let before = cpu_seconds(self.process())?;
        let sent = send()?;
        Ok(Sent { cpu_seconds: cpu_seconds(self.process())? - before, ..sent })
    }

    /// Rows of the spool that wait for the link.
    pub(crate) fn backlog_rows(&self) -> f64 {
        self.metric("packetboat_backlog_batches")
    }

    /// Transactions since its start.
    pub(crate) fn commits(&self) -> f64 {
        self.metric("packetboat_commit_seconds_count")
    }

    /// Waits until nothing is left to be sent.
    pub(crate) fn wait_until_drained(&self) {
        until(DRAIN_LIMIT, "an empty backlog", || {
            let backlog = self.metric("packetboat_backlog_metrics");
            when(backlog == 0.0, backlog)
        });
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.agent.terminate(STOP_LIMIT);
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }

    /// Starts it again, and tells how long that took.
    pub(crate) fn restart(&mut self) -> Duration {
        let start = Instant::now();
        self.agent.restart();
        self.agent.ready();
        start.elapsed()
    }

    /// Bytes of the spool's database.
    pub(crate) fn disk_bytes(&self) -> Result<f64> {
        self.file_bytes("spool.db")
    }

    /// Bytes of its write-ahead log.
    pub(crate) fn wal_bytes(&self) -> Result<f64> {
        self.file_bytes("spool.db-wal")
    }

    fn file_bytes(&self, name: &str) -> Result<f64> {
        let path = self.scratch.path().join("spool").join(name);
        let file = path.metadata().with_context(|| path.display().to_string())?;
        Ok(file.len() as f64)
    }

    /// The most memory it has held resident.
    pub(crate) fn peak_rss_mib(&self) -> Result<f64> {
        peak_rss_mib(self.process())
    }

    fn metric(&self, name: &str) -> f64 {
        self.agent.metrics().sum(name).unwrap_or_default()
    }
}
