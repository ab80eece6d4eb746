//! rsyslog. Its package and that of syslog-ng exclude each other, so that it is unpacked into a folder, which
//! [`FOLDER`] names.

use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::process::Process;

use super::rival::{Place, Program, Rival, WayIn, WayOut, installed};

/// The environment variable with the folder into which the package is unpacked.
const FOLDER: &str = "PACKETBOAT_RSYSLOG";

const RSYSLOG: Rival = Rival {
    name: "rsyslog",
    package: Some("rsyslog"),
    program,
    durability: "",
    way_in: WayIn::Plaintext,
    way_out: WayOut::Plaintext,
    lines: 500_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Program::that_dials("rsyslog", |place| command(place, DISK_ASSISTED)),
};

pub(super) const RIVALS: [Rival; 2] = [
    Rival {
        name: "rsyslog, disk-assisted",
        durability: "100,000 lines in memory before any goes to disk, and no sync: kill -9 loses those.",
        ..RSYSLOG
    },
    Rival {
        name: "rsyslog, disk queue with sync",
        durability: "Each line is synced by itself before the next is read (queue.type Disk, checkpointInterval 1, \
                     syncQueueFiles on).",
        lines: 2_500,
        paced_rate: 300,
        server: || Program::that_dials("rsyslog", |place| command(place, SYNCED)),
        ..RSYSLOG
    },
];

const DISK_ASSISTED: &str = "queue.type=\"LinkedList\" queue.size=\"100000\" queue.highWatermark=\"80000\" \
                             queue.lowWatermark=\"20000\"";
const SYNCED: &str = "queue.type=\"Disk\" queue.size=\"50000000\" queue.checkpointInterval=\"1\" \
                      queue.syncQueueFiles=\"on\"";

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn program() -> PathBuf {
    folder().map_or_else(|| installed("rsyslogd"), |folder| folder.join("usr/sbin/rsyslogd"))
}

/// Where its modules are below `/usr/lib`: in the folder of the architecture.
fn modules(root: &Path) -> Option<PathBuf> {
    let architectures = std::fs::read_dir(root.join("usr/lib")).ok()?.flatten();
    architectures.map(|folder| folder.path().join("rsyslog")).find(|modules| modules.is_dir())
}

fn command(place: &Place, queue: &str) -> Command {
    let configuration = place.write("rsyslog.conf", &configuration(place, queue));
    let mut command = Process::command(program());
    command.arg("-n").arg("-f").arg(configuration).arg("-i").arg(place.path("pid"));
    let root = folder().unwrap_or_else(|| "/".into());
    if let Some(modules) = modules(&root) {
        command.arg("-M").arg(modules);
    }
    command
}

fn configuration(place: &Place, queue: &str) -> String {
    format!(
        r#"global(workDirectory="{folder}" maxMessageSize="8k")
module(load="imtcp")
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imtcp" port="{input}" address="127.0.0.1" ruleset="forward")
ruleset(name="forward" queue.type="Direct") {{
  action(type="omfwd" target="127.0.0.1" port="{output}" protocol="tcp" template="raw"
    {queue} queue.filename="forward"
    queue.maxFileSize="64m" queue.maxDiskSpace="20g" queue.dequeueBatchSize="1024" queue.saveOnShutdown="on"
    queue.timeoutEnqueue="600000" action.resumeRetryCount="-1" action.resumeInterval="1")
}}
"#,
        folder = place.data().display(),
        input = place.input.number(),
        output = place.output.number(),
    )
}
