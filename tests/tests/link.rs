//! A link whose upstream hangs, refuses, closes, or lies: it is noticed, the link dials again, gently and for
//! ever, and nothing is lost or set aside that need not be (I2, I7, I14).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::berth::Berth;
use tests::edge::QUEUE;
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::proxy::Proxy;
use tests::short_or_full;
use tests::stomp::{Frame, Stomp};
use tests::upstream::{Answer, Upstream};
use tests::wait::{until, when};

/// Longer than the longest delay between two dials, and than three heart-beats of 10 s.
const LIMIT: Duration = Duration::from_secs(100);
const LINK: &str = "eu";
/// Failures are said once for each kind, and then summed up once a minute.
const FAILURES_SAID_MAX: usize = 4;

/// An agent whose link leads to these addresses, in failover order.
fn agent(berth: &Berth, to: &[SocketAddr], login: &str) -> Packetboat {
    let urls: Vec<String> = to.iter().map(|address| format!("\"stomp://{address}\"")).collect();
    let topology = berth.topology_with(&format!("dir: {}", berth.spool().display()), "to: eu");
    let text = std::fs::read_to_string(&topology).unwrap();
    let broker = format!("brokers:\n  {LINK}: {{ urls: [{}], vhost: /{login} }}\n", urls.join(", "));
    std::fs::write(&topology, text + &broker).unwrap();
    berth.agent(&topology)
}

fn wait_for_lines(upstream: &Upstream, count: usize) {
    until(LIMIT, &format!("{count} lines at the upstream"), || {
        let distinct = upstream.ledger().distinct();
        when(distinct >= count, distinct)
    });
}

fn link(agent: &Packetboat) -> serde_json::Value {
    agent.status()["links"][0].clone()
}

fn wait_for_link(agent: &Packetboat, state: &str, why: &str) {
    until(LIMIT, &format!("the link to be {state}, by {why}"), || {
        let link = link(agent);
        let says_why = why.is_empty() || link["last_error"].as_str().is_some_and(|error| error.contains(why));
        when(link["state"] == state && says_why, link)
    });
}

fn wait_for_drained(agent: &Packetboat) {
    until(LIMIT, "an empty backlog", || {
        let backlog = agent.backlog(LINK);
        when(backlog == 0, backlog)
    });
}

/// All points are there, and nothing else.
fn check(upstream: &Upstream, points: &Points) {
    let comparison = upstream.ledger().compare(points, points.all());
    assert_eq!((comparison.missing.len(), comparison.altered.len(), comparison.strangers), (0, 0, 0));
    assert_eq!(upstream.ledger().bad(), [""; 0]);
}

fn assert_log_is_short(agent: &Packetboat) {
    let log = agent.log();
    let failures = log.lines().filter(|line| line.contains("the link is down")).count();
    assert!((1..=FAILURES_SAID_MAX).contains(&failures), "{failures} times: {log}");
    assert!(log.lines().count() <= 3 * FAILURES_SAID_MAX, "{log}");
}

#[test]
fn a_link_on_which_nothing_moves_any_more_is_dialled_again() {
    let (berth, upstream) = (Berth::new("blackhole"), Upstream::willing());
    let way = Proxy::before(upstream.address());
    let mut agent = agent(&berth, &[way.address()], "");
    let points = Points::new("blackhole", 100, 2_000);
    plaintext(berth.graphite(), &points, 0..1_000).unwrap();
    wait_for_lines(&upstream, 1_000);
    wait_for_drained(&agent);

    // Neither FIN nor RST: only heart-beats tell.
    way.hold();
    plaintext(berth.graphite(), &points, 1_000..2_000).unwrap();
    wait_for_link(&agent, "down", "");
    assert_eq!(agent.backlog(LINK), 1_000);
    way.mend();
    wait_for_drained(&agent);
    check(&upstream, &points);
    assert!(link(&agent)["reconnects"].as_u64().unwrap() >= 1);
    assert!(agent.terminate(LIMIT).success());
}

