//! What is done with a rival, in three lives, each on an empty folder: its way out stands; it is down, and
//! comes back; it is down while the rival is stopped and started.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::arrivals::{Arrivals, Stamps};
use super::figures::Figures;
use super::patience::settle;
use super::rival::{Rival, Server};
use super::sender::{Payloads, send_paced};
use super::sink::{FIRST_LIMIT, Sink};
use super::tree::{cpu_seconds, peak_rss_mib};
use crate::producer::Sent;

/// How long a stream is paced.
const PACED_SECONDS: usize = 4;
/// What is lost comes no more after this.
const LOST_LIMIT: Duration = Duration::from_secs(3);
/// The size of a block as `stat` counts them.
const BLOCK_BYTES: u64 = 512;

/// Measures one rival once.
pub(crate) fn measure(rival: &Rival, payloads: &mut Payloads, figures: &mut Figures) -> Result<()> {
    payloads.prepare(rival);
    let mut measured = Measured { rival, payloads, figures, peak_rss_mib: 0.0 };
    measured.live().context("live")?;
    measured.outage().context("way out down")?;
    measured.restart().context("start with a backlog")?;
    let peak = measured.peak_rss_mib;
    figures.add(rival, "memory", "peak RSS MiB", peak);
    Ok(())
}

struct Measured<'a> {
    rival: &'a Rival,
    payloads: &'a mut Payloads,
    figures: &'a mut Figures,
    peak_rss_mib: f64,
}

impl Measured<'_> {
    /// Lines go in, and come out, at full speed; then a paced stream, each of whose lines is timed.
    fn live(&mut self) -> Result<()> {
        let mut server = (self.rival.server)();
        let sink = self.start_with_sink(server.as_mut())?;
        let before = settle(&server.process_ids())?;
        let start = Instant::now();
        let sent = self.payloads.send(self.rival, server.way_in())?;
        sink.wait_for_lines(lines(sent.lines), FIRST_LIMIT);
        let cpu_seconds = settle(&server.process_ids())? - before;
        self.came_out("live", start, lines(sent.lines), cpu_seconds, &sink.arrivals());

        let paced = self.rival.paced_rate * PACED_SECONDS;
        sink.expect(Arrivals::timed(Stamps::new(paced)));
        let start = Instant::now();
        send_paced(self.rival, server.way_in(), paced, &sink)?;
        sink.wait_for_lines(paced, FIRST_LIMIT);
        let arrivals = sink.arrivals();
        let last = arrivals.last.context("nothing of a paced stream came out")?;
        self.add("latency", "lines/s", arrivals.lines as f64 / (last - start).as_secs_f64());
        for (unit, share) in [("p50 ms", 0.5), ("p99 ms", 0.99)] {
            let delay = arrivals.quantile(share).context("nothing was timed")?;
            self.add("latency", unit, delay.as_secs_f64() * 1e3);
        }
        self.add("latency", "missing", (paced - arrivals.lines) as f64);
        self.note_memory(server.as_ref())
    }

    /// Lines go in while the way out is down; then that is there.
    fn outage(&mut self) -> Result<()> {
        let mut server = (self.rival.server)();
        server.start()?;
        let before = settle(&server.process_ids())?;
        let sent = self.payloads.send(self.rival, server.way_in())?;
        let cpu_seconds = settle(&server.process_ids())? - before;
        self.add("way out down", "lines/s", sent.per_second());
        self.add("way out down", "CPU s/M lines", cpu_seconds * 1e6 / sent.lines_f64());

        let before = cpu_seconds_of(server.as_ref())?;
        let sink = Sink::open(self.rival.way_out, server.way_out(), self.rival.lines * 2)?;
        sink.wait_for_lines(lines(sent.lines), FIRST_LIMIT);
        let cpu_seconds = settle(&server.process_ids())? - before;
        let arrivals = sink.arrivals();
        let start = arrivals.first.context("nothing was drained")?;
        self.came_out("drain", start, lines(sent.lines), cpu_seconds, &arrivals);
        self.note_memory(server.as_ref())
    }

    /// Lines go in while the way out is down, and it is stopped in order. The way out is there when it is
    /// started again.
    fn restart(&mut self) -> Result<()> {
        let mut server = (self.rival.server)();
        server.start()?;
        settle(&server.process_ids())?;
        let empty = disk_bytes(server.folder());
        let sent = self.payloads.send(self.rival, server.way_in())?;
        settle(&server.process_ids())?;
        self.note_memory(server.as_ref())?;
        server.stop()?;
        let bytes = disk_bytes(server.folder()).saturating_sub(empty);
        self.add("way out down", "B/line on disk", bytes as f64 / sent.lines_f64());

        let sink = Sink::open(self.rival.way_out, server.way_out(), self.rival.lines * 2)?;
        let start = Instant::now();
        server.start()?;
        let limit = if self.rival.forgets { LOST_LIMIT } else { FIRST_LIMIT };
        sink.wait_for_lines(lines(sent.lines), limit);
        settle(&server.process_ids())?;
        let arrivals = sink.arrivals();
        let group = "start with a backlog";
        self.add(group, "lines", sent.lines_f64());
        if let Some(first) = arrivals.first {
            self.add(group, "s to the first out", (first - start).as_secs_f64());
        }
        self.add(group, "missing", lines(sent.lines).saturating_sub(arrivals.lines) as f64);
        self.add(group, "twice", arrivals.twice as f64);
        drop(arrivals);
        self.note_memory(server.as_ref())
    }

    fn start_with_sink(&self, server: &mut dyn Server) -> Result<Sink> {
        let way_out = self.rival.way_out;
        let open = |server: &dyn Server| Sink::open(way_out, server.way_out(), self.rival.lines * 2);
        let sink = if way_out.dials() {
            server.start()?;
            open(server)?
        } else {
            let sink = open(server)?;
            server.start()?;
            sink
        };
        if way_out.greets() {
            sink.wait_until_connected()?;
        }
        Ok(sink)
    }

    /// Only what came out counts.
    fn came_out(
        &mut self,
        group: &'static str,
        start: Instant,
        sent: usize,
        cpu_seconds: f64,
        arrivals: &Arrivals,
    ) {
        if let Some(last) = arrivals.last {
            let came = Sent { lines: arrivals.lines as u64, elapsed: last - start, cpu_seconds };
            self.add(group, "lines/s", came.per_second());
            self.add(group, "CPU s/M lines", came.cpu_seconds_per_million());
        }
        self.add(group, "missing", sent.saturating_sub(arrivals.lines) as f64);
        self.add(group, "twice", arrivals.twice as f64);
        if arrivals.foreign > 0 {
            self.add(group, "lines nobody sent", arrivals.foreign as f64);
        }
    }

    fn note_memory(&mut self, server: &dyn Server) -> Result<()> {
        self.peak_rss_mib = peak_rss_mib(&server.process_ids())?.max(self.peak_rss_mib);
        Ok(())
    }

    fn add(&mut self, group: &'static str, unit: &'static str, value: f64) {
        self.figures.add(self.rival, group, unit, value);
    }
}

fn cpu_seconds_of(server: &dyn Server) -> Result<f64> {
    cpu_seconds(&server.process_ids())
}

fn lines(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// What the files below `folder` take; holes take nothing.
fn disk_bytes(folder: &Path) -> u64 {
    // A file that goes meanwhile takes nothing.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, about)| if about.is_dir() { disk_bytes(&path) } else { about.blocks() * BLOCK_BYTES })
        .sum()
}
