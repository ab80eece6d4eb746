//! PEM files as operators make them: certificates and keys. Their content, which may be a secret, is in no
//! error.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// A larger file is the wrong file: a bundle of all public CAs has a quarter of it.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A file is of no use. It is read again when it is needed again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} file {} {fault}", file.display())]
pub struct FileError {
    /// What it should hold.
    pub what: &'static str,
    /// As the topology names it.
    pub file: PathBuf,
    /// What is wrong with it, and the mend.
    pub fault: String,
}

/// A file, and what it should hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct PemFile<'a> {
    what: &'static str,
    file: &'a Path,
}

impl<'a> PemFile<'a> {
    /// `what` is `CA`, `certificate` or `key`.
    pub(super) fn new(what: &'static str, file: &'a Path) -> Self {
        Self { what, file }
    }

    pub(super) fn error(self, fault: impl Into<String>) -> FileError {
        FileError { what: self.what, file: self.file.to_owned(), fault: fault.into() }
    }

    /// All its certificates: at least one.
    pub(super) async fn certificates(self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let content = self.read().await?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&content)
            .collect::<Result<_, _>>()
            .map_err(|fault| self.not_pem(&fault))?;
        if certificates.is_empty() {
            return Err(self.error(
                "holds no certificate in PEM: it should have a line -----BEGIN CERTIFICATE----- (openssl x509 \
                 -inform DER makes PEM of DER)",
            ));
        }
        Ok(certificates)
    }

    /// Its key.
    pub(super) async fn key(self) -> Result<PrivateKeyDer<'static>, FileError> {
        let content = self.read().await?;
        if memchr::memmem::find(&content, b"ENCRYPTED").is_some() {
            return Err(self.error(
                "is encrypted, and nobody is there to type its passphrase: openssl pkey -in FILE -out NEW removes it",
            ));
        }
        match PrivateKeyDer::from_pem_slice(&content) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => {
                Err(self
                    .error("holds no private key in PEM: it should have a line -----BEGIN PRIVATE KEY-----"))
            }
            Err(fault) => Err(self.not_pem(&fault)),
        }
    }

    async fn read(self) -> Result<Vec<u8>, FileError> {
        let mut content = Vec::new();
        let one_too_many = FILE_BYTES_MAX as u64 + 1;
        let read = async {
            let file = File::open(self.file).await?;
            file.take(one_too_many).read_to_end(&mut content).await
        };
        match read.await {
            Err(cause) => Err(self.error(format!("cannot be read: {cause}"))),
            Ok(_) if content.len() > FILE_BYTES_MAX => Err(self
                .error("is larger than 1 MiB: it should hold certificates or keys in PEM, and nothing else")),
            Ok(_) => Ok(content),
        }
    }

    /// pem's own words may quote the file, which may hold a key.
    fn not_pem(self, fault: &pem::Error) -> FileError {
        self.error(match fault {
            pem::Error::MissingSectionEnd { .. } => {
                "is cut off: a -----BEGIN has no -----END (is it still being written?)"
            }
            pem::Error::IllegalSectionStart { .. } => "has a broken line -----BEGIN",
            _ => "is not PEM: what is between -----BEGIN and -----END is not base64",
        })
    }
}
