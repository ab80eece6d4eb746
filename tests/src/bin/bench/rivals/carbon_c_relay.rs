//! carbon-c-relay, as Debian packages it.

use std::process::Command;

use ::tests::process::Process;

use super::rival::{Place, Program, Rival, WayIn, WayOut, installed};

/// Lines that it may hold: more than it is given.
const QUEUE: &str = "8000000";

pub(super) const RIVAL: Rival = Rival {
    name: "carbon-c-relay",
    package: Some("carbon-c-relay"),
    program: || installed("carbon-c-relay"),
    durability: "Nothing is on disk: its queue is in memory (8 M lines here; 25,000 unless told otherwise), and is lost with \
                 the process.",
    way_in: WayIn::Plaintext,
    way_out: WayOut::Plaintext,
    lines: 2_000_000,
    paced_rate: 10_000,
    forgets: true,
    server: || Program::that_dials("carbon-c-relay", command),
};

fn command(place: &Place) -> Command {
    let configuration = format!(
        "listen type linemode {} proto tcp;\ncluster up forward {};\nmatch * send to up stop;\n",
        place.input.address(),
        place.output.address(),
    );
    let configuration = place.write("relay.conf", &configuration);
    let mut command = Process::command(installed("carbon-c-relay"));
    // No lines of its own, and no end of idle connections.
    command.arg("-f").arg(configuration).args(["-s", "-E", "-w", "2", "-b", "2500", "-q", QUEUE]);
    command
}
