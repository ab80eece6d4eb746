//! The command line: one file per command. What goes wrong is one line on standard error; the exit
//! code is 0 for done, 1 for failed, 2 for wrong use, 78 for a wrong topology.

mod agent;
mod consumer;
mod demo;
mod emit;
mod passcode;
mod spool;
mod status;
mod topology;

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use ::topology::{Mesh, NoSuchNode, Topology};
use clap::{Parser, Subcommand};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// `EX_CONFIG` of sysexits.h, so that systemd does not start it again.
const WRONG_TOPOLOGY: u8 = 78;
/// Of an agent, at most.
const WORKERS_MAX: usize = 4;

/// Takes metrics in, keeps them while the link is down, and forwards them.
#[derive(Debug, Parser)]
#[command(name = "packetboat", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a whole mesh in one process: cut its link, and see that nothing is lost
    Demo(demo::DemoArguments),
    /// Run one agent of a topology
    Agent(NodeArguments),
    /// Drain a queue into Graphite
    Consumer(consumer::ConsumerArguments),
    /// Send one metric, or lines from standard input
    Emit(emit::EmitArguments),
    /// Look at a topology file
    #[command(subcommand)]
    Topology(topology::TopologyCommand),
    /// Look into a spool, whether its agent runs or not
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Show one agent or consumer at a glance
    Status(status::StatusArguments),
    /// Hash a user's passcode for the topology: asks for it, or takes the first line of standard input
    Passcode,
}

/// Which node of which topology.
#[derive(Debug, clap::Args)]
struct NodeArguments {
    /// The node's name in the topology
    name: String,
    /// The topology file
    #[arg(short, long, value_name = "FILE")]
    topology: PathBuf,
}

/// Loads a topology; its faults are the failure.
fn load(file: &Path) -> Result<Mesh, Failure> {
    Topology::load(file).map_err(|faults| Failure::Topology(faults.to_string()))
}

/// Runs `node` on `runtime` until SIGTERM or SIGINT, then lets it drain; a second signal ends it at once.
fn until_told_to_stop<F, T>(
    mut runtime: Builder,
    node: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    runtime.enable_all().build()?.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut signalled = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let mut running = pin!(node(stop.clone()));
        tokio::select! {
            ended = &mut running => return ended,
            () = signalled() => {
                tracing::info!("stopping: what was received is committed, what is in flight is waited for");
                stop.cancel();
            }
        }
        tokio::select! {
            ended = running => ended,
            () = signalled() => anyhow::bail!("stopped at once by a second signal"),
        }
    })
}

/// What an agent runs on. Its spool has a thread of its own, to which one core is left; and more workers than a few
/// would wake each other for nothing.
fn runtime_beside_a_spool() -> Builder {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads((cores - 1).clamp(1, WORKERS_MAX));
    runtime
}

/// How a command failed.
enum Failure {
    /// Every fault of the topology, as it is to be printed.
    Topology(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl Failure {
    fn wrong_node(file: &Path, missing: &NoSuchNode) -> Self {
        Self::Topology(format!("{}: {missing}", file.display()))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Reads the arguments, runs the command, and says what went wrong.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !matches!(arguments.command, Command::Demo(_)) {
        log_to_stderr("info");
    }
    let done = match arguments.command {
        Command::Demo(arguments) => return demo::run(&arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::Consumer(arguments) => consumer::run(&arguments),
        Command::Emit(arguments) => return emit::run(&arguments),
        Command::Topology(command) => as_far_as_it_is_read(topology::run(&command)),
        Command::Spool(command) => as_far_as_it_is_read(spool::run(&command)),
        Command::Status(arguments) => status::run(&arguments),
        Command::Passcode => passcode::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Topology(faults)) => complain(&faults, WRONG_TOPOLOGY),
        Err(Failure::Other(error)) => complain(&format!("packetboat: {error:#}"), 1),
    }
}

/// Whoever has read enough, as `head` has, closes the pipe: that is no failure.
fn as_far_as_it_is_read(done: Result<(), Failure>) -> Result<(), Failure> {
    done.or_else(|failure| match failure {
        Failure::Other(error) if error.chain().any(is_broken_pipe) => Ok(()),
        failure => Err(failure),
    })
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The one place where a command says why it failed.
fn complain(text: &str, code: u8) -> ExitCode {
    // If nobody can be told, the exit code tells.
    drop(writeln!(io::stderr(), "{text}"));
    ExitCode::from(code)
}

/// Logs from `level` on, or as PACKETBOAT_LOG says. The journal has its own clock and no colours.
fn log_to_stderr(level: &str) {
    let (filter, puzzle) = log_filter(level);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would complain to where it cannot write, and panic.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
    puzzle.iter().for_each(warn_of_log_filter);
}

/// What PACKETBOAT_LOG asks for, else `level`; and what it says, if that is not understood.
fn log_filter(level: &str) -> (EnvFilter, Option<OsString>) {
    let asked = std::env::var_os("PACKETBOAT_LOG").filter(|asked| !asked.is_empty());
    match asked.as_deref().and_then(OsStr::to_str).and_then(parse_log_filter) {
        Some(filter) => (filter, None),
        None => (EnvFilter::new(level), asked),
    }
}

fn warn_of_log_filter(asked: &OsString) {
    tracing::warn!(
        PACKETBOAT_LOG = %asked.display(),
        "is not understood: write off, error, warn, info, debug or trace, or such as info,forwarder=debug"
    );
}

/// A word that is no level would be taken for the name of a module, and nothing else be logged.
fn parse_log_filter(asked: &str) -> Option<EnvFilter> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |part: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
    let is_known = asked.split(',').map(str::trim).all(|part| part.contains('=') || is_level(part));
    is_known.then(|| EnvFilter::try_new(asked).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_directives_are_asked_for() {
        for understood in ["info", "off", "DEBUG", "warn,forwarder=debug", "agent::ingest=trace"] {
            assert!(parse_log_filter(understood).is_some(), "{understood}");
        }
        for typo in ["", "inof", "5", "verbose", "info,forwarder", "forwarder=loud"] {
            assert!(parse_log_filter(typo).is_none(), "{typo}");
        }
    }
}
