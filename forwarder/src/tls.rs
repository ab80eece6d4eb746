//! TLS to an upstream: TLS 1.2 and 1.3, the peer's certificate and its name checked, and errors that say
//! what to mend.
//!
//! rustls is named under here and in the agent's `tls` only. All files are read anew for each
//! connection, since they are exchanged while we run; what reads them serves the agent's listeners too.

mod authorities;
mod certificate;
mod explain;
mod file;
mod identity;
mod presenter;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod verifier;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use topology::model::TlsClient;

pub use authorities::Authorities;
pub use certificate::Certificate;
pub use file::FileError;
pub use identity::Identity;
pub use stream::TlsStream;

use presenter::Presenter;
use verifier::Verifier;

/// Why there is no TLS session with a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// What the topology names as the peer's host cannot be checked.
    #[error("`{0}` is neither a DNS name nor an address, so no certificate can be for it")]
    Host(String),
    /// The peer's certificate is not to be trusted.
    #[error("{0}")]
    Certificate(String),
    /// The peer wants a certificate of ours, or another one.
    #[error("{0}")]
    Ours(String),
    /// Nothing came of it in time.
    #[error("no TLS session within {0:?} (is this its port for TLS?)")]
    Silent(Duration),
    /// There was no handshake.
    #[error("{0}")]
    Handshake(String),
}

/// What a TLS session is begun with: the files of a link, as they are now.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    authorities: Authorities,
    identity: Option<Identity>,
}

impl TlsFiles {
    /// Reads what `client` names.
    pub async fn read(client: &TlsClient) -> Result<Self, FileError> {
        let authorities = match &client.ca {
            Some(file) => Authorities::read(file).await?,
            None => Authorities::of_the_system()?,
        };
        let identity = match &client.identity {
            Some(identity) => Some(Identity::read(identity).await?),
            None => None,
        };
        Ok(Self { authorities, identity })
    }

    /// Begins a TLS session over `stream` with a peer whose certificate must be for `host`. The caller
    /// limits the time.
    pub async fn begin(&self, stream: TcpStream, host: &str) -> Result<TlsStream, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host(host.to_owned()))?;
        let verifier = Arc::new(Verifier::new(&self.authorities, host)?);
        let presenter = Arc::new(Presenter::new(self.identity.clone()));
        let connector = TlsConnector::from(Arc::new(self.config(&verifier, &presenter)?));
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(TlsStream::new(stream, presenter)),
            Err(error) => Err(match verifier.words() {
                Some(words) => TlsError::Certificate(words),
                None => explain::handshake(&error, &presenter),
            }),
        }
    }

    fn config(&self, verifier: &Arc<Verifier>, presenter: &Arc<Presenter>) -> Result<ClientConfig, TlsError> {
        let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let versions = versions.map_err(|error| TlsError::Handshake(error.to_string()))?;
        let (verifier, presenter) = (Arc::clone(verifier), Arc::clone(presenter));
        // The verifier is webpki's own, which is only asked for its words.
        let mut config = versions
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(presenter);
        // A link is one session for hours, and its files may be other ones by the next.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// The cryptography of all TLS.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests;
