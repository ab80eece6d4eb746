//! What is measured as a spool: an agent, or the yardstick, seen from outside.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ::tests::ports::Port;
use ::tests::process::Process;
use ::tests::scratch::Scratch;
use ::tests::wait::until;
use anyhow::Result;

use crate::producer::Sent;
use crate::usage::{cpu_seconds, cpu_seconds_at_rest};

const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// Takes plaintext, and forwards it.
pub(crate) trait Spool {
    /// Where it takes plaintext.
    fn graphite(&self) -> SocketAddr;

    /// Its process id.
    fn process(&self) -> u32;

    /// Adds the CPU time that it needs, until it has nothing more to do, to what `carry` carries.
    fn measured(&self, carry: impl FnOnce() -> Result<Sent>) -> Result<Sent> {
        let before = cpu_seconds(self.process())?;
        let carried = carry()?;
        Ok(Sent { cpu_seconds: cpu_seconds_at_rest(self.process())? - before, ..carried })
    }
}

/// The simplest spool ([`crate::simplest_spool`]) in a temporary folder. What is first is dropped first.
pub(crate) struct Yardstick {
    process: Process,
    listen: Port,
    _scratch: Scratch,
}

impl Yardstick {
    /// Starts one that forwards to `upstream`.
    pub(crate) fn start(upstream: SocketAddr) -> Result<Self> {
        let (scratch, listen) = (Scratch::new("yardstick"), Port::free());
        let mut command = Process::command(std::env::current_exe()?);
        command
            .args(["simplest-spool", "--listen", &listen.address().to_string()])
            .args(["--upstream", &upstream.to_string(), "--database"])
            .arg(scratch.path().join("spool.db"));
        let process = Process::spawn("the simplest spool", &mut command, &scratch.path().join("log"));
        until(LISTEN_LIMIT, "the simplest spool", || TcpStream::connect(listen.address()));
        Ok(Self { process, listen, _scratch: scratch })
    }
}

impl Spool for Yardstick {
    fn graphite(&self) -> SocketAddr {
        self.listen.address()
    }

    fn process(&self) -> u32 {
        self.process.id()
    }
}
