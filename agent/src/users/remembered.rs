//! That a passcode was right a moment ago: classic producers connect once for each metric, and a check
//! takes tens of milliseconds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::users::keyed::Tag;

/// For how long, from the check on; to be used does not make it longer.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// The passcode of one user that was found right, as a keyed hash: one at most, since only one is right
/// at a time. The tag is made of login, stored hash and passcode, so a changed hash forgets it.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Option<(Tag, Instant)>>);

impl Remembered {
    /// Whether `tag` was found right lately.
    pub(super) fn knows(&self, tag: &Tag) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.filter(|(_, until)| Instant::now() < *until);
        known.is_some_and(|(known, _)| known.is(tag))
    }

    /// `tag` was found right.
    pub(super) fn note(&self, tag: Tag) {
        let until = Instant::now() + REMEMBERED_FOR;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((tag, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::keyed::Key;

    #[tokio::test(start_paused = true)]
    async fn one_is_remembered_for_five_minutes_whether_used_or_not() {
        let key = Key::draw().unwrap();
        let (old, new) = (key.tag(&[b"old"]), key.tag(&[b"new"]));
        let remembered = Remembered::default();
        assert!(!remembered.knows(&old));
        remembered.note(old);
        tokio::time::advance(Duration::from_millis(299_999)).await;
        assert!(remembered.knows(&old) && !remembered.knows(&new));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!remembered.knows(&old));
        remembered.note(old);
        remembered.note(new);
        assert!(remembered.knows(&new) && !remembered.knows(&old));
    }
}
