//! HTTPS for axum: handshakes go on side by side, so that a client that says nothing keeps nobody out.

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::acceptor::linger;
use super::{Acceptor, HandshakeError, TlsStream};
use crate::complaints::Complaints;

/// Handshakes at a time. Those who wish to be next wait in the kernel.
const HANDSHAKES_MAX: usize = 64;
/// After an error of the listener itself, such as no free file descriptor.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// For a client that speaks HTTP to read so.
const TELL_TIME: Duration = Duration::from_secs(2);
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    this port speaks HTTPS: ask it by https://\n";

type Shaken = (SocketAddr, Result<TlsStream, HandshakeError>);

/// A listener whose connections are TLS sessions.
pub(crate) struct HttpsListener {
    listener: TcpListener,
    acceptor: Acceptor,
    shaking: JoinSet<Shaken>,
    complaints: Complaints,
}

impl HttpsListener {
    pub(crate) fn new(listener: TcpListener, acceptor: Acceptor) -> Self {
        Self { listener, acceptor, shaking: JoinSet::new(), complaints: Complaints::of("https") }
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        let acceptor = self.acceptor.clone();
        self.shaking.spawn(async move {
            match acceptor.accept(stream).await {
                Err(HandshakeError::NotTls(mut stream)) => {
                    tell(&mut stream).await;
                    (peer, Err(HandshakeError::NotTls(stream)))
                }
                shaken => (peer, shaken),
            }
        });
    }
}

/// Whoever is gone need not be told.
async fn tell(stream: &mut TcpStream) {
    let told = async {
        stream.write_all(NOT_HTTP).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(TELL_TIME, told).await {
        linger(stream).await;
    }
}

impl Listener for HttpsListener {
    type Io = TlsStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsStream, SocketAddr) {
        loop {
            tokio::select! {
                Some(shaken) = self.shaking.join_next() => match shaken {
                    Ok((peer, Ok(stream))) => return (stream, peer),
                    Ok((peer, Err(HandshakeError::Left))) => tracing::debug!(%peer, "an https client left without a word"),
                    Ok((peer, Err(error))) => self.complaints.note(peer, &error),
                    Err(error) => tracing::error!(%error, "an https handshake failed"),
                },
                accepted = self.listener.accept(), if self.shaking.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept an https connection; trying again");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
                () = self.complaints.due() => self.complaints.sum_up(),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
