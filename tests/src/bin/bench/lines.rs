//! What is sent: lines as collectd writes them, 58 bytes each on average, of 500 hosts with 20 metrics;
//! made beforehand, so that the producer only writes.

use std::io::Write as _;

const HOSTS: usize = 500;
const FIRST_TIMESTAMP: usize = 1_700_000_000;
/// What one write takes, about.
const PIECE_BYTES: usize = 128 * 1024;
/// The destination of every message.
pub(crate) const QUEUE: &str = "/queue/graphite";

/// How the values of a metric move.
#[derive(Clone, Copy)]
enum Kind {
    /// Anywhere between 0 and 100, with three decimals.
    Percent,
    /// Grows, by another step for each series.
    Counter,
    /// Bytes: ten digits, the last four moving.
    Bytes,
    /// A small number that moves.
    Small,
    /// Always 0.
    Zero,
}

const METRICS: [(&str, Kind); 20] = [
    ("cpu.percent-user", Kind::Percent),
    ("cpu.percent-system", Kind::Percent),
    ("cpu.percent-idle", Kind::Percent),
    ("load.shortterm", Kind::Percent),
    ("load.midterm", Kind::Percent),
    ("df.root.percent-used", Kind::Percent),
    ("memory.used", Kind::Bytes),
    ("memory.cached", Kind::Bytes),
    ("memory.free", Kind::Bytes),
    ("swap.used", Kind::Zero),
    ("processes.blocked", Kind::Zero),
    ("disk.vda.read-ops", Kind::Counter),
    ("disk.vda.write-ops", Kind::Counter),
    ("disk.vda.io-time", Kind::Counter),
    ("net.eth0.rx-octets", Kind::Counter),
    ("net.eth0.tx-octets", Kind::Counter),
    ("net.eth0.rx-packets", Kind::Counter),
    ("net.eth0.tx-packets", Kind::Counter),
    ("uptime.seconds", Kind::Counter),
    ("tcp.conns-estab", Kind::Small),
];
const SERIES: usize = HOSTS * METRICS.len();
/// A name ends in the number of its series.
const SERIES_DIGITS: usize = 6;

/// Bytes to be written in pieces, each of whole messages (in plaintext, of whole lines).
#[derive(Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    lines_per_message: usize,
}

/// What one write takes.
#[derive(Debug, Clone, Copy)]
struct Piece {
    end: usize,
    messages: usize,
}

impl Payload {
    /// `lines` lines as they are.
    pub(crate) fn plaintext(lines: usize) -> Self {
        Self::new(1, lines, append_line)
    }

    /// `lines` lines in SENDs of `lines_per_message`, each with a receipt.
    pub(crate) fn stomp(lines: usize, lines_per_message: usize) -> Self {
        Self::stomp_to(QUEUE, lines, lines_per_message)
    }

    /// As [`Payload::stomp`], to the queue of a broker.
    pub(crate) fn stomp_to(queue: &str, lines: usize, lines_per_message: usize) -> Self {
        Self::new(lines_per_message, lines / lines_per_message, |number, into| {
            let mut body = Vec::new();
            for line in number * lines_per_message..(number + 1) * lines_per_message {
                append_line(line, &mut body);
            }
            append_send_to(queue, number, &body, into);
        })
    }

    /// `lines` lines with long tagged names and random values.
    pub(crate) fn tagged(lines: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let values: Vec<f64> = (0..lines).map(|_| random.f64() * 1000.0).collect();
        Self::new(1, lines, |number, into| append_tagged_line(number, values[number], into))
    }

    /// Of all that it has.
    pub(crate) fn bytes_per_line(&self) -> f64 {
        let messages: usize = self.pieces.iter().map(|piece| piece.messages).sum();
        self.bytes.len() as f64 / (messages * self.lines_per_message) as f64
    }

    fn new(lines_per_message: usize, messages: usize, append: impl Fn(usize, &mut Vec<u8>)) -> Self {
        let mut payload = Self { bytes: Vec::new(), pieces: Vec::new(), lines_per_message };
        let (mut piece, mut start) = (Piece { end: 0, messages: 0 }, 0);
        for number in 0..messages {
            append(number, &mut payload.bytes);
            piece = Piece { end: payload.bytes.len(), messages: piece.messages + 1 };
            if piece.end - start >= PIECE_BYTES || number + 1 == messages {
                payload.pieces.push(piece);
                (piece.messages, start) = (0, piece.end);
            }
        }
        payload
    }

    /// Lines in each message; 1 in plaintext.
    pub(crate) fn lines_per_message(&self) -> usize {
        self.lines_per_message
    }

    /// The pieces over and over, each with the number of its messages, until there have been at least `lines`
    /// lines.
    pub(crate) fn pieces(&self, lines: usize) -> impl Iterator<Item = (&[u8], usize)> {
        let ends = self.pieces.iter().map(|piece| piece.end);
        let starts = std::iter::once(0).chain(ends);
        let whole =
            starts.zip(&self.pieces).map(|(start, piece)| (&self.bytes[start..piece.end], piece.messages));
        let wanted = lines.div_ceil(self.lines_per_message);
        whole.cycle().scan(0, move |messages, piece| {
            let more = *messages < wanted;
            *messages += piece.1;
            more.then_some(piece)
        })
    }

    /// Its lines over and over, where it is plaintext.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|&byte| byte == b'\n').cycle()
    }
}

