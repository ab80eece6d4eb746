//! `packetboat agent`: runs one agent of a topology.

use anyhow::Context;
use forwarder::Clock;
use tokio::runtime::Builder;

use crate::cli::{Failure, NodeArguments, load, until_told_to_stop};
use crate::run::run_agent;

pub(super) fn run(arguments: &NodeArguments) -> Result<(), Failure> {
    let mesh = load(&arguments.topology)?;
    let agent =
        mesh.agent(&arguments.name).map_err(|missing| Failure::wrong_node(&arguments.topology, &missing))?;
    let clock = Clock::system();
    until_told_to_stop(Builder::new_multi_thread(), |stop| run_agent(&mesh, agent, clock, stop))
        .with_context(|| format!("agent {}", arguments.name))?;
    Ok(())
}
