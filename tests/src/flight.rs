//! What a STOMP link has in flight, as a proxy between its ends sees it: the lines of SENDs that have gone
//! up, and whose RECEIPT has not come down. When the link breaks, these are what its sender sends again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A receiver's word is acted on at most this much later. Killed before that, whoever got it sends again
/// what was confirmed, too.
pub const WORD_LIMIT: Duration = Duration::from_secs(2);

/// Batches on their way, and what is in them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// SENDs.
    pub batches: u64,
    /// Lines in them.
    pub lines: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// What a session left behind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Without a receipt.
    pub open: Load,
    /// With one so late that a sender who dies may not have acted on it ([`WORD_LIMIT`]).
    pub late: Load,
}

/// All sessions of one link.
#[derive(Debug, Default)]
pub struct Flight(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    ended: Vec<Ended>,
    widest: Load,
}

impl Flight {
    /// The sessions that have ended, in this order.
    pub fn ended(&self) -> Vec<Ended> {
        self.seen().ended.clone()
    }

    /// The most that was without a receipt at a time; each number by itself.
    pub fn widest(&self) -> Load {
        self.seen().widest
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("nothing panics while it holds what was seen")
    }
}

/// One session of a link.
#[derive(Debug, Default)]
pub(crate) struct Session {
    sent: Frames,
    said: Frames,
    heard: Frames,
    /// By the SEND's `receipt`: those whose sender has not heard of one.
    open: HashMap<String, Load>,
    /// Those that the upstream has not said one for.
    unanswered: HashMap<String, Load>,
    receipted: VecDeque<(Instant, Load)>,
    moved_at: Option<Instant>,
}

impl Session {
    /// These bytes have gone to the upstream.
    pub(crate) fn went_up(&mut self, bytes: &[u8], flight: &Flight) {
        for Frame { head, body_lines, body_bytes } in self.sent.take(bytes) {
            self.moved_at = Some(Instant::now());
            if let Some(receipt) = header(&head, "SEND", "receipt") {
                let load = Load { batches: 1, lines: body_lines, bytes: body_bytes };
                self.open.insert(receipt.to_owned(), load);
                self.unanswered.insert(receipt.to_owned(), load);
                let now = sum(self.unanswered.values());
                let widest = &mut flight.seen().widest;
                *widest = Load {
                    batches: widest.batches.max(now.batches),
                    lines: widest.lines.max(now.lines),
                    bytes: widest.bytes.max(now.bytes),
                };
            }
        }
    }

    /// These bytes have come from the upstream. Its sender may send more for them before they are known to have
    /// gone down.
    pub(crate) fn came_down(&mut self, bytes: &[u8]) {
        for Frame { head, .. } in self.said.take(bytes) {
            header(&head, "RECEIPT", "receipt-id").and_then(|id| self.unanswered.remove(id));
        }
    }

    /// These bytes have gone down to the sender.
    pub(crate) fn went_down(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        for Frame { head, .. } in self.heard.take(bytes) {
            self.moved_at = Some(now);
            let receipted = header(&head, "RECEIPT", "receipt-id").and_then(|id| self.open.remove(id));
            self.receipted.extend(receipted.map(|load| (now, load)));
        }
        while self.receipted.front().is_some_and(|(at, _)| *at + WORD_LIMIT < now) {
            self.receipted.pop_front();
        }
    }

    /// It has ended.
    pub(crate) fn end(&self, flight: &Flight) {
        let is_late = |at: Instant| self.moved_at.is_none_or(|moved| at + WORD_LIMIT >= moved);
        let late = self.receipted.iter().filter(|(at, _)| is_late(*at)).map(|(_, load)| load);
        flight.seen().ended.push(Ended { open: sum(self.open.values()), late: sum(late) });
    }
}

fn sum<'a>(loads: impl Iterator<Item = &'a Load>) -> Load {
    loads.fold(Load::default(), |sum, load| Load {
        batches: sum.batches + load.batches,
        lines: sum.lines + load.lines,
        bytes: sum.bytes + load.bytes,
    })
}

