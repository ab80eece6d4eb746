//! What each frame of a session means: frame in, action out. No I/O and no clock: the caller tells what
//! time it is.
//!
//! The lines of SENDs gather until the caller takes them to the intake, together with the RECEIPTs that
//! may leave once they are on disk. Replies that need not wait for the disk gather apart. Batches for
//! subscribers are brought by the caller, and become MESSAGEs here.

mod subscriber;

use std::sync::Arc;

use forwarder::Batch;
use forwarder::wire::{self, Decoded};
use tokio::time::Instant;

use crate::ingest::line::{self, Checked};
use crate::users::{Credentials, Peers, Rights, TrustedPeer};

pub(super) use subscriber::Delivery;

use super::Settings;
use super::budget::{Budget, Share};
use super::encode;
use super::frame::{Command, Frame};
use super::lending::Held;
use super::negotiate::{self, Beats};
use super::node_batch;
use super::refusal::{Refusal, quoted};
use super::subscriptions::{Subscription, Subscriptions};
use super::transaction::{Answer, Transactions};
use super::version::Version;

/// What a CONNECT has settled.
#[derive(Debug)]
struct Settled {
    version: Version,
    beats: Beats,
    /// The header `packetboat-node`.
    node: Option<Vec<u8>>,
}

/// One session, from CONNECT to its last frame.
#[derive(Debug)]
pub(super) struct Session {
    settings: Arc<Settings>,
    number: u64,
    connected: bool,
    /// What CONNECT has settled, until the client is admitted.
    settled: Option<Settled>,
    rights: Rights,
    version: Version,
    transactions: Transactions,
    subscriptions: Subscriptions<Held>,
    /// The node that the client is. `None`: it is none, and its `packetboat-*` headers say nothing.
    peer: Option<TrustedPeer>,
    /// Whether it is a node, declared or not.
    is_node: bool,
    /// Lines of SENDs that the caller has not taken yet, and their RECEIPTs.
    pub(super) gathered: Gathered,
    /// Frames for the client that may leave at once.
    pub(super) replies: Vec<u8>,
}

/// Lines on their way to the intake, and what to tell the client once they are on disk.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// By queue.
    pub(super) checked: Vec<Checked>,
    pub(super) receipts: Receipts,
}

/// Bytes of room for lines that a session keeps though nothing comes.
const ROOM_KEPT: usize = 4096;

/// A transaction that was committed.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) lines: Gathered,
    /// What was acknowledged in it.
    pub(super) acked: Vec<Held>,
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
pub(super) struct Moment<'a> {
    pub(super) now: Instant,
    /// Seconds since the Unix epoch, for lines without a timestamp.
    pub(super) now_seconds: i64,
    /// By queue, whether the spool takes nothing for it.
    pub(super) full: &'a [bool],
}

/// What the caller has to do after a frame, besides taking what has gathered.
#[derive(Debug)]
pub(super) enum Action {
    /// Go on with the next frame.
    GoOn,
    /// Find out who this is, and what it may do; then tell [`Session::admitted`] or refuse.
    Admit(Credentials),
    /// The session is open: beat, and expect beats.
    Open(Beats),
    /// Commit this together, apart from what has gathered, and then write the receipt. The share covers the
    /// memory of the lines.
    Commit(Whole, Share),
    /// Keep the batch of another node, with these lines, and then write the receipt.
    Pass { queue: usize, batch: Batch, lines: Vec<u8>, receipts: Receipts },
    /// From now on bring batches for it.
    Subscribe(Subscription),
    /// Bring no more for it.
    Unsubscribe(u32),
    /// The client has these; once that is on disk, write the receipt, if there is one.
    Acked { loans: Vec<Held>, receipts: Receipts },
    /// The client says that these can never be taken.
    SetAside { loans: Vec<Held>, reason: String },
    /// Once everything before is on disk and receipted, write these last frames and close.
    Close {
        last: Vec<u8>,
        /// `None`: the client wished so.
        why: Option<Refusal>,
    },
}

