//! Takes connections at the doors of a listener, and bears with it while none can be had: without a free
//! file descriptor each attempt fails at once, for as long as the shortage lasts.
//!
//! All waiting is in [`Porter::accept`], which is cancel-safe: whoever polls it beside other work goes
//! on with that work meanwhile.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use forwarder::Outage;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::tls::{Door, Doors};

/// How long after a failure it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Who stands at the doors of one protocol.
#[derive(Debug)]
pub(super) struct Porter {
    doors: Doors,
    shortage: Shortage,
}

impl Porter {
    /// `input` says in the log what it takes.
    pub(super) fn new(doors: Doors, input: &'static str) -> Self {
        Self { doors, shortage: Shortage::new(input) }
    }

    /// Waits for the next connection, however long there can be none. Cancel-safe.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr, Door) {
        loop {
            self.shortage.pause().await;
            let accepted = self.doors.accept().await;
            if let Some(connection) = self.shortage.judge(accepted) {
                return connection;
            }
        }
    }
}

/// A time in which nothing can be accepted, and how much of it was said.
#[derive(Debug)]
struct Shortage {
    input: &'static str,
    again_at: Option<Instant>,
    outage: Outage,
}

impl Shortage {
    fn new(input: &'static str) -> Self {
        Self { input, again_at: None, outage: Outage::default() }
    }

    /// Waits until it is time to try again; at once if all is well. Cancelled, it goes on with the rest of it.
    async fn pause(&mut self) {
        if let Some(at) = self.again_at {
            sleep_until(at).await;
            self.again_at = None;
        }
    }

    /// What was accepted, if it was.
    fn judge<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        match &accepted {
            Ok(_) => self.is_over(Instant::now()),
            Err(error) if is_the_clients(error) => {}
            Err(error) => self.goes_on(error, Instant::now()),
        }
        accepted.ok()
    }

    fn goes_on(&mut self, error: &io::Error, now: Instant) {
        self.again_at = Some(now + ACCEPT_AGAIN);
        if let Some(told) = self.outage.failed(now, &error.to_string()) {
            let (times, lasted) = (told.attempts, told.lasted);
            tracing::warn!(
                input = self.input, %error, times, ?lasted,
                "no connection can be accepted: they wait, and it is tried again; short of file descriptors, raise LimitNOFILE"
            );
        }
    }

    fn is_over(&mut self, now: Instant) {
        if let Some(told) = self.outage.mended(now) {
            let (times, lasted) = (told.attempts, told.lasted);
            tracing::info!(input = self.input, times, ?lasted, "connections are accepted again");
        }
    }
}

/// Whether it speaks of one connection, whose client has left again.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Out of descriptors until `end`; counts what was tried.
    async fn overcome(shortage: &mut Shortage, end: Instant, tried: &mut u32) {
        loop {
            shortage.pause().await;
            *tried += 1;
            let accepted = if Instant::now() < end { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) };
            if shortage.judge(accepted).is_some() {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_waited_for_with_pauses_and_said_once_a_minute() {
        let (begin, mut tried) = (Instant::now(), 0);
        let mut shortage = Shortage::new("stomp");
        overcome(&mut shortage, begin + Duration::from_secs(90), &mut tried).await;
        assert_eq!((begin.elapsed(), tried), (Duration::from_secs(90), 901));
        let again = io::Error::from_raw_os_error(24).to_string();
        assert!(shortage.outage.failed(Instant::now(), &again).is_none(), "the second minute is not over");
        assert!(shortage.outage.failed(Instant::now(), "another").is_some(), "a new kind is said");
    }

    /// The sessions of a listener end, and other work is due, while it waits.
    #[tokio::test(start_paused = true)]
    async fn who_works_beside_it_is_not_held_up_and_shortens_no_pause() {
        let (end, mut tried) = (Instant::now() + Duration::from_secs(1), 0);
        let mut shortage = Shortage::new("stomp");
        let mut turns = 0;
        while timeout(Duration::from_millis(7), overcome(&mut shortage, end, &mut tried)).await.is_err() {
            turns += 1;
        }
        assert!(turns > 100, "{turns}");
        assert_eq!(tried, 11, "one each 100 ms");
    }

    #[test]
    fn a_client_that_left_again_is_no_shortage() {
        let mut shortage = Shortage::new("stomp");
        assert_eq!(shortage.judge::<()>(Err(ErrorKind::ConnectionAborted.into())), None);
        assert_eq!(shortage.again_at, None);
    }
}