/// A frame that has gone by whole.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    /// Its command and headers, each ended by LF.
    head: String,
    body_lines: u64,
    body_bytes: u64,
}

/// A header of a frame, if it is a `command`.
fn header<'a>(head: &'a str, command: &str, name: &str) -> Option<&'a str> {
    let headers = head.strip_prefix(command)?.strip_prefix('\n')?;
    headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// The frames in the bytes of one direction.
#[derive(Debug, Default)]
struct Frames(Vec<u8>);

impl Frames {
    /// Those that are whole with these `bytes`.
    fn take(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.0.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut used = 0;
        while let Some((frame, end)) = first(&self.0[used..]) {
            frames.push(frame);
            used += end;
        }
        self.0.drain(..used);
        frames
    }
}

/// The first frame, and where it ends.
fn first(bytes: &[u8]) -> Option<(Frame, usize)> {
    // Heart-beats.
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    let head_end = begin + bytes[begin..].windows(2).position(|pair| pair == b"\n\n")? + 1;
    let head = String::from_utf8_lossy(&bytes[begin..head_end]).into_owned();
    let body = head_end + 1;
    let command = head.lines().next()?;
    let number = |name| header(&head, command, name).and_then(|value| value.parse::<usize>().ok());
    let body_end = match number("content-length") {
        Some(length) => body + length,
        None => body + bytes[body..].iter().position(|byte| *byte == 0)?,
    };
    // The NUL has come, too.
    let found = bytes.get(body..=body_end)?;
    let content = &found[..found.len() - 1];
    // A body may be compressed; then only its header tells.
    let lines = || content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let body_lines = number("packetboat-count").unwrap_or_else(lines) as u64;
    let body_bytes = content.len() as u64;
    Some((Frame { head, body_lines, body_bytes }, body_end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(receipt: u32, body: &str) -> String {
        format!("SEND\nreceipt:{receipt}\ncontent-length:{}\n\n{body}\0", body.len())
    }

    fn load(batches: u64, lines: u64, bytes: u64) -> Load {
        Load { batches, lines, bytes }
    }

    #[test]
    fn a_frame_counts_once_it_has_gone_by_whole() {
        let (flight, mut session) = (Flight::default(), Session::default());
        let wire = format!("CONNECT\nhost:/\n\n\0\n\n{}{}", send(1, "a 1 1\nb 2 2"), send(2, "c 3 3\0\n"));
        for byte in wire.as_bytes() {
            session.went_up(&[*byte], &flight);
        }
        session.went_up(&send(3, "half of it").as_bytes()[..40], &flight);
        assert_eq!(flight.widest(), load(2, 3, 18));
        session.went_down(b"CONNECTED\nversion:1.2\n\n\0\n");
        session.end(&flight);
        assert_eq!(flight.ended(), [Ended { open: load(2, 3, 18), late: Load::default() }]);
    }

    #[test]
    fn a_receipt_counts_for_the_window_when_it_is_said_and_for_the_sender_when_it_is_heard() {
        let (flight, mut session) = (Flight::default(), Session::default());
        let receipt = b"RECEIPT\nreceipt-id:1\n\n\0";
        session.went_up(send(1, "a 1 1").as_bytes(), &flight);
        session.came_down(receipt);
        session.went_up(send(2, "b 2 2").as_bytes(), &flight);
        assert_eq!(flight.widest(), load(1, 1, 5));
        session.end(&flight);
        session.went_down(receipt);
        session.end(&flight);
        session.moved_at = Some(Instant::now() + WORD_LIMIT * 2);
        session.end(&flight);
        let late = Load::default();
        let expected = [
            Ended { open: load(2, 2, 10), late },
            Ended { open: load(1, 1, 5), late: load(1, 1, 5) },
            Ended { open: load(1, 1, 5), late },
        ];
        assert_eq!(flight.ended(), expected);
    }
}
