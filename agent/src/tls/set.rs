//! One reading of the files of the listeners: what fits together, as rustls wants it.

use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use forwarder::tls::{Authorities, FileError, Identity, provider};
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use topology::model::TlsServer;

use super::ClientCertificate;

/// Certificate, key, chain and the CA of clients, which fit.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) identity: Identity,
    required: Arc<ServerConfig>,
    optional: Arc<ServerConfig>,
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    /// A file is to be mended.
    #[error(transparent)]
    File(#[from] FileError),
    /// Each file is in order, and rustls does not take them.
    #[error("TLS cannot be set up with {file}: {fault}")]
    Config {
        /// The certificate's.
        file: String,
        /// In rustls' words.
        fault: String,
    },
}

impl Set {
    /// Reads `files`.
    pub(super) async fn read(files: &TlsServer, clock: &Clock) -> Result<Self, SetError> {
        let identity = Identity::read(&files.identity).await?;
        let clients = match &files.client_ca {
            Some(file) => Some(Authorities::read(file).await?),
            None => None,
        };
        let config = |client| config(&identity, clients.as_ref(), client, clock);
        let required = config(ClientCertificate::Required)?;
        let optional = match clients {
            Some(_) => config(ClientCertificate::Optional)?,
            None => Arc::clone(&required),
        };
        Ok(Self { identity, required, optional })
    }

    /// What rustls is to do for a listener.
    pub(super) fn config(&self, client: ClientCertificate) -> Arc<ServerConfig> {
        Arc::clone(match client {
            ClientCertificate::Required => &self.required,
            ClientCertificate::Optional => &self.optional,
        })
    }
}

fn config(
    identity: &Identity,
    clients: Option<&Authorities>,
    client: ClientCertificate,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, SetError> {
    let fail = |fault: &dyn std::fmt::Display| SetError::Config {
        file: identity.file().display().to_string(),
        fault: fault.to_string(),
    };
    let time = Arc::new(WallTime(clock.clone()));
    let builder = ServerConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()
        .map_err(|fault| fail(&fault))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider());
            let verifier = match client {
                ClientCertificate::Required => verifier,
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|fault| fail(&fault))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    // A session is not resumed: it would take memory, a client's certificate would not be verified again,
    // and a client that closes without having read its ticket resets the connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The agent's clock, for rustls.
#[derive(Debug)]
struct WallTime(Clock);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(self.0.now_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}