/// Heart-beats come, receipts do not. The deadline is a minute.
#[test]
fn an_upstream_that_takes_and_never_confirms_is_left() {
    if !short_or_full(false, true) {
        return;
    }
    let berth = Berth::new("no-receipts");
    let sessions = AtomicUsize::new(0);
    let upstream = Upstream::new(move |frame| match frame.command.as_str() {
        "CONNECT" => {
            sessions.fetch_add(1, Ordering::SeqCst);
            Answer::Yes
        }
        "SEND" if sessions.load(Ordering::SeqCst) == 1 => Answer::Silence,
        _ => Answer::Yes,
    });
    let mut agent = agent(&berth, &[upstream.address()], "");
    let points = Points::new("silent", 100, 1_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    wait_for_drained(&agent);
    check(&upstream, &points);
    assert_eq!(upstream.dials(), 2);
    assert!(agent.log().contains("the link is down"), "{}", agent.log());
    assert!(agent.terminate(LIMIT).success());
}

/// So the broker knows that nobody broke off, and logs no error.
#[test]
fn a_link_that_is_told_to_stop_says_goodbye_after_its_last_receipt() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let upstream = Upstream::new({
        let heard = Arc::clone(&heard);
        move |frame| {
            heard.lock().unwrap().push(frame.command.clone());
            Answer::Yes
        }
    });
    let berth = Berth::new("goodbye");
    let mut agent = agent(&berth, &[upstream.address()], "");
    let points = Points::new("goodbye", 100, 1_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    wait_for_lines(&upstream, points.count());
    assert!(agent.terminate(LIMIT).success());
    check(&upstream, &points);
    until(LIMIT, "the goodbye", || {
        let heard = heard.lock().unwrap();
        when(heard.last().is_some_and(|command| command == "DISCONNECT"), format!("{heard:?}"))
    });
    let heard = heard.lock().unwrap();
    assert_eq!(heard.iter().filter(|command| *command == "DISCONNECT").count(), 1, "{heard:?}");
}

#[test]
fn a_frame_that_is_cut_in_the_middle_is_sent_again_whole() {
    let (berth, upstream) = (Berth::new("cut"), Upstream::willing());
    let way = Proxy::before(upstream.address());
    let mut agent = agent(&berth, &[way.address()], "");
    let points = Points::new("cut", 100, 5_000);
    for (part, cut_after) in [700, 20_011, 60_001, 5, 33_333].into_iter().enumerate() {
        way.cut_after(cut_after);
        plaintext(berth.graphite(), &points, part * 1_000..(part + 1) * 1_000).unwrap();
        until(LIMIT, "the cut", || when(way.is_cut() || agent.backlog(LINK) == 0, way.bytes_up()));
        way.mend();
        wait_for_drained(&agent);
    }
    check(&upstream, &points);
    assert!(agent.terminate(LIMIT).success());
}

fn is_poison(frame: &Frame) -> bool {
    frame.text().contains("poison")
}

#[test]
fn one_batch_that_is_refused_is_set_aside_and_the_others_go_on() {
    let berth = Berth::new("poison");
    let upstream =
        Upstream::new(
            |frame| {
                if is_poison(frame) { Answer::Error("I do not like this one") } else { Answer::Yes }
            },
        );
    let mut agent = agent(&berth, &[upstream.address()], "");
    let mut session = Stomp::connect(berth.stomp(), &[]).unwrap();
    let points = Points::new("neighbour", 100, 10_000);
    session.send(QUEUE, points.lines(0..1).as_bytes()).unwrap();
    wait_for_lines(&upstream, 1);
    session.send(QUEUE, b"poison 1 1700000000").unwrap();

    // It is found only among neighbours that are taken.
    let mut sent = 1;
    until(LIMIT, "the poison to be set aside", || {
        session.send(QUEUE, points.lines(sent..sent + 1).as_bytes()).unwrap();
        sent += 1;
        let aside = agent.books(LINK)["aside"]["lines"].as_i64();
        when(aside == Some(1), format!("{aside:?} after {sent} neighbours"))
    });
    wait_for_lines(&upstream, sent);
    wait_for_drained(&agent);
    let comparison = upstream.ledger().compare(&points, 0..sent);
    assert_eq!((comparison.missing.len(), comparison.strangers), (0, 0));
    assert_eq!(agent.books(LINK)["aside"]["lines"], 1, "it alone");
    let gauge = format!("packetboat_set_aside_metrics{{to=\"{LINK}\"}}");
    assert_eq!(agent.metrics().get(&gauge), Some(1.0));
    assert!(agent.log().contains("I do not like this one"), "{}", agent.log());
    assert_log_is_short(&agent);
    assert!(agent.terminate(LIMIT).success());
}

/// The interval of the delay doubles from half a second, and a delay is anything up to it: so many dials in
/// less than a second would mean that there is no delay, and not that they were all short (1 in 300,000).
const DIALS: usize = 7;
const TIME_OF_DIALS_MIN: Duration = Duration::from_secs(1);

fn is_dialled_gently(upstream: &Upstream) {
    until(LIMIT, "some dials", || when(upstream.dials() >= DIALS, upstream.dials()));
    let time = upstream.time_of_dials(DIALS).unwrap();
    assert!(time > TIME_OF_DIALS_MIN, "{DIALS} dials in {time:?}");
}

#[test]
fn an_upstream_that_refuses_everything_is_shown_as_refused_and_nothing_is_set_aside() {
    let berth = Berth::new("refused");
    let upstream =
        Upstream::new(|frame| if frame.command == "SEND" { Answer::Error("no") } else { Answer::Yes });
    let mut agent = agent(&berth, &[upstream.address()], "");
    let points = Points::new("refused", 100, 3_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    is_dialled_gently(&upstream);
    wait_for_link(&agent, "refused", "no");
    assert_eq!(agent.backlog(LINK), 3_000);
    assert_eq!(agent.books(LINK)["aside"]["lines"], 0);
    assert_eq!(agent.metrics().get("packetboat_link_up{to=\"eu\"}"), Some(0.0));
    assert_log_is_short(&agent);

    upstream.follow(|_| Answer::Yes);
    wait_for_drained(&agent);
    wait_for_link(&agent, "up", "");
    check(&upstream, &points);
    assert!(agent.terminate(LIMIT).success());
}

#[test]
fn an_upstream_that_always_closes_is_dialled_gently() {
    // Before CONNECTED, after it, and at each SEND.
    type Closing = fn(&Frame) -> Answer;
    let closings: [(&str, Closing); 3] = [
        ("closes-before", |_| Answer::Close),
        ("closes-after", |_| Answer::YesAndClose),
        ("closes-at-send", |frame| if frame.command == "SEND" { Answer::Close } else { Answer::Yes }),
    ];
    // A process that one thread starts may hold for a moment what another looks for a free port with.
    let places = closings.map(|(name, closing)| (name, Berth::new(name), Upstream::new(closing)));
    std::thread::scope(|scope| {
        for (name, berth, upstream) in places {
            scope.spawn(move || {
                let mut agent = agent(&berth, &[upstream.address()], "");
                let points = Points::new(name, 100, 1_000);
                plaintext(berth.graphite(), &points, points.all()).unwrap();
                is_dialled_gently(&upstream);
                assert_eq!(agent.books(LINK)["aside"]["lines"], 0, "{name}");
                assert_log_is_short(&agent);
                upstream.follow(|_| Answer::Yes);
                wait_for_drained(&agent);
                check_received(&upstream, &points);
                assert!(agent.terminate(LIMIT).success());
            });
        }
    });
}

/// All points are there; some may have been taken before the connection was closed.
fn check_received(upstream: &Upstream, points: &Points) {
    let comparison = upstream.ledger().compare(points, points.all());
    assert_eq!((comparison.missing.len(), comparison.altered.len(), comparison.strangers), (0, 0, 0));
}

#[test]
fn a_passcode_file_that_is_wrong_is_named_and_read_again_at_each_dial() {
    let berth = Berth::new("passcode");
    let upstream = Upstream::new(|frame| match (frame.command.as_str(), frame.header("passcode")) {
        ("CONNECT", Some("right")) => Answer::Yes,
        ("CONNECT", _) => Answer::Error("Bad CONNECT"),
        _ => Answer::Yes,
    });
    let file: PathBuf = berth.scratch.path().join("eu.passcode");
    let login = format!(", login: packetboat, passcode_file: {}", file.display());
    let mut agent = agent(&berth, &[upstream.address()], &login);
    let points = Points::new("passcode", 100, 100);
    plaintext(berth.graphite(), &points, points.all()).unwrap();

    wait_for_link(&agent, "down", &file.display().to_string());
    assert_eq!(upstream.dials(), 0, "without a passcode nobody is dialled");
    assert!(agent.log().contains(&file.display().to_string()), "{}", agent.log());
    std::fs::write(&file, "wrong\n").unwrap();
    wait_for_link(&agent, "down", "Bad CONNECT");
    std::fs::write(&file, "right\n").unwrap();
    wait_for_drained(&agent);
    check(&upstream, &points);
    let log = agent.log();
    assert!(!log.contains("wrong") && !log.contains("right"), "a passcode is not said: {log}");
    assert!(agent.terminate(LIMIT).success());
}

#[test]
fn the_failover_list_is_tried_in_its_order_at_each_dial() {
    let (berth, second, third) = (Berth::new("failover"), Upstream::willing(), Upstream::willing());
    let (to_first, to_second) = (Proxy::before(second.address()), Proxy::before(second.address()));
    to_first.leave();
    let ways = [to_first.address(), to_second.address(), third.address()];
    let mut agent = agent(&berth, &ways, "");
    let points = Points::new("failover", 100, 3_000);
    plaintext(berth.graphite(), &points, 0..1_000).unwrap();
    wait_for_lines(&second, 1_000);
    assert_eq!(third.dials(), 0, "the second one stands");

    to_second.leave();
    plaintext(berth.graphite(), &points, 1_000..2_000).unwrap();
    wait_for_lines(&third, 1_000);

    // The first is back, but a session that stands is kept; only the next dial begins at the top.
    to_first.mend();
    plaintext(berth.graphite(), &points, 2_000..2_500).unwrap();
    wait_for_lines(&third, 1_500);
    third.follow(|_| Answer::Close);
    plaintext(berth.graphite(), &points, 2_500..3_000).unwrap();
    wait_for_lines(&second, 1_500);
    wait_for_drained(&agent);
    assert_eq!(to_first.accepted(), 1);
    assert!(agent.terminate(LIMIT).success());
}
