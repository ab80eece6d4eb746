//! Where a session reads, and how it finds out that nobody is there any more, though it does not read.

use std::future::pending;

use tokio::io::{AsyncRead, Interest, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;

/// The reading half of a connection.
pub(super) trait Reader: AsyncRead + Unpin + Sync {
    /// Waits until the client has closed its side, or the connection broke, whatever is still to be read. For
    /// ever where that cannot be known. Cancel-safe.
    fn left(&self) -> impl Future<Output = ()> + Send;
}

impl Reader for OwnedReadHalf {
    async fn left(&self) {
        // Of all interests this one alone is not met by bytes that wait, and is by the end behind them. An error
        // is that of a runtime that ends.
        drop(self.ready(Interest::PRIORITY).await);
    }
}

/// Under TLS the socket is out of reach for as long as both halves stand.
impl<S: AsyncRead + Unpin + Send + Sync> Reader for ReadHalf<S> {
    async fn left(&self) {
        pending().await
    }
}

#[cfg(test)]
impl Reader for tokio::io::Chain<&[u8], tokio::io::Repeat> {
    async fn left(&self) {
        pending().await
    }
}

#[cfg(test)]
impl Reader for &[u8] {
    async fn left(&self) {
        pending().await
    }
}
