//! A queue in memory: messages wait in their order, are lent to sessions, and are done or go back. No I/O.

use std::collections::BTreeMap;

/// Beyond this many bytes it takes no more; one message may pass it.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Names and values, those of the SEND alone left out.
    pub(super) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// Whether it was lent before.
    pub(super) redelivered: bool,
}

/// Its messages, by the number that each got when it came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Message>,
    lent: BTreeMap<u64, Message>,
    bytes: usize,
    last: u64,
}

/// How much a queue holds, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// With nobody yet.
    pub(crate) waiting: usize,
    /// With a subscriber, and not acknowledged.
    pub(crate) lent: usize,
}

impl Message {
    fn bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + self.body.len()
    }
}

impl Queue {
    pub(super) fn load(&self) -> Load {
        Load { waiting: self.waiting.len(), lent: self.lent.len() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, message: Message) {
        self.last += 1;
        self.bytes += message.bytes();
        self.waiting.insert(self.last, message);
    }

    /// Lends the oldest message that waits, and shows it.
    pub(super) fn lend(&mut self) -> Option<(u64, &Message)> {
        let (number, message) = self.waiting.pop_first()?;
        Some((number, self.lent.entry(number).or_insert(message)))
    }

    /// A lent message has arrived for good.
    pub(super) fn done(&mut self, number: u64) {
        if let Some(message) = self.lent.remove(&number) {
            self.bytes -= message.bytes();
        }
    }

    /// A lent message waits again, in its old place.
    pub(super) fn give_back(&mut self, number: u64) {
        if let Some(message) = self.lent.remove(&number) {
            self.waiting.insert(number, Message { redelivered: true, ..message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message { headers: Vec::new(), body: body.into(), redelivered: false }
    }

    fn lend(queue: &mut Queue) -> Option<(u64, String, bool)> {
        let (number, message) = queue.lend()?;
        Some((number, String::from_utf8_lossy(&message.body).into_owned(), message.redelivered))
    }

    #[test]
    fn what_goes_back_goes_before_what_came_later() {
        let mut queue = Queue::default();
        ["a", "b", "c"].into_iter().for_each(|body| queue.push(message(body)));
        assert_eq!(lend(&mut queue), Some((1, "a".into(), false)));
        assert_eq!(lend(&mut queue), Some((2, "b".into(), false)));
        assert_eq!(queue.load(), Load { waiting: 1, lent: 2 });
        queue.give_back(2);
        queue.give_back(1);
        assert_eq!(lend(&mut queue), Some((1, "a".into(), true)));
        queue.done(1);
        assert_eq!(lend(&mut queue), Some((2, "b".into(), true)));
        assert_eq!(lend(&mut queue), Some((3, "c".into(), false)));
        assert_eq!(lend(&mut queue), None);
    }

    #[test]
    fn what_is_done_or_unknown_stays_so() {
        let mut queue = Queue::default();
        queue.push(message("a"));
        queue.done(1);
        assert_eq!(queue.load(), Load { waiting: 1, lent: 0 }, "it was not lent");
        queue.lend();
        queue.done(1);
        queue.give_back(1);
        queue.done(1);
        assert_eq!((queue.load(), queue.bytes), (Load::default(), 0));
    }

    #[test]
    fn room_comes_back_only_with_what_is_done() {
        let mut queue = Queue::default();
        queue.push(Message { headers: vec![(b"name".to_vec(), b"value".to_vec())], ..message("") });
        assert_eq!(queue.bytes, 9);
        queue.push(message(&"x".repeat(BYTES_MAX)));
        assert!(!queue.has_room());
        queue.lend();
        queue.lend();
        queue.give_back(2);
        assert!(!queue.has_room());
        queue.lend();
        queue.done(2);
        assert!(queue.has_room());
    }
}
