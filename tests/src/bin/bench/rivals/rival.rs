//! What a rival is: how lines go in and come out, how it is started, and what its word is worth.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::tests::ports::Port;
use ::tests::process::Process;
use ::tests::scratch::Scratch;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::patience::wait_for;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// One that is measured, in one of its configurations.
#[derive(Clone, Copy)]
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    /// Of Debian; `None` for ours.
    pub(crate) package: Option<&'static str>,
    /// Without it, it is skipped.
    pub(crate) program: fn() -> PathBuf,
    /// What its word is worth, and what it was given for that.
    pub(crate) durability: &'static str,
    pub(crate) way_in: WayIn,
    pub(crate) way_out: WayOut,
    /// Lines at full speed: a few seconds' worth.
    pub(crate) lines: usize,
    /// Lines a second of the paced stream: less than it can do.
    pub(crate) paced_rate: usize,
    /// A backlog does not outlive the process.
    pub(crate) forgets: bool,
    /// A fresh one; not started.
    pub(crate) server: fn() -> Box<dyn Server>,
}

/// How lines go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WayIn {
    /// Graphite's plaintext: all is read when the half-close is answered.
    Plaintext,
    /// SENDs with receipts.
    Stomp { lines_per_message: usize },
    /// Published to a stream of NATS, with an answer for each message.
    Nats { lines_per_message: usize },
}

impl WayIn {
    pub(crate) fn lines_per_message(self) -> usize {
        match self {
            Self::Plaintext => 1,
            Self::Stomp { lines_per_message } | Self::Nats { lines_per_message } => lines_per_message,
        }
    }
}

/// How lines come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WayOut {
    /// It connects to a Graphite.
    Plaintext,
    /// It connects to a receiver of Prometheus' remote write.
    RemoteWrite,
    /// It connects to a STOMP broker that answers receipts at once.
    StompUpstream,
    /// A consumer connects to it by STOMP, which takes so many messages in advance.
    StompConsumer { prefetch: usize },
    /// A consumer pulls from its stream by NATS, so many messages at a time.
    NatsConsumer { batch: usize },
}

impl WayOut {
    /// Whether it is the sink that connects.
    pub(crate) fn dials(self) -> bool {
        matches!(self, Self::StompConsumer { .. } | Self::NatsConsumer { .. })
    }

    /// Whether there is a connection before there are lines.
    pub(crate) fn greets(self) -> bool {
        self.dials() || self == Self::StompUpstream
    }
}

/// A rival on a folder and ports of its own. It ends when it is dropped.
pub(crate) trait Server {
    /// Starts it on what it has, and waits until it takes connections.
    fn start(&mut self) -> Result<()>;
    /// Its orderly end.
    fn stop(&mut self) -> Result<()>;
    /// Those that were started; they may have children.
    fn process_ids(&self) -> Vec<u32>;
    /// Where its files are.
    fn folder(&self) -> &Path;
    /// Where lines go in.
    fn way_in(&self) -> SocketAddr;
    /// Where a sink is to listen or, if it [dials](WayOut::dials), to connect.
    fn way_out(&self) -> SocketAddr;
}

/// The folder and the ports of one program.
pub(crate) struct Place {
    pub(crate) input: Port,
    pub(crate) output: Port,
    /// For what it insists on.
    pub(crate) other: Port,
    scratch: Scratch,
}

impl Place {
    pub(crate) fn new() -> Self {
        let [input, output, other] = std::array::from_fn(|_| Port::free());
        Self { input, output, other, scratch: Scratch::new("rival") }
    }

    /// Its data; logs and configuration are elsewhere.
    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Writes a file beside its data.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.scratch.write(name, text)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// One that is one process.
pub(crate) struct Program {
    // What is first is dropped first.
    process: Option<Process>,
    name: &'static str,
    command: fn(&Place) -> Command,
    /// What is to be done once it takes connections.
    prepare: fn(&Place) -> Result<()>,
    sink_dials: bool,
    data: PathBuf,
    place: Place,
}

impl Program {
    /// One that sends its lines to where it is told.
    pub(crate) fn that_dials(name: &'static str, command: fn(&Place) -> Command) -> Box<dyn Server> {
        Box::new(Self::new(name, command, |_| Ok(()), false))
    }

    /// One whose consumers dial it where lines go in, too.
    pub(crate) fn that_is_dialled(
        name: &'static str,
        command: fn(&Place) -> Command,
        prepare: fn(&Place) -> Result<()>,
    ) -> Box<dyn Server> {
        Box::new(Self::new(name, command, prepare, true))
    }

    fn new(
        name: &'static str,
        command: fn(&Place) -> Command,
        prepare: fn(&Place) -> Result<()>,
        sink_dials: bool,
    ) -> Self {
        let place = Place::new();
        Self { process: None, name, command, prepare, sink_dials, data: place.data(), place }
    }
}

impl Server for Program {
    fn start(&mut self) -> Result<()> {
        std::fs::create_dir_all(&self.data).context("the folder of a rival cannot be made")?;
        let mut command = (self.command)(&self.place);
        let log = self.place.path("log");
        let process = self.process.insert(Process::spawn(self.name, &mut command, &log));
        let address = self.place.input.address();
        wait_for(START_LIMIT, "it to take connections", || {
            if let Some(status) = process.ended() {
                bail!("it ended with {status}: {}", last_lines(&process.log()));
            }
            Ok(TcpStream::connect(address).is_ok().then_some(()))
        })?;
        (self.prepare)(&self.place)
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM);
        wait_for(STOP_LIMIT, "its end", || Ok(process.ended())).map(drop)
    }

    fn process_ids(&self) -> Vec<u32> {
        self.process.iter().map(Process::id).collect()
    }

    fn folder(&self) -> &Path {
        &self.data
    }

    fn way_in(&self) -> SocketAddr {
        self.place.input.address()
    }

    fn way_out(&self) -> SocketAddr {
        if self.sink_dials { self.way_in() } else { self.place.output.address() }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// A program in one of the folders where Debian puts them.
pub(crate) fn installed(name: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/lib/rabbitmq/bin"].map(Path::new);
    let paths = folders.map(|folder| folder.join(name));
    paths.iter().find(|path| path.is_file()).unwrap_or(&paths[0]).clone()
}

impl Rival {
    /// What it says of itself, or Debian of its package.
    ///
    /// # Errors
    /// If it is not installed.
    pub(crate) fn version(&self) -> Result<String> {
        let program = (self.program)();
        ensure!(program.is_file(), "{} is not installed", program.display());
        let Some(package) = self.package else { return Ok(env!("CARGO_PKG_VERSION").to_owned()) };
        // Unpacked packages are unknown to Debian, but the newest that it has is what was unpacked.
        version_of(package).or_else(|_| candidate_of(package))
    }
}

fn version_of(package: &str) -> Result<String> {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success() && !version.is_empty(), "dpkg-query does not know {package}");
    Ok(version)
}

fn candidate_of(package: &str) -> Result<String> {
    let output = Command::new("apt-cache").args(["show", "--no-all-versions", package]).output()?;
    let about = String::from_utf8_lossy(&output.stdout);
    let version = about.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version.with_context(|| format!("apt-cache does not know {package}"))?.to_owned())
}
