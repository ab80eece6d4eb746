use std::time::Duration;

use super::super::decode::{Decoded, Decoder};
use super::super::{Limits, Settings};
use super::*;

const NOW_SECONDS: i64 = 1_700_000_000;

fn settings() -> Settings {
    Settings::new("acme", "us-east", vec!["/queue/graphite".to_owned()])
}

/// A session without sockets: what goes in, and what comes out when.
struct Talk {
    session: Session,
    decoder: Decoder,
    moment: Moment<'static>,
    /// Beats of the last CONNECT.
    beats: Option<Beats>,
    /// Lines of the last COMMIT.
    committed: Option<String>,
    closed: bool,
}

impl Talk {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let budget = Budget::new(settings.limits.shared_bytes);
        let decoder = Decoder::new(&settings.limits);
        let session = Session::new(Arc::new(settings), 7, &budget);
        let moment = Moment { now: Instant::now(), now_seconds: NOW_SECONDS, full: &[false] };
        Self { session, decoder, moment, beats: None, committed: None, closed: false }
    }

    /// A session that speaks `version`.
    fn connected(version: &str) -> Self {
        let mut talk = Self::new();
        talk.hears(&format!("CONNECT\naccept-version:{version}\nhost:h\n\n\0"));
        assert!(talk.session.is_connected());
        talk
    }

    /// Feeds `input` and tells what leaves at once. NUL is shown as `^@`, and `text/plain` and the
    /// lengths of an ERROR are left out.
    fn hears(&mut self, input: &str) -> String {
        let mut input = input.as_bytes();
        while let Ok(Decoded::Frame(frame, bytes)) = self.decoder.decode(self.session.version(), input) {
            input = &input[bytes..];
            match self.session.frame(&frame, self.moment) {
                Action::GoOn => {}
                Action::Admit(_) => match self.session.admitted(Rights::of_everybody()) {
                    Action::Open(beats) => {
                        self.decoder.open();
                        self.beats = Some(beats);
                    }
                    action => panic!("{action:?}"),
                },
                Action::Open(beats) => self.beats = Some(beats),
                Action::Commit(Whole { lines: mut gathered, .. }, _) => {
                    let lines = gathered.checked.remove(0).lines;
                    self.committed = Some(String::from_utf8(lines).unwrap());
                    self.session.gathered.receipts.append(gathered.receipts);
                }
                action @ (Action::Pass { .. }
                | Action::Subscribe(_)
                | Action::Unsubscribe(_)
                | Action::Acked { .. }
                | Action::SetAside { .. }) => panic!("{action:?}"),
                Action::Close { last, .. } => {
                    self.session.replies.extend(last);
                    self.closed = true;
                    break;
                }
            }
        }
        shown(&std::mem::take(&mut self.session.replies))
    }

    /// For which queue the session waits at `input`, a frame or its beginning, while everything is full.
    fn waits_for(&self, input: &str) -> Option<usize> {
        let (version, mut decoder) = (self.session.version(), Decoder::new(&settings().limits));
        if let Ok(Decoded::Frame(frame, _)) = decoder.decode(version, input.as_bytes()) {
            return self.session.waits_for(&frame, &[true]);
        }
        self.session.waits_for(&decoder.head(version, input.as_bytes())?, &[true])
    }

    /// What leaves once everything is on disk.
    fn commits(&mut self) -> String {
        self.session.gathered.checked[0].clear();
        shown(&std::mem::take(&mut self.session.gathered.receipts.frames))
    }

    fn gathered(&self) -> &str {
        std::str::from_utf8(&self.session.gathered.checked[0].lines).unwrap()
    }

    /// `input` ends the session with an ERROR that holds `expected`, and no frame but that.
    #[track_caller]
    fn refuses(&mut self, input: &str, expected: &str) -> String {
        let error = self.hears(input);
        assert!(self.closed, "{input:?} is not refused: {error}");
        assert!(error.starts_with("ERROR\n"), "{error}");
        let body = error.rsplit("\n\n").next().unwrap();
        assert!(body.contains(expected), "{body:?} does not say {expected:?}");
        error
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().replace("\0\n", "^@\n")
}

