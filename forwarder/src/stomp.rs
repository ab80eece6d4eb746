//! The STOMP client connection: tokio-stomp and what it lacks.
//!
//! tokio-stomp is named in this module and its children only, so that a successor can replace it here.
//! The road of a byte: `inbox` cuts the stream into frames, `head` mends what the codec would trip over,
//! `codec` reads and writes frames through tokio-stomp, `handshake` logs in, and [`Connection`] carries
//! frames and heart-beats over any stream. It knows neither batches nor leases.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use topology::model::{Endpoint, StompUpstream};

use crate::dial::{self, Unreachable};
use crate::tls::{FileError, TlsError, TlsFiles};
use crate::transport::Transport;

mod codec;
mod connection;
mod escape;
mod handshake;
mod head;
mod heartbeat;
mod inbox;
mod login;
mod message;
mod outbox;
#[cfg(test)]
pub(crate) mod peer;
mod pulse;

pub use codec::Connected;
pub use connection::{Connection, Incoming, StompEnd};
pub use handshake::{HandshakeError, Spelling};
pub use login::{Login, LoginError, Passcode};
pub use message::{AckToken, Headers, Message};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// No escapes, no heart-beats, ACK by `message-id`.
    V1_0,
    /// Escapes and heart-beats.
    V1_1,
    /// ACK by `id`.
    V1_2,
}

impl Version {
    /// As CONNECTED writes it.
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "1.0" => Some(Self::V1_0),
            "1.1" => Some(Self::V1_1),
            "1.2" => Some(Self::V1_2),
            _ => None,
        }
    }
}

/// Times and sizes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StompSettings {
    /// Offered for both directions; zero: none.
    pub heart_beat: Duration,
    /// For each name lookup, and for each connect to one address.
    pub connect_timeout: Duration,
    /// From the TCP connection to CONNECTED; that of TLS is a part of it.
    pub handshake_timeout: Duration,
    /// A write that moves no byte for this long ends the connection.
    pub stall_limit: Duration,
    /// A frame with a longer head ends the connection.
    pub head_bytes_max: usize,
    /// A longer body is cut; [`Message::cut_bytes`] tells.
    pub body_bytes_max: usize,
}

impl Default for StompSettings {
    fn default() -> Self {
        Self {
            heart_beat: Duration::from_secs(10),
            connect_timeout: dial::CONNECT_TIMEOUT,
            handshake_timeout: Duration::from_secs(10),
            stall_limit: Duration::from_secs(60),
            head_bytes_max: 256 * 1024,
            body_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// Why no endpoint of an upstream could be entered.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing was dialled: the passcode must be mended first.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Nothing was dialled: a file of TLS must be mended first.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Every endpoint failed; each one says why.
    #[error("{}", Listed(failures))]
    Upstream {
        /// In failover order.
        failures: Vec<(Endpoint, EndpointError)>,
    },
}

/// Why one endpoint could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No TCP connection.
    #[error(transparent)]
    Dial(#[from] Unreachable),
    /// A TCP connection, and no TLS session.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A connection, and no STOMP session.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

struct Listed<'a>(&'a [(Endpoint, EndpointError)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (endpoint, error)) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "; " })?;
            match error {
                EndpointError::Dial(unreachable) => write!(f, "{unreachable}")?,
                EndpointError::Tls(error) => write!(f, "{endpoint}: {error}")?,
                EndpointError::Handshake(error) => write!(f, "{endpoint}: {error}")?,
            }
        }
        Ok(())
    }
}

/// Connects to the first endpoint of `upstream` that lets us in, in failover order. Over TLS if the
/// upstream has it; its files are read now. `node` is who we are, if we are a node of the mesh.
pub async fn connect(
    upstream: &StompUpstream,
    node: Option<&str>,
    settings: &StompSettings,
) -> Result<Connection<Transport>, ConnectError> {
    let login = Login::read(upstream, node).await?;
    let tls = match &upstream.tls {
        Some(client) => Some(TlsFiles::read(client).await?),
        None => None,
    };
    let way = Way { login, tls, settings };
    let mut failures = Vec::new();
    for endpoint in &upstream.endpoints {
        match way.enter(endpoint).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failures.push((endpoint.clone(), error)),
        }
    }
    Err(ConnectError::Upstream { failures })
}

/// How every endpoint of an upstream is entered.
struct Way<'a> {
    login: Login,
    tls: Option<TlsFiles>,
    settings: &'a StompSettings,
}

impl Way<'_> {
    /// RabbitMQ and ActiveMQ unescape the values of CONNECT, against the specification, and others do
    /// not: so a login with a backslash is tried in both spellings.
    async fn enter(&self, endpoint: &Endpoint) -> Result<Connection<Transport>, EndpointError> {
        let refused = match self.enter_spelled(endpoint, Spelling::Doubled).await {
            Err(EndpointError::Handshake(refused @ HandshakeError::Refused(_))) => refused,
            other => return other,
        };
        if self.login.differs_by_spelling() {
            return self.enter_spelled(endpoint, Spelling::AsIs).await;
        }
        Err(refused.into())
    }

    async fn enter_spelled(
        &self,
        endpoint: &Endpoint,
        spelling: Spelling,
    ) -> Result<Connection<Transport>, EndpointError> {
        let Self { login, settings, .. } = self;
        let stream = dial::dial_endpoint(endpoint, settings.connect_timeout, None).await?;
        let deadline = Instant::now() + settings.handshake_timeout;
        let transport = match &self.tls {
            None => Transport::Tcp(stream),
            Some(files) => match timeout_at(deadline, files.begin(stream, &endpoint.host)).await {
                Ok(begun) => Transport::Tls(Box::new(begun?)),
                Err(_) => return Err(TlsError::Silent(settings.handshake_timeout).into()),
            },
        };
        let peer = endpoint.to_string();
        Ok(Connection::open_by(deadline, transport, &peer, login, spelling, settings).await?)
    }
}

#[cfg(test)]
mod tests;
