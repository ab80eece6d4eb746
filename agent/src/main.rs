//! The `packetboat` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