const SEND: &str = "SEND\ndestination:/queue/graphite\nreceipt:1\n\na.b 1 1600000000\n\0";

/// What CONNECTED tells other nodes.
const NODE: &str = "packetboat-wire:1\npacketboat-encodings:plain\npacketboat-node:us-east\n";

/// STOMP 1.2, "CONNECT or STOMP Frame" and "CONNECTED Frame".
#[test]
fn connect_is_answered_with_version_session_server_and_heart_beat() {
    let server = concat!("packetboat/", env!("CARGO_PKG_VERSION"));
    let expected = format!(
        "CONNECTED\nversion:1.2\nsession:packetboat-7\nserver:{server}\n{NODE}heart-beat:1000,10000\n\n^@\n"
    );
    for command in ["CONNECT", "STOMP"] {
        let input = format!("{command}\naccept-version:1.0,1.1,1.2\nhost:any\nlogin:any\npasscode:any\n\n\0");
        assert_eq!(Talk::new().hears(&input), expected);
    }
}

/// STOMP 1.0, "CONNECT": no accept-version, a session in the answer. As the Ruby gem sends it.
#[test]
fn a_client_that_names_no_version_gets_1_0() {
    let server = concat!("packetboat/", env!("CARGO_PKG_VERSION"));
    let connected =
        Talk::new().hears("CONNECT\ncontent-type:text/plain; charset=UTF-8\ncontent-length:0\n\n\0\n");
    assert_eq!(
        connected,
        format!("CONNECTED\nversion:1.0\nsession:packetboat-7\nserver:{server}\n{NODE}\n^@\n")
    );
}

/// STOMP 1.2, "Protocol Negotiation": the greatest that both speak.
#[test]
fn the_greatest_common_version_is_spoken() {
    for (accept, version) in [("1.0", "1.0"), ("1.1,1.0", "1.1"), ("1.2, 1.1", "1.2"), ("1.1,2.0", "1.1")] {
        let answer = Talk::new().hears(&format!("CONNECT\naccept-version:{accept}\n\n\0"));
        assert!(answer.contains(&format!("version:{version}\n")), "{accept}: {answer}");
    }
}

/// STOMP 1.2, "Protocol Negotiation": no version in common is an ERROR that lists ours.
#[test]
fn no_common_version_is_refused_with_ours() {
    for accept in ["2.0", "", "1.3,x"] {
        let error =
            Talk::new().refuses(&format!("CONNECT\naccept-version:{accept}\n\n\0"), "no version in common");
        assert!(error.contains("\nversion:1.0,1.1,1.2\n"), "{error}");
    }
}

/// STOMP 1.2, "Heart-beating": the greater of what one can and the other wishes; 0 is never.
#[test]
fn heart_beats_are_the_slower_of_both_wishes() {
    let second = |seconds| Some(Duration::from_secs(seconds));
    for (header, ours, clients) in [
        ("0,0", None, None),
        ("500,500", second(1), second(10)),
        ("20000,30000", second(30), second(20)),
        ("0,5000", second(5), None),
        ("5000,0", None, second(10)),
        (" 5000 , 0 ", None, second(10)),
    ] {
        let mut talk = Talk::new();
        talk.hears(&format!("CONNECT\naccept-version:1.1\nheart-beat:{header}\n\n\0"));
        assert_eq!(talk.beats, Some(Beats { ours, clients }), "{header}");
    }
    let mut talk = Talk::new();
    talk.hears("CONNECT\naccept-version:1.2\n\n\0");
    assert_eq!(talk.beats, Some(Beats { ours: None, clients: None }), "without the header");
}

