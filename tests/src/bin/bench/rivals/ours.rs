//! Packetboat, measured by the same hand.

use std::process::Command;

use ::tests::packetboat::binary;
use ::tests::process::Process;

use super::rival::{Place, Program, Rival, WayIn, WayOut};
use crate::lines::QUEUE;

const OURS: Rival = Rival {
    name: "Packetboat",
    package: None,
    program: binary,
    durability: "",
    way_in: WayIn::Plaintext,
    way_out: WayOut::StompUpstream,
    lines: 4_000_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Program::that_dials("packetboat", |place| command(place, "graphite")),
};

pub(super) const RIVALS: [Rival; 3] = [
    Rival {
        name: "Packetboat, plaintext",
        durability: "The half-close is answered once all is synced (SQLite, WAL, synchronous=FULL), and a line is deleted on \
                     the receipt of the next hop only.",
        ..OURS
    },
    Rival {
        name: "Packetboat, 500 lines a message",
        durability: "A receipt means synced.",
        way_in: WayIn::Stomp { lines_per_message: 500 },
        server: || Program::that_dials("packetboat", |place| command(place, "stomp")),
        ..OURS
    },
    Rival {
        name: "Packetboat, 1 line a message",
        durability: "A receipt means synced.",
        way_in: WayIn::Stomp { lines_per_message: 1 },
        lines: 1_000_000,
        server: || Program::that_dials("packetboat", |place| command(place, "stomp")),
        ..OURS
    },
];

fn command(place: &Place, listener: &str) -> Command {
    let topology = place.write("topology.yaml", &topology(place, listener));
    let mut command = Process::command(binary());
    command.args(["agent", "edge", "-t"]).arg(topology);
    command
}

fn topology(place: &Place, listener: &str) -> String {
    format!(
        "mesh: bench\nqueue: {QUEUE}\n\
         brokers:\n  up:\n    urls: [\"stomp://{output}\"]\n\
         agents:\n  edge:\n    listen: {{ {listener}: \"{input}\", http: \"{http}\" }}\n    \
         spool: {{ dir: {folder} }}\n    forward: {{ to: up }}\n",
        output = place.output.address(),
        input = place.input.address(),
        http = place.other.address(),
        folder = place.data().display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_topology_has_no_fault() {
        for listener in ["graphite", "stomp"] {
            let text = topology(&Place::new(), listener);
            topology::Topology::parse(&text).unwrap();
        }
    }
}
