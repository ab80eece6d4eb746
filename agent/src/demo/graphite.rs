//! The demo's stand-in for Graphite: it takes lines over TCP, keeps none, and counts them by identity.
//!
//! As carbon does, it reads a connection to its end and answers a half-close by its own: the FIN that
//! says that it has read every byte.

use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::demo::ledger::Ledger;

/// Bytes that are read at a time; a longer line ends its connection.
const READ_BYTES: usize = 64 * 1024;

/// Counts what comes into `ledger` until `stop`.
pub(super) async fn serve(listener: TcpListener, ledger: Ledger, stop: CancellationToken) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let ledger = ledger.clone();
                connections.spawn(async move { count(stream, &ledger).await });
            }
            // A connection that broke is the sender's matter: it has no FIN.
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Reads to the end. The FIN leaves when the stream is dropped, so after the last byte was read.
async fn count(mut stream: TcpStream, ledger: &Ledger) -> std::io::Result<()> {
    let mut unread = Vec::with_capacity(READ_BYTES);
    while stream.read_buf(&mut unread).await? > 0 {
        if let Some(end) = memchr::memrchr(b'\n', &unread) {
            ledger.enter(&unread[..=end]);
            unread.drain(..=end);
        }
        if unread.len() >= READ_BYTES {
            // Reset, since a FIN would be a receipt.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Err(std::io::Error::other("a line without an end"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Runs `test` beside a Graphite.
    async fn with_graphite(test: impl AsyncFnOnce(std::net::SocketAddr, &Ledger)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ledger, stop) = (Ledger::default(), CancellationToken::new());
        let serving = serve(listener, ledger.clone(), stop.clone());
        let testing = async {
            test(address, &ledger).await;
            stop.cancel();
        };
        let (served, ()) = tokio::join!(serving, testing);
        served.unwrap();
    }

    #[tokio::test]
    async fn a_half_close_is_answered_once_every_line_is_counted() {
        with_graphite(async |address, ledger| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for octet in b"a 1 10\na 1 11\na 1 10\n" {
                stream.write_all(&[*octet]).await.unwrap();
            }
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "a FIN");
            assert_eq!((ledger.counts().metrics, ledger.counts().copies), (2, 1));
        })
        .await;
    }

    #[tokio::test]
    async fn a_line_that_was_cut_is_not_counted() {
        with_graphite(async |address, ledger| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"a 1 10\na 1 1").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            assert_eq!((ledger.counts().metrics, ledger.counts().odd), (1, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn a_line_without_an_end_gets_no_receipt() {
        with_graphite(async |address, ledger| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // It may be reset while it writes.
            drop(stream.write_all(&vec![b'x'; 4 * READ_BYTES]).await);
            assert!(stream.read(&mut [0; 8]).await.is_err(), "a reset");
            assert_eq!(ledger.counts().odd, 0);
        })
        .await;
    }
}
