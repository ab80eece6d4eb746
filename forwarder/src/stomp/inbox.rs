//! Cuts a byte stream into frames: bytes in, raw frames out, no I/O and no clock.
//!
//! It holds at most one head and one body within the limits. A body beyond its limit is not an error:
//! its beginning is kept and the rest is skipped, so that the message can be set aside and
//! acknowledged; an error would bring it back for ever.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::head;

/// No command is longer (`UNSUBSCRIBE`); a first line that goes on is not STOMP.
const COMMAND_BYTES_MAX: usize = 16;

/// How much of one frame is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A longer head is an error.
    pub(super) head_bytes_max: usize,
    /// A longer body is cut.
    pub(super) body_bytes_max: usize,
}

/// One frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawFrame {
    /// Command, headers and blank line.
    pub(super) head: Bytes,
    /// Without the NUL.
    pub(super) body: Bytes,
    /// Bytes of the body that were skipped because of the limit.
    pub(super) cut_bytes: usize,
}

/// Bytes that are not STOMP; the stream is of no more use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("`{0}` is not a STOMP command")]
    Command(String),
    #[error("the head of a frame is longer than {0} bytes")]
    HeadTooLong(usize),
    #[error("content-length `{0}` is not a number")]
    ContentLength(String),
    #[error("a frame of content-length {0} does not end in NUL")]
    NoNul(usize),
    #[error("{0}")]
    Codec(String),
}

#[derive(Debug)]
enum Stage {
    /// Between frames, or within a head.
    Head,
    Body {
        head: Bytes,
        length: Option<usize>,
    },
    /// The limit was reached; `left` body bytes are still to come, or all up to the NUL.
    Skip {
        frame: RawFrame,
        left: Option<usize>,
    },
}

/// The received bytes that are not a whole frame yet.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: BytesMut,
    /// Bytes of the buffer that were already searched for the end of the present stage.
    searched: usize,
    stage: Stage,
    limits: Limits,
}

impl Inbox {
    pub(super) fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, stage: Stage::Head, limits }
    }

    /// Where the next bytes of the stream are to be appended.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, if it is there. To be asked until it has none, then fed.
    pub(super) fn next(&mut self) -> Result<Option<RawFrame>, FrameError> {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Head);
            let moved = match stage {
                Stage::Head => self.head()?,
                Stage::Body { head, length: Some(length) } => self.body_of_length(head, length)?,
                Stage::Body { head, length: None } => self.body_to_nul(head),
                Stage::Skip { frame, left: Some(left) } => self.skip_length(frame, left)?,
                Stage::Skip { frame, left: None } => self.skip_to_nul(frame),
            };
            if let Move::Wait(stage) = moved {
                self.stage = stage;
                return Ok(None);
            }
            self.searched = 0;
            match moved {
                Move::Done(frame) => return Ok(Some(frame)),
                Move::On(stage) | Move::Wait(stage) => self.stage = stage,
            }
        }
    }

    fn head(&mut self) -> Result<Move, FrameError> {
        if self.searched == 0 {
            self.skip_line_ends();
        }
        self.check_command()?;
        let end = self.head_end();
        if end.unwrap_or(self.buffer.len()) > self.limits.head_bytes_max {
            return Err(FrameError::HeadTooLong(self.limits.head_bytes_max));
        }
        let Some(end) = end else {
            return Ok(Move::Wait(Stage::Head));
        };
        let head = self.buffer.split_to(end).freeze();
        let length = head::content_length(&head).map_err(FrameError::ContentLength)?;
        Ok(Move::On(Stage::Body { head, length }))
    }

    /// Line ends between frames are heart-beats, or the brokers' LF after each NUL.
    fn skip_line_ends(&mut self) {
        let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let blank = self.buffer.iter().take_while(|byte| is_line_end(byte)).count();
        self.buffer.advance(blank);
    }

    /// Finds out at once that the peer speaks TLS, AMQP or HTTP, rather than at the handshake's timeout.
    fn check_command(&self) -> Result<(), FrameError> {
        let start = &self.buffer[..self.buffer.len().min(COMMAND_BYTES_MAX)];
        let line_end = memchr(b'\n', start);
        let line = &start[..line_end.unwrap_or(start.len())];
        let command = line.strip_suffix(b"\r").unwrap_or(line);
        let is_command = command.iter().all(u8::is_ascii_alphabetic);
        if is_command && (line_end.is_some() || start.len() < COMMAND_BYTES_MAX) {
            return Ok(());
        }
        Err(FrameError::Command(start.escape_ascii().to_string()))
    }

    /// The bytes of the head with its blank line, once that is there.
    fn head_end(&mut self) -> Option<usize> {
        while let Some(found) = memchr(b'\n', &self.buffer[self.searched..]) {
            let line_end = self.searched + found;
            match &self.buffer[line_end + 1..] {
                [b'\n', ..] => return Some(line_end + 2),
                [b'\r', b'\n', ..] => return Some(line_end + 3),
                [] | [b'\r'] => {
                    self.searched = line_end;
                    return None;
                }
                _ => self.searched = line_end + 1,
            }
        }
        self.searched = self.buffer.len();
        None
    }

    fn body_of_length(&mut self, head: Bytes, length: usize) -> Result<Move, FrameError> {
        let kept = length.min(self.limits.body_bytes_max);
        if self.buffer.len() < kept {
            return Ok(Move::Wait(Stage::Body { head, length: Some(length) }));
        }
        let left = length - kept;
        if left == 0 && self.buffer.len() == kept {
            return Ok(Move::Wait(Stage::Body { head, length: Some(length) }));
        }
        let frame = RawFrame { head, body: self.buffer.split_to(kept).freeze(), cut_bytes: left };
        self.skip_length(frame, left)
    }

    fn skip_length(&mut self, frame: RawFrame, left: usize) -> Result<Move, FrameError> {
        let here = left.min(self.buffer.len());
        self.buffer.advance(here);
        if here < left || self.buffer.is_empty() {
            return Ok(Move::Wait(Stage::Skip { frame, left: Some(left - here) }));
        }
        if self.buffer.get_u8() != 0 {
            return Err(FrameError::NoNul(frame.body.len() + frame.cut_bytes));
        }
        Ok(Move::Done(frame))
    }

    fn body_to_nul(&mut self, head: Bytes) -> Move {
        let kept_max = self.limits.body_bytes_max;
        let found = memchr(0, &self.buffer[self.searched..]).map(|at| self.searched + at);
        match found {
            Some(end) if end <= kept_max => {
                let body = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                Move::Done(RawFrame { head, body, cut_bytes: 0 })
            }
            None if self.buffer.len() <= kept_max => {
                self.searched = self.buffer.len();
                Move::Wait(Stage::Body { head, length: None })
            }
            _ => {
                let body = self.buffer.split_to(kept_max).freeze();
                Move::On(Stage::Skip { frame: RawFrame { head, body, cut_bytes: 0 }, left: None })
            }
        }
    }

    fn skip_to_nul(&mut self, mut frame: RawFrame) -> Move {
        let end = memchr(0, &self.buffer);
        frame.cut_bytes += end.unwrap_or(self.buffer.len());
        match end {
            Some(end) => {
                self.buffer.advance(end + 1);
                Move::Done(frame)
            }
            None => {
                self.buffer.clear();
                Move::Wait(Stage::Skip { frame, left: None })
            }
        }
    }
}

enum Move {
    On(Stage),
    Wait(Stage),
    Done(RawFrame),
}

#[cfg(test)]
mod tests;
