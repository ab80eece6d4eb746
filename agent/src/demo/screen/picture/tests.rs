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
    let mut view = View::new(20_000, Some(([127, 0, 0, 1], 9613).into()), seen.clone());
    for look in 1..=16 {
        seen.at += Duration::from_millis(250);
        seen.agent.accepted += 5_000;
        seen.accepted += 5_000;
        if look <= 14 {
            seen.link_bytes += 50_000;
            seen.graphite.metrics += 5_000;
            seen.consumer.confirmed += 4_500;
        } else {
            seen.agent.backlog += 5_000;
            seen.agent.oldest += Duration::from_millis(250);
            seen.agent.spool_bytes += 60_000;
        }
        view.take(seen.clone());
    }
    seen.agent.link = "down".to_owned();
    view.take(seen);
    view.link_is_cut = true;
    view
}

#[test]
fn a_cut_link() {
    let log = ["INFO ready agent=\"us-east\"", "WARN the link is down link=\"eu\""];
    insta::assert_snapshot!(drawn(&cut_view(), &log, 80, 24), @r#"
    " packetboat demo: a mesh on loopback                                       0:04 "
    "╭ US  producers ─────────────╮                    ╭ EU  Graphite (counts only) ╮"
    "│ hosts                  200 │                    │ metrics/s            6,666 │"
    "│ metrics/s           20,000 │                    │ metrics             70,000 │"
    "│ have receipts       80,000 │     ~  ~  ~  ~     │ on the way          10,000 │"
    "╰────────────────────────────╯      ~   ~   ~     │ twice                    0 │"
    "     │ STOMP  │ plaintext                         ╰────────────────────────────╯"
    "╭ agent us-east ─────────────╮                                   ▲              "
    "│ accepted/s          20,000 │                    ╭ consumer graphite-eu ──────╮"
    "│ backlog             10,000 │                    │ confirmed           63,000 │"
    "│ oldest               0.5 s │                    ╰────────────────────────────╯"
    "│ spool            117.1 KiB │   the link is CUT                 ▲              "
    "│ its link is           down │     65.1 KiB/s     ╭ broker eu (a stand-in) ────╮"
    "│ forwarded/s          6,666 │ ════════ ╳ ════════│ waiting + lent       0 + 0 │"
    "╰────────────────────────────╯   40 ms each way   ╰────────────────────────────╯"
    " backlog of the agent, at most 10,000                                           "
    "                                                                                "
    "                                                                              ▄▄"
    "                                                                             ▆██"
    " what the nodes say (the agent also at http://127.0.0.1:9613/metrics)           "
    " INFO ready agent="us-east"                                                     "
    " WARN the link is down link="eu"                                                "
    "                                                                                "
    " c mends the link    q mends, drains and tells the verdict                      "
    "#);
}

#[test]
fn finishing() {
    let mut view = cut_view();
    let mut seen = view.seen().clone();
    seen.at += Duration::from_millis(250);
    seen.agent.link = "up".to_owned();
    seen.agent.backlog = 0;
    seen.outstanding = Some(1_234);
    seen.graphite.copies = 37;
    view.take(seen);
    view.link_is_cut = false;
    view.is_finishing = true;
    insta::assert_snapshot!(drawn(&view, &[], 90, 22), @r#"
    " finishing: 1,234 metrics are still to come                                          0:04 "
    "╭ US  producers ─────────────╮                              ╭ EU  Graphite (counts only) ╮"
    "│ hosts                  200 │                              │ metrics/s                0 │"
    "│ metrics/s                0 │                              │ metrics             70,000 │"
    "│ have receipts       80,000 │          ~  ~  ~  ~          │ on the way          10,000 │"
    "╰────────────────────────────╯           ~   ~   ~          │ twice                   37 │"
    "     │ STOMP  │ plaintext                                   ╰────────────────────────────╯"
    "╭ agent us-east ─────────────╮                                             ▲              "
    "│ accepted/s          13,333 │                              ╭ consumer graphite-eu ──────╮"
    "│ backlog                  0 │                              │ confirmed           63,000 │"
    "│ oldest               0.5 s │                              ╰────────────────────────────╯"
    "│ spool            117.1 KiB │        the link is up                       ▲              "
    "│ its link is             up │             0 B/s            ╭ broker eu (a stand-in) ────╮"
    "│ forwarded/s         13,333 │ ════════════════════════════▶│ waiting + lent       0 + 0 │"
    "╰────────────────────────────╯        40 ms each way        ╰────────────────────────────╯"
    " backlog of the agent, at most 10,000                                                     "
    "                                                                                          "
    "                                                                                       ▄▄ "
    "                                                                                      ▆██ "
    " what the nodes say (the agent also at http://127.0.0.1:9613/metrics)                     "
    "                                                                                          "
    " q leaves at once, without a verdict                                                      "
    "#);
}

#[test]
fn any_size_is_drawn() {
    let view = cut_view();
    assert!(drawn(&view, &[], 75, 24).contains("The picture needs 76 columns"));
    for (columns, rows) in [(1, 1), (20, 3), (76, 22), (80, 21), (300, 80)] {
        drawn(&view, &["x".repeat(500).as_str(), "é\u{200d}▲"], columns, rows);
    }
}
