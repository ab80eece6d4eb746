//! Whether there is a Graphite at all, and since when there is none. Pure.
//!
//! A connection alone does not say so: a proxy whose Graphite is gone accepts each one and drops it at
//! once. Such a connection does not end an absence, or a consumer would keep its messages for ever.

use std::time::Duration;

use tokio::time::Instant;

/// What the connections of a pool say about it.
#[derive(Debug)]
pub(super) struct Presence {
    connected_since: Option<Instant>,
    /// Since when no connection has lasted.
    absent_since: Option<Instant>,
    lasts: Duration,
}

impl Presence {
    /// Nothing stands yet. A connection that is gone sooner than `lasts`, without any receipt, will not
    /// have been one.
    pub(super) fn absent(now: Instant, lasts: Duration) -> Self {
        Self { connected_since: None, absent_since: Some(now), lasts }
    }

    /// To be told whether a connection stands, whenever that may have changed.
    pub(super) fn note(&mut self, connected: bool, now: Instant) {
        if connected {
            self.connected_since.get_or_insert(now);
        } else if let Some(since) = self.connected_since.take() {
            let lasted = now >= since + self.lasts;
            self.absent_since = self.absent_since.filter(|_| !lasted).or(Some(now));
        }
    }

    /// Graphite has given a receipt.
    pub(super) fn proven(&mut self) {
        if self.is_connected() {
            self.absent_since = None;
        }
    }

    /// Whether a connection stands, however young.
    pub(super) fn is_connected(&self) -> bool {
        self.connected_since.is_some()
    }

    /// When the connection that stands will have lasted; with a receipt it has.
    pub(super) fn lasts_at(&self) -> Option<Instant> {
        self.connected_since.map(|since| since + self.lasts)
    }

    /// Since when there is none; `None` while a connection stands.
    pub(super) fn absent_since(&self) -> Option<Instant> {
        self.absent_since.filter(|_| !self.is_connected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays at which ms a connection comes, goes or proves itself.
    fn check(connections: &[(u64, Option<bool>)], absent_since: Option<u64>) {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut presence = Presence::absent(begin, Duration::from_secs(1));
        for &(ms, told) in connections {
            match told {
                Some(connected) => presence.note(connected, at(ms)),
                None => presence.proven(),
            }
        }
        assert_eq!(presence.absent_since(), absent_since.map(at), "{connections:?}");
    }

    const COMES: Option<bool> = Some(true);
    const GOES: Option<bool> = Some(false);
    const PROVES: Option<bool> = None;

    #[test]
    fn an_absence_begins_when_a_connection_goes_that_has_lasted() {
        check(&[], Some(0));
        check(&[(5, COMES)], None);
        check(&[(5, COMES), (1005, GOES)], Some(1005));
        check(&[(5, COMES), (1005, GOES), (1010, GOES)], Some(1005));
    }

    #[test]
    fn connections_that_do_not_last_do_not_end_it() {
        check(&[(5, COMES), (1004, GOES)], Some(0));
        check(
            &[(5, COMES), (2000, GOES), (2001, COMES), (2002, GOES), (3000, COMES), (3500, GOES)],
            Some(2000),
        );
        check(&[(5, COMES), (2000, GOES), (2001, COMES), (2002, GOES), (2500, COMES)], None);
    }

    #[test]
    fn one_that_stands_will_have_lasted() {
        let begin = Instant::now();
        let mut presence = Presence::absent(begin, Duration::from_secs(1));
        assert_eq!(presence.lasts_at(), None);
        presence.note(true, begin + Duration::from_secs(2));
        presence.note(true, begin + Duration::from_millis(2500));
        assert_eq!(presence.lasts_at(), Some(begin + Duration::from_secs(3)));
        presence.note(false, begin + Duration::from_secs(5));
        assert_eq!(presence.lasts_at(), None);
    }

    #[test]
    fn a_receipt_ends_it_however_soon() {
        check(&[(5, COMES), (6, PROVES), (7, GOES)], Some(7));
        check(&[(5, COMES), (6, GOES), (7, PROVES)], Some(0));
    }
}
