//! What each frame of a session means: frame in, action out. No I/O and no clock: the caller tells what
//! time it is.
//!
//! The lines of SENDs gather until the caller takes them to the intake, together with the RECEIPTs that
//! may leave once they are on disk. Replies that need not wait for the disk gather apart.

use std::sync::Arc;

use tokio::time::Instant;

use crate::ingest::line::{self, Checked};

use super::Settings;
use super::budget::{Budget, Share};
use super::encode;
use super::frame::{Command, Frame};
use super::negotiate::{self, Beats};
use super::refusal::{Refusal, quoted};
use super::transaction::Transactions;
use super::version::Version;

/// One session, from CONNECT to its last frame.
#[derive(Debug)]
pub(super) struct Session {
    settings: Arc<Settings>,
    number: u64,
    connected: bool,
    version: Version,
    transactions: Transactions,
    /// Lines of SENDs that the caller has not taken yet, and their RECEIPTs.
    pub(super) gathered: Gathered,
    /// Frames for the client that may leave at once.
    pub(super) replies: Vec<u8>,
}

/// Lines on their way to the intake, and what to tell the client once they are on disk.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) checked: Checked,
    pub(super) receipts: Receipts,
}

/// RECEIPTs that may leave once the lines they stand for are on disk.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The frames, ready to be written.
    pub(super) frames: Vec<u8>,
    /// The `receipt` header of the first, to name in an ERROR should the commit fail.
    pub(super) first: Option<Vec<u8>>,
}

/// What the session looks at besides the frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Seconds since the Unix epoch, for lines without a timestamp.
    pub(super) now_seconds: i64,
    /// Whether the spool is at its limit and refuses.
    pub(super) spool_full: bool,
}

/// What the caller has to do after a frame, besides taking what has gathered.
#[derive(Debug)]
pub(super) enum Action {
    /// Go on with the next frame.
    GoOn,
    /// The session is open: beat, and expect beats.
    Open(Beats),
    /// Commit these lines together, apart from what has gathered, and then write the receipt. The share
    /// covers their memory.
    Commit(Gathered, Share),
    /// Once everything before is on disk and receipted, write these last frames and close.
    Close {
        last: Vec<u8>,
        /// `None`: the client wished so.
        why: Option<Refusal>,
    },
}

