//! What was measured, read again.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::machine::Machine;
use crate::report::Figure;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) machines: Vec<Machine>,
    pub(super) ours: Vec<Figure>,
    pub(super) rivals: Vec<RivalFigure>,
    /// One for each rival.
    pub(super) notes: Vec<Note>,
    pub(super) faults: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RivalFigure {
    pub(super) rival: String,
    #[serde(flatten)]
    pub(super) figure: Figure,
}

#[derive(Debug, Deserialize)]
pub(super) struct Note {
    pub(super) rival: String,
    pub(super) version: String,
    pub(super) durability: String,
}

/// Why a rival, or part of it, was not measured.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Fault {
    pub(super) rival: String,
    pub(super) version: String,
    pub(super) not_measured: String,
}

#[derive(Deserialize)]
struct MachineLine {
    machine: Machine,
}

impl Measured {
    /// Adds JSON lines.
    pub(super) fn read(&mut self, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            self.read_line(line).with_context(|| format!("line {}", number + 1))?;
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str) -> Result<()> {
        let value: Value = serde_json::from_str(line)?;
        if value.get("machine").is_some() {
            self.machines.push(MachineLine::deserialize(value)?.machine);
        } else if value.get("not_measured").is_some() {
            let fault = Fault::deserialize(value)?;
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        } else if value.get("rival").is_some() {
            let note = Note::deserialize(&value)?;
            if !self.notes.iter().any(|known| known.rival == note.rival) {
                self.notes.push(note);
            }
            let RivalFigure { rival, figure } = RivalFigure::deserialize(value)?;
            let same = |known: &&mut RivalFigure| known.rival == rival && known.figure.is_of_kind_of(&figure);
            match self.rivals.iter_mut().find(same) {
                Some(known) => known.figure = figure,
                None => self.rivals.push(RivalFigure { rival, figure }),
            }
        } else {
            let figure = Figure::deserialize(value)?;
            match self.ours.iter_mut().find(|known| known.is_of_kind_of(&figure)) {
                Some(known) => *known = figure,
                None => self.ours.push(figure),
            }
        }
        Ok(())
    }
}
