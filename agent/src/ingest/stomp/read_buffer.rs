//! The bytes of one session that are not parsed yet. Small while little comes, so that thousands of
//! idle producers cost little; larger with a busy one; larger still for one large frame, out of the
//! bytes that all sessions share.

use super::budget::{Budget, Share};
use super::refusal::Refusal;

const SIZE_MIN: usize = 1024;
/// What a busy session reads at a time. More comes out of the shared budget.
const SIZE_USUAL: usize = 64 * 1024;

/// What has been read and not consumed.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    /// How much to make ready for the next read.
    want: usize,
    /// Beyond this it need not grow: a frame is no larger.
    frame_bytes_max: usize,
    share: Share,
}

impl ReadBuffer {
    /// A buffer for frames of at most `frame_bytes_max`.
    pub(super) fn new(frame_bytes_max: usize, budget: &Budget) -> Self {
        Self { bytes: Vec::new(), want: SIZE_MIN, frame_bytes_max, share: budget.share() }
    }

    /// The buffer to read into, behind what is unread, with room for something.
    pub(super) fn ready(&mut self) -> Result<&mut Vec<u8>, Refusal> {
        let size = self.bytes.len() + self.want;
        if size > self.bytes.capacity() {
            // Doubling, so that a frame that comes in small pieces is not copied for each.
            let size = size.max((2 * self.bytes.len()).min(self.frame_bytes_max));
            if size > SIZE_USUAL && !self.share.resize(size) {
                // The session is over; what it held may save another one at once.
                self.bytes = Vec::new();
                self.share.resize(0);
                return Err(Refusal::Memory);
            }
            self.bytes.reserve_exact(size - self.bytes.len());
        } else if self.bytes.is_empty() && self.bytes.capacity() > 2 * self.want {
            self.bytes.shrink_to(self.want);
            self.share.resize(0);
        }
        Ok(&mut self.bytes)
    }

    /// A read gave `read` bytes.
    pub(super) fn filled(&mut self, read: usize) {
        if self.bytes.len() == self.bytes.capacity() {
            self.want = (2 * self.want).min(SIZE_USUAL);
        } else if read < self.want / 8 {
            self.want = (self.want / 2).max(SIZE_MIN);
        }
    }

    /// Whether it holds room for much, and nothing in it.
    pub(super) fn is_roomy(&self) -> bool {
        self.bytes.is_empty() && self.bytes.capacity() > 2 * SIZE_MIN
    }

    /// Keeps no room but for what is unread.
    pub(super) fn give_back(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            self.want = SIZE_MIN;
            self.share.resize(0);
        }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes
    }

    /// The first `bytes` unread ones are done with.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut ReadBuffer, bytes: usize) {
        let into = buffer.ready().unwrap();
        let bytes = bytes.min(into.capacity() - into.len());
        into.resize(into.len() + bytes, b'x');
        buffer.filled(bytes);
    }

    fn with_most_of_a_large_frame(budget: &Budget) -> ReadBuffer {
        let mut buffer = ReadBuffer::new(400_000, budget);
        while buffer.unread().len() < 360_000 {
            read(&mut buffer, 10_000);
        }
        buffer
    }

    #[test]
    fn it_grows_with_what_comes_and_shrinks_again() {
        let mut buffer = ReadBuffer::new(1 << 20, &Budget::new(0));
        for _ in 0..10 {
            read(&mut buffer, usize::MAX);
            buffer.consume(buffer.unread().len());
        }
        assert_eq!(buffer.bytes.capacity(), SIZE_USUAL);
        for _ in 0..10 {
            read(&mut buffer, 50);
            buffer.consume(50);
        }
        assert!(buffer.bytes.capacity() <= 2 * SIZE_MIN, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn a_large_frame_comes_out_of_the_budget_and_goes_back() {
        let budget = Budget::new(1 << 20);
        let mut buffer = with_most_of_a_large_frame(&budget);
        assert_eq!(buffer.share.bytes(), 400_000, "as large as a frame can be");
        buffer.consume(buffer.unread().len());
        read(&mut buffer, 10);
        assert_eq!(buffer.share.bytes(), 0);
    }

    #[test]
    fn idle_room_is_given_back_but_nothing_unread() {
        let budget = Budget::new(1 << 20);
        let mut buffer = with_most_of_a_large_frame(&budget);
        assert!(!buffer.is_roomy());
        buffer.give_back();
        assert!(buffer.unread().len() >= 360_000);
        buffer.consume(buffer.unread().len());
        assert!(buffer.is_roomy());
        buffer.give_back();
        assert!(!buffer.is_roomy());
        assert_eq!(buffer.share.bytes(), 0);
        read(&mut buffer, 10);
        assert!(!buffer.is_roomy(), "{}", buffer.bytes.capacity());
    }

    #[test]
    fn without_budget_a_large_frame_is_refused() {
        let mut buffer = ReadBuffer::new(1 << 20, &Budget::new(100_000));
        let refused = std::iter::repeat_with(|| {
            read(&mut buffer, 10_000);
            buffer.ready().err()
        });
        assert_eq!(refused.take(100).flatten().next(), Some(Refusal::Memory));
    }
}