#[test]
fn a_heart_beat_that_is_none_is_refused() {
    for header in ["1000", "a,b", "-1,0", "1,2,3", ""] {
        let input = format!("CONNECT\naccept-version:1.2\nheart-beat:{header}\n\n\0");
        Talk::new().refuses(&input, "send for example heart-beat:10000,10000");
    }
}

/// STOMP 1.2, "Connecting": CONNECT comes first, and once.
#[test]
fn connect_comes_first_and_once() {
    Talk::new().refuses(SEND, "SEND before CONNECT");
    Talk::connected("1.2").refuses("STOMP\n\n\0", "STOMP a second time");
}

/// STOMP 1.2, "Body": only SEND has one. 1.0 does not say so.
#[test]
fn only_send_has_a_body() {
    let input = "BEGIN\ntransaction:t\nreceipt:1\n\nbody\0";
    Talk::connected("1.2").refuses(input, "BEGIN has a body");
    Talk::connected("1.1").refuses(input, "BEGIN has a body");
    assert_eq!(Talk::connected("1.0").hears(input), "RECEIPT\nreceipt-id:1\n\n^@\n");
}

/// STOMP 1.2, "RECEIPT": each is for its own frame. It leaves after the commit.
#[test]
fn a_send_is_receipted_after_its_commit() {
    let mut talk = Talk::connected("1.2");
    assert_eq!(talk.hears(SEND), "");
    assert_eq!(
        talk.hears("SEND\ndestination:/queue/graphite\nreceipt:a\\cb\n\nc 2 1600000000\nd 3 1600000000\0"),
        ""
    );
    assert_eq!(talk.gathered(), "a.b 1 1600000000\nc 2 1600000000\nd 3 1600000000\n");
    assert_eq!(talk.session.gathered.receipts.first.as_deref(), Some(&b"1"[..]));
    assert_eq!(talk.commits(), "RECEIPT\nreceipt-id:1\n\n^@\nRECEIPT\nreceipt-id:a\\cb\n\n^@\n");
}

#[test]
fn a_send_without_receipt_is_not_answered() {
    let mut talk = Talk::connected("1.0");
    assert_eq!(talk.hears("SEND\ndestination:/queue/graphite\n\na.b 1\0"), "");
    assert_eq!(talk.gathered(), format!("a.b 1 {NOW_SECONDS}\n"));
    assert_eq!(talk.commits(), "");
}

/// Headers that claim to come from a node count for nothing.
#[test]
fn packetboat_headers_are_ignored() {
    let mut talk = Talk::connected("1.2");
    let input = "SEND\ndestination:/queue/graphite\npacketboat-origin:x\npacketboat-seq:1-1\n\na 1 2\n\0";
    assert_eq!(talk.hears(input), "");
    assert_eq!(talk.gathered(), "a 1 2\n");
}

/// STOMP 1.2, "SEND": the destination.
#[test]
fn an_unknown_destination_is_refused_with_the_known_ones() {
    let send = |destination: &str| format!("SEND\n{destination}receipt:9\n\na 1 2\n\0");
    let error = Talk::connected("1.2")
        .refuses(&send("destination:/queue/x\n"), "metrics are taken at /queue/graphite");
    assert!(error.contains("\nreceipt-id:9\n"), "{error}");
    Talk::connected("1.2").refuses(&send("destination:/topic/graphite\n"), "there are queues only");
    Talk::connected("1.2").refuses(&send(""), "SEND without the header destination");
}

/// What came before a refused frame is kept and receipted first.
#[test]
fn frames_before_an_error_count() {
    let mut talk = Talk::connected("1.2");
    talk.refuses(&format!("{SEND}SEND\ndestination:/queue/x\n\na 1 2\n\0"), "no destination");
    assert_eq!(talk.commits(), "RECEIPT\nreceipt-id:1\n\n^@\n");
}

