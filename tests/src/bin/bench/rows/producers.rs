//! Many producers: 10,000 that each open a connection for one line every ten seconds, and 10,000 that stay.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::ports::Port;
use anyhow::{Result, anyhow, ensure};
use socket2::{Domain, Socket, Type};

use crate::producer::{self, Sent};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;
use crate::upstream::Upstream;
use crate::usage::rss_mib;

const PRODUCERS: usize = 10_000;
/// Between two lines of one producer.
const PERIOD: Duration = Duration::from_secs(10);
const TIME: Duration = Duration::from_secs(8);
/// Of those that write at the same time.
const THREADS: usize = 32;
/// A closed connection holds its port for a minute, and an address has 28,000: so there are more addresses.
const ADDRESSES: usize = 64;
/// Sessions that are begun together.
const AT_A_TIME: usize = 100;
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const METRIC: &str = "SEND\ndestination:/queue/graphite\nreceipt:1\n\na 1 1\0";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let upstream = Port::free();
    let stub = Upstream::start(upstream.address())?;
    let subject = Subject::before(upstream.address());
    subject.linked();
    let sent = subject.measured(|| {
        let sent = come_and_go(subject.graphite(), bench)?;
        stub.wait_for_lines(sent.lines);
        Ok(sent)
    })?;
    let percent = 100.0 * sent.cpu_seconds / sent.elapsed.as_secs_f64();
    report.add("10,000 producers that come and go", "lines/s", sent.per_second());
    report.add_marked("10,000 producers that come and go", "% of a core", percent, Mark::AtMost(10.0));
    drop((subject, stub));

    let subject = Subject::before(upstream.address());
    let standing = stand(subject.stomp(), bench.count(PRODUCERS))?;
    let rss = rss_mib(subject.process())?;
    report.add_marked("10,000 STOMP sessions that stay", "RSS MiB", rss, Mark::AtMost(100.0));
    drop(standing);
    Ok(())
}

/// Each line over a connection of its own, when it is due.
fn come_and_go(to: SocketAddr, bench: &Bench) -> Result<Sent> {
    let rate = bench.count(PRODUCERS) as f64 / PERIOD.as_secs_f64();
    let start = Instant::now();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
    let total = ((rate * bench.time(TIME).as_secs_f64()) as usize).max(1);
    let lines = thread::scope(|threads| {
        let run = |first: usize| {
            move || {
                for number in (first..total).step_by(THREADS) {
                    let due = Duration::from_secs_f64(number as f64 / rate);
                    thread::sleep(due.saturating_sub(start.elapsed()));
                    send_one(to, number)?;
                }
                Ok::<_, anyhow::Error>(())
            }
        };
        let running: Vec<_> = (0..THREADS).map(|first| threads.spawn(run(first))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a producer panicked"))?)?;
        Ok::<_, anyhow::Error>(total as u64)
    })?;
    Ok(Sent { lines, elapsed: start.elapsed(), cpu_seconds: 0.0 })
}

fn send_one(to: SocketAddr, number: usize) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let last = u8::try_from(number % ADDRESSES)? + 1;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)).into())?;
    socket.connect(&to.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("bench.host{number:05}.up 1 1700000000\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "a plaintext receiver answered by bytes");
    Ok(())
}

/// Sessions that have sent a metric each.
fn stand(to: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut standing = Vec::with_capacity(count);
    while standing.len() < count {
        let mut begun = Vec::new();
        for _ in 0..AT_A_TIME.min(count - standing.len()) {
            let mut stream = producer::connect(to)?;
            write!(stream, "CONNECT\naccept-version:1.2\nhost:h\nheart-beat:0,0\n\n\0{METRIC}")?;
            begun.push(stream);
        }
        for stream in &mut begun {
            let mut heard = Vec::new();
            while memchr::memmem::find(&heard, b"receipt-id:1").is_none() {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes)?;
                ensure!(read > 0, "a session ended: {}", heard.escape_ascii());
                heard.extend_from_slice(&bytes[..read]);
            }
        }
        standing.append(&mut begun);
    }
    Ok(standing)
}
