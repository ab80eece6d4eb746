//! What was measured in all runs: figures with their marks, as a table or as JSON lines.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::producer::Sent;

/// Who reaches this share of a yardstick is level with it: the machines are noisy.
const LEVEL: f64 = 0.9;

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    AtLeast(f64),
    AtMost(f64),
    /// This share of the yardstick; of a cost, the yardstick's share of it.
    OfYardstick(f64),
}

/// How a figure stands to its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// Not met, but no further from a yardstick than the machine is from itself.
    Level,
    Missed,
}

/// One figure of one group, over all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) group: String,
    pub(crate) unit: String,
    pub(crate) values: Vec<f64>,
    /// What the yardstick had just before each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) yardstick: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) marks: Vec<Mark>,
}

/// All figures, in the order in which they came first.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figure>);

impl Report {
    /// Adds what one run has measured.
    pub(crate) fn add(&mut self, group: &str, unit: &str, value: f64) {
        self.figure(group, unit, &[]).values.push(value);
    }

    /// Adds a value that is held against a mark.
    pub(crate) fn add_marked(&mut self, group: &str, unit: &str, value: f64, mark: Mark) {
        self.figure(group, unit, &[mark]).values.push(value);
    }

    /// Adds a value, and what the yardstick had just before it.
    pub(crate) fn add_pair(&mut self, group: &str, unit: &str, value: f64, yardstick: f64, marks: &[Mark]) {
        let figure = self.figure(group, unit, marks);
        figure.values.push(value);
        figure.yardstick.push(yardstick);
    }

    /// Adds what was carried: its CPU time, which decides, and its rate, both beside the yardstick's.
    pub(crate) fn add_carried(
        &mut self,
        group: &str,
        (carried, yardstick): (&Sent, &Sent),
        cpu: &[Mark],
        rate: &[Mark],
    ) {
        let [ours, theirs] = [carried, yardstick].map(Sent::cpu_seconds_per_million);
        self.add_pair(group, "CPU s/M lines", ours, theirs, cpu);
        self.add_pair(group, "lines/s", carried.per_second(), yardstick.per_second(), rate);
    }

    fn figure(&mut self, group: &str, unit: &str, marks: &[Mark]) -> &mut Figure {
        let known = self.0.iter().position(|figure| figure.group == group && figure.unit == unit);
        let place = known.unwrap_or_else(|| {
            let (group, unit, marks) = (group.to_owned(), unit.to_owned(), marks.to_vec());
            self.0.push(Figure { group, unit, values: Vec::new(), yardstick: Vec::new(), marks });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// A line for each figure.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        line(&mut text, &row(&HEAD.map(str::to_owned)));
        let mut group = "";
        for figure in &self.0 {
            let mut cells = figure.cells();
            if figure.group == group {
                cells[0].clear();
            }
            group = &figure.group;
            line(&mut text, &row(&cells));
        }
        text
    }

    /// An object for each figure.
    pub(crate) fn json_lines(&self) -> String {
        let mut text = String::new();
        self.0.iter().for_each(|figure| line(&mut text, &figure.json().to_string()));
        text
    }
}

/// What [`Figure::cells`] are.
pub(crate) const HEAD: [&str; 6] =
    ["what", "in", "median", "least .. most", "yardstick: median, ratio of the pairs", "mark"];

impl Figure {
    /// What a line of a table says of it, as [`HEAD`] tells.
    pub(crate) fn cells(&self) -> [String; 6] {
        let (median, least, most) = spread(&self.values);
        [
            self.group.clone(),
            self.unit.clone(),
            short(median),
            format!("{} .. {}", short(least), short(most)),
            self.yardstick_text(),
            self.marks.iter().map(|mark| self.mark_text(*mark)).collect::<Vec<_>>().join("; "),
        ]
    }

    /// Whether both are values of one thing.
    pub(crate) fn is_of_kind_of(&self, other: &Self) -> bool {
        (&self.group, &self.unit) == (&other.group, &other.unit)
    }

    pub(crate) fn median(&self) -> f64 {
        spread(&self.values).0
    }

    /// Ours by the yardstick's, pair by pair, or for a cost the other way around: more is better.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let is_rate = self.unit.starts_with("lines/s");
        let pairs = self.values.iter().zip(&self.yardstick);
        pairs.map(|(ours, theirs)| if is_rate { ours / theirs } else { theirs / ours }).collect()
    }

    pub(crate) fn verdict(&self, mark: Mark) -> Verdict {
        let ratio = spread(&self.ratios()).0;
        match mark {
            Mark::AtLeast(mark) if self.median() >= mark => Verdict::Met,
            Mark::AtMost(mark) if self.median() <= mark => Verdict::Met,
            Mark::OfYardstick(mark) if ratio >= mark => Verdict::Met,
            Mark::OfYardstick(_) if ratio >= LEVEL => Verdict::Level,
            _ => Verdict::Missed,
        }
    }

    fn yardstick_text(&self) -> String {
        if self.yardstick.is_empty() {
            return String::new();
        }
        let (median, least, most) = spread(&self.ratios());
        format!("{}, {median:.2} ({least:.2} .. {most:.2})", short(spread(&self.yardstick).0))
    }

    fn mark_text(&self, mark: Mark) -> String {
        let wanted = match mark {
            Mark::AtLeast(mark) => format!("at least {}", short(mark)),
            Mark::AtMost(mark) => format!("at most {}", short(mark)),
            Mark::OfYardstick(mark) => format!("{mark} of the yardstick"),
        };
        let verdict = match self.verdict(mark) {
            Verdict::Met => "met",
            Verdict::Level => "level",
            Verdict::Missed => "missed",
        };
        format!("{wanted}: {verdict}")
    }

    fn json(&self) -> serde_json::Value {
        let mut figure = json!(self);
        let (median, min, max) = spread(&self.values);
        (figure["median"], figure["min"], figure["max"]) = (json!(median), json!(min), json!(max));
        if !self.yardstick.is_empty() {
            let (median, min, max) = spread(&self.ratios());
            figure["of_yardstick"] = json!({ "median": median, "min": min, "max": max });
        }
        figure
    }
}

fn row(cells: &[String; 6]) -> String {
    let [what, unit, median, range, yardstick, mark] = cells;
    let row = format!("{what:<38} {unit:<20} {median:>8}  {range:<20} {yardstick:<38} {mark}");
    row.trim_end().to_owned()
}

fn line(text: &mut String, line: &str) {
    #[expect(clippy::expect_used, reason = "a String takes all")]
    writeln!(text, "{line}").expect("a String takes all");
}

/// Median, smallest and largest; of an even number of values the median is the mean of the middle two.
pub(crate) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
        return (f64::NAN, f64::NAN, f64::NAN);
    };
    let half = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
    (median, least, most)
}