#[test]
fn bad_lines_among_good_ones_do_not_stop_the_receipt() {
    let mut talk = Talk::connected("1.2");
    assert_eq!(talk.hears("SEND\ndestination:/queue/graphite\nreceipt:1\n\nbad\na 1 2\nb x 2\n\0"), "");
    assert_eq!(talk.gathered(), "a 1 2\n");
    assert_eq!(talk.session.gathered.checked[0].refused.len(), 2);
    assert_eq!(talk.commits(), "RECEIPT\nreceipt-id:1\n\n^@\n");
}

#[test]
fn a_send_without_a_good_line_is_refused_and_kept_as_dead_letter() {
    for (body, says) in [
        ("a b c d", "the first one, \"a b c d\", is not name value timestamp"),
        ("a inf 2\nb 1 nan", "the first one, \"a inf 2\", has a value that is not a finite decimal number"),
        ("a 1 nan", "has a timestamp that is not a number of seconds"),
        ("a\u{1} 1 2", "has a name that is not UTF-8 or has control characters"),
        (&"x".repeat(5000), "is longer than 4096 bytes"),
    ] {
        for transaction in ["", "transaction:t\n"] {
            let mut talk = Talk::connected("1.2");
            talk.hears("BEGIN\ntransaction:t\n\n\0");
            let input = format!("SEND\ndestination:/queue/graphite\n{transaction}receipt:9\n\n{body}\0");
            let error = talk.refuses(&input, says);
            assert!(error.contains("\nreceipt-id:9\n"), "{error}");
            let refused = body.lines().count();
            assert_eq!(talk.session.gathered.checked[0].refused.len(), refused, "{body:?} {transaction:?}");
        }
    }
    let empty = "SEND\ndestination:/queue/graphite\n\n \n\n\0";
    Talk::connected("1.2").refuses(empty, "no line in the body");
}

#[test]
fn an_encoded_body_is_refused() {
    let send =
        |encoding| format!("SEND\ndestination:/queue/graphite\ncontent-encoding:{encoding}\n\na 1 2\n\0");
    Talk::connected("1.2").refuses(&send("zstd"), "content-encoding \"zstd\" is not understood");
    assert_eq!(Talk::connected("1.2").hears(&send("identity")), "");
}

#[test]
fn subscribers_are_told_that_they_are_not_served() {
    for (command, says) in [
        ("SUBSCRIBE", "has no subscribers here"),
        ("UNSUBSCRIBE", "there is no open subscription \"1\""),
        ("ACK", "ACK of \"1\", which was not sent in this session"),
        ("NACK", "NACK of \"1\", which was not sent in this session"),
    ] {
        let input = format!("{command}\nid:1\ndestination:/queue/graphite\nreceipt:5\n\n\0");
        let error = Talk::connected("1.2").refuses(&input, says);
        assert!(error.contains("\nreceipt-id:5\n"), "{error}");
    }
}

/// STOMP 1.2, "BEGIN", "COMMIT": a frame inside is receipted at once, as buffered; COMMIT after the disk.
#[test]
fn a_transaction_is_buffered_until_its_commit() {
    let mut talk = Talk::connected("1.2");
    assert_eq!(talk.hears("BEGIN\ntransaction:t\nreceipt:1\n\n\0"), "RECEIPT\nreceipt-id:1\n\n^@\n");
    let send = "SEND\ndestination:/queue/graphite\ntransaction:t\nreceipt:2\n\na 1 2\nbad\n\0";
    assert_eq!(talk.hears(send), "RECEIPT\nreceipt-id:2\npacketboat-receipt:buffered\n\n^@\n");
    assert_eq!(talk.gathered(), "");
    assert_eq!(talk.hears("COMMIT\ntransaction:t\nreceipt:3\n\n\0"), "");
    assert_eq!(talk.committed.as_deref(), Some("a 1 2\n"));
    assert_eq!(talk.commits(), "RECEIPT\nreceipt-id:3\n\n^@\n");
}

