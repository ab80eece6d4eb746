//! A TCP proxy on loopback: the link between two nodes, to be cut, held, slowed and mended.
//!
//! It passes half-closes on, both ways, and an RST as an RST, so that Graphite's receipt is seen
//! through it as it was given.

mod relay;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::flight::{Flight, WORD_LIMIT};
use crate::ledger::Ledger;
use crate::ports::Port;
use crate::wait::{until, when};
use relay::Relay;

const ACCEPT_POLL: Duration = Duration::from_millis(5);
const DIAL_LIMIT: Duration = Duration::from_secs(5);
const LISTEN_LIMIT: Duration = Duration::from_secs(10);
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// A proxy before one address. It starts mended; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Arc<Port>,
    line: Arc<Line>,
    acceptor: Option<JoinHandle<()>>,
}

/// What all connections of a proxy share.
#[derive(Debug, Default)]
struct Line {
    stopped: AtomicBool,
    /// Nobody is to listen, or nobody listens.
    absent: AtomicBool,
    listens: AtomicBool,
    refuses: AtomicBool,
    held: AtomicBool,
    fuse: Mutex<Option<Fuse>>,
    delay: Mutex<Duration>,
    /// 0: no limit.
    bytes_per_second_max: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    accepted: AtomicU64,
    relays: Mutex<Vec<Weak<Relay>>>,
    ledger: Option<Arc<Ledger>>,
    flight: Option<Arc<Flight>>,
    /// Lines of connections that ended without the receipt of a Graphite.
    lost_lines: AtomicU64,
    /// Lines that a Graphite has confirmed, and when.
    confirmed: Mutex<Vec<(Instant, u64)>>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the upstream.
    Up,
    /// From the upstream.
    Down,
}

/// What happens after some more bytes in one direction.
#[derive(Debug, Clone, Copy)]
struct Fuse {
    direction: Direction,
    bytes_left: u64,
    then: fn(&Line),
}

impl Proxy {
    /// Passes everything on to `upstream`, which need not be there yet.
    pub fn before(upstream: SocketAddr) -> Self {
        Self::start(upstream, Line::default())
    }

    /// As [`Proxy::before`], and enters the lines that go to the upstream into `ledger`. They are confirmed
    /// there when the upstream answers the client's half-close by its own.
    pub fn counting(upstream: SocketAddr, ledger: Arc<Ledger>) -> Self {
        Self::start(upstream, Line { ledger: Some(ledger), ..Line::default() })
    }

    /// As [`Proxy::before`], before a STOMP upstream: `flight` tells what is on its way.
    pub fn watching(upstream: SocketAddr, flight: Arc<Flight>) -> Self {
        Self::start(upstream, Line { flight: Some(flight), ..Line::default() })
    }

    fn start(upstream: SocketAddr, line: Line) -> Self {
        let port = Arc::new(Port::free());
        let line = Arc::new(line);
        let acceptor = std::thread::spawn({
            let (port, line) = (Arc::clone(&port), Arc::clone(&line));
            move || accept(&port, upstream, &line)
        });
        let proxy = Self { port, line, acceptor: Some(acceptor) };
        proxy.wait_until_it_listens(true);
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Resets all connections, and each new one at once, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.line.cut();
    }

    /// As [`Proxy::cut`], after this many more bytes towards the upstream: so in the middle of a frame.
    pub fn cut_after(&self, bytes: u64) {
        self.cut_after_bytes(Direction::Up, bytes);
    }

    /// As [`Proxy::cut_after`], in either direction.
    pub fn cut_after_bytes(&self, direction: Direction, bytes: u64) {
        self.line.light(direction, bytes, Line::cut);
    }

    /// Whether it is cut; after [`Proxy::cut_after`], whether that has happened yet.
    pub fn is_cut(&self) -> bool {
        self.line.refuses.load(Ordering::SeqCst)
    }

    /// Passes nothing on and reads nothing any more, while all connections stand, until [`Proxy::mend`].
    pub fn hold(&self) {
        self.line.hold();
    }

