//! vmagent of VictoriaMetrics, as Debian packages it.

use std::process::Command;

use ::tests::process::Process;

use super::rival::{Place, Program, Rival, WayIn, WayOut, installed};

pub(super) const RIVAL: Rival = Rival {
    name: "vmagent",
    package: Some("victoria-metrics"),
    program: || installed("vmagent"),
    durability: "Its queue is a file that is never synced, behind blocks in memory: kill -9 loses up to a second and more. \
                 Lines leave as samples of Prometheus' remote write, in no order.",
    way_in: WayIn::Plaintext,
    way_out: WayOut::RemoteWrite,
    lines: 4_000_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Program::that_dials("vmagent", command),
};

fn command(place: &Place) -> Command {
    let mut command = Process::command(installed("vmagent"));
    command
        .arg(format!("-graphiteListenAddr={}", place.input.address()))
        .arg(format!("-httpListenAddr={}", place.other.address()))
        .arg(format!("-remoteWrite.url=http://{}/api/v1/write", place.output.address()))
        .arg(format!("-remoteWrite.tmpDataPath={}", place.data().display()))
        .arg("-loggerLevel=ERROR");
    command
}