/// STOMP 1.2, "ABORT".
#[test]
fn an_aborted_transaction_is_dropped() {
    let mut talk = Talk::connected("1.2");
    talk.hears("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/graphite\ntransaction:t\n\na 1 2\n\0");
    assert_eq!(talk.hears("ABORT\ntransaction:t\nreceipt:3\n\n\0"), "RECEIPT\nreceipt-id:3\n\n^@\n");
    assert_eq!(talk.gathered(), "");
    talk.refuses("COMMIT\ntransaction:t\n\n\0", "there is no open transaction \"t\"");
}

/// Several transactions are open at a time, and SENDs outside go past them.
#[test]
fn transactions_do_not_mix() {
    let mut talk = Talk::connected("1.2");
    let send =
        |header: &str, name: &str| format!("SEND\ndestination:/queue/graphite\n{header}\n{name} 1 2\n\0");
    talk.hears("BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:u\n\n\0");
    talk.hears(&(send("transaction:t\n", "t1") + &send("transaction:u\n", "u1") + &send("", "out")));
    talk.hears(&(send("transaction:t\n", "t2") + "COMMIT\ntransaction:t\n\n\0"));
    assert_eq!(talk.committed.as_deref(), Some("t1 1 2\nt2 1 2\n"));
    assert_eq!(talk.gathered(), "out 1 2\n");
    talk.hears("COMMIT\ntransaction:u\n\n\0");
    assert_eq!(talk.committed.as_deref(), Some("u1 1 2\n"));
}

#[test]
fn transactions_need_a_name_that_is_free_or_open() {
    let begin = "BEGIN\ntransaction:t\n\n\0";
    for command in ["BEGIN", "COMMIT", "ABORT"] {
        Talk::connected("1.2").refuses(&format!("{command}\n\n\0"), "without the header transaction");
    }
    Talk::connected("1.2").refuses(&format!("{begin}{begin}"), "the transaction \"t\" is open already");
    let send = "SEND\ndestination:/queue/graphite\ntransaction:u\n\na 1 2\n\0";
    Talk::connected("1.2").refuses(&format!("{begin}{send}"), "there is no open transaction \"u\"");
    Talk::connected("1.2").refuses("ABORT\ntransaction:u\n\n\0", "there is no open transaction \"u\"");
}

#[test]
fn transactions_are_bounded() {
    let limits = Limits { transactions: 2, transaction_bytes: 20, shared_bytes: 15, ..Limits::default() };
    let talk = |limits| {
        let mut talk = Talk::with(Settings { limits, ..settings() });
        talk.hears("CONNECT\naccept-version:1.2\n\n\0BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:u\n\n\0");
        talk
    };
    let send = |name| format!("SEND\ndestination:/queue/graphite\ntransaction:{name}\n\na 1 2345678\n\0");
    talk(limits).refuses("BEGIN\ntransaction:v\n\n\0", "more than 2 transactions are open");
    talk(limits).refuses(&(send("t") + &send("u")), "hold more than 20 bytes");
    talk(Limits { shared_bytes: 11, ..limits }).refuses(&send("t"), "take all the memory");
    let mut one_by_one = talk(limits);
    for _ in 0..3 {
        one_by_one.hears(&(send("t") + "COMMIT\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n\0"));
        one_by_one.hears(&(send("u") + "ABORT\ntransaction:u\n\n\0BEGIN\ntransaction:u\n\n\0"));
    }
    assert!(!one_by_one.closed, "what is ended is given back");
}

/// A line that grows by its timestamp counts as what it grew to.
#[test]
fn the_bytes_of_a_transaction_are_those_it_keeps() {
    let limits = Limits { transaction_bytes: 40, ..Limits::default() };
    let mut talk = Talk::with(Settings { limits, ..settings() });
    talk.hears("CONNECT\naccept-version:1.2\n\n\0BEGIN\ntransaction:t\n\n\0");
    talk.refuses(
        "SEND\ndestination:/queue/graphite\ntransaction:t\n\na 1\nb 2\nc 3\n\0",
        "hold more than 40 bytes",
    );
}

