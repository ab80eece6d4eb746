//! Which pictures there are: ours, the yardstick's and the rivals' figures of one kind, side by side.

use anyhow::Result;

use super::bars::{Bar, Whose, draw};
use super::measured::Measured;

/// One picture.
pub(super) struct Picture {
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    /// Our figures that go into it: what each is called there, its group and its unit.
    ours: &'static [(&'static str, &'static str, &'static str)],
    /// The rivals': group and unit.
    rivals: (&'static str, &'static str),
}

const YARDSTICK: &str = "the yardstick";

pub(super) const ALL: &[Picture] = &[
    Picture {
        file: "in.svg",
        title: "Lines a second accepted while the way out is down: more is better",
        ours: &[
            ("Packetboat", "plaintext in, link down", "lines/s"),
            ("Packetboat, STOMP, 500 lines", "STOMP in, 500 lines a message", "lines/s"),
            ("Packetboat, STOMP, 1 line", "STOMP in, 1 line a message", "lines/s"),
        ],
        rivals: ("way out down", "lines/s"),
    },
    Picture {
        file: "in-cpu.svg",
        title: "CPU seconds a million lines accepted: less is better",
        ours: &[
            ("Packetboat", "plaintext in, link down", "CPU s/M lines"),
            ("Packetboat, STOMP, 500 lines", "STOMP in, 500 lines a message", "CPU s/M lines"),
            ("Packetboat, STOMP, 1 line", "STOMP in, 1 line a message", "CPU s/M lines"),
        ],
        rivals: ("way out down", "CPU s/M lines"),
    },
    Picture {
        file: "disk.svg",
        title: "Bytes on disk a line: less is better",
        ours: &[("Packetboat", "disk", "B/line")],
        rivals: ("way out down", "B/line on disk"),
    },
    Picture {
        file: "drain.svg",
        title: "Lines a second drained: more is better",
        ours: &[("Packetboat", "drain to an answering stub", "lines/s")],
        rivals: ("drain", "lines/s"),
    },
    Picture {
        file: "live.svg",
        title: "Lines a second, in to out: more is better",
        ours: &[("Packetboat", "live, in to out", "lines/s")],
        rivals: ("live", "lines/s"),
    },
    Picture {
        file: "live-cpu.svg",
        title: "CPU seconds a million lines, in to out: less is better",
        ours: &[("Packetboat", "live, in to out", "CPU s/M lines")],
        rivals: ("live", "CPU s/M lines"),
    },
    Picture {
        file: "latency.svg",
        title: "Milliseconds from in to out, at 10,000 lines/s, 99 of 100: less is better",
        ours: &[("Packetboat", "latency at 10,000 lines/s", "p99 ms")],
        rivals: ("latency", "p99 ms"),
    },
    Picture {
        file: "memory.svg",
        title: "Peak memory in MiB: less is better",
        ours: &[("Packetboat, 20 M lines", "with a backlog of 20 M lines", "peak RSS MiB, filling")],
        rivals: ("memory", "peak RSS MiB"),
    },
];

impl Picture {
    /// `None` if none of it was measured.
    pub(super) fn draw(&self, measured: &Measured) -> Result<Option<String>> {
        let mut bars = Vec::new();
        for (name, group, unit) in self.ours {
            let Some(figure) = measured.ours.iter().find(|one| one.group == *group && one.unit == *unit)
            else {
                continue;
            };
            bars.push(Bar::new(name, Whose::Ours, &figure.values));
            if !figure.yardstick.is_empty() && !bars.iter().any(|bar| bar.name == YARDSTICK) {
                bars.push(Bar::new(YARDSTICK, Whose::Yardstick, &figure.yardstick));
            }
        }
        // What the rivals' command has measured of us is beside them in its table; here it would be twice.
        let (group, unit) = self.rivals;
        let rivals = measured.rivals.iter().filter(|one| !one.rival.to_lowercase().contains("packetboat"));
        for rival in rivals.filter(|one| one.figure.group == group && one.figure.unit == unit) {
            bars.push(Bar::new(&rival.rival, Whose::Rivals, &rival.figure.values));
        }
        if bars.is_empty() { Ok(None) } else { draw(self.title, &bars).map(Some) }
    }
}
