//! The benchmark command measures every figure that it is there for, however little it is given to do.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_figure_is_measured() {
    let arguments = ["--runs", "1", "--lines", "20000", "--seconds", "0.1", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let mut figures: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()) {
        let figure: Value = serde_json::from_str(line).unwrap();
        let median = figure["median"].as_f64().unwrap();
        // So little work may need less than a tick of CPU time.
        assert!(median > 0.0 || figure["unit"] == "CPU s/M lines", "{line}");
        let group = figure["group"].as_str().unwrap().to_owned();
        figures.entry(group).or_default().push(figure["unit"].as_str().unwrap().to_owned());
    }
    let has = |group: &str, units: &[&str]| {
        let found = figures.get(group).unwrap_or_else(|| panic!("{group} in {figures:?}"));
        assert!(units.iter().all(|unit| found.iter().any(|one| one == unit)), "{group}: {found:?}");
    };
    let common = ["lines/s", "CPU s/M lines"];
    has("yardstick", &common);
    has("drain", &common);
    for way_in in ["plaintext", "STOMP, 500 lines a message", "STOMP, 1 line a message"] {
        has(way_in, &common);
        has(way_in, &["B/line on disk", "peak RSS MiB"]);
    }
    for rate in ["1000", "10000", "100000"] {
        for connections in ["1", "1000"] {
            let group = format!("paced, {rate} lines/s from {connections}");
            has(&group, &["rows/s", "SENDs/s", "rows/s, link down", "CPU s/M lines"]);
        }
    }
}
