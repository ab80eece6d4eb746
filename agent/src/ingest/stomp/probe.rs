//! A session without a connection, for an instrument: what the bytes of a producer take until their lines could
//! go to the intake. `Inflow` is the one that reads sockets.

use std::sync::Arc;

use tokio::time::Instant;

use crate::users::Rights;

use super::Settings;
use super::budget::Budget;
use super::decode::{Decoded, Decoder};
use super::session::{Action, Moment, Session};

/// The open session of a producer, in STOMP 1.2, that may send everything.
pub struct Probe {
    decoder: Decoder,
    session: Session,
    opened: Instant,
}

impl Probe {
    /// A session under `settings`.
    pub fn new(settings: Settings) -> Self {
        let decoder = Decoder::new(&settings.limits);
        let budget = Budget::new(settings.limits.shared_bytes);
        let session = Session::new(Arc::new(settings), 0, &budget);
        let mut probe = Self { decoder, session, opened: Instant::now() };
        probe.take(b"CONNECT\naccept-version:1.2\nhost:probe\n\n\0");
        probe
    }

    /// Cuts `bytes` into frames and tells how many are whole.
    pub fn decode(&mut self, bytes: &[u8]) -> usize {
        let (version, mut rest, mut frames) = (self.session.version(), bytes, 0);
        while let Ok(Decoded::Frame(_, bytes)) = self.decoder.decode(version, rest) {
            rest = &rest[bytes..];
            frames += 1;
        }
        frames
    }

    /// Takes the frames of `bytes` in hand; tells how many lines passed, and how many bytes the RECEIPTs have that
    /// would leave once those are on disk.
    pub fn take(&mut self, bytes: &[u8]) -> (u32, usize) {
        let full = vec![false; self.session.gathered.checked.len()];
        let moment = Moment { now: self.opened, now_seconds: 0, full: &full };
        let mut rest = bytes;
        while let Ok(Decoded::Frame(frame, bytes)) = self.decoder.decode(self.session.version(), rest) {
            rest = &rest[bytes..];
            if let Action::Admit(_) = self.session.frame(&frame, moment) {
                self.session.admitted(Rights::of_everybody());
                self.decoder.open();
            }
        }
        let gathered = &mut self.session.gathered;
        let lines = gathered.checked.iter().map(|checked| checked.count).sum();
        gathered.checked.iter_mut().for_each(|checked| checked.clear());
        (lines, std::mem::take(&mut gathered.receipts).frames.len())
    }
}
