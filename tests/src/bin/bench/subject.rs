//! The agent that is measured: a fresh one in a temporary folder, seen from outside.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::packetboat::Packetboat;
use tests::scratch::Scratch;
use tests::station::Station;
use tests::wait::{until, when};

use crate::lines::QUEUE;
use crate::producer::Sent;
use crate::spool::Spool;
use crate::usage::peak_rss_mib;

const STOP_LIMIT: Duration = Duration::from_secs(60);
const LINK_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(600);
/// A scrape costs the agent a part of this.
const BETWEEN_SCRAPES: Duration = Duration::from_millis(25);
/// What a block of `st_blocks` is (stat(2)).
const BLOCK_BYTES: u64 = 512;
const EDGE: &str = "edge";
const HUB: &str = "hub";

/// One agent. What is first is dropped first.
pub(crate) struct Subject {
    agent: Packetboat,
    station: Station,
    topology: PathBuf,
    /// Of its spool.
    folder: PathBuf,
    _scratch: Scratch,
}

impl Subject {
    /// One that forwards to a STOMP upstream.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        Self::before_broker(upstream, QUEUE)
    }

    /// One that forwards to a queue of a broker, as its guest.
    pub(crate) fn before_broker(broker: SocketAddr, queue: &str) -> Self {
        let brokers = format!("brokers:\n  up: {{ urls: [\"stomp://{broker}\"], vhost: / }}\n");
        Self::start(EDGE, queue, &brokers, &["forward: { to: up }"], "")
    }

    /// One that forwards to a [`Subject::hub`], which it reaches at this address.
    pub(crate) fn before_hub(at: SocketAddr) -> Self {
        let hub = format!("  {HUB}:\n    listen: {{ stomp: \"{at}\" }}\n    spool: {{ dir: /nowhere }}\n");
        Self::start(EDGE, QUEUE, "", &[&format!("forward: {{ to: {HUB} }}")], &hub)
    }

    /// One that takes from a [`Subject::before_hub`], and keeps.
    pub(crate) fn hub() -> Self {
        let edge = format!("  {EDGE}:\n    spool: {{ dir: /nowhere }}\n    forward: {{ to: {HUB} }}\n");
        Self::start(HUB, QUEUE, "", &[], &edge)
    }

    fn start(name: &'static str, queue: &str, brokers: &str, rest: &[&str], others: &str) -> Self {
        let (scratch, station) = (Scratch::new("bench"), Station::new(name));
        // The largest backlogs are beyond the default.
        let entry = station.entry(&scratch, rest).replace("spool: { ", "spool: { max_size: 16GiB, ");
        let topology = format!("mesh: bench\nqueue: {queue}\n{brokers}agents:\n{entry}{others}");
        let topology = scratch.write("topology.yaml", &topology);
        let agent = station.start(&topology, &scratch);
        let folder = scratch.path().join(name);
        Self { agent, station, topology, folder, _scratch: scratch }
    }

    /// Where it takes STOMP.
    pub(crate) fn stomp(&self) -> SocketAddr {
        self.station.stomp()
    }

    /// Waits until its link stands.
    pub(crate) fn linked(&self) {
        until(LINK_LIMIT, "the link", || when(self.metric("packetboat_link_up") == 1.0, "down"));
    }

    /// Rows of the spool that wait for the link.
    pub(crate) fn backlog_rows(&self) -> f64 {
        self.metric("packetboat_backlog_batches")
    }

    /// Lines that it has taken in.
    pub(crate) fn accepted(&self) -> f64 {
        self.metric("packetboat_accepted_metrics_total")
    }

    /// Transactions since its start.
    pub(crate) fn commits(&self) -> f64 {
        self.metric("packetboat_commit_seconds_count")
    }

    /// Waits until its backlog, of `lines`, has begun to drain and is empty. What it tells begins at the first look
    /// that sees less than all.
    pub(crate) fn watch_drain(&self, lines: u64) -> Result<Sent> {
        let (deadline, mut begun) = (Instant::now() + DRAIN_LIMIT, None);
        loop {
            let backlog = self.metric("packetboat_backlog_metrics");
            if backlog < lines as f64 && begun.is_none() {
                begun = Some((backlog, Instant::now()));
            }
            if let (true, Some((left, start))) = (backlog == 0.0, begun) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count of lines"
                )]
                return Ok(Sent { lines: left as u64, elapsed: start.elapsed(), cpu_seconds: 0.0 });
            }
            ensure!(Instant::now() < deadline, "{backlog} of {lines} lines are left");
            thread::sleep(BETWEEN_SCRAPES);
        }
    }

    /// Makes it dial another address from its next start on.
    pub(crate) fn lead(&self, from: SocketAddr, to: SocketAddr) -> Result<()> {
        let text = fs::read_to_string(&self.topology)?.replace(&from.to_string(), &to.to_string());
        fs::write(&self.topology, text).context("the topology cannot be written")
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.agent.terminate(STOP_LIMIT);
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }

    /// Starts it again, and waits for nothing.
    pub(crate) fn restart(&mut self) {
        self.agent.restart();
    }

    /// Waits until it takes lines.
    pub(crate) fn ready(&mut self) {
        self.agent.ready();
    }

    /// Bytes of the spool's database.
    pub(crate) fn disk_bytes(&self) -> Result<f64> {
        let path = self.folder.join("spool.db");
        let file = path.metadata().with_context(|| path.display().to_string())?;
        Ok(file.len() as f64)
    }

    /// Bytes that all files of the spool take of the disk, the reserve too.
    pub(crate) fn folder_bytes(&self) -> Result<f64> {
        let mut blocks = 0;
        for entry in self.folder.read_dir().with_context(|| self.folder.display().to_string())? {
            blocks += entry?.metadata()?.blocks();
        }
        Ok((blocks * BLOCK_BYTES) as f64)
    }

    /// The most memory it has held resident.
    pub(crate) fn peak_rss_mib(&self) -> Result<f64> {
        peak_rss_mib(self.process())
    }

    fn metric(&self, name: &str) -> f64 {
        self.agent.metrics().sum(name).unwrap_or_default()
    }
}

impl Spool for Subject {
    fn graphite(&self) -> SocketAddr {
        self.station.graphite()
    }

    fn process(&self) -> u32 {
        self.agent.id()
    }
}
