//! `packetboat agent`: runs one agent of a topology.

use anyhow::Context;
use forwarder::Clock;

use crate::cli::{Failure, NodeArguments, load, runtime_beside_a_spool, until_told_to_stop};
use crate::run::run_agent;

pub(super) fn run(arguments: &NodeArguments) -> Result<(), Failure> {
    let mesh = load(&arguments.topology)?;
    let agent =
        mesh.agent(&arguments.name).map_err(|missing| Failure::wrong_node(&arguments.topology, &missing))?;
    let clock = Clock::system();
    until_told_to_stop(runtime_beside_a_spool(), |stop| run_agent(&mesh, agent, clock, stop))
        .with_context(|| format!("agent {}", arguments.name))?;
    Ok(())
}
