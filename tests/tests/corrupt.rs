//! A spool's file that is damaged, under a running agent and before its start: it is set aside, what can be
//! read goes on, and the agent says so (I5, I18).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tests::berth::{Berth, LINK};
use tests::edge::QUEUE;
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::stomp::Stomp;

const LIMIT: Duration = Duration::from_secs(30);
const PAGE_BYTES: u64 = 4096;
/// More than SQLite keeps of the file in memory.
const LINES: usize = 15_000;
/// A batch of these lines lies on a dozen pages in a row.
const LINES_OF_A_BATCH: usize = 70;

#[test]
fn damage_under_a_running_agent_costs_what_was_damaged() {
    let berth = Berth::new("corrupt-running");
    let topology = berth.topology(&format!("dir: {}", berth.spool().display()));
    berth.sink.proxy().leave();
    let mut agent = berth.agent(&topology);
    let points = Points::bulky("corrupt", 500, LINES);
    plaintext(berth.graphite(), &points, points.all()).unwrap();

    damage(&berth, 1000..1008);
    berth.sink.proxy().mend();
    berth.drained(&agent);
    let comparison = berth.sink.ledger().compare(&points, points.all());
    let (missing, copies) = (comparison.missing.len(), comparison.duplicates);
    assert!((1..=3 * LINES_OF_A_BATCH).contains(&missing), "{missing} are missing");
    assert_eq!((comparison.altered.len(), comparison.strangers), (0, 0));
    assert_eq!(copies, 0, "what was lent stays lent");
    check_the_books(&agent, missing);
    goes_on_and_says_so(&berth, &mut agent);
}

#[test]
fn damage_before_a_start_costs_what_was_damaged() {
    // The pages of the bodies are met while the link drains, the first ones when the file is opened.
    for (name, pages, lost_lines_max) in
        [("corrupt-bodies", 1000..1008, 3 * LINES_OF_A_BATCH), ("corrupt-roots", 2..8, LINES)]
    {
        let berth = Berth::new(name);
        let topology = berth.topology(&format!("dir: {}", berth.spool().display()));
        berth.sink.proxy().leave();
        let mut agent = berth.agent(&topology);
        let points = Points::bulky("corrupt", 500, LINES);
        plaintext(berth.graphite(), &points, points.all()).unwrap();
        assert!(agent.terminate(LIMIT).success());

        damage(&berth, pages);
        berth.sink.proxy().mend();
        agent.restart();
        agent.ready();
        berth.drained(&agent);
        let comparison = berth.sink.ledger().compare(&points, points.all());
        assert!((1..=lost_lines_max).contains(&comparison.missing.len()), "{}", comparison.missing.len());
        assert_eq!((comparison.altered.len(), comparison.strangers), (0, 0));
        goes_on_and_says_so(&berth, &mut agent);
    }
}

/// accepted = delivered + dropped + set aside, once drained (I3). What was in memory, lent, when its pages were
/// damaged may count as dropped and arrive all the same.
fn check_the_books(agent: &Packetboat, missing: usize) {
    let (status, link) = (agent.status(), agent.books(LINK));
    let lines = |amount: &serde_json::Value| amount["lines"].as_u64().unwrap();
    let (accepted, dropped) = (lines(&status["spool"]["accepted"]), lines(&link["dropped_corrupt"]));
    assert_eq!(accepted, lines(&link["delivered"]) + dropped + lines(&link["aside"]), "{status}");
    assert!(dropped >= missing as u64, "{missing} are missing: {status}");
    let counter = format!("packetboat_dropped_metrics_total{{reason=\"corrupt\",to=\"{LINK}\"}}");
    assert_eq!(agent.metrics().get(&counter), Some(dropped as f64));
}

/// Overwrites these pages of the spool's file, counted from zero.
fn damage(berth: &Berth, pages: std::ops::Range<u64>) {
    let file = fs::File::options().write(true).open(berth.spool().join("spool.db")).unwrap();
    assert!(file.metadata().unwrap().len() > pages.end * PAGE_BYTES, "the file is smaller than that");
    for page in pages {
        file.write_all_at(&[0xa5; 4096], page * PAGE_BYTES).unwrap();
    }
}

fn goes_on_and_says_so(berth: &Berth, agent: &mut Packetboat) {
    let mut session = Stomp::connect(berth.stomp(), &[]).unwrap();
    session.send(QUEUE, b"after.the.damage 1 1700000000").unwrap();
    berth.drained(agent);
    assert_eq!(berth.sink.ledger().times("after.the.damage", 1_700_000_000), 1);
    let aside = set_aside(berth);
    assert_eq!(aside.len(), 1, "{aside:?}");
    let (log, name) = (agent.log(), aside[0].display().to_string());
    let line = log.lines().find(|line| line.contains("was corrupt")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("ERROR") && line.contains(&name) && line.contains("lines="), "{line}");
    assert!(agent.terminate(LIMIT).success());
}

/// The files that were put by, without their logs.
fn set_aside(berth: &Berth) -> Vec<PathBuf> {
    let files = fs::read_dir(berth.spool()).unwrap().map(|file| file.unwrap().path());
    let is_aside = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("spool.db.corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    files.filter(is_aside).collect()
}
