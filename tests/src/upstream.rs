//! The far end of a link, that does as a script says: confirms, refuses, closes, or says nothing.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::ledger::Ledger;
use crate::ports::Port;
use crate::stomp::{Frame, Stomp};

/// Nothing reaches a link later than this while its upstream lives.
const BEAT: Duration = Duration::from_secs(2);

/// What is done about a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// CONNECT gets its CONNECTED, anything else the receipt that it asks for. Only then do the lines of a
    /// SEND enter the ledger.
    Yes,
    /// The same, and the connection is closed.
    YesAndClose,
    /// An ERROR with this message, and the connection is closed.
    Error(&'static str),
    /// The connection is closed.
    Close,
    /// Nothing.
    Silence,
}

/// Says what is to be done about a frame of a client.
type Script = Box<dyn Fn(&Frame) -> Answer + Send + Sync>;

/// A STOMP upstream. It has heart-beats, and goes on beating whatever the script says.
pub struct Upstream {
    port: Port,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    dials: Mutex<Vec<Instant>>,
    ledger: Ledger,
    stopped: AtomicBool,
}

impl Upstream {
    /// Starts one with this script.
    pub fn new(script: impl Fn(&Frame) -> Answer + Send + Sync + 'static) -> Self {
        let port = Port::free();
        let listener = port.listen();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            dials: Mutex::default(),
            ledger: Ledger::default(),
            stopped: AtomicBool::new(false),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self { port, shared }
    }

    /// One that takes everything.
    pub fn willing() -> Self {
        Self::new(|_| Answer::Yes)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// From now on this script counts, for the sessions that stand, too.
    pub fn follow(&self, script: impl Fn(&Frame) -> Answer + Send + Sync + 'static) {
        *locked(&self.shared.script) = Box::new(script);
    }

    /// The lines that it has confirmed.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// How often it was dialled.
    pub fn dials(&self) -> usize {
        locked(&self.shared.dials).len()
    }

    /// The time from the first dial to dial number `count`, counted from one; `None` if there were fewer.
    pub fn time_of_dials(&self, count: usize) -> Option<Duration> {
        let dials = locked(&self.shared.dials);
        Some(*dials.get(count.checked_sub(1)?)? - *dials.first()?)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes its thread, which then ends; if that is gone already, all the better.
        TcpStream::connect(self.address()).ok();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            locked(&self.dials).push(Instant::now());
            let shared = Arc::clone(self);
            // A session ends with its connection, and however it ends, the script goes on with the next.
            std::thread::spawn(move || shared.serve(stream));
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let beating = stream.try_clone()?;
        let (mut session, mut frame) = Stomp::accept(stream)?;
        std::thread::spawn(move || beat(beating));
        while self.answer(&mut session, &frame)? {
            frame = session.read()?;
        }
        session.socket().shutdown(std::net::Shutdown::Both)
    }

    /// Tells whether the session goes on.
    fn answer(&self, session: &mut Stomp, frame: &Frame) -> io::Result<bool> {
        let answer = (*locked(&self.script))(frame);
        match answer {
            Answer::Yes | Answer::YesAndClose => self.take(session, frame)?,
            Answer::Error(message) => session.write("ERROR", &[("message", message)], b"")?,
            Answer::Close | Answer::Silence => {}
        }
        Ok(matches!(answer, Answer::Yes | Answer::Silence))
    }

    fn take(&self, session: &mut Stomp, frame: &Frame) -> io::Result<()> {
        match frame.command.as_str() {
            "CONNECT" | "STOMP" => {
                session.write("CONNECTED", &[("version", "1.2"), ("heart-beat", "2000,2000")], b"")
            }
            command => {
                if command == "SEND" {
                    for line in frame.body.split(|byte| *byte == b'\n') {
                        self.ledger.enter(line);
                    }
                }
                session.confirm(frame)
            }
        }
    }
}

/// Until the connection ends.
fn beat(mut stream: TcpStream) {
    while stream.write_all(b"\n").is_ok() {
        std::thread::sleep(BEAT);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no script panics")
}
