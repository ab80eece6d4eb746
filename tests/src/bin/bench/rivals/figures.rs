//! What was measured of all rivals in all runs: side by side, or as JSON lines.

use std::fmt::Write as _;

use serde_json::json;

use super::rival::Rival;
use crate::report::{short, spread};

/// All that is known of them, in the order in which it came first.
#[derive(Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    notes: Vec<Note>,
}

struct Figure {
    rival: &'static str,
    group: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

/// What is to be read beside the figures of one rival.
struct Note {
    rival: &'static str,
    version: String,
    durability: &'static str,
    /// Why it, or part of it, was not measured.
    faults: Vec<String>,
}

impl Figures {
    /// This one is measured, or was to be.
    pub(crate) fn introduce(&mut self, rival: &Rival, version: String) {
        if !self.notes.iter().any(|note| note.rival == rival.name) {
            let Rival { name, durability, .. } = *rival;
            self.notes.push(Note { rival: name, version, durability, faults: Vec::new() });
        }
    }

    /// Says why something is missing, once if it is the same in each run.
    pub(crate) fn fault(&mut self, rival: &Rival, fault: String) {
        let note = self.notes.iter_mut().find(|note| note.rival == rival.name);
        if let Some(note) = note.filter(|note| !note.faults.contains(&fault)) {
            note.faults.push(fault);
        }
    }

    /// Adds what one run has measured.
    pub(crate) fn add(&mut self, rival: &Rival, group: &'static str, unit: &'static str, value: f64) {
        let of =
            |figure: &&mut Figure| (figure.rival, figure.group, figure.unit) == (rival.name, group, unit);
        match self.figures.iter_mut().find(of) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { rival: rival.name, group, unit, values: vec![value] }),
        }
    }

    /// A table for each group, with a line for each rival; below them, what each is.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for group in distinct(self.figures.iter().map(|figure| figure.group)) {
            let units = distinct(self.figures.iter().filter(|one| one.group == group).map(|one| one.unit));
            self.table(group, &units, &mut text);
        }
        for note in &self.notes {
            let Note { rival, version, durability, faults } = note;
            line(&mut text, &format!("{rival} ({version}): {durability}"));
            for fault in faults {
                line(&mut text, &format!("  not measured: {fault}"));
            }
        }
        text
    }

    fn table(&self, group: &str, units: &[&str], text: &mut String) {
        let head: String = units.iter().map(|unit| format!(" {unit:>26}")).collect();
        line(text, &format!("{group:<36}{head}"));
        for note in &self.notes {
            let figure = |unit: &&str| {
                self.figures.iter().find(|one| (one.rival, one.group, one.unit) == (note.rival, group, *unit))
            };
            let cells: Vec<_> = units.iter().map(figure).collect();
            if cells.iter().any(Option::is_some) {
                let cell =
                    |figure: &Option<&Figure>| format!(" {:>26}", figure.map_or("-".into(), Figure::text));
                let cells: String = cells.iter().map(cell).collect();
                line(text, &format!("{:<36}{cells}", note.rival));
            }
        }
        line(text, "");
    }

    /// An object for each figure, and one for each that could not be measured.
    pub(crate) fn json_lines(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            let Note { rival, version, durability, faults } = note;
            for Figure { group, unit, values, .. } in self.figures.iter().filter(|one| one.rival == *rival) {
                let (median, min, max) = spread(values);
                let figure = json!({
                    "rival": rival, "version": version, "durability": durability, "group": group, "unit": unit,
                    "median": median, "min": min, "max": max, "values": values,
                });
                line(&mut text, &figure.to_string());
            }
            for fault in faults {
                line(
                    &mut text,
                    &json!({ "rival": rival, "version": version, "not_measured": fault }).to_string(),
                );
            }
        }
        text
    }
}

impl Figure {
    fn text(&self) -> String {
        let (median, least, most) = spread(&self.values);
        match self.values.len() {
            1 => short(median),
            _ => format!("{} ({} .. {})", short(median), short(least), short(most)),
        }
    }
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    all.fold(Vec::new(), |mut seen, one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
        seen
    })
}

fn line(text: &mut String, line: &str) {
    #[expect(clippy::expect_used, reason = "a String takes all")]
    writeln!(text, "{}", line.trim_end()).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{carbon_c_relay, vmagent};
    use super::*;
    use crate::{Arguments, Command, page};

    #[test]
    fn rivals_stand_side_by_side() {
        let (one, other) = (carbon_c_relay::RIVAL, vmagent::RIVAL);
        let mut figures = Figures::default();
        figures.introduce(&one, "1".to_owned());
        figures.introduce(&other, "2".to_owned());
        for lines in [100.0, 300.0, 200.0] {
            figures.add(&one, "drain", "lines/s", lines);
        }
        figures.add(&other, "drain", "missing", 7.0);
        figures.fault(&other, "it ended".to_owned());
        let tables = figures.tables();
        assert!(tables.contains("200 (100 .. 300)") && tables.contains("not measured: it ended"), "{tables}");
        let lines: Vec<serde_json::Value> =
            figures.json_lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["rival"], &lines[0]["median"]), (&json!(one.name), &json!(200.0)));
        assert_eq!((&lines[2]["version"], &lines[2]["not_measured"]), (&json!("2"), &json!("it ended")));
    }

    #[test]
    fn the_page_shows_them() {
        let (one, other) = (carbon_c_relay::RIVAL, vmagent::RIVAL);
        let mut figures = Figures::default();
        figures.introduce(&one, "3.7".to_owned());
        figures.introduce(&other, "not installed".to_owned());
        for lines in [100.0, 300.0, 200.0] {
            figures.add(&one, "drain", "lines/s", lines);
        }
        figures.add(&one, "drain", "missing", 7.0);
        figures.fault(&one, "latency: it ended: a | b".to_owned());
        for _run in 0..2 {
            figures.fault(&other, "it is skipped".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rivals.jsonl");
        // What is read again replaces itself.
        std::fs::write(&file, figures.json_lines().repeat(2)).unwrap();
        let (file, into) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
        let arguments = Arguments::parse_from(["bench", "page", file, "--into", into]);
        let Some(Command::Page(settings)) = arguments.command else { panic!("no page was asked for") };
        page::write(&settings).unwrap();

        let page = std::fs::read_to_string(folder.path().join("BENCHMARKS.md")).unwrap();
        for part in [
            "| carbon-c-relay | drain | lines/s | 200 | 100 .. 300 |\n",
            "| carbon-c-relay | drain | missing | 7.00 | 7.00 .. 7.00 |\n",
            &format!("| carbon-c-relay | 3.7 | {} |\n", one.durability),
            "| carbon-c-relay | 3.7 | not measured: latency: it ended: a \\| b |\n",
            "| vmagent | not installed | not measured: it is skipped |\n",
            "](tests/benchmarks/drain.svg)",
        ] {
            assert_eq!(page.matches(part).count(), 1, "{part} in {page}");
        }
    }
}
