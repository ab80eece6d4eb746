//! The STOMP client connection: tokio-stomp and what it lacks.
//!
//! tokio-stomp is named in this module and its children only, so that a successor can replace it here.
//! The road of a byte: `inbox` cuts the stream into frames, `head` mends what the codec would trip over,
//! `codec` reads and writes frames through tokio-stomp, `handshake` logs in, and [`Connection`] carries
//! frames and heart-beats over any stream. It knows neither batches nor leases.

use std::fmt;
use std::time::Duration;

use tokio::net::TcpStream;
use topology::model::{Endpoint, StompUpstream};

use crate::dial::{self, Unreachable};

mod codec;
mod connection;
mod escape;
mod handshake;
mod head;
mod heartbeat;
mod inbox;
mod login;
mod message;
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
    /// From the TCP connection to CONNECTED.
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
    /// A TCP connection, and no STOMP session.
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
                EndpointError::Handshake(error) => write!(f, "{endpoint}: {error}")?,
            }
        }
        Ok(())
    }
}

/// Connects to the first endpoint of `upstream` that lets us in, in failover order.
pub async fn connect(
    upstream: &StompUpstream,
    settings: &StompSettings,
) -> Result<Connection<TcpStream>, ConnectError> {
    let login = Login::read(upstream).await?;
    let mut failures = Vec::new();
    for endpoint in &upstream.endpoints {
        match enter(endpoint, &login, settings).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failures.push((endpoint.clone(), error)),
        }
    }
    Err(ConnectError::Upstream { failures })
}

/// RabbitMQ and ActiveMQ unescape the values of CONNECT, against the specification, and others do not:
/// so a login with a backslash is tried in both spellings.
async fn enter(
    endpoint: &Endpoint,
    login: &Login,
    settings: &StompSettings,
) -> Result<Connection<TcpStream>, EndpointError> {
    let refused = match enter_spelled(endpoint, login, Spelling::Doubled, settings).await {
        Err(EndpointError::Handshake(refused @ HandshakeError::Refused(_))) => refused,
        other => return other,
    };
    if login.differs_by_spelling() {
        return enter_spelled(endpoint, login, Spelling::AsIs, settings).await;
    }
    Err(refused.into())
}

async fn enter_spelled(
    endpoint: &Endpoint,
    login: &Login,
    spelling: Spelling,
    settings: &StompSettings,
) -> Result<Connection<TcpStream>, EndpointError> {
    let stream = dial::dial_endpoint(endpoint, settings.connect_timeout).await?;
    Ok(Connection::open(stream, &endpoint.to_string(), login, spelling, settings).await?)
}

#[cfg(test)]
mod tests;