    /// As [`Proxy::hold`], after this many more bytes towards the upstream: so with a window in flight.
    pub fn hold_after(&self, bytes: u64) {
        self.hold_after_bytes(Direction::Up, bytes);
    }

    /// As [`Proxy::hold_after`], in either direction.
    pub fn hold_after_bytes(&self, direction: Direction, bytes: u64) {
        self.line.light(direction, bytes, Line::hold);
    }

    /// Whether it is held; after [`Proxy::hold_after`], whether that has happened yet.
    pub fn is_held(&self) -> bool {
        self.line.is_held()
    }

    /// Leaves the connections that there are, and resets each new one, until [`Proxy::mend`].
    pub fn refuse(&self) {
        self.line.refuses.store(true, Ordering::SeqCst);
    }

    /// As kill -9 of a server: all connections have been reset when this returns, and nobody listens any more,
    /// until [`Proxy::mend`].
    pub fn leave(&self) {
        self.line.absent.store(true, Ordering::SeqCst);
        self.wait_until_it_listens(false);
        let relays = self.line.relays().clone();
        self.line.end_all(Relay::reset);
        until(LEAVE_LIMIT, "the end of all connections", || {
            let standing = relays.iter().filter(|relay| relay.strong_count() > 0).count();
            when(standing == 0, standing)
        });
    }

    fn wait_until_it_listens(&self, listens: bool) {
        let what = format!("the proxy to listen: {listens}");
        until(LISTEN_LIMIT, &what, || when(self.line.listens.load(Ordering::SeqCst) == listens, "not yet"));
    }

    /// Resets the connections that there are, and takes new ones as before.
    pub fn reset_all(&self) {
        self.line.end_all(Relay::reset);
    }

    /// Closes the connections that there are in an orderly way (a FIN to both sides, whatever was on its
    /// way is lost), and takes new ones as before.
    pub fn close_all(&self) {
        self.line.end_all(Relay::close);
    }

    /// Ends a cut, a hold, a refusal and an absence.
    pub fn mend(&self) {
        let mut fuse = self.line.fuse();
        *fuse = None;
        self.line.refuses.store(false, Ordering::SeqCst);
        self.line.held.store(false, Ordering::SeqCst);
        drop(fuse);
        self.line.absent.store(false, Ordering::SeqCst);
        self.wait_until_it_listens(true);
    }

    /// From now on everything takes this much longer, each way.
    pub fn delay(&self, one_way: Duration) {
        *self.line.delay.lock().expect("nothing panics while it holds the delay") = one_way;
    }

    /// From now on no connection carries more than this, each way.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.line.bytes_per_second_max.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Bytes passed on to the upstream.
    pub fn bytes_up(&self) -> u64 {
        self.bytes(Direction::Up)
    }

    /// Bytes passed on from the upstream.
    pub fn bytes_down(&self) -> u64 {
        self.bytes(Direction::Down)
    }

    /// Bytes passed on.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.line.bytes(direction).load(Ordering::SeqCst)
    }

    /// Of a [`Proxy::counting`]: lines that went to the upstream, and which it has not confirmed.
    pub fn unconfirmed_lines(&self) -> u64 {
        let standing: u64 =
            self.line.relays().iter().filter_map(Weak::upgrade).map(|relay| relay.unconfirmed_lines()).sum();
        self.line.lost_lines.load(Ordering::SeqCst) + standing
    }

    /// Of a [`Proxy::counting`]: lines that the upstream has confirmed just now ([`WORD_LIMIT`]), so that whoever
    /// sent them may not have handed that on.
    pub fn just_confirmed_lines(&self) -> u64 {
        let now = Instant::now();
        let is_new = |(at, _): &&(Instant, u64)| *at + WORD_LIMIT >= now;
        self.line.confirmed().iter().filter(is_new).map(|(_, lines)| lines).sum()
    }

    /// Connections taken since the start, those that were refused not counted.
    pub fn accepted(&self) -> u64 {
        self.line.accepted.load(Ordering::SeqCst)
    }

    /// Connections that stand.
    pub fn standing(&self) -> usize {
        self.line.relays().iter().filter(|relay| relay.strong_count() > 0).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.stopped.store(true, Ordering::SeqCst);
        self.line.end_all(Relay::reset);
        if let Some(acceptor) = self.acceptor.take() {
            // It has nothing to say; had it panicked, the test would have seen no connection.
            acceptor.join().ok();
        }
    }
}

