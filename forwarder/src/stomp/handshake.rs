//! CONNECT and its answer: the login, the version and the heart-beats.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::codec::{self, Connected, Frame};
use super::connection::{Connection, StompEnd};
use super::heartbeat::Beats;
use super::login::{Login, Passcode};
use super::{StompSettings, Version};
use crate::wire::WIRE_VERSION;

/// How a backslash in a value of CONNECT is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// As `\\`: RabbitMQ and ActiveMQ unescape CONNECT.
    Doubled,
    /// As it is: the specification has no escapes in CONNECT.
    AsIs,
}

/// Why a stream did not become a STOMP session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The upstream answered ERROR, in its words.
    #[error("the login was refused: {0} (check login, passcode_file and vhost)")]
    Refused(String),
    /// Neither CONNECTED nor ERROR came in time.
    #[error("no answer to CONNECT within {0:?} (is this the STOMP port?)")]
    Timeout(Duration),
    /// The connection ended first.
    #[error("no answer to CONNECT: {0}")]
    Lost(StompEnd),
    /// An answer that is not in order.
    #[error("a wrong answer to CONNECT: {0}")]
    Answer(String),
    /// A value that CONNECT cannot carry.
    #[error("the {0} holds a line end or NUL, which CONNECT cannot carry")]
    Value(&'static str),
}

impl Login {
    /// Whether it makes a difference how backslashes are written.
    pub(super) fn differs_by_spelling(&self) -> bool {
        self.values().any(|(_, value)| value.contains('\\'))
    }

    /// Header names and values in the order of CONNECT.
    fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let login = self.login.as_deref().map(|login| ("login", login));
        let passcode = self.passcode.as_ref().map(Passcode::expose).map(|passcode| ("passcode", passcode));
        [("host", self.host.as_str())].into_iter().chain(login).chain(passcode)
    }

    fn spelled(&self, spelling: Spelling) -> Result<Vec<(&'static str, String)>, HandshakeError> {
        self.values()
            .map(|(name, value)| {
                if value.contains(['\n', '\r', '\0']) {
                    return Err(HandshakeError::Value(name));
                }
                Ok(match spelling {
                    Spelling::Doubled => (name, value.replace('\\', "\\\\")),
                    Spelling::AsIs => (name, value.to_owned()),
                })
            })
            .collect()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Logs in over `stream`. `peer` names the far end in logs.
    pub async fn open(
        stream: S,
        peer: &str,
        login: &Login,
        spelling: Spelling,
        settings: &StompSettings,
    ) -> Result<Self, HandshakeError> {
        let deadline = Instant::now() + settings.handshake_timeout;
        Self::open_by(deadline, stream, peer, login, spelling, settings).await
    }

    /// As [`Self::open`], for a stream on which a part of the time is spent already.
    pub(super) async fn open_by(
        deadline: Instant,
        stream: S,
        peer: &str,
        login: &Login,
        spelling: Spelling,
        settings: &StompSettings,
    ) -> Result<Self, HandshakeError> {
        let connect = connect_frame(login, spelling, settings)?;
        let mut connection = Self::raw(stream, peer, settings);
        connection.queue(|_, out| out.end().extend_from_slice(&connect));
        let answer = timeout_at(deadline, connection.frame()).await;
        match answer {
            Err(_) => Err(HandshakeError::Timeout(settings.handshake_timeout)),
            Ok(Err(StompEnd::Malformed(what))) => Err(HandshakeError::Answer(what)),
            Ok(Err(end)) => Err(HandshakeError::Lost(end)),
            Ok(Ok(Frame::Error(error))) => Err(HandshakeError::Refused(error.words)),
            Ok(Ok(Frame::Connected(connected))) => {
                let beats = agreed_beats(&connected, settings)?;
                connection.establish(connected, beats);
                Ok(connection)
            }
            Ok(Ok(Frame::Receipt(_) | Frame::Message(_))) => {
                Err(HandshakeError::Answer("neither CONNECTED nor ERROR".to_owned()))
            }
        }
    }
}

fn connect_frame(
    login: &Login,
    spelling: Spelling,
    settings: &StompSettings,
) -> Result<BytesMut, HandshakeError> {
    let beat_ms = settings.heart_beat.as_millis();
    let offer = format!("{beat_ms},{beat_ms}");
    let values = login.spelled(spelling)?;
    let mut headers = vec![("accept-version", "1.0,1.1,1.2"), ("heart-beat", offer.as_str())];
    headers.extend(values.iter().map(|(name, value)| (*name, value.as_str())));
    // Names of nodes are plain by the topology's rule. Brokers pass over headers that they do not know.
    if let Some(node) = &login.node {
        headers.extend([("packetboat-wire", WIRE_VERSION), ("packetboat-node", node)]);
    }
    let mut frame = BytesMut::new();
    codec::put_connect(&headers, &mut frame);
    Ok(frame)
}

fn agreed_beats(connected: &Connected, settings: &StompSettings) -> Result<Beats, HandshakeError> {
    if connected.version == Version::V1_0 {
        return Ok(Beats::NONE);
    }
    let theirs = connected.heart_beat.as_deref();
    Beats::agreed(settings.heart_beat, theirs).ok_or_else(|| {
        HandshakeError::Answer(format!("heart-beat `{}` is not two numbers", theirs.unwrap_or_default()))
    })
}