impl Gathered {
    fn new(queues: usize) -> Self {
        Self { checked: std::iter::repeat_with(Checked::default).take(queues).collect(), ..Self::default() }
    }

    /// Bytes of its good lines.
    pub(super) fn lines_bytes(&self) -> usize {
        self.checked.iter().map(|checked| checked.lines.len()).sum()
    }

    /// Whether it holds room for much, and nothing in it.
    pub(super) fn is_roomy(&self) -> bool {
        self.checked.iter().any(|checked| checked.is_empty() && checked.lines.capacity() > ROOM_KEPT)
    }

    /// Keeps no room but for what is in it.
    pub(super) fn give_back(&mut self) {
        for checked in self.checked.iter_mut().filter(|checked| checked.is_empty()) {
            *checked = Checked::default();
        }
    }
}

impl Session {
    /// `number` tells sessions apart.
    pub(super) fn new(settings: Arc<Settings>, number: u64, budget: &Budget) -> Self {
        let queues = settings.destinations.len();
        let transactions = Transactions::new(&settings.limits, queues, budget.share());
        Self {
            number,
            connected: false,
            settled: None,
            rights: Rights::of_everybody(),
            // No escapes before CONNECT has been answered.
            version: Version::V1_0,
            transactions,
            subscriptions: Subscriptions::new(),
            peer: None,
            is_node: false,
            gathered: Gathered::new(queues),
            replies: Vec::new(),
            settings,
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// The queue whose room is to be awaited before the SEND `frame` is taken in hand; `None` for any other
    /// frame. Whoever has to be heard all the same is refused instead: it waits for a COMMIT, and holds memory
    /// that only the end of its transaction gives back; or it is a subscriber, whose ACKs make room.
    pub(super) fn waits_for(&self, frame: &Frame<'_>, full: &[bool]) -> Option<usize> {
        if !full.contains(&true) || frame.command != Command::Send || !self.connected {
            return None;
        }
        let must_be_heard = self.transactions.any_open() || self.subscriptions.any_open();
        self.queue(frame).ok().filter(|&queue| full[queue] && !must_be_heard)
    }

    /// When it is to be refused if nothing more comes, and why.
    pub(super) fn next_due(&self) -> Option<(Instant, Refusal)> {
        self.transactions.next_due()
    }

    /// Takes the next frame of the client.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, moment: Moment<'_>) -> Action {
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
            Command::Subscribe => self.subscribe(frame),
            Command::Unsubscribe => self.unsubscribe(frame),
            Command::Ack | Command::Nack => self.answer(frame),
        };
        action.unwrap_or_else(|refusal| self.refuse(refusal, frame.header("receipt").as_deref()))
    }

    /// Ends the session with an ERROR; `receipt` is the header of the frame at fault.
    pub(super) fn refuse(&self, refusal: Refusal, receipt: Option<&[u8]>) -> Action {
        let versions: [(&str, &[u8]); 1] = [("version", b"1.0,1.1,1.2")];
        let never: [(&str, &[u8]); 1] = [("packetboat-refused", b"batch")];
        let more = match refusal {
            // STOMP 1.2, "Protocol Negotiation": the ERROR lists the versions.
            Refusal::Version(_) => &versions[..],
            // A node sets aside what would be refused each time.
            Refusal::Batch(_) => &never[..],
            _ => &[],
        };
        let mut last = Vec::new();
        encode::error(self.version, &refusal.to_string(), receipt, more, &mut last);
        Action::Close { last, why: Some(refusal) }
    }

