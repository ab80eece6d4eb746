//! Where a session reads, and how it finds out that nobody is there any more, though it does not read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::tcp::OwnedReadHalf;

use crate::tls::{Socket, TlsStream, closed};

/// The reading half of a connection.
pub(super) trait Reader: AsyncRead + Unpin + Sync {
    /// Waits until the client has closed its side, or the connection broke, whatever is still to be read.
    /// Cancel-safe.
    fn left(&self) -> impl Future<Output = ()> + Send;
}

impl Reader for OwnedReadHalf {
    async fn left(&self) {
        closed(self.as_ref()).await;
    }
}

/// The reading half of a TLS session.
pub(super) struct TlsReader {
    half: ReadHalf<TlsStream>,
    socket: Socket,
}

/// The two halves of a TLS session.
pub(super) fn split(stream: TlsStream) -> (TlsReader, WriteHalf<TlsStream>) {
    let socket = stream.get_ref().0.clone();
    let (half, writer) = tokio::io::split(stream);
    (TlsReader { half, socket }, writer)
}

impl AsyncRead for TlsReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_read(cx, buf)
    }
}

impl Reader for TlsReader {
    async fn left(&self) {
        closed(self.socket.as_ref()).await;
    }
}

#[cfg(test)]
impl Reader for tokio::io::Chain<&[u8], tokio::io::Repeat> {
    async fn left(&self) {
        std::future::pending().await
    }
}

#[cfg(test)]
impl Reader for ReadHalf<tokio::io::DuplexStream> {
    async fn left(&self) {
        std::future::pending().await
    }
}

#[cfg(test)]
impl Reader for &[u8] {
    async fn left(&self) {
        std::future::pending().await
    }
}