impl Line {
    fn fuse(&self) -> MutexGuard<'_, Option<Fuse>> {
        self.fuse.lock().expect("nothing panics while it holds the fuse")
    }

    fn light(&self, direction: Direction, bytes_left: u64, then: fn(&Self)) {
        *self.fuse() = Some(Fuse { direction, bytes_left, then });
    }

    fn bytes(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Up => &self.bytes_up,
            Direction::Down => &self.bytes_down,
        }
    }

    fn relays(&self) -> MutexGuard<'_, Vec<Weak<Relay>>> {
        self.relays.lock().expect("nothing panics while it holds the relays")
    }

    fn confirmed(&self) -> MutexGuard<'_, Vec<(Instant, u64)>> {
        self.confirmed.lock().expect("nothing panics while it holds what was confirmed")
    }

    fn delay(&self) -> Duration {
        *self.delay.lock().expect("nothing panics while it holds the delay")
    }

    fn bytes_per_second_max(&self) -> Option<u64> {
        Some(self.bytes_per_second_max.load(Ordering::SeqCst)).filter(|&limit| limit > 0)
    }

    fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    fn cut(&self) {
        self.refuses.store(true, Ordering::SeqCst);
        self.end_all(Relay::reset);
    }

    fn end_all(&self, end: fn(&Relay)) {
        self.relays().drain(..).filter_map(|relay| relay.upgrade()).for_each(|relay| end(&relay));
    }

    /// How many of `wanted` bytes may go before the fuse has burnt; takes them from it.
    fn allow(&self, direction: Direction, wanted: usize) -> usize {
        let mut fuse = self.fuse();
        let Some(fuse) = fuse.as_mut().filter(|fuse| fuse.direction == direction) else { return wanted };
        let allowed = wanted.min(usize::try_from(fuse.bytes_left).unwrap_or(usize::MAX));
        fuse.bytes_left -= allowed as u64;
        allowed
    }

    /// Bytes that were allowed and did not go.
    fn give_back(&self, direction: Direction, bytes: usize) {
        if let Some(fuse) = self.fuse().as_mut().filter(|fuse| fuse.direction == direction) {
            fuse.bytes_left += bytes as u64;
        }
    }

    /// Nothing more was allowed: what was to happen happens. The fuse stays burnt until it is mended, so that
    /// no byte passes on a connection that was made in between.
    fn blow(&self) {
        let fuse = self.fuse();
        if let Some(Fuse { bytes_left: 0, then, .. }) = *fuse {
            then(self);
        }
    }
}

fn accept(port: &Port, upstream: SocketAddr, line: &Arc<Line>) {
    let mut listener = None;
    while !line.stopped.load(Ordering::SeqCst) {
        if line.absent.load(Ordering::SeqCst) {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen(port));
        }
        line.listens.store(listener.is_some(), Ordering::SeqCst);
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((client, _))) => {
                // A client that cannot be served is reset; it sees that, and so does the test.
                serve(client, upstream, line).ok();
            }
            Some(Err(_)) | None => std::thread::sleep(ACCEPT_POLL),
        }
    }
}

fn listen(port: &Port) -> TcpListener {
    let listener = port.listen();
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    listener
}

fn serve(client: TcpStream, upstream: SocketAddr, line: &Arc<Line>) -> io::Result<()> {
    relay::reset_on_close(&client)?;
    if line.refuses.load(Ordering::SeqCst) {
        return Ok(());
    }
    let upstream = TcpStream::connect_timeout(&upstream, DIAL_LIMIT)?;
    let relay = Relay::start(client, upstream, line)?;
    line.accepted.fetch_add(1, Ordering::SeqCst);
    line.relays().push(relay);
    // The cut may have come between the look and the push.
    if line.refuses.load(Ordering::SeqCst) {
        line.end_all(Relay::reset);
    }
    Ok(())
}
