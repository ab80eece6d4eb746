//! The link between the two regions: a TCP proxy with an ocean in it, to be cut and mended.
//!
//! While it is cut nothing passes: connections that stood are reset, and those that are dialled hang, as
//! on a path whose packets vanish. What was on its way is lost, in the middle of a frame or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long everything takes, each way: the US east coast to Frankfurt.
pub(super) const ONE_WAY: Duration = Duration::from_millis(40);
/// Bytes that travel together.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way in one direction: at 40 ms, 100 MB/s.
const CHUNKS: usize = 256;
/// How long a dialled connection hangs in a cut link before it is reset.
const HANG_MAX: Duration = Duration::from_secs(30);

/// The handle of the link. Clones are the same link.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Line>);

#[derive(Debug)]
struct Line {
    cut: watch::Sender<bool>,
    carried: AtomicU64,
}

impl Link {
    /// A link that is whole.
    pub(super) fn new() -> Self {
        Self(Arc::new(Line { cut: watch::Sender::new(false), carried: AtomicU64::new(0) }))
    }

    pub(crate) fn cut(&self) {
        self.0.cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.0.cut.send_replace(false);
    }

    pub(crate) fn is_cut(&self) -> bool {
        *self.0.cut.borrow()
    }

    /// Bytes that arrived at the far end, ever.
    pub(super) fn carried_bytes(&self) -> u64 {
        self.0.carried.load(Ordering::Relaxed)
    }

    /// Carries every connection to `listener` on to `upstream`, until `stop`.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        upstream: SocketAddr,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => {
                    let (client, _) = accepted?;
                    let link = self.clone();
                    connections.spawn(async move { link.connect(client, upstream).await });
                }
                // Its two ends have seen how it ended.
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    async fn connect(self, mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
        let mut cut = self.0.cut.subscribe();
        let is_whole = timeout(HANG_MAX, cut.wait_for(|cut| !cut)).await.is_ok();
        if !is_whole {
            return reset(&client);
        }
        let mut upstream = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        upstream.set_nodelay(true)?;
        let was_cut = {
            let (from_client, to_client) = client.split();
            let (from_upstream, to_upstream) = upstream.split();
            let there = carry(from_client, to_upstream, Some(&self.0.carried));
            let back = carry(from_upstream, to_client, None);
            tokio::select! {
                biased;
                _ = cut.wait_for(|cut| *cut) => true,
                ended = async { tokio::try_join!(there, back) } => ended.is_err(),
            }
        };
        if was_cut {
            reset(&client)?;
            reset(&upstream)?;
        }
        Ok(())
    }
}

/// Has the kernel answer by RST, and not by FIN, once the stream is dropped.
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// One direction, to its half-close. What it carries arrives after [`ONE_WAY`].
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    carried: Option<&AtomicU64>,
) -> std::io::Result<()> {
    let (leaving, mut arriving) = mpsc::channel(CHUNKS);
    let reading = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let is_at_end = from.read_buf(&mut chunk).await? == 0;
            let lands_at = Instant::now() + ONE_WAY;
            if leaving.send((lands_at, chunk)).await.is_err() || is_at_end {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((lands_at, chunk)) = arriving.recv().await {
            sleep_until(lands_at).await;
            to.write_all(&chunk).await?;
            if let Some(carried) = carried {
                carried.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|((), ())| ())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Runs `test` with a link and what listens at its far end.
    async fn with_link(test: impl AsyncFnOnce(&Link, SocketAddr, &TcpListener)) {
        let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near_address, far_address) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        let (link, stop) = (Link::new(), CancellationToken::new());
        let testing = async {
            test(&link, near_address, &far).await;
            stop.cancel();
        };
        let (served, ()) = tokio::join!(
            link.clone().serve(near, far_address, stop.clone()),
            timeout(HANG_MAX, testing).map(|done| done.unwrap())
        );
        served.unwrap();
    }

    #[tokio::test]
    async fn bytes_and_half_closes_pass_both_ways() {
        with_link(async |link, near, far| {
            let mut client = TcpStream::connect(near).await.unwrap();
            let (mut upstream, _) = far.accept().await.unwrap();
            client.write_all(b"there").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            upstream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "there");
            upstream.write_all(b"back").await.unwrap();
            drop(upstream);
            heard.clear();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "back");
            assert_eq!(link.carried_bytes(), 5);
        })
        .await;
    }

    #[tokio::test]
    async fn a_cut_resets_both_ends_and_a_dial_hangs_until_it_is_mended() {
        with_link(async |link, near, far| {
            let mut client = TcpStream::connect(near).await.unwrap();
            let (mut upstream, _) = far.accept().await.unwrap();
            link.cut();
            assert!(link.is_cut());
            assert!(
                client
                    .read_u8()
                    .await
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
            );
            assert!(
                upstream
                    .read_u8()
                    .await
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
            );
            let mut client = TcpStream::connect(near).await.unwrap();
            client.write_all(b"x").await.unwrap();
            assert!(far.accept().now_or_never().is_none());
            link.mend();
            let (mut upstream, _) = far.accept().await.unwrap();
            assert_eq!(upstream.read_u8().await.unwrap(), b'x');
        })
        .await;
    }
}
