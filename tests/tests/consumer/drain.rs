//! A queue of a broker, and consumers that drain it, each into a Graphite of its own.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde_json::Value;

use tests::broker::{Broker, PASSCODE, fresh_queue, topology_entry};
use tests::ledger::Comparison;
use tests::load::StompLoad;
use tests::packetboat::{Packetboat, command};
use tests::points::Points;
use tests::ports::Port;
use tests::scratch::Scratch;
use tests::sink::Sink;
use tests::wait::{until, when};

/// How long anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Lines of a message of [`Drain::fill`].
pub(crate) const LINES_A_MESSAGE: usize = 5;
/// Lines that a consumer may have without an ACK: its prefetch of small messages, full.
pub(crate) const PREFETCHED_LINES_MAX: usize = 16_384 * LINES_A_MESSAGE;
/// More than that, so that what comes twice is bounded by less than all.
pub(crate) const MORE_THAN_PREFETCHED: usize = 90_000;

/// What is to be started.
pub(crate) struct Plan {
    pub(crate) broker: Broker,
    pub(crate) queue: String,
    /// One for each consumer.
    pub(crate) sinks: Vec<Sink>,
    /// A key that all consumers have besides the usual ones.
    pub(crate) setting: &'static str,
    pub(crate) passcode: &'static str,
}

/// The queue and who drains it. The consumers go first when it is dropped.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) broker: Broker,
    pub(crate) queue: String,
    /// Holds what the consumers log in with.
    pub(crate) passcode_file: PathBuf,
    _scratch: Scratch,
}

/// A consumer and its Graphite.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) process: Packetboat,
    pub(crate) sink: Sink,
    dead_letters: PathBuf,
    _http: Port,
}

impl Plan {
    /// So many consumers of a fresh queue.
    pub(crate) fn of(broker: Broker, consumers: usize) -> Self {
        let sinks = (0..consumers).map(|_| Sink::alone()).collect();
        Self { broker, queue: fresh_queue("drain"), sinks, setting: "", passcode: PASSCODE }
    }

    /// Starts the consumers, and waits for nothing but that they run.
    pub(crate) fn start(self) -> Drain {
        let Self { broker, queue, sinks, setting, passcode } = self;
        let scratch = Scratch::new(&format!("drain-{}", broker.kind()));
        let passcode_file = scratch.write("passcode", passcode);
        let mut text = format!("mesh: test\nqueue: {queue}\nbrokers:\n");
        text += &topology_entry("eu", broker.address(), &passcode_file);
        text += "consumers:\n";
        let https: Vec<Port> = sinks.iter().map(|_| Port::free()).collect();
        for (number, (sink, http)) in sinks.iter().zip(&https).enumerate() {
            text += &format!(
                "  drain-{number}:\n    from: eu\n    graphite: [\"{}\"]\n    connections: 2\n    \
                 listen: {{ http: \"{}\" }}\n    {setting}\n",
                sink.address(),
                http.address(),
            );
        }
        let topology = scratch.write("topology.yaml", &text);
        let start = |(number, (sink, http)): (usize, (Sink, Port))| {
            let name = format!("drain-{number}");
            let process = Packetboat::consumer(&name, &topology, http.address(), &scratch);
            let dead_letters = scratch.path().join(format!("dead-letters-{name}"));
            Consumer { process, sink, dead_letters, _http: http }
        };
        let consumers = sinks.into_iter().zip(https).enumerate().map(start).collect();
        Drain { consumers, broker, queue, passcode_file, _scratch: scratch }
    }

    /// Starts the consumers, and waits until all have subscribed.
    pub(crate) fn subscribe(self) -> Drain {
        let drain = self.start();
        drain.consumers.iter().for_each(Consumer::subscribed);
        drain
    }
}

impl Drain {
    /// Puts these points on the queue, some lines to a message, as any producer does.
    pub(crate) fn fill(&self, points: &Points, numbers: Range<usize>) {
        let load =
            StompLoad { destination: self.queue.clone(), lines_per_send: LINES_A_MESSAGE, window: 100 };
        let taken = load.run(Ok(self.broker.connect()), points, numbers, &AtomicUsize::new(0));
        assert!(taken.broken.is_none(), "{taken:?}");
    }

    /// Ends the consumers in order, and proves that they have left nothing on the queue: neither was a message
    /// forgotten, nor is one not acknowledged.
    pub(crate) fn ends_empty(mut self) {
        for consumer in &mut self.consumers {
            assert!(consumer.process.terminate(LIMIT).success());
        }
        let mut session = self.broker.connect();
        session.send(&self.queue, b"the last message").unwrap();
        session.subscribe(&self.queue, 10).unwrap();
        let message = session.message().unwrap();
        assert_eq!(message.text(), "the last message");
        session.ack(&message).unwrap();
        session.disconnect().unwrap();
    }
}

impl Consumer {
    /// Its link in `/status.json`.
    pub(crate) fn link(&self) -> Value {
        self.process.status()["links"][0].clone()
    }

    /// Waits until its link is up.
    pub(crate) fn subscribed(&self) {
        until(LIMIT, "a subscription", || {
            let link = self.link();
            when(link["state"] == "up", link)
        });
    }

    /// Metrics that its Graphite has confirmed since the start of the process.
    pub(crate) fn delivered(&self) -> usize {
        let delivered = self.process.metrics().sum("packetboat_delivered_metrics_total");
        format!("{}", delivered.unwrap_or(0.0)).parse().unwrap()
    }

    /// Waits until its Graphite has confirmed all of `points`, and has them once each and nothing else.
    pub(crate) fn all_confirmed(&self, points: &Points) {
        until(LIMIT, "a receipt for every line", || {
            let delivered = self.delivered();
            when(delivered == points.count(), delivered)
        });
        let ledger = self.sink.ledger();
        let comparison = ledger.compare(points, points.all());
        assert_eq!(comparison, Comparison::default());
        assert_eq!(ledger.bad(), [""; 0]);
    }

    /// Waits until its Graphite has all of `points`, maybe some of them twice, and has nothing else.
    pub(crate) fn all_arrived(&self, points: &Points) {
        let ledger = self.sink.ledger();
        until(LIMIT, "every line", || when(ledger.distinct() == points.count(), ledger.distinct()));
        let comparison = ledger.compare(points, points.all());
        assert_eq!(comparison, Comparison { duplicates: comparison.duplicates, ..Comparison::default() });
        assert_eq!(ledger.bad(), [""; 0]);
    }

    /// Sessions after the first one, since the start of the process.
    pub(crate) fn reconnects(&self) -> u64 {
        self.link()["reconnects"].as_u64().unwrap()
    }

    /// What it has set aside, as `packetboat spool rejects` shows it.
    pub(crate) fn rejects(&self) -> Vec<Value> {
        let dir = self.dead_letters.display().to_string();
        let output = command(&["spool", "rejects", "--json", "--dir", &dir]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
