//! The handshake with one client, in limited time.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Certificates, ClientCertificate, Socket, TlsStream};

/// From the connection to the end of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// What rustls holds for a client that does not read. A session has its own bounds on what waits.
const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// How long a client may take to read why it was turned away: closing with bytes unread would reset the
/// connection, and the reset may overtake the alert.
const LINGER: Duration = Duration::from_secs(2);
/// How every TLS client begins: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Makes TLS sessions of a listener's connections, with the certificate that is in use at the time. Cheap
/// to clone.
#[derive(Debug, Clone)]
pub(crate) struct Acceptor {
    certificates: Certificates,
    client: ClientCertificate,
    limit: Duration,
}

/// Why there is no TLS session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// It left before it had said anything, as one does who only looks whether the port is open.
    #[error("it left without a word")]
    Left,
    /// It may be told so in its own words.
    #[error("it does not speak TLS, and this port speaks nothing else: use TLS, or a port without it")]
    NotTls(TcpStream),
    /// It was silent, or slow.
    #[error("no TLS handshake within {} s", .0.as_secs_f32())]
    Time(Duration),
    /// One of the two did not like the other.
    #[error("{0}")]
    Failed(String),
}

impl Acceptor {
    pub(super) fn new(certificates: Certificates, client: ClientCertificate) -> Self {
        Self { certificates, client, limit: HANDSHAKE_TIME }
    }

    /// Gives a client `limit` instead of the usual time.
    #[cfg(test)]
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Shakes hands.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<TlsStream, HandshakeError> {
        match timeout(self.limit, self.shake_hands(stream)).await {
            Ok(Ok(shaken)) => shaken,
            Ok(Err((error, mut stream))) => {
                linger(&mut stream).await;
                Err(HandshakeError::Failed(self.words(&error)))
            }
            Err(_) => Err(HandshakeError::Time(self.limit)),
        }
    }

    /// Hands the connection back if there is something to be read on it by the client.
    async fn shake_hands(
        &self,
        stream: TcpStream,
    ) -> Result<Result<TlsStream, HandshakeError>, (io::Error, Socket)> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE_RECORD => {}
            Ok(1) => return Ok(Err(HandshakeError::NotTls(stream))),
            Ok(_) | Err(_) => return Ok(Err(HandshakeError::Left)),
        }
        let acceptor = TlsAcceptor::from(self.certificates.config(self.client));
        let accepting = acceptor
            .accept_with(Socket::new(stream), |session| session.set_buffer_limit(Some(SEND_BUFFER_BYTES)));
        accepting.into_fallible().await.map(|stream| Ok(Box::new(stream)))
    }

    /// What went wrong, with the mend.
    fn words(&self, error: &io::Error) -> String {
        let own = self.certificates.file().display();
        let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match (rustls, self.certificates.client_ca()) {
            (Some(Error::NoCertificatesPresented), Some(ca)) => format!(
                "it shows no client certificate, and this port requires one that a CA in {} has signed",
                ca.display()
            ),
            (Some(Error::InvalidCertificate(fault)), Some(ca)) => client_fault(fault, &ca.display()),
            (Some(Error::AlertReceived(AlertDescription::UnknownCA)), _) => {
                format!("it does not trust the CA of {own}: give it that CA's certificate")
            }
            (Some(Error::AlertReceived(alert)), _) => {
                format!("it does not take our certificate {own} (alert {alert:?}): its own log says why")
            }
            (Some(Error::PeerIncompatible(fault)), _) => {
                format!("no TLS in common: TLS 1.2 and 1.3 are spoken here ({fault:?})")
            }
            (Some(fault), _) => format!("the TLS handshake failed: {fault}"),
            (None, _) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it left during the TLS handshake: its own log may say why".to_owned()
            }
            (None, _) => format!("the TLS handshake failed: {error}"),
        }
    }
}

fn client_fault(fault: &CertificateError, ca: &dyn std::fmt::Display) -> String {
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("its client certificate is not signed by a CA in {ca}")
        }
        other => format!("its client certificate is refused: {other}"),
    }
}

/// Reads on until the client closes.
pub(super) async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let mut scrap = vec![0; 1024];
    let until_closed = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    // A client that does not close is closed upon.
    drop(timeout(LINGER, until_closed).await);
}
