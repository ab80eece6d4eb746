//! Graphite's plaintext protocol over TCP and UDP: one line a metric, no answer.
//!
//! Over TCP there is a receipt all the same: the FIN that answers a client's half-close is sent only
//! once everything that the client has sent is committed. In every other case (a commit failed, the
//! agent stops, the process dies) the connection is reset, so that a FIN never means anything else.
//! Over TLS the client ends with `close_notify`, and its receipt is ours and the FIN after it.
//! A client that does not half-close gets no receipt; it loses at most what was still under way.
//!
//! Over UDP there is none: what comes while the spool is full is dropped and counted.
//!
//! It knows the line rule and the intake, not the spool.

mod outstanding;
mod scratch;
mod session;
mod tcp;
mod udp;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

pub use tcp::serve_tcp;
pub use udp::serve_udp;

/// Connections that the kernel holds until they are accepted.
const LISTEN_BACKLOG: i32 = 1024;
/// Asked for; the kernel may grant less (`net.core.rmem_max`).
const UDP_RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Once the agent stops, what has arrived is still read: until nothing comes for this long,
const STOP_QUIET: Duration = Duration::from_millis(50);
/// for this long at most,
const STOP_READING: Duration = Duration::from_millis(500);
/// and this is how long everything may take, the commits too.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The listeners could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for graphite on {protocol} {address}; choose another address or end what holds it")]
pub struct BindError {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// What was asked for.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub cause: io::Error,
}

/// Binds TCP and UDP to the same address; with port 0 both get the same free port. To be called within
/// a tokio runtime.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, UdpSocket), BindError> {
    let listener = bind_tcp(address).map_err(|cause| BindError { protocol: "TCP", address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    let socket = bind_udp(address).map_err(|cause| BindError { protocol: "UDP", address, cause })?;
    Ok((listener, socket))
}

/// Binds TCP only, for TLS: there is none over UDP. To be called within a tokio runtime.
pub fn bind_tls(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_tcp(address).map_err(|cause| BindError { protocol: "TCP", address, cause })
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Waits until `stop` is so long ago that nothing more is waited for. Cancel-safe.
async fn grace_is_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

#[cfg(test)]
mod tests;
