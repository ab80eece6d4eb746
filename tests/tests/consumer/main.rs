//! The consumer, on real brokers: what it takes, with whom it shares, and what becomes of messages when
//! something on either side of it dies, hangs or refuses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broker;
mod drain;
mod graphite;
mod messages;
mod sharing;
