//! A certificate with its chain and its key: one thing, of files that are exchanged one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use topology::model::TlsIdentity;

use super::certificate::Certificate;
use super::file::{FileError, PemFile};
use super::provider;

/// A certificate and the key that fits it. Cheap to clone; its `Debug` does not show the key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// As the topology names it.
    cert: PathBuf,
    certificate: Arc<Certificate>,
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads both files. It is an error if they do not fit together. Whether the certificate is within its
    /// time is left to the caller.
    pub async fn read(files: &TlsIdentity) -> Result<Self, FileError> {
        let (cert, key) = (PemFile::new("certificate", &files.cert), PemFile::new("key", &files.key));
        let chain = cert.certificates().await?;
        let certificate = parsed(&chain, cert)?;
        let der = key.key().await?;
        let signing = provider().key_provider.load_private_key(der).map_err(|_| {
            key.error("holds a key that is not understood: use RSA, ECDSA (P-256, P-384) or Ed25519")
        })?;
        let pair = CertifiedKey::new(chain, signing);
        match pair.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(key.error(misfit(&pair, &files.cert))),
        }
        Ok(Self { cert: files.cert.clone(), certificate: Arc::new(certificate), key: Arc::new(pair) })
    }

    /// What the certificate itself, the first of the chain, says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// For rustls.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// The certificate's file.
    pub fn file(&self) -> &Path {
        &self.cert
    }
}

/// Every certificate of the chain must be one; the first is the one that counts.
fn parsed(chain: &[CertificateDer<'_>], cert: PemFile<'_>) -> Result<Certificate, FileError> {
    let mut leaf = None;
    for (place, der) in chain.iter().enumerate() {
        let Some(certificate) = Certificate::parse(der) else {
            return Err(cert.error(format!("has a broken certificate, number {}", place + 1)));
        };
        leaf.get_or_insert(certificate);
    }
    leaf.ok_or_else(|| cert.error("holds no certificate"))
}

/// The usual reasons why a key does not fit its certificate.
fn misfit(pair: &CertifiedKey, cert: &Path) -> String {
    let fits = |der: &CertificateDer<'static>| {
        CertifiedKey::new(vec![der.clone()], Arc::clone(&pair.key)).keys_match().is_ok()
    };
    let cert = cert.display();
    match pair.cert.iter().position(fits) {
        Some(place) => {
            format!(
                "belongs to certificate number {} in {cert}: put that one first, and its CAs after it",
                place + 1
            )
        }
        None => format!("does not belong to the certificate in {cert}: exchange both"),
    }
}
