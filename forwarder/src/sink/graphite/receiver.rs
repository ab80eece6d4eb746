//! A Graphite for tests: real sockets on loopback, and a script for each connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use topology::model::Endpoint;

/// Opens once, for all who wait. No wait is for ever.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn open(&self) {
        *self.0.0.lock().expect("gate") = true;
        self.0.1.notify_all();
    }

    pub(super) fn wait(&self) {
        let closed = self.0.0.lock().expect("gate");
        let limit = Duration::from_secs(30);
        let waited = self.0.1.wait_timeout_while(closed, limit, |open| !*open);
        drop(waited.expect("gate"));
    }
}

/// What all connections of a receiver wrote down.
#[derive(Default)]
pub(super) struct Log {
    accepted: AtomicUsize,
    lines: Mutex<Vec<(usize, String)>>,
}

/// One accepted connection, in the hands of a script.
pub(super) struct Peer {
    /// Counts from 0 in the order of accepting.
    pub(super) nth: usize,
    reader: BufReader<TcpStream>,
    log: Arc<Log>,
}

impl Peer {
    /// The next line, written into the log; `None` at the FIN or when the connection is gone.
    pub(super) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let bytes = self.reader.read_line(&mut line).unwrap_or(0);
        if bytes == 0 || !line.ends_with('\n') {
            return None;
        }
        let line = line.trim_end().to_owned();
        self.log.lines.lock().expect("log").push((self.nth, line.clone()));
        Some(line)
    }

    /// Reads to the FIN, as Graphite does; dropped then, it answers with its own.
    pub(super) fn read_to_fin(&mut self) {
        while self.line().is_some() {}
    }

    /// Waits until there is something to read, and leaves it unread.
    pub(super) fn peek(&self) {
        let _ = self.reader.get_ref().peek(&mut [0]).expect("peek");
    }

    pub(super) fn say(&self, text: &str) {
        self.reader.get_ref().write_all(text.as_bytes()).expect("write");
    }

    /// Sends a FIN and goes on reading.
    pub(super) fn half_close(&self) {
        self.reader.get_ref().shutdown(Shutdown::Write).expect("half-close");
    }

    /// Leaves as carbon does on SIGTERM: what was not read is not told.
    pub(super) fn shut_down(self) {
        drop(self.reader.get_ref().shutdown(Shutdown::Both));
    }

    /// Dies: the connection is reset.
    pub(super) fn reset(self) {
        let socket = SockRef::from(self.reader.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("linger");
    }
}

impl Drop for Peer {
    /// What a process has read, it has read, even if it does nothing with it.
    fn drop(&mut self) {
        let buffered = String::from_utf8_lossy(self.reader.buffer()).into_owned();
        let lines = buffered.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let lines = lines.map(|line| (self.nth, line.trim_end().to_owned()));
        self.log.lines.lock().expect("log").extend(lines);
    }
}

/// Listens on loopback and runs `script` for each connection in a thread of its own.
pub(super) struct Receiver {
    address: SocketAddr,
    log: Arc<Log>,
    last_port: Arc<AtomicU16>,
    listening: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(super) fn start(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("address"), script)
    }

    /// Restarts where another listened before.
    pub(super) fn start_at(address: SocketAddr, script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        let (log, last_port) = (Arc::<Log>::default(), Arc::<AtomicU16>::default());
        let (log_in, last, script) = (log.clone(), last_port.clone(), Arc::new(script));
        let listening = thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accept");
                if stream.peer_addr().is_ok_and(|peer| peer.port() == last.load(Ordering::SeqCst)) {
                    return;
                }
                let peer = Peer {
                    nth: log_in.accepted.fetch_add(1, Ordering::SeqCst),
                    reader: BufReader::with_capacity(4096, stream),
                    log: log_in.clone(),
                };
                let script = script.clone();
                thread::spawn(move || script(peer));
            }
        });
        Self { address, log, last_port, listening: Some(listening) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.address.ip().to_string(), port: self.address.port() }
    }

    pub(super) fn accepted(&self) -> usize {
        self.log.accepted.load(Ordering::SeqCst)
    }

    /// Listens no more, and counts what was accepted.
    pub(super) fn stop(mut self) -> usize {
        self.listen_no_more();
        self.accepted()
    }

    /// What was read so far: the connection and the line.
    pub(super) fn lines(&self) -> Vec<(usize, String)> {
        self.log.lines.lock().expect("log").clone()
    }

    /// The connections end as their scripts say.
    fn listen_no_more(&mut self) {
        if let Some(listening) = self.listening.take() {
            // A connection of our own comes after all others, so that they are all counted.
            let last = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
            let loopback: SocketAddr = "127.0.0.1:0".parse().expect("address");
            last.bind(&loopback.into()).expect("bind");
            let address = last.local_addr().expect("address").as_socket().expect("IP");
            self.last_port.store(address.port(), Ordering::SeqCst);
            last.connect(&self.address.into()).expect("connect");
            listening.join().expect("the listening thread");
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.listen_no_more();
    }
}
