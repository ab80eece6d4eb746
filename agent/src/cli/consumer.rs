//! `packetboat consumer`: drains a queue into Graphite.

use std::path::{Path, PathBuf};

use anyhow::Context;
use forwarder::Clock;
use tokio::runtime::Builder;

use crate::cli::{Failure, NodeArguments, load, until_told_to_stop};
use crate::consume::run_consumer;

#[derive(Debug, clap::Args)]
pub(super) struct ConsumerArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// Where lines are kept that fail the line rule; else $STATE_DIRECTORY, else
    /// /var/lib/packetboat/NAME
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY")]
    dead_letters: Option<PathBuf>,
}

pub(super) fn run(arguments: &ConsumerArguments) -> Result<(), Failure> {
    let NodeArguments { name, topology } = &arguments.node;
    let mesh = load(topology)?;
    let consumer = mesh.consumer(name).map_err(|missing| Failure::wrong_node(topology, &missing))?;
    let dir = arguments.dead_letters.clone().unwrap_or_else(|| Path::new("/var/lib/packetboat").join(name));
    // What it carries is the work of one task. On several threads that would wander between them, and what is freed on
    // one of them is memory that the others cannot use.
    let runtime = Builder::new_current_thread();
    until_told_to_stop(runtime, |stop| run_consumer(&mesh, consumer, dir, Clock::system(), stop))
        .with_context(|| format!("consumer {name}"))?;
    Ok(())
}
