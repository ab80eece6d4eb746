//! The lines that the workloads are about, the same each time.

use std::io::Write as _;

use fastrand::Rng;

/// Lines of a full batch.
pub(crate) const BATCH_LINES: usize = 1000;
/// The destination of every SEND.
pub(crate) const QUEUE: &str = "/queue/graphite";

const METRICS: [&str; 8] = [
    "cpu.percent-user",
    "cpu.percent-idle",
    "load.shortterm",
    "memory.used",
    "memory.cached",
    "disk.vda.read-ops",
    "net.eth0.rx-octets",
    "swap.used",
];

/// `count` lines as most producers write them, which are stored as they came: 58 bytes each, about.
pub(crate) fn usual(count: usize) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut rng = Rng::with_seed(1);
    for number in 0..count {
        let (host, metric) = (number / METRICS.len(), METRICS[number % METRICS.len()]);
        let value = match number % METRICS.len() {
            0..=2 => format!("{}.{:03}", rng.u32(..100), rng.u32(..1000)),
            3 | 4 => (4_000_000_000 + number * 7_919_000 + rng.usize(..10_000)).to_string(),
            5 | 6 => (number * 7919 + rng.usize(..8)).to_string(),
            _ => "0".to_owned(),
        };
        writeln!(lines, "bench.host{host:04}.{metric}.c{number:06} {value} 1700000000")
            .expect("a Vec takes it");
    }
    lines
}

/// `count` lines none of which can be stored as it came; one in ten is refused.
pub(crate) fn odd(count: usize) -> Vec<u8> {
    let mut lines = Vec::new();
    for number in 0..count {
        let name = format!("bench.host{:04}.cpu.percent-user.c{number:06}", number / 10);
        let line = match number % 10 {
            0 => format!("{name} 17.5"),
            1 => format!("{name} 17.5 -1"),
            2 => format!("{name}\t17.5\t1700000000"),
            3 => format!("{name} 17.5 1700000000\r"),
            4 => format!("  {name}  17.5  1700000000  "),
            5 => format!("{name} 1.75e+1 1700000000"),
            6 => format!("{name};datacenter=Zürich 17.5 1700000000"),
            7 => format!("{name} -17.5E-3 1700000000.25"),
            8 => format!("{name} 17.5 1700000000 "),
            _ => format!("{name} nan 1700000000"),
        };
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// A batch of usual lines in SENDs of `lines_per_send`, each with a receipt.
pub(crate) fn sends(lines_per_send: usize) -> Vec<u8> {
    let lines = usual(BATCH_LINES);
    let lines: Vec<&[u8]> = lines.split_inclusive(|&byte| byte == b'\n').collect();
    let mut bytes = Vec::new();
    for (number, body) in lines.chunks(lines_per_send).enumerate() {
        let body = body.concat();
        let length = body.len();
        let head = format!(
            "SEND\ndestination:{QUEUE}\npersistent:true\nreceipt:{number}\ncontent-length:{length}\n\n"
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&body);
        bytes.push(0);
    }
    bytes
}