    fn connect(&mut self, frame: &Frame<'_>) -> Result<Action, Refusal> {
        if self.connected || self.settled.is_some() {
            return Err(Refusal::Reconnected(frame.command.as_str()));
        }
        let version = negotiate::version(frame)?;
        let beats = match version {
            Version::V1_0 => Beats { ours: None, clients: None },
            Version::V1_1 | Version::V1_2 => {
                negotiate::beats(frame, self.settings.beats_offered, self.settings.beats_wished)?
            }
        };
        let header = |name| frame.header(name).map(|value| value.into_owned());
        let node = header("packetboat-node");
        self.settled = Some(Settled { version, beats, node });
        Ok(Action::Admit(Credentials { login: header("login"), passcode: header("passcode") }))
    }

    /// The client may enter, with these rights.
    pub(super) fn admitted(&mut self, rights: Rights) -> Action {
        let Some(Settled { version, beats, node }) = self.settled.take() else { return Action::GoOn };
        self.version = version;
        self.connected = true;
        self.is_node = Peers::is_node(&rights, node.as_deref());
        self.peer = match self.settings.peers.trusted(&rights, node.as_deref()) {
            Ok(peer) => peer,
            Err(other) => return self.refuse(other.into(), None),
        };
        self.rights = rights;
        let (offered, wished) = (self.settings.beats_offered, self.settings.beats_wished);
        let session = format!("packetboat-{}", self.number);
        let heart_beat = format!("{},{}", offered.as_millis(), wished.as_millis());
        let mut headers: Vec<(&str, &[u8])> = vec![
            ("version", version.as_str().as_bytes()),
            ("session", session.as_bytes()),
            ("server", concat!("packetboat/", env!("CARGO_PKG_VERSION")).as_bytes()),
            ("packetboat-wire", wire::WIRE_VERSION.as_bytes()),
            // From others than nodes lines are taken, not frames.
            ("packetboat-encodings", if self.peer.is_some() { b"plain,zstd" } else { b"plain" }),
            ("packetboat-node", self.settings.node.as_bytes()),
        ];
        if version > Version::V1_0 {
            headers.push(("heart-beat", heart_beat.as_bytes()));
        }
        encode::frame(version, "CONNECTED", &headers, b"", &mut self.replies);
        Action::Open(beats)
    }

    /// Whether the client is another node, from which a link is declared.
    pub(super) fn is_peer(&self) -> bool {
        self.peer.is_some()
    }

    fn send(&mut self, frame: &Frame<'_>, moment: Moment<'_>) -> Result<Action, Refusal> {
        let queue = self.queue(frame)?;
        let destination = &self.settings.destinations[queue];
        if !self.rights.may_send(destination) {
            return Err(self.not_allowed("SEND to", destination));
        }
        if moment.full[queue] {
            return Err(Refusal::SpoolFull);
        }
        if let Some(action) = self.pass(frame, queue)? {
            return Ok(action);
        }
        if let Some(encoding) = frame.header("content-encoding")
            && &*encoding != b"identity"
        {
            return Err(Refusal::ContentEncoding(quoted(&encoding)));
        }
        if let Some(name) = frame.header("transaction") {
            return self.send_in_transaction(&name, queue, frame, moment);
        }
        let checked = &mut self.gathered.checked[queue];
        if !check(frame.body, moment, &self.rights, checked) {
            return Err(no_good_line(frame.body, moment, &self.rights));
        }
        if let Some(id) = frame.header("receipt") {
            self.gathered.receipts.add(self.version, &id);
        }
        Ok(Action::GoOn)
    }

    fn send_in_transaction(
        &mut self,
        name: &[u8],
        queue: usize,
        frame: &Frame<'_>,
        moment: Moment<'_>,
    ) -> Result<Action, Refusal> {
        let rights = &self.rights;
        let any_good = |checked: &mut Checked| check(frame.body, moment, rights, checked);
        if !self.transactions.add(name, queue, frame.body.len(), any_good)? {
            // The transaction ends with the session; what was refused is kept all the same.
            check(frame.body, moment, &self.rights, &mut self.gathered.checked[queue]);
            return Err(no_good_line(frame.body, moment, &self.rights));
        }
        if let Some(id) = frame.header("receipt") {
            encode::buffered_receipt(self.version, &id, &mut self.replies);
        }
        Ok(Action::GoOn)
    }

