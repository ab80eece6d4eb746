//! Makes `BENCHMARKS.md` and its pictures out of JSON lines: those of `tests/bench --json`, and those of the rivals.

mod bars;
mod measured;
mod pictures;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::machine::Machine;
use crate::report::HEAD;
use measured::{Measured, Note};

/// What it is made of but figures.
const TEMPLATE: &str = include_str!("../../../benchmarks/page.md");
/// Where the pictures are, seen from the root of the repository.
const PICTURES: &str = "tests/benchmarks";

/// What to read, and where to write.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Files with JSON lines; of two equal figures the later counts.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The root of the repository.
    #[arg(long, default_value = ".")]
    into: PathBuf,
}

/// Writes the page and its pictures.
pub(crate) fn write(settings: &Settings) -> Result<()> {
    let mut measured = Measured::default();
    for file in &settings.files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        measured.read(&text).with_context(|| file.display().to_string())?;
    }
    let folder = settings.into.join(PICTURES);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut shown = String::new();
    for picture in pictures::ALL {
        let Some(svg) = picture.draw(&measured)? else { continue };
        let path = folder.join(picture.file);
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
        writeln!(shown, "![{}]({PICTURES}/{})\n", picture.title, picture.file)?;
    }
    let page = TEMPLATE
        .replace("{{machine}}", &machines(&measured.machines)?)
        .replace("{{table}}", &table(&measured)?)
        .replace("{{rivals}}", &rivals(&measured)?)
        .replace("{{durability}}", &durability(&measured)?)
        .replace("{{pictures}}", shown.trim_end());
    let path = settings.into.join("BENCHMARKS.md");
    fs::write(&path, page).with_context(|| path.display().to_string())
}

fn machines(machines: &[Machine]) -> Result<String> {
    let mut text = String::new();
    for machine in machines {
        let Machine { date, cpu, cores, memory, kernel, disk, commit, rustc, runs, scale, minutes, .. } =
            machine;
        let Machine { packetboat, rabbitmq, activemq, .. } = machine;
        writeln!(text, "- {cores} cores of {cpu}, {memory} of memory, {kernel}; the spools on {disk}")?;
        writeln!(text, "- {packetboat}, commit {commit}, {rustc}; RabbitMQ {rabbitmq}, ActiveMQ {activemq}")?;
        let of = if *runs == 1 { "one run".to_owned() } else { format!("medians of {runs} runs") };
        writeln!(text, "- {date}: {of} at scale {scale}, in {minutes:.0} min\n")?;
    }
    Ok(text.trim_end().to_owned())
}

fn table(measured: &Measured) -> Result<String> {
    let mut text = head(&HEAD)?;
    for figure in &measured.ours {
        writeln!(text, "| {} |", figure.cells().join(" | "))?;
    }
    Ok(text.trim_end().to_owned())
}

fn rivals(measured: &Measured) -> Result<String> {
    let mut text = head(&["who", "what", "in", "median", "least .. most"])?;
    for figure in &measured.rivals {
        let [what, unit, median, range, ..] = figure.figure.cells();
        writeln!(text, "| {} | {what} | {unit} | {median} | {range} |", figure.rival)?;
    }
    Ok(text.trim_end().to_owned())
}

fn durability(measured: &Measured) -> Result<String> {
    let mut text = head(&["who", "version", "what its word is worth"])?;
    for note in &measured.notes {
        let Note { rival, version, durability } = note;
        writeln!(text, "| {rival} | {version} | {durability} |")?;
    }
    for fault in &measured.faults {
        // A log is quoted in it, which may have anything.
        let why = fault.not_measured.replace('|', "\\|").replace('\n', " ");
        writeln!(text, "| {} | {} | not measured: {why} |", fault.rival, fault.version)?;
    }
    Ok(text.trim_end().to_owned())
}

fn head(cells: &[&str]) -> Result<String> {
    let mut text = format!("| {} |\n|", cells.join(" | "));
    cells.iter().for_each(|_| text.push_str("---|"));
    writeln!(text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Mark, Report};

    #[test]
    fn figures_make_a_page_with_pictures() {
        let mut report = Report::default();
        let group = "plaintext in, link down";
        report.add_pair(group, "lines/s", 3e6, 4e6, &[Mark::OfYardstick(1.0)]);
        report.add_pair(group, "CPU s/M lines", 0.3, 0.28, &[Mark::OfYardstick(1.0)]);
        let rival = r#"{"rival":"vmagent <1>","version":"1.79","durability":"none & more","group":"way out down","unit":"lines/s","values":[2e6,1e6,3e6],"median":2e6}"#;
        let fault = r#"{"rival":"rsyslog","version":"8","not_measured":"it is not installed"}"#;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.jsonl");
        fs::write(&file, format!("{}\n{rival}\n{fault}\n", report.json_lines())).unwrap();
        write(&Settings { files: vec![file], into: folder.path().to_owned() }).unwrap();

        let page = fs::read_to_string(folder.path().join("BENCHMARKS.md")).unwrap();
        assert!(!page.contains("{{"), "{page}");
        for part in [
            "| plaintext in, link down | lines/s | 3.00 M | 3.00 M .. 3.00 M | 4.00 M, 0.75 (0.75 .. 0.75) | 1 of the yardstick: missed |",
            "1 of the yardstick: level",
            "| vmagent <1> | way out down | lines/s | 2.00 M | 1.00 M .. 3.00 M |",
            "| rsyslog | 8 | not measured: it is not installed |",
            "](tests/benchmarks/in.svg)",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let svg = fs::read_to_string(folder.path().join("tests/benchmarks/in.svg")).unwrap();
        let picture = roxmltree::Document::parse(&svg).unwrap();
        let text: Vec<_> = picture.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for part in ["Packetboat", "the yardstick", "vmagent <1>", "2.00 M"] {
            assert!(text.contains(&part), "{part} in {text:?}");
        }
        assert!(!folder.path().join("tests/benchmarks/live.svg").exists(), "nothing live was measured");
    }

    #[test]
    fn a_line_that_is_no_figure_is_named() {
        let error = Measured::default().read("{\"group\":\"in\"}\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 1: "), "{error:#}");
    }
}
