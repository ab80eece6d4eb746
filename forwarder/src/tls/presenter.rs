//! Our own certificate, and whether the peer has asked for one: in TLS 1.3 it refuses ours only after
//! the handshake, so the question has to be remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// Presents our certificate, if we have one, to a peer that asks.
#[derive(Debug)]
pub(super) struct Presenter {
    identity: Option<Identity>,
    asked: AtomicBool,
}

impl Presenter {
    pub(super) fn new(identity: Option<Identity>) -> Self {
        Self { identity, asked: AtomicBool::new(false) }
    }

    /// What may be wrong if the peer ends a session that has hardly begun.
    pub(super) fn suspicion(&self) -> Option<String> {
        if !self.asked.load(Ordering::Relaxed) {
            return None;
        }
        Some(match &self.identity {
            None => "it asks for a client certificate, and the link has none: give it tls.cert and tls.key"
                .to_owned(),
            Some(identity) => format!(
                "it may have refused our client certificate {} ({}): its CA must be one that the peer trusts",
                identity.file().display(),
                identity.certificate().subject
            ),
        })
    }
}

impl ResolvesClientCert for Presenter {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.identity.as_ref().map(Identity::certified_key)
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}
