//! Which of the endpoints of an upstream is dialled next, and when to go back to the first.

use std::time::Duration;

use forwarder::Transport;
use forwarder::stomp::{self, ConnectError, Connection, StompSettings};
use tokio::time::{Instant, sleep_until};
use topology::model::StompUpstream;

/// How often the first endpoint is tried while another one serves and the first is preferred.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// It is tried less and less often, down to this, while it lets us in and takes nothing.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(30 * 60);

/// The endpoints of one upstream, in failover order. It stays with the one that serves, also over a lost
/// session, unless that takes nothing; with `prefer_first` it goes back to the first as soon as that lets us in,
/// but later each time that it then takes nothing.
pub(crate) struct Failover {
    upstream: StompUpstream,
    node: String,
    /// The endpoint that served last, or that is to be tried next.
    at: usize,
    /// The one before took nothing.
    moves_on: bool,
    /// Before, the first one is not gone back to.
    first_again_at: Instant,
    /// How long it is left alone when it takes nothing the next time.
    first_left_for: Duration,
}

impl Failover {
    /// `node` at `upstream`, where nobody has served yet.
    pub(crate) fn new(upstream: StompUpstream, node: &str) -> Self {
        Self {
            upstream,
            node: node.to_owned(),
            at: 0,
            moves_on: false,
            first_again_at: Instant::now(),
            first_left_for: PROBE_INTERVAL,
        }
    }

    /// Dials once around.
    pub(crate) async fn connect(&mut self) -> Result<Connection<Transport>, ConnectError> {
        let mut around = self.upstream.clone();
        let may_go_back = !self.moves_on && self.first_again_at <= Instant::now();
        let start = if self.upstream.prefer_first && may_go_back { 0 } else { self.at };
        around.endpoints.rotate_left(start);
        let connection = stomp::connect(&around, Some(&self.node), &StompSettings::default()).await?;
        let is_served = |endpoint: &topology::model::Endpoint| endpoint.to_string() == connection.peer();
        self.at = self.upstream.endpoints.iter().position(is_served).unwrap_or(0);
        self.moves_on = false;
        Ok(connection)
    }

    /// The one that serves lets us in and takes nothing, as a full queue does: the next one is to be tried.
    pub(crate) fn move_on(&mut self) {
        if self.at == 0 {
            self.first_again_at = Instant::now() + self.first_left_for;
            self.first_left_for = PROBE_INTERVAL_MAX.min(self.first_left_for * 2);
        }
        self.at = (self.at + 1) % self.upstream.endpoints.len().max(1);
        self.moves_on = true;
    }

    /// The one that served last did take something.
    pub(crate) fn served(&mut self) {
        if self.at == 0 {
            self.first_left_for = PROBE_INTERVAL;
        }
    }

    /// Ready once the first endpoint lets us in again; never where another is as good.
    pub(crate) async fn first_is_back(&self) {
        if !self.upstream.prefer_first || self.at == 0 {
            return std::future::pending().await;
        }
        let mut first = self.upstream.clone();
        first.endpoints.truncate(1);
        loop {
            sleep_until(self.first_again_at.max(Instant::now() + PROBE_INTERVAL)).await;
            if let Ok(connection) = stomp::connect(&first, Some(&self.node), &StompSettings::default()).await
            {
                let (from, to) = (&self.upstream.endpoints[self.at], &first.endpoints[0]);
                tracing::info!(%from, %to, "the first endpoint is back, and preferred");
                drop(connection);
                return;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;
    use topology::model::Endpoint;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);

    pub(crate) async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Lets one in.
    pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 1024];
        assert!(stream.read(&mut read).await.unwrap() > 0);
        stream.write_all(b"CONNECTED\nversion:1.2\n\n\0\n").await.unwrap();
        stream
    }

    /// Lets everybody in.
    async fn serve(listener: &TcpListener) -> std::convert::Infallible {
        loop {
            accept(listener).await;
        }
    }

    pub(crate) fn failover(ports: &[u16], prefer_first: bool) -> Failover {
        let endpoint = |&port: &u16| Endpoint { host: "127.0.0.1".to_owned(), port };
        let upstream = StompUpstream {
            endpoints: ports.iter().map(endpoint).collect(),
            vhost: "/".to_owned(),
            login: None,
            passcode_file: None,
            send_headers: Vec::new(),
            subscribe_headers: Vec::new(),
            is_agent: false,
            prefer_first,
            tls: None,
        };
        Failover::new(upstream, "us-east")
    }

    async fn connects_to(failover: &mut Failover, listener: &TcpListener, port: u16) {
        let connection = tokio::select! {
            connection = failover.connect() => connection.unwrap(),
            never = serve(listener) => match never {},
        };
        assert_eq!(connection.peer(), format!("127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn it_stays_with_the_one_that_serves() {
        let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
        let mut failover = failover(&[first_port, second_port], false);
        drop(first);
        connects_to(&mut failover, &second, second_port).await;
        let first = TcpListener::bind(("127.0.0.1", first_port)).await.unwrap();
        connects_to(&mut failover, &second, second_port).await;
        drop(second);
        connects_to(&mut failover, &first, first_port).await;
        assert_eq!(timeout(Duration::from_millis(50), failover.first_is_back()).await.ok(), None);
    }

    #[tokio::test]
    async fn one_that_takes_nothing_is_passed_over() {
        for prefer_first in [false, true] {
            let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
            let mut failover = failover(&[first_port, second_port], prefer_first);
            connects_to(&mut failover, &first, first_port).await;
            failover.move_on();
            connects_to(&mut failover, &second, second_port).await;
            failover.move_on();
            connects_to(&mut failover, &first, first_port).await;
        }
    }

    /// It lets us in whenever it is asked, and each time costs what it takes to see that it takes nothing.
    #[tokio::test]
    async fn a_first_one_that_takes_nothing_is_left_alone_for_longer_each_time() {
        let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
        let mut failover = failover(&[first_port, second_port], true);
        connects_to(&mut failover, &first, first_port).await;
        failover.move_on();
        connects_to(&mut failover, &second, second_port).await;
        // A lost session is no reason to go back, either.
        connects_to(&mut failover, &second, second_port).await;
        for times in [2, 4, 8, 16, 32, 60, 60] {
            failover.at = 0;
            failover.move_on();
            let left_alone = failover.first_again_at - Instant::now();
            assert!(left_alone > PROBE_INTERVAL * (times - 1), "{left_alone:?}");
            assert!(left_alone <= PROBE_INTERVAL * times, "{left_alone:?}");
        }
        tokio::time::pause();
        let begin = Instant::now();
        tokio::select! {
            () = failover.first_is_back() => {}
            never = serve(&first) => match never {},
        }
        assert!(begin.elapsed() > PROBE_INTERVAL_MAX - PROBE_INTERVAL);
        tokio::time::resume();
        connects_to(&mut failover, &first, first_port).await;
        failover.served();
        assert_eq!(failover.first_left_for, PROBE_INTERVAL);
    }

    #[tokio::test]
    async fn it_goes_back_to_the_first_where_that_is_preferred() {
        let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
        let mut failover = failover(&[first_port, second_port], true);
        drop(first);
        connects_to(&mut failover, &second, second_port).await;
        let first = TcpListener::bind(("127.0.0.1", first_port)).await.unwrap();
        tokio::time::pause();
        tokio::select! {
            back = timeout(PATIENCE, failover.first_is_back()) => back.unwrap(),
            never = serve(&first) => match never {},
        }
        tokio::time::resume();
        connects_to(&mut failover, &first, first_port).await;
    }
}
