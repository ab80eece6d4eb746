//! The whole picture, as a terminal of 80 columns shows it.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::time::Instant;

use super::*;

fn drawn(view: &View, log: &[&str], columns: u16, rows: u16) -> String {
    let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(view, &log, frame)).unwrap();
    terminal.backend().to_string()
}

/// After four seconds at 20,000 metrics a second, with the link cut half a second ago.
fn cut_view() -> View {
    let mut seen = Seen::nothing(Instant::now());
    for node in [&mut seen.us, &mut seen.eu, &mut seen.consumer] {
        node.link = "up".to_owned();
    }
    let mut view = View::new(20_000, ([127, 0, 0, 1], 9613).into(), seen.clone());
    for look in 1..=16 {
        seen.at += Duration::from_millis(250);
        seen.us.accepted += 4_500;
        seen.dmz.accepted += 500;
        seen.eu.accepted += 500;
        seen.accepted += 5_000;
        seen.graphite.metrics += 500;
        if look <= 14 {
            seen.link_bytes += 50_000;
            seen.eu.accepted += 4_500;
            seen.graphite.metrics += 4_500;
        } else {
            seen.us.backlog += 4_500;
            seen.us.oldest += Duration::from_millis(250);
            seen.us.spool_bytes += 60_000;
        }
        view.take(seen.clone());
    }
    seen.us.link = "down".to_owned();
    view.take(seen);
    view.link_is_cut = true;
    view
}

#[test]
fn a_cut_link() {
    let log = ["INFO ready agent=\"us-east\"", "WARN the link is down link=\"eu\""];
    insta::assert_snapshot!(drawn(&cut_view(), &log, 80, 24), @r#"
    " packetboat demo: a mesh on loopback                                       0:04 "
    "╭ US  agent us-east ─────────╮                    ╭ EU  agent eu ──────────────╮"
    "│ taken/s             18,000 │   the link is CUT  │ taken/s              8,000 │"
    "│ backlog              9,000 │     65.1 KiB/s     │ backlog                  0 │"
    "│ oldest               0.5 s │ ════════ ╳ ════════│ oldest               0.0 s │"
    "│ spool            117.1 KiB │   40 ms each way   │ spool                  0 B │"
    "│ sends to eu           down │               ╭───▶│ collects dmz-web        up │"
    "╰────────────────────────────╯               │    ╰────────────────────────────╯"
    "                                             │     │ consumer graphite-eu up    "
    "╭ DMZ  agent dmz-web ────────╮               │     ▼ confirms about every 5 s   "
    "│ taken/s              2,000 │               │    ╭ Graphite (counts only) ────╮"
    "│ backlog                  0 │───────────────╯    │ metrics/s            8,000 │"
    "│ oldest               0.0 s │      eu dials      │ metrics             71,000 │"
    "│ spool                  0 B │                    │ on the way           9,000 │"
    "│ dials               nobody │                    │ twice                    0 │"
    "╰────────────────────────────╯                    ╰────────────────────────────╯"
    " backlog of us-east, at most 9,000                                              "
    "                                                                                "
    "                                                                              ▂▂"
    "                                                                             ▅██"
    " what the nodes say (us-east also at http://127.0.0.1:9613/metrics)             "
    " INFO ready agent="us-east"                                                     "
    " WARN the link is down link="eu"                                                "
    " c mends the link    q mends, drains and tells the verdict                      "
    "#);
}

#[test]
fn finishing() {
    let mut view = cut_view();
    let mut seen = view.seen().clone();
    seen.at += Duration::from_millis(250);
    seen.us.link = "up".to_owned();
    seen.us.backlog = 0;
    seen.outstanding = Some(1_234);
    seen.graphite.copies = 37;
    view.take(seen);
    view.link_is_cut = false;
    view.is_finishing = true;
    insta::assert_snapshot!(drawn(&view, &[], 90, 23), @r#"
    " finishing: 1,234 metrics are still to come                                          0:04 "
    "╭ US  agent us-east ─────────╮                              ╭ EU  agent eu ──────────────╮"
    "│ taken/s             12,000 │        the link is up        │ taken/s              1,333 │"
    "│ backlog                  0 │             0 B/s            │ backlog                  0 │"
    "│ oldest               0.5 s │ ════════════════════════════▶│ oldest               0.0 s │"
    "│ spool            117.1 KiB │        40 ms each way        │ spool                  0 B │"
    "│ sends to eu             up │                         ╭───▶│ collects dmz-web        up │"
    "╰────────────────────────────╯                         │    ╰────────────────────────────╯"
    "                                                       │     │ consumer graphite-eu up    "
    "╭ DMZ  agent dmz-web ────────╮                         │     ▼ confirms about every 5 s   "
    "│ taken/s              1,333 │                         │    ╭ Graphite (counts only) ────╮"
    "│ backlog                  0 │─────────────────────────╯    │ metrics/s            1,333 │"
    "│ oldest               0.0 s │           eu dials           │ metrics             71,000 │"
    "│ spool                  0 B │                              │ on the way           9,000 │"
    "│ dials               nobody │                              │ twice                   37 │"
    "╰────────────────────────────╯                              ╰────────────────────────────╯"
    " backlog of us-east, at most 9,000                                                        "
    "                                                                                          "
    "                                                                                       ▂▂ "
    "                                                                                      ▅██ "
    " what the nodes say (us-east also at http://127.0.0.1:9613/metrics)                       "
    "                                                                                          "
    " q leaves at once, without a verdict                                                      "
    "#);
}

#[test]
fn any_size_is_drawn() {
    let view = cut_view();
    assert!(drawn(&view, &[], 79, 24).contains("The picture needs 80 columns"));
    for (columns, rows) in [(1, 1), (20, 3), (80, 23), (80, 22), (300, 80)] {
        drawn(&view, &["x".repeat(500).as_str(), "é\u{200d}▲"], columns, rows);
    }
}
