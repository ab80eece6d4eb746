//! The benchmark command measures every figure that it is there for, however little it is given to do.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_figure_is_measured() {
    let arguments = ["--runs", "1", "--scale", "0.002", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let mut figures: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let machine: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert!(machine["machine"]["cores"].as_u64().unwrap() > 0, "{machine}");
    for line in lines {
        let figure: Value = serde_json::from_str(line).unwrap();
        // So little work may need less than a tick of CPU time: then there is no cost, and no ratio of costs.
        assert!(
            figure["median"].as_f64().is_some_and(|median| median >= 0.0) || line.contains("times"),
            "{line}"
        );
        let group = figure["group"].as_str().unwrap().to_owned();
        figures.entry(group).or_default().push(figure["unit"].as_str().unwrap().to_owned());
    }
    let has = |group: &str, units: &[&str]| {
        let found = figures.get(group).unwrap_or_else(|| panic!("{group} in {figures:?}"));
        assert!(units.iter().all(|unit| found.iter().any(|one| one == unit)), "{group}: {found:?}");
    };
    let cost = ["CPU s/M lines", "lines/s", "peak RSS MiB"];
    has("a reader that only counts", &["lines/s"]);
    for group in [
        "plaintext in, link down",
        "STOMP in, 500 lines a message",
        "STOMP in, 1 line a message",
        "drain to an answering stub",
        "live, in to out",
    ] {
        has(group, &cost);
    }
    has("latency at 10,000 lines/s", &["p50 ms", "p99 ms", "% of a core"]);
    has("disk", &["B/line", "share of raw, tagged"]);
    for lines in [1, 2, 20] {
        let units = [
            "CPU s/M lines taken in",
            "CPU s/M lines drained",
            "s from start to first line",
            "lines/s drained",
            "peak RSS MiB, filling",
            "peak RSS MiB, draining",
        ];
        has(&format!("with a backlog of {lines} M lines"), &units);
    }
    for lines in [2, 20] {
        let units = ["CPU to take in a line", "CPU to drain a line", "drain rate"];
        let units = units.map(|unit| format!("{unit}, of the backlog before"));
        has(&format!("with a backlog of {lines} M lines"), &units.each_ref().map(String::as_str));
    }
    has("idle", &["% of a core", "RSS MiB"]);
    for connections in ["1 connection", "1000 connections"] {
        let group = format!("100,000 lines/s over {connections}");
        has(&group, &["CPU s/M lines", "rows/s", "rows/s, link down", "B/line on disk"]);
    }
    has("10,000 producers that come and go", &["% of a core"]);
    has("10,000 STOMP sessions that stay", &["RSS MiB"]);
    has("drain agent to agent, zstd", &["lines/s", "peak RSS MiB, sender", "peak RSS MiB, receiver"]);
    for broker in ["rabbitmq", "activemq"] {
        has(&format!("drain to {broker}"), &["lines/s", "CPU s/M lines"]);
        for lines in ["500 lines", "1 line"] {
            has(&format!("consumer of {broker}, {lines} a message"), &cost);
        }
    }
    has("WAN, 90 ms, 100 Mbit/s, a reset a minute", &["share of the line", "B/line on the wire"]);
}
