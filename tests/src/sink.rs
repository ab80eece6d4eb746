//! A Graphite that counts: by itself, or in front of a real one, which then gives the receipts.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ledger::Ledger;
use crate::proxy::Proxy;

const READ_BYTES: usize = 64 * 1024;

/// Takes lines over TCP and counts them. Its [`Proxy`] can stall it ([`Proxy::hold`]), reset it or close it.
#[derive(Debug)]
pub struct Sink {
    ledger: Arc<Ledger>,
    proxy: Proxy,
    _reader: Option<Reader>,
}

impl Sink {
    /// A Graphite that keeps nothing: it reads all there is, and answers a half-close by a FIN once it has
    /// read every byte before it.
    pub fn alone() -> Self {
        Self::with(Reader::start(read_all))
    }

    /// As [`Sink::alone`], but it never answers a half-close, as some receivers do: it has read everything,
    /// and its connection stands.
    pub fn silent() -> Self {
        Self::with(Reader::start(read_all_and_keep))
    }

    fn with(reader: Reader) -> Self {
        let address = reader.address;
        Self { _reader: Some(reader), ..Self::before(address) }
    }

    /// Counts what goes to the Graphite at `upstream`. A line is confirmed when that Graphite has answered
    /// the half-close after it.
    pub fn before(upstream: SocketAddr) -> Self {
        let ledger = Arc::new(Ledger::default());
        let proxy = Proxy::counting(upstream, Arc::clone(&ledger));
        Self { ledger, proxy, _reader: None }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// What came.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// To stall, reset or close it.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }
}

/// Reads connections to their end.
#[derive(Debug)]
struct Reader {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Reader {
    fn start(read: fn(TcpStream) -> io::Result<()>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let stopped = Arc::clone(&stopped);
            move || {
                for connection in listener.incoming().take_while(|_| !stopped.load(Ordering::SeqCst)) {
                    std::thread::spawn(move || connection.and_then(read));
                }
            }
        });
        Self { address, stopped }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes its thread, which then ends; if that is gone already, all the better.
        TcpStream::connect(self.address).ok();
    }
}

/// The FIN goes out when the connection is dropped, so after the last byte was read.
fn read_all(mut connection: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    while connection.read(&mut buffer)? > 0 {}
    Ok(())
}

/// No FIN goes out while the test runs.
fn read_all_and_keep(connection: TcpStream) -> io::Result<()> {
    // Nobody closes it but the end of the process.
    std::mem::forget(connection.try_clone()?);
    read_all(connection)
}
