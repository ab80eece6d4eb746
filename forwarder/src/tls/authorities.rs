//! Whose signature counts: the CAs of a file, or the system's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;

use super::file::{FileError, PemFile};

/// CAs that are trusted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authorities {
    /// `None`: the system's.
    file: Option<PathBuf>,
    roots: Arc<RootCertStore>,
}

impl Authorities {
    /// The CAs in `file`, all of which must be in order.
    pub async fn read(file: &Path) -> Result<Self, FileError> {
        let pem = PemFile::new("CA", file);
        let mut roots = RootCertStore::empty();
        for (place, certificate) in pem.certificates().await?.into_iter().enumerate() {
            let taken = roots.add(certificate);
            taken.map_err(|fault| {
                pem.error(format!("has a broken certificate, number {}: {fault}", place + 1))
            })?;
        }
        Ok(Self { file: Some(file.to_owned()), roots: Arc::new(roots) })
    }

    /// What the system trusts (`SSL_CERT_FILE`, or a folder such as /etc/ssl/certs). It is some
    /// milliseconds' work, done for each dial, so that a changed system is noticed.
    pub(super) fn of_the_system() -> Result<Self, FileError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (taken, _broken) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            let folder = PathBuf::from("/etc/ssl/certs");
            return Err(PemFile::new("system's CA", &folder)
                .error("gives no CA: install the package ca-certificates, or name a file as tls.ca"));
        }
        Ok(Self { file: None, roots: Arc::new(roots) })
    }

    /// For rustls.
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// For a message: where they are from.
    pub(super) fn source(&self) -> String {
        match &self.file {
            Some(file) => format!("a CA in {}", file.display()),
            None => "a CA that this system trusts".to_owned(),
        }
    }

    /// For a message: where to put another one.
    pub(super) fn mend(&self) -> &'static str {
        match self.file {
            Some(_) => "put that CA's certificate into the file",
            None => "name a file with that CA's certificate as tls.ca",
        }
    }
}
