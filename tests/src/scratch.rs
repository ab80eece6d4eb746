//! A temporary folder of one test, which a failure keeps.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary folder. It goes with the test, but stays, and is named on stderr, if the test fails.
#[derive(Debug)]
pub struct Scratch(Option<TempDir>);

impl Scratch {
    /// A new one; `name` is part of its name.
    pub fn new(name: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("packetboat-{name}-"))
            .tempdir()
            .expect("a temporary folder can be made");
        Self(Some(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("taken in drop only").path()
    }

    /// Writes `text` into the file `name` of this folder, and returns where that is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file can be written into the temporary folder");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(folder) = self.0.take() else { return };
        if std::thread::panicking() {
            let kept = folder.keep();
            // Nobody is left to tell if stderr is gone.
            writeln!(std::io::stderr(), "kept for a look: {}", kept.display()).ok();
        }
    }
}
