//! One connection to a Graphite, from its first lease to the FIN that confirms them all.
//!
//! It writes, half-closes, and judges the answer. It does not know the pool, and decides neither
//! which lease it carries nor when it is turned over.
//!
//! What is a receipt, and what is not: a FIN says that the process has read every byte only if our
//! half-close had succeeded before, nothing of ours is unacknowledged, and the socket has no error
//! (a FIN may be followed by the RST of a process that closed before it had read all). Everything
//! else that ends a connection is a loss. That the process was not about to end is for the pool to
//! find out, since one connection cannot tell.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::endpoints::EndpointId;
use super::limits::Load;
use crate::batch::DecodeError;
use crate::lease::Lease;
use crate::sink::outq::unacknowledged_bytes;

/// Lines that are decoded ahead of the socket, at the least.
const TEXT_BYTES: usize = 64 * 1024;
/// The shortest and the longest pause between two looks at what the peer's kernel acknowledged.
const LOOK_AFTER: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// Why the leases of a connection are not confirmed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    /// The process went, or closes connections on lines that it dislikes.
    #[error("closed by Graphite before our half-close")]
    ClosedEarly,
    /// A FIN, but not in answer: it left before our last bytes arrived.
    #[error("closed by Graphite with {0} bytes on their way")]
    ClosedUnread(u64),
    /// Graphite's line protocol has no answers, so whoever speaks is not Graphite.
    #[error("it answers with data, so it is not a Graphite line receiver; check host and port")]
    TalksBack,
    /// A reset, or another error of the socket.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// A FIN in answer, but nothing says that its Graphite was not about to end.
    #[error("answered, but no other connection to the same address stood to witness that Graphite goes on")]
    Unwitnessed,
    /// It stands, but says nothing.
    #[error("no receipt within {0:?}")]
    Silent(Duration),
}

/// A lease on this connection, and the offset at which its last byte ends.
struct Carried {
    lease: Lease,
    end: u64,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes leases.
    Open,
    /// Takes no more; half-closes once all is written.
    Closing,
    /// Waits for the FIN.
    HalfClosed,
}