impl Session {
    /// `number` tells sessions apart.
    pub(super) fn new(settings: Arc<Settings>, number: u64, budget: &Budget) -> Self {
        let transactions = Transactions::new(&settings.limits, budget.share());
        Self {
            settings,
            number,
            connected: false,
            // No escapes before CONNECT has been answered.
            version: Version::V1_0,
            transactions,
            gathered: Gathered::default(),
            replies: Vec::new(),
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether it waits for a COMMIT. Such a session is read even while the spool is full, and its SENDs
    /// are refused: it holds memory that only the end of its transaction gives back.
    pub(super) fn has_open_transaction(&self) -> bool {
        self.transactions.any_open()
    }

    /// When it is to be refused if nothing more comes, and why.
    pub(super) fn next_due(&self) -> Option<(Instant, Refusal)> {
        self.transactions.next_due()
    }

    /// Takes the next frame of the client.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, moment: Moment) -> Action {
        let action = match frame.command {
            Command::Connect | Command::Stomp => self.connect(frame),
            command if !self.connected => Err(Refusal::NotConnected(command.as_str())),
            command if command != Command::Send && !frame.body.is_empty() && self.version > Version::V1_0 => {
                Err(Refusal::Body(command.as_str()))
            }
            Command::Send => self.send(frame, moment),
            Command::Begin => self.begin(frame, moment),
            Command::Commit => self.commit(frame, moment),
            Command::Abort => self.abort(frame),
            Command::Disconnect => Ok(Action::Close { last: self.receipt(frame), why: None }),
            command @ (Command::Subscribe | Command::Unsubscribe | Command::Ack | Command::Nack) => {
                Err(Refusal::Subscriber(command.as_str()))
            }
        };
        action.unwrap_or_else(|refusal| self.refuse(refusal, frame.header("receipt").as_deref()))
    }

    /// Ends the session with an ERROR; `receipt` is the header of the frame at fault.
    pub(super) fn refuse(&self, refusal: Refusal, receipt: Option<&[u8]>) -> Action {
        let versions: [(&str, &[u8]); 1] = [("version", b"1.0,1.1,1.2")];
        // STOMP 1.2, "Protocol Negotiation": the ERROR lists the versions.
        let more = if matches!(refusal, Refusal::Version(_)) { &versions[..] } else { &[] };
        let mut last = Vec::new();
        encode::error(self.version, &refusal.to_string(), receipt, more, &mut last);
        Action::Close { last, why: Some(refusal) }
    }

    fn connect(&mut self, frame: &Frame<'_>) -> Result<Action, Refusal> {
        if self.connected {
            return Err(Refusal::Reconnected(frame.command.as_str()));
        }
        let version = negotiate::version(frame)?;
        let (offered, wished) = (self.settings.beats_offered, self.settings.beats_wished);
        let beats = match version {
            Version::V1_0 => Beats { ours: None, clients: None },
            Version::V1_1 | Version::V1_2 => negotiate::beats(frame, offered, wished)?,
        };
        self.version = version;
        self.connected = true;
        let session = format!("packetboat-{}", self.number);
        let heart_beat = format!("{},{}", offered.as_millis(), wished.as_millis());
        let mut headers: Vec<(&str, &[u8])> = vec![
            ("version", version.as_str().as_bytes()),
            ("session", session.as_bytes()),
            ("server", concat!("packetboat/", env!("CARGO_PKG_VERSION")).as_bytes()),
        ];
        if version > Version::V1_0 {
            headers.push(("heart-beat", heart_beat.as_bytes()));
        }
        encode::frame(version, "CONNECTED", &headers, b"", &mut self.replies);
        Ok(Action::Open(beats))
    }

    fn send(&mut self, frame: &Frame<'_>, moment: Moment) -> Result<Action, Refusal> {
        self.check_destination(frame)?;
        if let Some(encoding) = frame.header("content-encoding")
            && &*encoding != b"identity"
        {
            return Err(Refusal::ContentEncoding(quoted(&encoding)));
        }
        if moment.spool_full && self.has_open_transaction() {
            return Err(Refusal::SpoolFull);
        }
        if let Some(name) = frame.header("transaction") {
            return self.send_in_transaction(&name, frame, moment);
        }
        let before = self.gathered.checked.count;
        line::check(frame.body, moment.now_seconds, &mut self.gathered.checked);
        if self.gathered.checked.count == before {
            return Err(no_good_line(frame.body, moment));
        }
        if let Some(id) = frame.header("receipt") {
            self.gathered.receipts.add(self.version, &id);
        }
        Ok(Action::GoOn)
    }

    fn send_in_transaction(
        &mut self,
        name: &[u8],
        frame: &Frame<'_>,
        moment: Moment,
    ) -> Result<Action, Refusal> {
        if !self.transactions.add(name, frame.body, moment.now_seconds)? {
            // The transaction ends with the session; what was refused is kept all the same.
            line::check(frame.body, moment.now_seconds, &mut self.gathered.checked);
            return Err(no_good_line(frame.body, moment));
        }
        if let Some(id) = frame.header("receipt") {
            encode::buffered_receipt(self.version, &id, &mut self.replies);
        }
        Ok(Action::GoOn)
    }

    fn check_destination(&self, frame: &Frame<'_>) -> Result<(), Refusal> {
        let known = &self.settings.destinations;
        let asked = frame.header("destination").ok_or_else(|| missing(frame, "destination"))?;
        if known.iter().any(|destination| destination.as_bytes() == &*asked) {
            return Ok(());
        }
        let known = known.join(", ");
        let is_topic = asked.starts_with(b"/topic/");
        let asked = quoted(&asked);
        Err(if is_topic { Refusal::Topic { asked, known } } else { Refusal::Destination { asked, known } })
    }

    fn begin(&mut self, frame: &Frame<'_>, moment: Moment) -> Result<Action, Refusal> {
        let name = frame.header("transaction").ok_or_else(|| missing(frame, "transaction"))?;
        self.transactions.begin(&name, moment.now)?;
        let receipt = self.receipt(frame);
        self.replies.extend(receipt);
        Ok(Action::GoOn)
    }

    fn commit(&mut self, frame: &Frame<'_>, moment: Moment) -> Result<Action, Refusal> {
        let name = frame.header("transaction").ok_or_else(|| missing(frame, "transaction"))?;
        if moment.spool_full {
            return Err(Refusal::SpoolFull);
        }
        let (checked, share) = self.transactions.end(&name)?;
        let mut receipts = Receipts::default();
        if let Some(id) = frame.header("receipt") {
            receipts.add(self.version, &id);
        }
        Ok(Action::Commit(Gathered { checked, receipts }, share))
    }

    fn abort(&mut self, frame: &Frame<'_>) -> Result<Action, Refusal> {
        let name = frame.header("transaction").ok_or_else(|| missing(frame, "transaction"))?;
        self.transactions.end(&name)?;
        let receipt = self.receipt(frame);
        self.replies.extend(receipt);
        Ok(Action::GoOn)
    }

    /// The RECEIPT for `frame`, if it asks for one.
    fn receipt(&self, frame: &Frame<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(id) = frame.header("receipt") {
            encode::receipt(self.version, &id, &mut out);
        }
        out
    }
}

impl Receipts {
    /// Adds those of `later` frames.
    pub(super) fn append(&mut self, later: Self) {
        if self.frames.is_empty() {
            *self = later;
        } else {
            self.frames.extend_from_slice(&later.frames);
        }
    }

    fn add(&mut self, version: Version, id: &[u8]) {
        if self.frames.is_empty() {
            self.first = Some(id.to_vec());
        }
        encode::receipt(version, id, &mut self.frames);
    }
}

fn missing(frame: &Frame<'_>, header: &'static str) -> Refusal {
    Refusal::HeaderMissing { command: frame.command.as_str(), header }
}

/// For a body without a good line: its first fault. It is checked once more, apart from the others.
fn no_good_line(body: &[u8], moment: Moment) -> Refusal {
    let mut alone = Checked::default();
    line::check(body, moment.now_seconds, &mut alone);
    Refusal::no_good_line(alone.refused.first())
}

#[cfg(test)]
mod tests;
