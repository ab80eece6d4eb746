//! The topology file of a mesh, as a checked model.
//!
//! One YAML file describes a whole mesh; each agent and each consumer reads the same file and picks
//! its own part. The road through this crate:
//!
//! ```text
//! text --raw--> Node tree --check--> model::Mesh        or every Fault at once
//!      \-lines-> key path -> line --/
//! ```
//!
//! - `raw` reads the YAML into a tree that keeps keys given twice (the one place that names `serde_yaml`).
//! - `lines` knows on which line each key stands (the one place that names `saphyr_parser`).
//! - `check` turns the tree into the model and writes each [`Fault`] into one book. Nothing stops at the
//!   first fault: an operator sees all of them in one run.
//! - [`model`] is what the rest of the product works with. Names are resolved and limits are sane, so
//!   that nobody checks anything twice.
//!
//! The crate is pure: no sockets, no tokio, and the only file it reads is the topology itself. It does
//! not know whether a directory exists, a host resolves or a port is free.
//!
//! # What the checks assume
//!
//! - Nodes with the same `host` share a machine. Nodes without `host`, or with `localhost`, count as one
//!   machine too: their ports and spool directories must differ.
//! - What is sent to one queue of a broker can be fetched from that queue only; agents hand on whatever comes.
//! - Paths (`spool.dir`, `passcode_file`, `tls.cert`) are absolute, and not looked into. The same file is read by a service whose working
//!   directory is `/` and by an operator's shell; it must mean the same to both.
//! - YAML is read as version 1.2 has it: `NO` and `on` are texts, only `true` and `false` are flags.
//!   Anchors, aliases and the merge key `<<` work.
//!
//! # Example
//!
//! ```
//! use topology::Topology;
//!
//! let mesh = Topology::parse(
//!     "mesh: acme
//! brokers: { eu: { urls: [stomp://mq.example.net] } }
//! agents: { edge: { forward: { to: eu } } }",
//! )?;
//! assert_eq!(mesh.agent("edge")?.forward[0].name, "eu");
//!
//! let faults = Topology::parse("mesh: acme\nagents: { edge: { forward: { to: eu-hb } } }").unwrap_err();
//! assert_eq!(
//!     faults.to_string(),
//!     "line 2: agents.edge.forward.to: no broker or agent is called `eu-hb`; \
//!      declare it under `brokers` or `agents`"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod fault;
mod key_path;
mod lines;
pub mod model;
mod names;
mod raw;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use fault::{Fault, Faults};
pub use model::{Mesh, NoSuchNode};

use lines::Lines;

/// The largest topology file that is read, in bytes: room for some thousands of agents.
pub const FILE_SIZE_BYTES_MAX: u64 = 1024 * 1024;

/// The way from a YAML file to a [`Mesh`].
#[derive(Debug)]
pub struct Topology;

impl Topology {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// Every fault of the file, each with its key path, its line where known, and the mend. A file that
    /// cannot be read, is larger than [`FILE_SIZE_BYTES_MAX`] or is not UTF-8 gives one fault.
    pub fn load(path: &Path) -> Result<Mesh, Faults> {
        read_text(path)
            .map_err(|fault| Faults::from(vec![fault]))
            .and_then(|text| Topology::parse(&text))
            .map_err(|faults| faults.in_file(path))
    }

    /// Checks a topology that is already in memory.
    ///
    /// # Errors
    ///
    /// As [`Topology::load`].
    pub fn parse(text: &str) -> Result<Mesh, Faults> {
        if text.len() as u64 > FILE_SIZE_BYTES_MAX {
            return Err(too_large().into());
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = raw::read(text)?;
        Ok(check::check(&root, Lines::of(text))?)
    }
}

fn read_text(path: &Path) -> Result<String, Fault> {
    let bytes = read_bounded(path).map_err(|cause| {
        Fault::of_file(format!("cannot be read: {cause}"), "name a topology file that this user may read")
    })?;
    if bytes.len() as u64 > FILE_SIZE_BYTES_MAX {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|cause| {
        let valid = &cause.as_bytes()[..cause.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        Fault { line: Some(line), ..Fault::of_file("this is not UTF-8 text", "save the file as UTF-8") }
    })
}

/// Reads one byte more than is allowed at most, so that an endless file ends.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_SIZE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large() -> Fault {
    let message = format!("is larger than {} KiB", FILE_SIZE_BYTES_MAX / 1024);
    Fault::of_file(message, "check that this is the topology; split a mesh that is really so large")
}

#[cfg(test)]
mod tests;