/// Three digits, with k or M.
pub(crate) fn short(value: f64) -> String {
    let (scaled, suffix) = match value {
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = match scaled {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sent(lines: u64) -> Sent {
        Sent { lines, elapsed: Duration::from_secs(1), cpu_seconds: 1.0 }
    }

    #[test]
    fn a_spread_is_of_sorted_values() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0]), (2.5, 1.0, 4.0));
    }

    #[test]
    fn values_are_short() {
        let shown = [12_345_678.0, 200_000.0, 9_999.0, 64.0, 0.3125].map(short);
        assert_eq!(shown, ["12.3 M", "200 k", "9999", "64.0", "0.312"]);
    }

    #[test]
    fn a_ratio_is_taken_within_its_pair_and_more_is_better() {
        let mut report = Report::default();
        report.add_carried("in", (&sent(100), &sent(1000)), &[], &[Mark::AtLeast(150.0)]);
        report.add_carried("in", (&sent(400), &sent(800)), &[], &[]);
        assert_eq!((report.0[0].unit.as_str(), report.0[0].ratios()), ("CPU s/M lines", vec![0.1, 0.5]));
        assert_eq!((report.0[1].unit.as_str(), report.0[1].ratios()), ("lines/s", vec![0.1, 0.5]));
        let table = report.table();
        assert!(table.contains("900, 0.30 (0.10 .. 0.50)"), "{table}");
        assert!(table.contains("at least 150: met"), "{table}");
    }

    #[test]
    fn near_a_yardstick_is_level_and_near_a_mark_is_missed() {
        let figure = |unit: &str, value, yardstick| Figure {
            group: "in".to_owned(),
            unit: unit.to_owned(),
            values: vec![value],
            yardstick: vec![yardstick],
            marks: Vec::new(),
        };
        let check = |unit, value, mark, verdict| {
            assert_eq!(figure(unit, value, 100.0).verdict(mark), verdict, "{value} {unit}, {mark:?}");
        };
        check("lines/s", 100.0, Mark::OfYardstick(1.0), Verdict::Met);
        check("lines/s", 90.0, Mark::OfYardstick(1.0), Verdict::Level);
        check("lines/s", 89.0, Mark::OfYardstick(1.0), Verdict::Missed);
        check("lines/s", 90.0, Mark::OfYardstick(0.9), Verdict::Met);
        check("CPU s/M lines", 99.0, Mark::OfYardstick(1.0), Verdict::Met);
        check("CPU s/M lines", 111.0, Mark::OfYardstick(1.0), Verdict::Level);
        check("CPU s/M lines", 112.0, Mark::OfYardstick(1.0), Verdict::Missed);
        check("lines/s", 99.0, Mark::AtLeast(100.0), Verdict::Missed);
        check("B/line", 9.0, Mark::AtMost(9.0), Verdict::Met);
        check("B/line", 9.1, Mark::AtMost(9.0), Verdict::Missed);
    }

    #[test]
    fn a_figure_can_be_read_again() {
        let mut report = Report::default();
        report.add_pair("in", "lines/s", 4.0, 2.0, &[Mark::OfYardstick(1.0)]);
        let line = report.json_lines();
        assert_eq!(serde_json::from_str::<Figure>(&line).unwrap(), report.0[0]);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["median"], &line["of_yardstick"]["max"]), (&json!(4.0), &json!(2.0)));
    }
}