pub(crate) fn append_send_to(queue: &str, number: usize, body: &[u8], into: &mut Vec<u8>) {
    let length = body.len();
    let head =
        format!("SEND\ndestination:{queue}\npersistent:true\nreceipt:{number}\ncontent-length:{length}\n\n");
    into.extend_from_slice(head.as_bytes());
    into.extend_from_slice(body);
    into.push(0);
}

/// Series `number % SERIES`, a second later each time around.
pub(crate) fn append_line(number: usize, into: &mut Vec<u8>) {
    let (series, tick) = (number % SERIES, number / SERIES);
    let (name, kind) = METRICS[series % METRICS.len()];
    let chance = mixed(number);
    let value = match kind {
        Kind::Percent => format!("{}.{:03}", chance / 1000 % 100, chance % 1000),
        Kind::Counter => (series * 7919 + tick * (series % 977 + 1) * 10 + chance % 8).to_string(),
        Kind::Bytes => (4_000_000_000 + mixed(series) % 1_000_000 * 1000 + chance % 10_000).to_string(),
        Kind::Small => (100 + chance % 64).to_string(),
        Kind::Zero => "0".to_owned(),
    };
    let host = series / METRICS.len();
    let timestamp = FIRST_TIMESTAMP + tick;
    writeln!(into, "bench.host{host:04}.{name}.c{series:0SERIES_DIGITS$} {value} {timestamp}")
        .unwrap_or_else(|_| unreachable!());
}

/// One of ten metrics of one of a thousand pods, with all that names it.
fn append_tagged_line(number: usize, value: f64, into: &mut Vec<u8>) {
    const NAMES: [&str; 10] = [
        "http.server.request.duration",
        "http.server.active_requests",
        "http.client.request.duration",
        "process.cpu.utilization",
        "process.memory.usage",
        "db.client.connections.usage",
        "jvm.gc.duration",
        "messaging.publish.duration",
        "rpc.server.duration",
        "system.network.io",
    ];
    let (series, tick) = (number % SERIES, number / SERIES);
    let (name, pod) = (NAMES[series % NAMES.len()], series / NAMES.len());
    let (service, node, instance) = (pod % 40, pod % 97, mixed(pod) % 0x1_0000_0000);
    let timestamp = FIRST_TIMESTAMP + tick;
    writeln!(
        into,
        "{name};datacenter=us-east-1;environment=production;host=node-{node:03}.us-east-1.example.net;\
         instance={instance:08x};namespace=shop;pod=service-{service:02}-{instance:08x};service=service-{service:02};\
         version=v2.{}.{} {value:.6} {timestamp}",
        service % 7,
        node % 5
    )
    .unwrap_or_else(|_| unreachable!());
}

/// The number that [`append_line`] made a line of.
pub(crate) fn number_of(line: &[u8]) -> Option<usize> {
    let (name_end, timestamp_at) = (memchr::memchr(b' ', line)?, memchr::memrchr(b' ', line)? + 1);
    number_of_point(&line[..name_end], digits(&line[timestamp_at..])?)
}

/// As [`number_of`], of a line that was taken apart.
pub(crate) fn number_of_point(name: &[u8], timestamp: usize) -> Option<usize> {
    let series = digits(name.get(name.len().checked_sub(SERIES_DIGITS)?..)?)?;
    Some(timestamp.checked_sub(FIRST_TIMESTAMP)? * SERIES + series)
}

fn digits(text: &[u8]) -> Option<usize> {
    text.iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + usize::from(byte - b'0')))
}

/// Scatters numbers that follow each other (the finalizer of splitmix64).
fn mixed(number: usize) -> usize {
    let mut bits = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((bits ^ (bits >> 31)) >> 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines_and_enough_of_them() {
        let payload = Payload::plaintext(10_000);
        let pieces: Vec<_> = payload.pieces(25_000).collect();
        let lines: usize = pieces.iter().map(|(_, lines)| lines).sum();
        assert!((25_000..30_000).contains(&lines), "{lines}");
        for (bytes, lines) in pieces {
            assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), lines);
            assert_eq!(bytes.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn a_line_is_as_long_as_those_of_a_real_fleet() {
        let payload = Payload::plaintext(SERIES);
        let bytes = payload.bytes.len() / SERIES;
        assert!((55..=62).contains(&bytes), "{bytes} bytes a line");
    }

    #[test]
    fn a_tagged_line_is_long() {
        let bytes = Payload::tagged(100).bytes_per_line();
        assert!((200.0..300.0).contains(&bytes), "{bytes} bytes a line");
    }

    #[test]
    fn a_line_tells_its_number() {
        for number in [0, 1, SERIES - 1, SERIES, 3 * SERIES + 77] {
            let mut line = Vec::new();
            append_line(number, &mut line);
            assert_eq!(number_of(line.trim_ascii_end()), Some(number));
        }
        for line in ["", "a b", "bench.c000001 1 x", "short 1 1700000000", "bench.c000001 1 1699999999"] {
            assert_eq!(number_of(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_message_is_a_frame_with_its_lines() {
        let payload = Payload::stomp(4, 2);
        let frames: Vec<_> = payload.bytes.split_inclusive(|&byte| byte == 0).collect();
        assert_eq!(frames.len(), 2);
        let text = String::from_utf8_lossy(frames[1]);
        let (head, body) = text.split_once("\n\n").unwrap();
        let body = body.strip_suffix('\0').unwrap();
        assert!(head.starts_with("SEND\n") && head.contains("receipt:1\n"), "{head}");
        assert!(head.ends_with(&format!("content-length:{}", body.len())), "{head}");
        assert_eq!(body.lines().count(), 2);
    }
}