/// A standing connection and the leases that it carries.
pub(super) struct Connection {
    stream: TcpStream,
    endpoint: EndpointId,
    /// Unknown if it was gone at once.
    address: Option<SocketAddr>,
    opened_at: Instant,
    phase: Phase,
    text: Vec<u8>,
    text_sent: usize,
    written: u64,
    begun: u64,
    carried: VecDeque<Carried>,
    load: Load,
    alone: bool,
    look_at: Instant,
    look_after: Duration,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, endpoint: EndpointId, now: Instant) -> Self {
        Self {
            address: stream.peer_addr().ok(),
            stream,
            endpoint,
            opened_at: now,
            phase: Phase::Open,
            text: Vec::new(),
            text_sent: 0,
            written: 0,
            begun: 0,
            carried: VecDeque::new(),
            load: Load::default(),
            alone: false,
            look_at: now,
            look_after: LOOK_AFTER[0],
        }
    }

    pub(super) fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(super) fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Unconfirmed leases.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// Bytes handed to the kernel so far.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written
    }

    /// When the oldest unconfirmed lease was begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.carried.front().map(|carried| carried.since)
    }

    /// Whether it carries one lease that is to have the connection for itself.
    pub(super) fn is_alone(&self) -> bool {
        self.alone && !self.carried.is_empty()
    }

    /// Whether bytes wait for room in the socket.
    pub(super) fn is_writing(&self) -> bool {
        self.text_sent < self.text.len()
    }

    /// Whether another lease may be decoded.
    pub(super) fn takes_more(&self) -> bool {
        self.phase == Phase::Open && !self.is_alone() && self.text.len() < TEXT_BYTES
    }

    /// Decodes the lease behind those before it; [`Self::poll`] writes it. What does not decode is
    /// given back and leaves no trace.
    pub(super) fn carry(
        &mut self,
        mut lease: Lease,
        alone: bool,
        now: Instant,
    ) -> Result<(), Box<(Lease, DecodeError)>> {
        let text_before = self.text.len();
        if let Err(error) = lease.batch().append_lines(&mut self.text) {
            self.text.truncate(text_before);
            return Err(Box::new((lease, error)));
        }
        self.begun += (self.text.len() - text_before) as u64;
        lease.forget_plain();
        self.load.add(&lease);
        self.alone = alone;
        self.look_at = now;
        self.look_after = LOOK_AFTER[0];
        self.carried.push_back(Carried { lease, end: self.begun, since: now });
        Ok(())
    }

    /// Whether it waits for the FIN.
    #[cfg(test)]
    pub(super) fn is_half_closed(&self) -> bool {
        self.phase == Phase::HalfClosed
    }

    /// Looks at the socket itself, since the runtime may not have heard of its end yet.
    pub(super) fn look(&self) -> Result<(), Loss> {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Loss::Broken(error)),
            Ok(0) => Err(Loss::ClosedEarly),
            Ok(_) => Err(Loss::TalksBack),
        }
    }

    /// Takes no more leases, half-closes once all is written, and waits for the FIN.
    pub(super) fn close(mut self) -> Self {
        self.phase = Phase::Closing;
        self
    }

    /// All leases, in the order in which they were written.
    pub(super) fn into_leases(self) -> impl Iterator<Item = Lease> {
        self.carried.into_iter().map(|carried| carried.lease)
    }

    /// Writes and listens. Ready with `Ok` when Graphite has read every byte, with `Err` when the
    /// connection is lost; pending as long as it stands.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        if let Poll::Ready(end) = self.poll_fin(cx) {
            return Poll::Ready(end);
        }
        ready!(self.poll_write(cx))?;
        if self.phase == Phase::Closing {
            self.half_close()?;
            // It waits for its FIN, and nothing more is decoded here.
            self.text = Vec::new();
            return self.poll_fin(cx);
        }
        Poll::Pending
    }

    /// Ready when the read that is always posted has ended.
    fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        let mut byte = [0];
        let mut answer = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut answer))?;
        Poll::Ready(if !answer.filled().is_empty() {
            Err(Loss::TalksBack)
        } else if self.phase != Phase::HalfClosed {
            Err(Loss::ClosedEarly)
        } else {
            self.judge_fin()
        })
    }

    /// A FIN after our half-close: whether it says that everything was read.
    fn judge_fin(&self) -> Result<(), Loss> {
        let unacknowledged = unacknowledged_bytes(&self.stream)?;
        if let Some(error) = self.stream.take_error()? {
            return Err(Loss::Broken(error));
        }
        if unacknowledged > 0 {
            return Err(Loss::ClosedUnread(unacknowledged));
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        while self.is_writing() {
            let rest = &self.text[self.text_sent..];
            let bytes = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if bytes == 0 {
                return Poll::Ready(Err(Loss::Broken(io::ErrorKind::WriteZero.into())));
            }
            self.text_sent += bytes;
            self.written += bytes as u64;
        }
        self.text.clear();
        self.text_sent = 0;
        Poll::Ready(Ok(()))
    }

    /// tokio's own `shutdown` turns ENOTCONN into success; here it is what it is: a loss.
    fn half_close(&mut self) -> Result<(), Loss> {
        self.look()?;
        SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
        self.phase = Phase::HalfClosed;
        Ok(())
    }

    /// The other receipt: takes out the leases whose last byte the peer's kernel has acknowledged.
    /// Looks at most once in a while, the less often the longer nothing moves.
    pub(super) fn take_acknowledged(&mut self, now: Instant) -> Result<Vec<Lease>, Loss> {
        if self.carried.is_empty() || now < self.look_at {
            return Ok(Vec::new());
        }
        let unacknowledged = unacknowledged_bytes(&self.stream)?;
        if let Some(error) = self.stream.take_error()? {
            return Err(Loss::Broken(error));
        }
        let acknowledged = self.written.saturating_sub(unacknowledged);
        let mut leases = Vec::new();
        let count = self.carried.partition_point(|carried| carried.end <= acknowledged);
        for carried in self.carried.drain(..count) {
            self.load.remove(&carried.lease);
            leases.push(carried.lease);
        }
        self.look_after =
            if leases.is_empty() { LOOK_AFTER[1].min(self.look_after * 2) } else { LOOK_AFTER[0] };
        self.look_at = now + self.look_after;
        Ok(leases)
    }

    /// When [`Self::take_acknowledged`] will look again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (!self.carried.is_empty()).then_some(self.look_at)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdStream};

    use tokio::io::Interest;

    use super::super::endpoints::Endpoints;
    use super::*;

    /// A connection without leases, and its far end.
    async fn pair() -> (Connection, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let near = TcpStream::connect(address).await.expect("connect");
        let (far, _) = listener.accept().expect("accept");
        let endpoint = topology::model::Endpoint { host: String::new(), port: 0 };
        let (id, _) = Endpoints::new(vec![endpoint]).pick(Instant::now(), None, |_| 0).expect("one");
        (Connection::new(near, id, Instant::now()), far)
    }

    /// The end of a connection that is half-closed after `text` was written.
    async fn end(connection: Connection, text: &[u8]) -> Result<(), Loss> {
        let mut connection = connection.close();
        connection.text.extend_from_slice(text);
        poll_fn(|cx| connection.poll(cx)).await
    }

    fn reset(far: StdStream) {
        let linger = SockRef::from(&far).set_linger(Some(Duration::ZERO));
        linger.expect("linger");
    }

    /// The socket itself knows of the end; the runtime may not have heard.
    fn wait_for_end(connection: &Connection) {
        let socket = SockRef::from(&connection.stream);
        socket.set_nonblocking(false).expect("blocking");
        drop(socket.peek(&mut [MaybeUninit::uninit()]));
        socket.set_nonblocking(true).expect("nonblocking");
    }

    #[tokio::test]
    async fn a_fin_after_the_half_close_confirms() {
        let (connection, mut far) = pair().await;
        let reads = std::thread::spawn(move || {
            let mut text = String::new();
            far.read_to_string(&mut text).map(|_| text)
        });
        end(connection, b"a 1 2\n").await.expect("a receipt");
        assert_eq!(reads.join().expect("join").expect("read"), "a 1 2\n");
    }

    #[tokio::test]
    async fn a_refused_half_close_is_a_loss() {
        let (mut connection, far) = pair().await;
        reset(far);
        // Takes the socket's error away, so that nothing but the half-close can tell.
        wait_for_end(&connection);
        drop(connection.stream.take_error());
        let socket = SockRef::from(&connection.stream);
        let refused = socket.shutdown(Shutdown::Write).expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
        let loss = connection.half_close().expect_err("a loss");
        assert!(connection.phase != Phase::HalfClosed, "{loss}");
    }

    #[tokio::test]
    async fn a_fin_that_nobody_has_heard_of_yet_forbids_the_half_close() {
        let (mut connection, far) = pair().await;
        drop(far);
        wait_for_end(&connection);
        let loss = connection.half_close().expect_err("a loss");
        assert!(matches!(loss, Loss::ClosedEarly), "{loss}");
        assert_eq!(connection.phase, Phase::Open);
    }

    /// Writes more than the sockets hold, and half-closes behind it.
    async fn half_close_with_bytes_on_their_way(connection: &mut Connection) {
        connection.stream.writable().await.expect("writable");
        while connection.stream.try_write(&[b'x'; 65536]).is_ok() {}
        assert!(unacknowledged_bytes(&connection.stream).expect("ask") > 0);
        connection.half_close().expect("half-closed");
    }

    #[tokio::test]
    async fn a_fin_with_our_bytes_on_their_way_is_a_loss() {
        let (mut connection, far) = pair().await;
        half_close_with_bytes_on_their_way(&mut connection).await;
        far.shutdown(Shutdown::Write).expect("a FIN");
        let loss = poll_fn(|cx| connection.poll(cx)).await.expect_err("a loss");
        assert!(matches!(loss, Loss::ClosedUnread(unread) if unread > 0), "{loss}");
    }

    #[tokio::test]
    async fn a_fin_that_a_reset_follows_is_a_loss() {
        let (mut connection, far) = pair().await;
        half_close_with_bytes_on_their_way(&mut connection).await;
        far.shutdown(Shutdown::Write).expect("a FIN");
        wait_for_end(&connection);
        reset(far);
        connection.stream.ready(Interest::ERROR).await.expect("the reset");
        let loss = poll_fn(|cx| connection.poll(cx)).await.expect_err("a loss");
        assert!(matches!(loss, Loss::Broken(_)), "{loss}");
    }

    #[tokio::test]
    async fn data_in_answer_is_a_loss() {
        let (connection, mut far) = pair().await;
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("write");
        let loss = end(connection, b"a 1 2\n").await.expect_err("a loss");
        assert!(matches!(loss, Loss::TalksBack), "{loss}");
    }
}
