//! Every metric, with its help. prometheus is named here only; each node has its own registry, since
//! the demo runs several in one process.
//!
//! What a link does is counted as it happens; what a spool holds is set from its [`Report`] when
//! somebody looks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forwarder::LinkObserver;
use prometheus::core::{Collector, GenericCounterVec, GenericGaugeVec};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::forecast::Forecast;
use crate::ingest::Input;
use crate::ingest::line::Reason;
use crate::spool::Report;

/// Why the metrics cannot be made or shown.
pub use prometheus::Error as MetricsError;

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// From a fifth of a millisecond to ten minutes.
const SECONDS_BUCKETS: [f64; 15] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0, 60.0, 300.0, 600.0];
/// From a hundredth of a second to a week: how long a metric was on its way.
const AGE_BUCKETS: [f64; 12] =
    [0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0];

/// The metrics of one agent or consumer.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    accepted: IntCounterVec,
    rejected: IntCounterVec,
    dropped: IntCounterVec,
    duplicates: IntCounterVec,
    missing: IntGaugeVec,
    commit_seconds: Histogram,
    links: LinkMetrics,
    spool: SpoolMetrics,
    certificates: CertificateMetrics,
}

/// Of TLS, by `file`.
#[derive(Debug)]
struct CertificateMetrics {
    expiry_seconds: IntGaugeVec,
    stale: IntGaugeVec,
}

/// What happens on links, by `to`.
#[derive(Debug)]
struct LinkMetrics {
    forwarded: IntCounterVec,
    delivered: IntCounterVec,
    up: IntGaugeVec,
    reconnects: IntCounterVec,
    confirm_seconds: HistogramVec,
    delivery_age_seconds: HistogramVec,
}

/// What a spool holds.
#[derive(Debug)]
struct SpoolMetrics {
    backlog_metrics: IntGaugeVec,
    backlog_batches: IntGaugeVec,
    backlog_bytes: IntGaugeVec,
    backlog_oldest_age_seconds: GaugeVec,
    set_aside_metrics: IntGaugeVec,
    disk_bytes: IntGauge,
    wal_bytes: IntGauge,
    limit_bytes: IntGauge,
    full_seconds: Gauge,
    rejects_trimmed: IntCounter,
    drain_seconds: GaugeVec,
}

/// Makes metrics and registers them.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn register<C: Collector + Clone + 'static>(
        &self,
        metric: Result<C, MetricsError>,
    ) -> Result<C, MetricsError> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.register(GenericCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str) -> Result<IntGaugeVec, MetricsError> {
        self.register(GenericGaugeVec::new(Opts::new(name, help), &["to"]))
    }

    fn float_gauges(&self, name: &str, help: &str) -> Result<GaugeVec, MetricsError> {
        self.register(GenericGaugeVec::new(Opts::new(name, help), &["to"]))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::new(name, help))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, MetricsError> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &["to"]))
    }
}