#[test]
fn the_name_of_a_transaction_counts_as_what_it_holds() {
    let limits = Limits { transaction_bytes: 1000, ..Limits::default() };
    let mut talk = Talk::with(Settings { limits, ..settings() });
    talk.hears("CONNECT\naccept-version:1.2\n\n\0");
    let long = "x".repeat(600);
    for _ in 0..3 {
        talk.hears(&format!("BEGIN\ntransaction:{long}\n\n\0ABORT\ntransaction:{long}\n\n\0"));
    }
    talk.hears(&format!("BEGIN\ntransaction:{long}\n\n\0"));
    talk.refuses(&format!("BEGIN\ntransaction:{long}y\n\n\0"), "hold more than 1000 bytes");
}

#[test]
fn a_transaction_has_its_time() {
    let mut talk = Talk::connected("1.2");
    assert_eq!(talk.session.next_due(), None);
    talk.hears("BEGIN\ntransaction:t\n\n\0");
    let (due, refusal) = talk.session.next_due().unwrap();
    assert_eq!(due, talk.moment.now + settings().limits.transaction_time);
    assert_eq!(refusal.to_string(), "the transaction \"t\" is open for more than 60 s: COMMIT earlier");
    talk.hears("COMMIT\ntransaction:t\n\n\0");
    assert_eq!(talk.session.next_due(), None);
}

/// A pure producer waits at its SEND while the spool is full; one with an open transaction is told.
#[test]
fn a_full_spool_refuses_sessions_with_a_transaction() {
    let in_it = "SEND\ndestination:/queue/graphite\ntransaction:t\n\na 1 2\n\0";
    for frame in [SEND, in_it, "COMMIT\ntransaction:t\n\n\0"] {
        let mut talk = Talk::connected("1.2");
        talk.hears(&format!("BEGIN\ntransaction:t\n\n\0{in_it}"));
        talk.moment.full = &[true];
        talk.refuses(frame, "the spool is full");
    }
}

#[test]
fn only_a_producer_waits_for_room_and_only_at_a_send() {
    let mut talk = Talk::connected("1.2");
    let elsewhere = SEND.replace("graphite", "no");
    assert_eq!(talk.waits_for(SEND), Some(0));
    assert_eq!(talk.waits_for(&SEND[..40]), Some(0), "before its body is read");
    assert_eq!(talk.waits_for("SEND\ndestin"), None, "it may not be full where this one goes");
    for other in [&elsewhere, "BEGIN\ntransaction:t\n\n\0", "DISCONNECT\n\n\0"] {
        assert_eq!(talk.waits_for(other), None);
    }
    talk.hears("BEGIN\ntransaction:t\n\n\0");
    assert_eq!(talk.waits_for(SEND), None);
    assert_eq!(Talk::new().waits_for(SEND), None);
}

/// STOMP 1.2, "DISCONNECT": its receipt is the last frame. An open transaction is dropped.
#[test]
fn disconnect_is_receipted_last() {
    let mut talk = Talk::connected("1.2");
    talk.hears("BEGIN\ntransaction:t\n\n\0");
    assert_eq!(talk.hears("DISCONNECT\nreceipt:77\n\n\0"), "RECEIPT\nreceipt-id:77\n\n^@\n");
    assert!(talk.closed);
    let mut silent = Talk::connected("1.2");
    assert_eq!(silent.hears("DISCONNECT\n\n\0"), "");
    assert!(silent.closed);
}

/// STOMP 1.0 has no escapes, either way.
#[test]
fn a_receipt_comes_back_as_it_was_written() {
    for (version, receipt) in [("1.0", "a\\cb:c"), ("1.1", "a\\cb\\n"), ("1.2", "a\\cb\\r\\n\\\\")] {
        let mut talk = Talk::connected(version);
        talk.hears(&format!("SEND\ndestination:/queue/graphite\nreceipt:{receipt}\n\na 1 2\n\0"));
        assert_eq!(talk.commits(), format!("RECEIPT\nreceipt-id:{receipt}\n\n^@\n"));
    }
}
