//! Every workload: its name, its lines, and how it is prepared.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use agent::ingest::intake::{DEFAULT_QUEUE, Intake};
use agent::ingest::line::{Checked, check};
use agent::ingest::route::Router;
use agent::ingest::stomp::Settings;
use agent::ingest::stomp::probe::Probe;
use agent::ingest::{Input, Sender};
use agent::metrics::Metrics;
use forwarder::{Clock, Epoch, wire};
use futures_util::FutureExt as _;
use topology::model::Encoding;

use crate::lines::{self, BATCH_LINES, QUEUE};
use crate::store::{self, BATCHES, Store};

/// What is measured, once; tells the lines that it dealt with.
pub(crate) type Work = Box<dyn FnMut() -> usize>;

/// A step of the road.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) lines: usize,
    prepare: fn() -> Work,
}

const STORED_LINES: usize = BATCHES * BATCH_LINES;
/// Less than a full batch.
const INTAKE_LINES: usize = 900;

pub(crate) const ALL: [Workload; 15] = [
    workload("check-usual", BATCH_LINES, || checking(lines::usual(BATCH_LINES))),
    workload("check-odd", BATCH_LINES, || checking(lines::odd(BATCH_LINES))),
    workload("stomp-decode-500", BATCH_LINES, || decoding(500)),
    workload("stomp-decode-1", BATCH_LINES, || decoding(1)),
    workload("stomp-session-500", BATCH_LINES, || session(500)),
    workload("stomp-session-1", BATCH_LINES, || session(1)),
    workload("intake", INTAKE_LINES, intake),
    workload("seal", BATCH_LINES, sealing),
    workload("commit", STORED_LINES, committing),
    workload("lease", STORED_LINES, || leasing(Store::store)),
    workload("lease-fresh", STORED_LINES, || leasing(Store::keep)),
    workload("encode-plain", STORED_LINES, || encoding(Encoding::Plain, Store::store)),
    workload("encode-plain-fresh", STORED_LINES, || encoding(Encoding::Plain, Store::keep)),
    workload("encode-zstd", STORED_LINES, || encoding(Encoding::Zstd, Store::store)),
    workload("confirm", STORED_LINES, confirming),
];

const fn workload(name: &'static str, lines: usize, prepare: fn() -> Work) -> Workload {
    Workload { name, lines, prepare }
}

impl Workload {
    pub(crate) fn prepared(&self) -> Work {
        (self.prepare)()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn checking(body: Vec<u8>) -> Work {
    let mut checked = Checked::default();
    again(move || {
        checked.clear();
        check(&body, 1_700_000_000, &mut checked);
        checked.count as usize + checked.refused.len()
    })
}

fn decoding(lines_per_send: usize) -> Work {
    let (mut probe, bytes) = (probe(), lines::sends(lines_per_send));
    again(move || probe.decode(&bytes) * lines_per_send)
}

fn session(lines_per_send: usize) -> Work {
    let (mut probe, bytes) = (probe(), lines::sends(lines_per_send));
    again(move || {
        let (lines, receipt_bytes) = probe.take(&bytes);
        assert!(receipt_bytes > 0);
        lines as usize
    })
}

fn probe() -> Probe {
    Probe::new(Settings::new("micro", "micro", vec![QUEUE.to_owned()]))
}

/// Work that was done before.
fn again(mut work: impl FnMut() -> usize + 'static) -> Work {
    work();
    Box::new(work)
}

fn intake() -> Work {
    let (desk, kept) = store::desk();
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let intake = Intake::new(Router::to_one_link(), desk, metrics, Clock::system(), Duration::ZERO);
    let from = Sender { input: Input::Stomp, peer: "192.0.2.1".into() };
    let checked = |count| {
        let mut checked = Checked::default();
        check(&lines::usual(count), 0, &mut checked);
        checked
    };
    let take = move |checked: &mut Checked| {
        let lines = checked.count as usize;
        let ticket = intake.take(&from, DEFAULT_QUEUE, checked).now_or_never();
        black_box(ticket.expect("it waits for nothing unless a batch is full"));
        lines
    };
    take(&mut checked(1));
    let mut checked = checked(INTAKE_LINES);
    Box::new(move || {
        let _kept = &kept;
        take(&mut checked)
    })
}

fn sealing() -> Work {
    let (desk, kept) = store::desk();
    black_box(desk.seal(store::batch(), 0));
    let mut batch = Some(store::batch());
    Box::new(move || {
        let _kept = &kept;
        let batch = batch.take().expect("it is done once");
        let lines = batch.lines as usize;
        black_box(desk.seal(batch, 0));
        lines
    })
}

fn committing() -> Work {
    let mut store = Store::used();
    Box::new(move || store.commit())
}

fn leasing(commit: fn(&mut Store)) -> Work {
    let mut store = Store::used();
    commit(&mut store);
    Box::new(move || black_box(store.lease()).iter().map(store::lines).sum())
}

fn encoding(form: Encoding, commit: fn(&mut Store)) -> Work {
    let mut store = Store::used();
    commit(&mut store);
    let mut lent = store.lease();
    // It is drawn at random, and some digits take more to write than others.
    let labels = lent.iter_mut().filter_map(|lent| lent.batch.label.as_mut());
    labels.for_each(|label| label.epoch = Epoch([0xab; 16]));
    again(move || {
        let encoded = lent.iter().map(|lent| {
            black_box(wire::encode(&lent.batch, "micro", "micro", form).expect("what was sealed"));
            store::lines(lent)
        });
        encoded.sum()
    })
}

fn confirming() -> Work {
    let mut store = Store::used();
    store.store();
    let lent = store.lease();
    Box::new(move || {
        store.confirm(&lent);
        lent.iter().map(store::lines).sum()
    })
}
