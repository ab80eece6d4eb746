//! The UDP socket: several lines to a datagram, no receipt, no waiting.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use forwarder::Clock;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::ingest::graphite::{STOP_QUIET, STOP_READING, grace_is_over};
use crate::ingest::intake::{DEFAULT_QUEUE, Intake};
use crate::ingest::line::{self, Checked};
use crate::ingest::{Input, Sender};
use crate::metrics::Metrics;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Takes metrics from datagrams until `stop`, then what the kernel has of them already. A last line
/// without LF counts. While the spool is full, metrics are dropped and counted; what the kernel drops
/// because its buffer is full it counts itself (`RcvbufErrors`).
pub async fn serve_udp(
    socket: UdpSocket,
    intake: Intake,
    clock: Clock,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let taker = Taker {
        intake,
        clock,
        metrics,
        from: sender(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        checked: Checked::default(),
    };
    tokio::select! {
        () = taker.run(&socket, &stop) => {}
        () = grace_is_over(&stop) => {}
    }
}

struct Taker {
    intake: Intake,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Who sent the latest datagram.
    from: (IpAddr, Sender),
    checked: Checked,
}

impl Taker {
    async fn run(mut self, socket: &UdpSocket, stop: &CancellationToken) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            tokio::select! {
                received = socket.recv_from(&mut datagram) => match received {
                    Ok((bytes, peer)) => self.take(&datagram[..bytes], peer).await,
                    // An ICMP answer to somebody else's datagram, or a moment without memory.
                    Err(error) => tracing::debug!(%error, "a graphite datagram was not received"),
                },
                () = stop.cancelled() => break,
            }
        }
        let until = Instant::now() + STOP_READING;
        while Instant::now() < until {
            let Ok(Ok((bytes, peer))) = timeout(STOP_QUIET, socket.recv_from(&mut datagram)).await else {
                break;
            };
            self.take(&datagram[..bytes], peer).await;
        }
    }

    async fn take(&mut self, datagram: &[u8], peer: SocketAddr) {
        line::check(datagram, self.clock.now_seconds(), &mut self.checked);
        if self.intake.full()[DEFAULT_QUEUE] {
            self.metrics.udp_dropped(u64::from(self.checked.count));
            self.checked.clear();
        } else if !self.checked.is_empty() {
            if self.from.0 != peer.ip() {
                self.from = sender(peer.ip());
            }
            // Nobody waits for a receipt.
            drop(self.intake.take(&self.from.1, DEFAULT_QUEUE, &mut self.checked).await);
        }
    }
}

fn sender(address: IpAddr) -> (IpAddr, Sender) {
    (address, Sender { input: Input::Udp, peer: address.to_canonical().to_string().into() })
}
