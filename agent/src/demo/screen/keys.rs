//! What the keys ask for. They are read in a thread of its own: a terminal that is gone may hold a read
//! for ever, and must not hold anything else.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// How long the thread outlives whoever listened to it.
const POLL: Duration = Duration::from_millis(100);
/// Keys that may wait to be obeyed.
const WAITING: usize = 16;

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    CutOrMend,
    Quit,
}

/// Reads the keys of the terminal until nobody listens.
pub(super) fn listen() -> io::Result<mpsc::Receiver<io::Result<Wish>>> {
    let (wishes, heard) = mpsc::channel(WAITING);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !wishes.is_closed() {
            if let Some(wish) = next().transpose()
                && wishes.blocking_send(wish).is_err()
            {
                return;
            }
        }
    })?;
    Ok(heard)
}

fn next() -> io::Result<Option<Wish>> {
    if event::poll(POLL)? { Ok(wish(&event::read()?)) } else { Ok(None) }
}

fn wish(event: &Event) -> Option<Wish> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return None };
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('c' | 'C') => Some(Wish::CutOrMend),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Wish::Quit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_c_quits_and_c_cuts() {
        let key = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Some(Wish::CutOrMend));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('x'), KeyModifiers::NONE), None);
        assert_eq!(wish(&Event::Resize(80, 24)), None);
    }
}
