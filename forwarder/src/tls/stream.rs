//! An established TLS session, whose errors are in words.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client;

use super::explain;
use super::presenter::Presenter;

/// A TLS session with an upstream.
#[derive(Debug)]
pub struct TlsStream {
    inner: client::TlsStream<TcpStream>,
    presenter: Arc<Presenter>,
    /// Nothing of the peer has been read.
    fresh: bool,
}

impl TlsStream {
    pub(super) fn new(inner: client::TlsStream<TcpStream>, presenter: Arc<Presenter>) -> Self {
        Self { inner, presenter, fresh: true }
    }

    /// The socket beneath, past which nothing is to be said to the peer.
    pub fn socket(&self) -> &TcpStream {
        self.inner.get_ref().0
    }

    fn explained<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| explain::session(error, &self.presenter, self.fresh))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let result = self.explained(result);
        self.fresh &= buf.filled().len() == before;
        Poll::Ready(result)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(self.explained(result))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        Poll::Ready(self.explained(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(self.explained(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        Poll::Ready(self.explained(result))
    }
}
