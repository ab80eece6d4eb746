//! A received MESSAGE and its headers, as their sender meant them.

use bytes::Bytes;

use super::Version;
use super::escape::unescape;

/// Header names and values, unescaped, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub(super) fn from_raw(raw: Vec<(Vec<u8>, Vec<u8>)>, version: Version) -> Self {
        Self(
            raw.into_iter()
                .map(|(name, value)| (unescape(name, version), unescape(value, version)))
                .collect(),
        )
    }

    /// The value of `name`; of repeated headers the first counts ("Repeated Header Entries").
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What acknowledges one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckToken {
    /// STOMP 1.2: the value of the MESSAGE's `ack` header.
    Ack(String),
    /// STOMP 1.0 and 1.1.
    MessageId {
        /// The MESSAGE's `message-id`.
        message_id: String,
        /// The MESSAGE's `subscription`.
        subscription: String,
    },
}

/// A MESSAGE of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its `message-id`.
    pub id: String,
    /// Where it was sent to.
    pub destination: String,
    /// All other headers.
    pub headers: Headers,
    /// What its ACK must say.
    pub ack: AckToken,
    /// At most [`super::StompSettings::body_bytes_max`].
    pub body: Bytes,
    /// Bytes of the body beyond that limit, which were skipped.
    pub cut_bytes: usize,
}
