//! The certificates that links show to their upstreams. A link reads its own at each connect; here it is
//! only told how long they last, and whether the next connect could use them.

use std::sync::Arc;

use forwarder::Clock;
use forwarder::tls::Identity;
use topology::model::TlsIdentity;

use crate::metrics::Metrics;
use crate::stamp::Stamps;

/// The client certificates of a node.
#[derive(Debug)]
pub(crate) struct LinkCertificates {
    shown: Vec<Shown>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Shown {
    files: TlsIdentity,
    /// When they were last read.
    seen: Option<Stamps>,
    not_after_seconds: Option<i64>,
    is_stale: bool,
}

impl LinkCertificates {
    /// Those in `files`; one that several links share counts once.
    pub(crate) fn new(files: impl Iterator<Item = TlsIdentity>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let mut shown: Vec<Shown> = Vec::new();
        for files in files {
            if shown.iter().all(|other| other.files != files) {
                shown.push(Shown { files, seen: None, not_after_seconds: None, is_stale: false });
            }
        }
        Self { shown, clock, metrics }
    }

    /// Reads those that have changed, and sets the gauges of all.
    pub(crate) async fn look(&mut self) {
        let now_seconds = self.clock.now_seconds();
        for shown in &mut self.shown {
            shown.look().await;
            let left = shown.not_after_seconds.map(|end| end.saturating_sub(now_seconds));
            self.metrics.certificate(&shown.files.cert, left, shown.is_stale);
        }
    }
}

impl Shown {
    async fn look(&mut self) {
        let seen = Some(Stamps::of([self.files.cert.as_path(), &self.files.key].into_iter()).await);
        if self.seen == seen {
            return;
        }
        self.seen = seen;
        let read = Identity::read(&self.files).await;
        self.is_stale = read.is_err();
        match read {
            Ok(identity) => self.not_after_seconds = Some(identity.certificate().not_after_seconds),
            Err(reason) => {
                tracing::warn!(%reason, "a link could not connect with its client certificate now")
            }
        }
    }
}
