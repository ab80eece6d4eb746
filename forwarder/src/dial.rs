//! Opens a TCP connection to an endpoint.
//!
//! Names are resolved at each connect and never kept, so that a moved upstream is found again. It
//! knows no protocol, no failover and no retry: those are the caller's.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use topology::model::Endpoint;

/// How long a name lookup may take, and then the connects to its addresses, unless said otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Each address of a name has this long, however many there are: its first SYN may be lost.
const ADDRESS_TIME_MIN: Duration = Duration::from_millis(1500);

/// The kernel probes an idle connection after this long, which finds a dead peer that beats no heart.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Why one endpoint could not be reached: every address that was tried, with its cause.
#[derive(Debug, thiserror::Error)]
pub struct Unreachable {
    /// The endpoint as the topology names it.
    pub endpoint: Endpoint,
    /// `None`: the name lookup itself failed.
    pub attempts: Vec<(Option<SocketAddr>, io::Error)>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reach {}", self.endpoint)?;
        for (place, (address, cause)) in self.attempts.iter().enumerate() {
            f.write_str(if place == 0 { " (" } else { ", " })?;
            match address {
                Some(address) => write!(f, "{address}: {cause}")?,
                None => write!(f, "looking up the name: {cause}")?,
            }
        }
        f.write_str(if self.attempts.is_empty() { "" } else { ")" })
    }
}

/// Connects to one endpoint: looks its name up and tries every address in turn, `first` before the others if it is one of
/// them. The addresses share `limit`, as far as each has enough, so that some that do not answer keep nobody from
/// the next.
pub async fn dial_endpoint(
    endpoint: &Endpoint,
    limit: Duration,
    first: Option<SocketAddr>,
) -> Result<TcpStream, Unreachable> {
    let mut attempts = Vec::new();
    match resolve(endpoint, limit).await {
        Err(cause) => attempts.push((None, cause)),
        Ok(mut addresses) => {
            addresses.sort_by_key(|&address| Some(address) != first);
            let (began, count) = (Instant::now(), addresses.len());
            for (tried, address) in addresses.into_iter().enumerate() {
                let share = share(limit, limit.saturating_sub(began.elapsed()), count - tried);
                match dial_address(address, share).await {
                    Ok(stream) => return Ok(stream),
                    Err(cause) => attempts.push((Some(address), cause)),
                }
            }
        }
    }
    Err(Unreachable { endpoint: endpoint.clone(), attempts })
}

/// How long the next of so many addresses may take of what is `left` of `all`.
fn share(all: Duration, left: Duration, addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses.max(1)).unwrap_or(u32::MAX);
    (left / addresses).max(ADDRESS_TIME_MIN.min(all))
}

async fn resolve(endpoint: &Endpoint, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let lookup = lookup_host((endpoint.host.as_str(), endpoint.port));
    let addresses: Vec<_> = within(limit, lookup).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

async fn dial_address(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = within(limit, TcpStream::connect(address)).await?;
    // A dial to a free port of our own ephemeral range may meet itself, and would confirm itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
    }
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    /// A port on which nobody listens: it was ours a moment ago.
    async fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_connection_sends_at_once_and_finds_a_dead_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();

        let stream = dial_endpoint(&endpoint("127.0.0.1", port), CONNECT_TIMEOUT, None).await.unwrap();

        assert_eq!(stream.peer_addr().unwrap().port(), port);
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        // Only IPv4 listens, while `localhost` may resolve to ::1 first.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = dial_endpoint(&endpoint("localhost", port), CONNECT_TIMEOUT, None).await.unwrap();
        assert!(stream.peer_addr().unwrap().ip().is_loopback());
    }

    #[tokio::test]
    async fn the_error_names_the_endpoint_and_the_cause() {
        let refused = endpoint("127.0.0.1", closed_port().await);
        let text = dial_endpoint(&refused, CONNECT_TIMEOUT, None).await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("cannot reach {refused} ({refused}: ")), "{text}");
        assert!(text.contains("refused"), "{text}");

        let unknown = endpoint("no-such-host.invalid", 61613);
        let text = dial_endpoint(&unknown, CONNECT_TIMEOUT, None).await.unwrap_err().to_string();
        assert!(text.contains("cannot reach no-such-host.invalid:61613 (looking up the name: "), "{text}");
    }

    #[test]
    fn addresses_share_the_time_down_to_what_one_needs() {
        let all = CONNECT_TIMEOUT;
        assert_eq!(share(all, all, 1), all);
        assert_eq!(share(all, all, 2), all / 2);
        assert_eq!(share(all, all / 2, 1), all / 2);
        assert_eq!(share(all, all, 20), ADDRESS_TIME_MIN);
        assert_eq!(share(all, Duration::ZERO, 1), ADDRESS_TIME_MIN);
        assert_eq!(share(ADDRESS_TIME_MIN / 2, ADDRESS_TIME_MIN / 2, 20), ADDRESS_TIME_MIN / 2);
    }

    #[tokio::test]
    async fn an_address_that_the_name_still_has_goes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let localhost = endpoint("localhost", address.port());
        let stream = dial_endpoint(&localhost, CONNECT_TIMEOUT, Some(address)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let elsewhere: SocketAddr = "127.0.0.99:1".parse().unwrap();
        let stream = dial_endpoint(&localhost, CONNECT_TIMEOUT, Some(elsewhere)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_hangs_ends_at_the_limit() {
        let error = within(CONNECT_TIMEOUT, std::future::pending::<io::Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no answer within 5s");
    }
}
