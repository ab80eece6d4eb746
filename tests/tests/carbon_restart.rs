//! Carbon is restarted in an orderly way, and killed, under load: every acknowledged line is in whisper,
//! or was in the dead process, which had said by its FIN that it had read it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the numbers of a run are worth reading when it passes, too")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::broker::Kind;
use tests::carbon::Carbon;
use tests::ledger::Ledger;
use tests::load::plaintext;
use tests::points::Points;
use tests::proxy::Proxy;
use tests::road::Road;
use tests::short_or_full;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(120);
/// More than are sent while carbon dies and comes back.
const POINTS_MAX: usize = 10_000_000;
/// One client's connection.
const POINTS_A_CLIENT: usize = 500;
/// How far the load may be ahead of carbon's receipts: several times what one connection carries before it
/// is turned over, or else each receipt would be waited for.
const POINTS_AHEAD_MAX: usize = 100_000;

#[test]
fn an_orderly_restart_loses_at_most_what_carbon_had_read() {
    carbon_restarts_under_load(Kind::RabbitMq, Carbon::stop);
}

#[test]
fn a_kill_loses_at_most_what_carbon_had_read() {
    carbon_restarts_under_load(Kind::ActiveMq, Carbon::kill);
}

fn carbon_restarts_under_load(kind: Kind, end: fn(&mut Carbon)) {
    let mut road = Road::over(kind, "");
    let points = Points::new("restart", 2_000, POINTS_MAX);
    let (sent, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (graphite, ledger) = (road.graphite(), &*road.ledger);
    let confirmed_by_the_dead = std::thread::scope(|scope| {
        let producer = scope.spawn(|| send_until(&enough, graphite, ledger, &points, &sent));
        written(&road.carbon, ledger, &points);
        end(&mut road.carbon);
        last_word(&road.ways);
        let confirmed = ledger.confirmed(&points, 0..sent.load(Ordering::SeqCst));
        road.carbon.restart();
        enough.store(true, Ordering::SeqCst);
        producer.join().unwrap();
        confirmed
    });
    check(&road, &points, 0..sent.into_inner(), &confirmed_by_the_dead);
}

/// Many short clients, each of which waits until its lines are committed.
fn send_until(
    enough: &AtomicBool,
    graphite: SocketAddr,
    ledger: &Ledger,
    points: &Points,
    sent: &AtomicUsize,
) {
    for start in points.all().step_by(POINTS_A_CLIENT) {
        let end = start + POINTS_A_CLIENT;
        sent.store(end, Ordering::SeqCst);
        plaintext(graphite, points, start..end).unwrap();
        until(LIMIT, "carbon to keep up", || {
            let ahead = end.saturating_sub(ledger.confirmed_count());
            when(ahead <= POINTS_AHEAD_MAX, ahead)
        });
        if enough.load(Ordering::SeqCst) {
            return;
        }
    }
    panic!("the load ended before carbon was back");
}

/// Waits until carbon has given many receipts and has written some lines, so that it has what may be lost
/// and what may not.
fn written(carbon: &Carbon, ledger: &Ledger, points: &Points) {
    let wanted = short_or_full(50_000, 300_000);
    until(LIMIT, "receipts from carbon", || {
        let confirmed = ledger.confirmed_count();
        when(confirmed >= wanted, confirmed)
    });
    let first = points.point(0);
    until(LIMIT, "carbon's writer", || {
        let value = carbon.whisper().value(&first.name, first.timestamp);
        when(value.is_some(), "nothing written")
    });
}

/// Waits until the ledger has heard the last word of the dead carbon.
fn last_word(ways: &[Proxy]) {
    until(LIMIT, "the end of carbon's connections", || {
        let standing: usize = ways.iter().map(Proxy::standing).sum();
        when(standing == 0, standing)
    });
}

fn check(road: &Road, points: &Points, numbers: Range<usize>, confirmed_by_the_dead: &HashSet<usize>) {
    until(LIMIT, "every line's receipt from carbon", || {
        let confirmed = road.ledger.confirmed_count();
        when(confirmed == numbers.len(), format!("{confirmed} of {}", numbers.len()))
    });
    road.drained();
    let missing = || road.carbon.whisper().missing(points, numbers.clone());
    until(LIMIT, "all but what the dead carbon had read in whisper", || {
        let missing = missing();
        let unexplained = missing.iter().filter(|number| !confirmed_by_the_dead.contains(number)).count();
        when(unexplained == 0, format!("{unexplained} of {} missing are unexplained", missing.len()))
    });
    println!(
        "{} points, {} confirmed by the dead carbon, {} of them lost with it",
        numbers.len(),
        confirmed_by_the_dead.len(),
        missing().len(),
    );
    assert!(confirmed_by_the_dead.len() < numbers.len(), "carbon ended after the load, not under it");
}
