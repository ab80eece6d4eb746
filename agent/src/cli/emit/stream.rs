//! Lines from standard input: checked here, so that a bad one is named here and harms no other.

use std::fmt;
use std::io::{self, Read};

use forwarder::Clock;
use tokio::sync::mpsc;

use crate::cli::emit::EmitArguments;
use crate::cli::emit::producer::{Producer, ProducerError};
use crate::ingest::line::{self, Checked, Reason, Refused};
use crate::ingest::unfinished::Unfinished;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;
/// Reads that may wait to be sent.
const READS_WAITING: usize = 4;

/// What became of the lines that were read.
#[derive(Debug, Default)]
pub(super) struct Taken {
    read: u64,
    taken: u64,
    refused: [u64; Reason::ALL.len()],
    first_refused: Option<Refused>,
}

/// Not every line was taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// No line was read.
    #[error(transparent)]
    Connect(ProducerError),
    /// The others are taken.
    #[error("{0}")]
    Refused(Box<Taken>),
    /// What has no receipt may be taken all the same.
    #[error("{taken}: {cause}")]
    Broken { taken: Box<Taken>, cause: ProducerError },
    /// What was read before is taken.
    #[error("{taken}: cannot read standard input: {cause}")]
    Input { taken: Box<Taken>, cause: io::Error },
}

/// Sends the lines of `input` to its end. `Ok`: every one is taken.
pub(super) async fn stream(
    args: &EmitArguments,
    clock: &Clock,
    input: impl Read + Send + 'static,
) -> Result<Box<Taken>, StreamError> {
    let mut producer = Producer::connect(args).await.map_err(StreamError::Connect)?;
    let (reads, mut waiting) = mpsc::channel(READS_WAITING);
    // A thread of its own, and not one of the runtime's, whose end would wait for the next line.
    std::thread::spawn(move || read_all(input, &reads));
    let mut lines = Lines { prefix: args.prefix.as_deref(), ..Lines::default() };
    let sent = lines.send_all(&mut waiting, &mut producer, clock).await;
    let mut taken = Box::new(lines.taken);
    taken.taken = producer.taken();
    match sent {
        Ok(Ok(())) => producer.leave().await,
        Ok(Err(cause)) => return Err(StreamError::Input { taken, cause }),
        Err(cause) => return Err(StreamError::Broken { taken, cause }),
    }
    if taken.taken < taken.read { Err(StreamError::Refused(taken)) } else { Ok(taken) }
}

fn read_all(mut input: impl Read, reads: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(bytes) => Ok(buffer[..bytes].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let end = read.is_err();
        if reads.blocking_send(read).is_err() || end {
            return;
        }
    }
}

/// The lines on their way from the reads into SENDs.
#[derive(Default)]
struct Lines<'a> {
    prefix: Option<&'a str>,
    unfinished: Unfinished,
    taken: Taken,
}

impl Lines<'_> {
    /// The outer error ends the session; the inner one is the input's, and what came before it is sent.
    async fn send_all(
        &mut self,
        reads: &mut mpsc::Receiver<io::Result<Vec<u8>>>,
        producer: &mut Producer,
        clock: &Clock,
    ) -> Result<io::Result<()>, ProducerError> {
        let end = loop {
            tokio::select! {
                read = reads.recv(), if producer.has_room() => match read {
                    Some(Ok(bytes)) => self.send(Some(bytes), producer, clock),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                receipt = producer.receipt() => receipt?,
            }
        };
        self.send(None, producer, clock);
        producer.all_taken().await?;
        Ok(end)
    }

    /// Sends the whole lines in `read`; `None`: the input is at its end.
    fn send(&mut self, read: Option<Vec<u8>>, producer: &mut Producer, clock: &Clock) {
        let now_seconds = clock.now_seconds();
        let mut checked = Checked::default();
        match read {
            Some(read) => {
                let mut bytes = Vec::new();
                self.unfinished.continue_in(&mut bytes);
                bytes.extend_from_slice(&read);
                self.unfinished.check(&bytes, now_seconds, &mut checked);
            }
            None => self.unfinished.finish(now_seconds, &mut checked),
        }
        self.taken.read += u64::from(checked.count) + checked.refused_count();
        self.taken.add_refused(&checked);
        if let Some(prefix) = self.prefix {
            checked = prefixed(prefix, &checked.lines, now_seconds);
            self.taken.add_refused(&checked);
        }
        producer.send(&checked.lines, u64::from(checked.count));
    }
}

/// Puts `prefix` in front of each of the checked `lines`, which may become too long by it.
fn prefixed(prefix: &str, lines: &[u8], now_seconds: i64) -> Checked {
    let mut body = Vec::with_capacity(lines.len() * 2);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        body.extend_from_slice(prefix.as_bytes());
        body.push(b'.');
        body.extend_from_slice(line);
    }
    let mut checked = Checked::default();
    line::check(&body, now_seconds, &mut checked);
    checked
}

impl Taken {
    fn add_refused(&mut self, checked: &Checked) {
        for refused in &checked.refused {
            self.refused[refused.reason as usize] += 1;
            self.first_refused.get_or_insert_with(|| refused.clone());
        }
        for (count, more) in self.refused.iter_mut().zip(checked.refused_only_counted) {
            *count += u64::from(more);
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "taken {} of {}", self.taken, self.read)?;
        let Some(first) = &self.first_refused else {
            return Ok(());
        };
        write!(f, ", refused {}", self.refused.iter().sum::<u64>())?;
        let by_reason = Reason::ALL.iter().zip(self.refused).filter(|(_, count)| *count > 0);
        for (place, (reason, count)) in by_reason.enumerate() {
            write!(f, "{}{} {count}", if place == 0 { " (" } else { ", " }, reason.as_str())?;
        }
        let shown: String = String::from_utf8_lossy(&first.line).chars().take(80).collect();
        write!(f, "), first {shown:?}")
    }
}
