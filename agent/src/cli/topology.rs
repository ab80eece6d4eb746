//! `packetboat topology`: what is wrong with a topology file.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::{Failure, load};

#[derive(Debug, Subcommand)]
pub(super) enum TopologyCommand {
    /// Check a topology file; every fault at once, exit code 78 if there is any
    Check {
        /// The topology file
        file: PathBuf,
    },
}

pub(super) fn run(command: &TopologyCommand) -> Result<(), Failure> {
    let TopologyCommand::Check { file } = command;
    let mesh = load(file)?;
    let (brokers, agents, consumers) = (mesh.brokers.len(), mesh.agents.len(), mesh.consumers.len());
    writeln!(
        io::stdout(),
        "{}: mesh {} is well: {brokers} brokers, {agents} agents, {consumers} consumers",
        file.display(),
        mesh.name
    )?;
    Ok(())
}