impl Metrics {
    /// Registers everything in a registry of its own.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let make = Registrar(&registry);
        let commit = HistogramOpts::new(
            "packetboat_commit_seconds",
            "Time of one spool transaction, to the end of its fsync.",
        );
        Ok(Self {
            accepted: make.counters(
                "packetboat_accepted_metrics_total",
                "Metrics committed to the spool, by way in.",
                &["input"],
            )?,
            rejected: make.counters(
                "packetboat_rejected_metrics_total",
                "Lines that failed the line rule, by way in and reason.",
                &["input", "reason"],
            )?,
            dropped: make.counters(
                "packetboat_dropped_metrics_total",
                "Metrics that were lost, by link and reason; without a link, before they were accepted.",
                &["to", "reason"],
            )?,
            duplicates: make.counters(
                "packetboat_duplicate_batches_total",
                "Batches of other nodes that came again and were not taken twice, by origin.",
                &["origin"],
            )?,
            missing: make.register(GenericGaugeVec::new(
                Opts::new(
                    "packetboat_missing_batches",
                    "Batches of the origin that lie between others and have not come, in its last two starts; only of \
                     origins that the topology leads here one and all.",
                ),
                &["origin"],
            ))?,
            commit_seconds: make.register(Histogram::with_opts(commit.buckets(SECONDS_BUCKETS.to_vec())))?,
            links: LinkMetrics::new(&make)?,
            spool: SpoolMetrics::new(&make)?,
            certificates: CertificateMetrics::new(&make)?,
            registry,
        })
    }

    /// Lines by way in are committed.
    pub fn accepted(&self, lines: &[u64; Input::ALL.len()]) {
        for (input, &lines) in Input::ALL.iter().zip(lines).filter(|(_, lines)| **lines > 0) {
            self.accepted.with_label_values(&[input.as_str()]).inc_by(lines);
        }
    }

    /// A batch of `origin`, which the topology names, came again.
    pub fn duplicate(&self, origin: &str) {
        self.duplicates.with_label_values(&[origin]).inc();
    }

    /// `lines` came in by `input` and were refused for `reason`.
    pub fn rejected(&self, input: Input, reason: Reason, lines: u64) {
        self.rejected.with_label_values(&[input.as_str(), reason.as_str()]).inc_by(lines);
    }

    /// `lines` came by UDP while the spool was full, or could not be committed.
    pub fn udp_dropped(&self, lines: u64) {
        self.dropped.with_label_values(&["", "spool_full"]).inc_by(lines);
    }

    /// One spool transaction took `seconds`.
    pub fn committed(&self, seconds: f64) {
        self.commit_seconds.observe(seconds);
    }

    /// Sets the gauges of a spool.
    pub fn show_spool(&self, report: &Report, forecast: &Forecast, now_ms: i64) {
        let spool = &self.spool;
        spool.disk_bytes.set(whole(report.file_bytes));
        spool.wal_bytes.set(whole(report.wal_bytes));
        spool.limit_bytes.set(whole(report.limit_bytes));
        // It begins anew with a file that replaces a corrupt one; a counter must not fall.
        let trimmed = &spool.rejects_trimmed;
        trimmed.inc_by(report.rejects_trimmed.saturating_sub(trimmed.get()));
        spool.full_seconds.set(forecast.full_seconds());
        for (origin, &batches) in &report.missing {
            self.missing.with_label_values(&[origin]).set(batches);
        }
        for link in &report.links {
            let to = &[link.name.as_str()];
            let age_ms = link.oldest_ms.map_or(0, |oldest| (now_ms - oldest).max(0));
            spool.backlog_metrics.with_label_values(to).set(link.backlog.lines);
            spool.backlog_batches.with_label_values(to).set(link.backlog.batches);
            spool.backlog_bytes.with_label_values(to).set(link.backlog.bytes);
            spool.set_aside_metrics.with_label_values(to).set(link.aside.lines);
            spool
                .backlog_oldest_age_seconds
                .with_label_values(to)
                .set(Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64());
            spool.drain_seconds.with_label_values(to).set(forecast.drain_seconds(&link.name));
            for (reason, amount) in link.dropped() {
                // The books outlive the process, and a late receipt takes a drop back: a counter must
                // not fall.
                let counter = self.dropped.with_label_values(&[link.name.as_str(), reason]);
                counter.inc_by(amount.lines.unsigned_abs().saturating_sub(counter.get()));
            }
        }
    }

    /// Counts what happens on the link `to` of a node: what an agent forwards, a consumer delivers.
    pub fn link_observer(&self, to: &str, kind: &str) -> Arc<dyn LinkObserver> {
        let LinkMetrics { forwarded, delivered, up, reconnects, confirm_seconds, delivery_age_seconds } =
            &self.links;
        let confirmed = if kind == "consumer" { delivered } else { forwarded };
        let to = &[to];
        Arc::new(OneLink {
            confirmed: confirmed.with_label_values(to),
            up: up.with_label_values(to),
            reconnects: reconnects.with_label_values(to),
            confirm_seconds: confirm_seconds.with_label_values(to),
            delivery_age_seconds: delivery_age_seconds.with_label_values(to),
        })
    }

    /// The certificate in `file` lasts for so many seconds, if it could ever be read; `stale`: what the file
    /// holds now was not taken.
    pub fn certificate(&self, file: &Path, expiry_seconds: Option<i64>, stale: bool) {
        let CertificateMetrics { expiry_seconds: expiry, stale: is_stale } = &self.certificates;
        let file = file.display().to_string();
        let file = &[file.as_str()];
        if let Some(seconds) = expiry_seconds {
            expiry.with_label_values(file).set(seconds);
        }
        is_stale.with_label_values(file).set(i64::from(stale));
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// The metrics of one link.
struct OneLink {
    confirmed: IntCounter,
    up: IntGauge,
    reconnects: IntCounter,
    confirm_seconds: Histogram,
    delivery_age_seconds: Histogram,
}

impl LinkObserver for OneLink {
    fn link_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    fn reconnected(&self) {
        self.reconnects.inc();
    }

    fn confirmed(&self, lines: u64, since_sent: Duration, age: Duration) {
        self.confirmed.inc_by(lines);
        self.confirm_seconds.observe(since_sent.as_secs_f64());
        self.delivery_age_seconds.observe(age.as_secs_f64());
    }
}

impl LinkMetrics {
    fn new(make: &Registrar<'_>) -> Result<Self, MetricsError> {
        let to = &["to"];
        Ok(Self {
            forwarded: make.counters(
                "packetboat_forwarded_metrics_total",
                "Metrics that the next hop confirmed.",
                to,
            )?,
            delivered: make.counters(
                "packetboat_delivered_metrics_total",
                "Metrics that Graphite confirmed.",
                to,
            )?,
            up: make.gauges("packetboat_link_up", "Whether the link stands.")?,
            reconnects: make.counters(
                "packetboat_link_reconnects_total",
                "How often the link stood again after it was lost.",
                to,
            )?,
            confirm_seconds: make.histograms(
                "packetboat_confirm_seconds",
                "Time from sending a batch to the next hop's word.",
                &SECONDS_BUCKETS,
            )?,
            delivery_age_seconds: make.histograms(
                "packetboat_delivery_age_seconds",
                "Age of a batch's first metric, since it was accepted, when it was confirmed.",
                &AGE_BUCKETS,
            )?,
        })
    }
}

impl CertificateMetrics {
    fn new(make: &Registrar<'_>) -> Result<Self, MetricsError> {
        let gauges = |name, help| make.register(GenericGaugeVec::new(Opts::new(name, help), &["file"]));
        Ok(Self {
            expiry_seconds: gauges(
                "packetboat_certificate_expiry_seconds",
                "Time until the certificate in use expires; negative once it has.",
            )?,
            stale: gauges(
                "packetboat_certificate_stale",
                "Whether the file's present content is not in use, because certificate, key and chain do not fit.",
            )?,
        })
    }
}

impl SpoolMetrics {
    fn new(make: &Registrar<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            backlog_metrics: make
                .gauges("packetboat_backlog_metrics", "Metrics committed and unconfirmed.")?,
            backlog_batches: make
                .gauges("packetboat_backlog_batches", "Batches committed and unconfirmed.")?,
            backlog_bytes: make
                .gauges("packetboat_backlog_bytes", "Stored bytes committed and unconfirmed.")?,
            backlog_oldest_age_seconds: make.float_gauges(
                "packetboat_backlog_oldest_age_seconds",
                "Time since the oldest unconfirmed metric was accepted; 0 without a backlog.",
            )?,
            set_aside_metrics: make.gauges(
                "packetboat_set_aside_metrics",
                "Metrics that the link's upstream refused and that the spool keeps.",
            )?,
            disk_bytes: make.gauge("packetboat_spool_disk_bytes", "Size of the spool's database file.")?,
            wal_bytes: make.gauge("packetboat_spool_wal_bytes", "Size of the spool's write-ahead log.")?,
            limit_bytes: make.gauge("packetboat_spool_limit_bytes", "Limit on used pages plus log.")?,
            full_seconds: make.register(Gauge::new(
                "packetboat_spool_full_seconds",
                "Time until the spool is full at the present rate; +Inf if it does not fill.",
            ))?,
            rejects_trimmed: make.register(IntCounter::new(
                "packetboat_dead_letters_trimmed_total",
                "Dead letters that went because they had all the room they may have.",
            ))?,
            drain_seconds: make.float_gauges(
                "packetboat_drain_seconds",
                "Time until the backlog is gone at the present rate; +Inf if it does not shrink.",
            )?,
        })
    }
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
