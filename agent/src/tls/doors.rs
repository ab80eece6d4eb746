//! The ways into one protocol: a port without TLS, one with it, or both.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use super::Acceptor;

/// The listeners of one protocol, which share its limits.
#[derive(Debug, Default)]
pub struct Doors {
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, Acceptor)>,
}

/// Through which one a client came.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// Without TLS.
    Plain,
    /// It is to shake hands.
    Tls(Acceptor),
}

impl Doors {
    /// Those that there are.
    pub(crate) fn new(plain: Option<TcpListener>, tls: Option<(TcpListener, Acceptor)>) -> Self {
        Self { plain, tls }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_none() && self.tls.is_none()
    }

    /// The next client. Cancel-safe.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Door)> {
        let plain = async {
            let Some(listener) = &self.plain else { return pending().await };
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer, Door::Plain))
        };
        let tls = async {
            let Some((listener, acceptor)) = &self.tls else { return pending().await };
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer, Door::Tls(acceptor.clone())))
        };
        tokio::select! {
            accepted = plain => accepted,
            accepted = tls => accepted,
        }
    }
}

impl From<TcpListener> for Doors {
    fn from(plain: TcpListener) -> Self {
        Self::new(Some(plain), None)
    }
}
