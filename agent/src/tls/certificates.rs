//! The certificate in use, and the look at its files: a new set is taken once certificate, key and chain
//! fit together; until then the old one stays, and a gauge says so. Standing sessions keep what they began
//! with.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forwarder::Clock;
use rustls::ServerConfig;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use topology::model::TlsServer;

use super::set::{Set, SetError};
use super::{Acceptor, ClientCertificate, LinkCertificates};
use crate::metrics::Metrics;
use crate::stamp::Stamps;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The certificate of an agent's listeners. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: TlsServer,
    clock: Clock,
    metrics: Arc<Metrics>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    set: Set,
    /// Of the files when they were last read.
    seen: Stamps,
    /// What was read last was not taken.
    is_stale: bool,
}

impl Certificates {
    /// Reads `files`. A certificate that is out of its time is taken here, with a warning: there is no
    /// other, and the agent has more to do than to listen.
    pub(crate) async fn open(
        files: &TlsServer,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SetError> {
        let seen = stamps(files).await;
        let set = Set::read(files, &clock).await?;
        if let Some(fault) = set.identity.certificate().time_fault(clock.now_seconds()) {
            let file = set.identity.file().display();
            tracing::error!(%file, %fault, "the certificate of this agent is of no use to clients");
        }
        let current = Mutex::new(Current { set, seen, is_stale: false });
        let certificates = Self(Arc::new(Inner { files: files.clone(), clock, metrics, current }));
        certificates.show();
        Ok(certificates)
    }

    /// For a listener.
    pub(crate) fn acceptor(&self, client: ClientCertificate) -> Acceptor {
        Acceptor::new(self.clone(), client)
    }

    /// What rustls is to do from now on.
    pub(super) fn config(&self, client: ClientCertificate) -> Arc<ServerConfig> {
        self.current().set.config(client)
    }

    /// The file whose CAs vouch for clients.
    pub(super) fn client_ca(&self) -> Option<&Path> {
        self.0.files.client_ca.as_deref()
    }

    /// The certificate's file.
    pub(super) fn file(&self) -> &Path {
        &self.0.files.identity.cert
    }

    /// Looks whether the files have changed.
    pub(crate) async fn look(&self) {
        // Before they are read: what changes meanwhile is seen at the next look.
        let seen = stamps(&self.0.files).await;
        let (is_changed, is_stale) = {
            let current = self.current();
            (current.seen != seen, current.is_stale)
        };
        // What was refused may be in order without a change, once its time has come.
        if is_changed || is_stale {
            let read = self.read_in_time().await;
            self.take(read, seen, is_changed);
        }
        self.show();
    }

    async fn read_in_time(&self) -> Result<Set, String> {
        let Inner { files, clock, .. } = &*self.0;
        let set = Set::read(files, clock).await.map_err(|error| error.to_string())?;
        match set.identity.certificate().time_fault(clock.now_seconds()) {
            None => Ok(set),
            Some(fault) => Err(format!("the certificate {} {fault}", self.file().display())),
        }
    }

    fn take(&self, read: Result<Set, String>, seen: Stamps, is_changed: bool) {
        let file = self.file().display();
        let mut current = self.current();
        current.seen = seen;
        current.is_stale = read.is_err();
        match read {
            Ok(set) => {
                current.set = set;
                tracing::info!(%file, "the changed certificate is in use for new connections");
            }
            Err(reason) if is_changed => {
                tracing::warn!(%file, %reason, "a changed certificate is not taken, and the old one stays in use");
            }
            Err(_) => {}
        }
    }

    fn show(&self) {
        let (not_after, is_stale) = {
            let current = self.current();
            (current.set.identity.certificate().not_after_seconds, current.is_stale)
        };
        let left = not_after.saturating_sub(self.0.clock.now_seconds());
        self.0.metrics.certificate(self.file(), Some(left), is_stale);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn stamps(files: &TlsServer) -> Stamps {
    let identity = [files.identity.cert.as_path(), &files.identity.key];
    Stamps::of(identity.into_iter().chain(files.client_ca.as_deref())).await
}

/// Looks after all certificates of a node until `stop`.
pub(crate) async fn keep_looking(
    own: Option<Certificates>,
    mut links: LinkCertificates,
    stop: CancellationToken,
) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Some(own) = &own {
            own.look().await;
        }
        links.look().await;
    }
}