    /// What to do with the batch of a node. `None`: it is none, or its sender is nobody whose
    /// `packetboat-*` headers count.
    fn pass(&mut self, frame: &Frame<'_>, queue: usize) -> Result<Option<Action>, Refusal> {
        let Some(peer) = &self.peer else { return Ok(None) };
        let Some(Decoded { batch, lines }) = node_batch::read(frame, &self.settings, peer, &self.rights)?
        else {
            return Ok(None);
        };
        let mut receipts = Receipts::default();
        if let Some(id) = frame.header("receipt") {
            receipts.add(self.version, &id);
        }
        Ok(Some(Action::Pass { queue, batch, lines, receipts }))
    }

    /// The queue that a frame is about, by its number.
    fn queue(&self, frame: &Frame<'_>) -> Result<usize, Refusal> {
        let known = &self.settings.destinations;
        let asked = frame.header("destination").ok_or_else(|| missing(frame, "destination"))?;
        if let Some(queue) = known.iter().position(|destination| destination.as_bytes() == &*asked) {
            return Ok(queue);
        }
        let known = known.join(", ");
        let is_topic = asked.starts_with(b"/topic/");
        let asked = quoted(&asked);
        Err(if is_topic { Refusal::Topic { asked, known } } else { Refusal::Destination { asked, known } })
    }

    fn not_allowed(&self, what: &'static str, destination: &str) -> Refusal {
        let login = self.rights.login().unwrap_or_default().to_owned();
        Refusal::NotAllowed { login, what, destination: destination.to_owned() }
    }

    fn begin(&mut self, frame: &Frame<'_>, moment: Moment<'_>) -> Result<Action, Refusal> {
        let name = frame.header("transaction").ok_or_else(|| missing(frame, "transaction"))?;
        self.transactions.begin(&name, moment.now)?;
        let receipt = self.receipt(frame);
        self.replies.extend(receipt);
        Ok(Action::GoOn)
    }

    fn commit(&mut self, frame: &Frame<'_>, moment: Moment<'_>) -> Result<Action, Refusal> {
        let name = frame.header("transaction").ok_or_else(|| missing(frame, "transaction"))?;
        let ended = self.transactions.end(&name)?;
        let mut sent = ended.checked.iter().zip(moment.full);
        if sent.any(|(checked, &full)| full && !checked.is_empty()) {
            return Err(Refusal::SpoolFull);
        }
        let mut receipts = Receipts::default();
        if let Some(id) = frame.header("receipt") {
            receipts.add(self.version, &id);
        }
        let mut acked = Vec::new();
        for Answer { named, is_ack } in ended.answers {
            let loans = self.subscriptions.take(&named);
            if is_ack {
                acked.extend(loans);
            } else {
                loans.into_iter().for_each(Held::refused);
            }
        }
        let lines = Gathered { checked: ended.checked, receipts };
        Ok(Action::Commit(Whole { lines, acked }, ended.share))
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

/// Checks the lines of a body, their names by the sender's rights too. Tells whether any is good.
fn check(body: &[u8], moment: Moment<'_>, rights: &Rights, checked: &mut Checked) -> bool {
    let (count, bytes) = (checked.count, checked.lines.len());
    line::check(body, moment.now_seconds, checked);
    if rights.allows_lines(&checked.lines[bytes..]).is_err() {
        checked.refuse_names(bytes, |name| rights.allows_name(name));
    }
    checked.count > count
}

/// For a body without a good line: its first fault. It is checked once more, apart from the others.
fn no_good_line(body: &[u8], moment: Moment<'_>, rights: &Rights) -> Refusal {
    let mut alone = Checked::default();
    check(body, moment, rights, &mut alone);
    Refusal::no_good_line(alone.refused.first())
}

#[cfg(test)]
mod tests;
