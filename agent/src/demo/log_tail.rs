//! The last lines of the log, for a screen that shows them and has no room for more.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const LINES_MAX: usize = 100;

/// Where the log goes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    /// Oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.kept().iter().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<String>> {
        // Each line in it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscriber writes an event at once.
impl io::Write for LogTail {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut kept = self.kept();
        kept.extend(String::from_utf8_lossy(event).lines().map(str::to_owned));
        let surplus = kept.len().saturating_sub(LINES_MAX);
        kept.drain(..surplus);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_the_last_lines_are_kept() {
        let log = LogTail::default();
        for line in 0..LINES_MAX + 2 {
            log.clone().write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let lines = log.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (LINES_MAX, "2"));
    }

    #[test]
    fn what_the_nodes_log_comes_line_by_line() {
        let log = LogTail::default();
        let writer = log.clone();
        let logging = tracing_subscriber::fmt().with_writer(move || writer.clone()).without_time().finish();
        tracing::subscriber::with_default(logging, || tracing::warn!(link = "eu", "the link is down"));
        assert_eq!(log.lines().len(), 1);
        assert!(log.lines()[0].contains("the link is down"));
    }
}
