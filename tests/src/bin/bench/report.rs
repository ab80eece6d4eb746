//! What was measured in all runs, as a table or as JSON lines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::producer::Sent;

/// The first mark that was set for a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure of one group, over all runs.
#[derive(Debug)]
struct Figure {
    group: String,
    unit: &'static str,
    values: Vec<f64>,
    /// The value of each run, divided by the yardstick that was taken just before it.
    of_yardstick: Vec<f64>,
    mark: Option<Mark>,
}

/// All figures, in the order in which they came first.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figure>);

impl Report {
    /// Adds what one run has measured.
    pub(crate) fn add(&mut self, group: &str, unit: &'static str, value: f64) {
        self.figure(group, unit).values.push(value);
    }

    /// Adds a value that is held against a mark.
    pub(crate) fn add_marked(&mut self, group: &str, unit: &'static str, value: f64, mark: Mark) {
        let figure = self.figure(group, unit);
        figure.values.push(value);
        figure.mark = Some(mark);
    }

    /// Adds what was carried at full speed: its rate, also in relation to `yardstick`, and its CPU time.
    pub(crate) fn add_rate(&mut self, group: &str, sent: &Sent, yardstick: &Sent, mark: Option<Mark>) {
        let figure = self.figure(group, "lines/s");
        figure.values.push(sent.per_second());
        figure.of_yardstick.push(sent.per_second() / yardstick.per_second());
        figure.mark = mark;
        self.add(group, "CPU s/M lines", sent.cpu_seconds_per_million());
    }

    fn figure(&mut self, group: &str, unit: &'static str) -> &mut Figure {
        let known = self.0.iter().position(|figure| figure.group == group && figure.unit == unit);
        let place = known.unwrap_or_else(|| {
            let (values, of_yardstick) = Default::default();
            self.0.push(Figure { group: group.to_owned(), unit, values, of_yardstick, mark: None });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// A line for each figure: median, smallest and largest; the ratio to the yardstick; the mark.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<36} {:<18} {:>8}  {:<18} {:<24} {}\n",
            "", "", "median", "min .. max", "of the yardstick", "first mark"
        );
        let mut group = "";
        for figure in &self.0 {
            let shown_group = if figure.group == group { "" } else { &figure.group };
            group = &figure.group;
            let (median, least, most) = spread(&figure.values);
            let range = format!("{} .. {}", short(least), short(most));
            let of_yardstick = figure.ratio_text();
            let mark = figure.mark_text(median);
            let unit = figure.unit;
            let line = format!(
                "{shown_group:<36} {unit:<18} {:>8}  {range:<18} {of_yardstick:<24} {mark}",
                short(median)
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// An object for each figure.
    pub(crate) fn json_lines(&self) -> String {
        let mut text = String::new();
        for figure in &self.0 {
            #[expect(clippy::expect_used, reason = "a String takes all")]
            writeln!(text, "{}", figure.json()).expect("a String takes all");
        }
        text
    }
}

impl Figure {
    fn ratio_text(&self) -> String {
        if self.of_yardstick.is_empty() {
            return String::new();
        }
        let (median, least, most) = spread(&self.of_yardstick);
        format!("{median:.3} ({least:.3} .. {most:.3})")
    }

    fn mark_text(&self, median: f64) -> String {
        let word = if self.is_met(median) { "met" } else { "missed" };
        match self.mark {
            None => String::new(),
            Some(Mark::AtLeast(mark)) => format!(">= {}: {word}", short(mark)),
            Some(Mark::AtMost(mark)) => format!("<= {}: {word}", short(mark)),
        }
    }

    fn is_met(&self, median: f64) -> bool {
        match self.mark {
            None => true,
            Some(Mark::AtLeast(mark)) => median >= mark,
            Some(Mark::AtMost(mark)) => median <= mark,
        }
    }

    fn json(&self) -> Value {
        let (median, min, max) = spread(&self.values);
        let mut line = json!({
            "group": self.group, "unit": self.unit, "median": median, "min": min, "max": max, "values": self.values,
        });
        if !self.of_yardstick.is_empty() {
            let (median, min, max) = spread(&self.of_yardstick);
            line["of_yardstick"] = json!({ "median": median, "min": min, "max": max });
        }
        if self.mark.is_some() {
            line["mark_met"] = json!(self.is_met(median));
        }
        line
    }
}

/// Median, smallest and largest; of an even number of values the median is the mean of the middle two.
fn spread(values: &[f64]) -> (f64, f64, f64) {
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
fn short(value: f64) -> String {
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
    fn a_ratio_is_taken_within_its_pair() {
        let mut report = Report::default();
        report.add_rate("in", &sent(100), &sent(1000), Some(Mark::AtLeast(150.0)));
        report.add_rate("in", &sent(400), &sent(800), None);
        let table = report.table();
        assert!(table.contains("0.300 (0.100 .. 0.500)"), "{table}");
        let lines: Vec<Value> =
            report.json_lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["median"], 250.0);
        assert_eq!(lines[1]["unit"], "CPU s/M lines");
    }

    #[test]
    fn a_mark_is_held_against_the_median() {
        let mut report = Report::default();
        for bytes in [9.0, 30.0, 10.0] {
            report.add_marked("in", "B/line", bytes, Mark::AtMost(12.0));
        }
        assert!(report.table().contains("<= 12.0: met"));
        for bytes in [30.0, 30.0] {
            report.add_marked("in", "B/line", bytes, Mark::AtMost(12.0));
        }
        assert!(report.table().contains("<= 12.0: missed"));
    }
}
