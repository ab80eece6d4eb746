//! MESSAGE: a batch on its way to a subscriber (STOMP 1.2, "MESSAGE"). No I/O.

use forwarder::Batch;
use forwarder::batch::DecodeError;
use forwarder::wire::{self, Encoded};
use topology::model::Encoding;

use super::subscriptions::{AckMode, Subscription, message_id};
use super::version::Version;
use super::{Settings, encode};

/// What goes to `subscription`: a batch as nodes pass it on, or, for anybody else, plain lines.
pub(super) fn encode(
    mut batch: Batch,
    subscription: &Subscription,
    settings: &Settings,
) -> Result<Encoded, DecodeError> {
    let form = if subscription.takes_frames { Encoding::Zstd } else { Encoding::Plain };
    if !subscription.takes_frames {
        batch.label = None;
    }
    wire::encode(&batch, &settings.mesh, &settings.node, form)
}

/// The whole frame, for message number `number` of the session.
pub(super) fn frame(
    version: Version,
    subscription: &Subscription,
    number: u64,
    redelivered: bool,
    encoded: &Encoded,
) -> Vec<u8> {
    let id = message_id(subscription.number, number);
    let length = encoded.body.len().to_string();
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(16);
    headers.extend(subscription.id.as_deref().map(|id| ("subscription", id)));
    headers.push(("message-id", id.as_bytes()));
    headers.push(("destination", &subscription.destination));
    if version == Version::V1_2 && subscription.ack != AckMode::Auto {
        headers.push(("ack", id.as_bytes()));
    }
    headers.push(("content-type", b"text/plain"));
    headers.push(("content-length", length.as_bytes()));
    if redelivered {
        headers.push(("redelivered", b"true"));
    }
    headers.extend(encoded.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
    let mut frame = Vec::with_capacity(encoded.body.len() + 256);
    encode::frame(version, "MESSAGE", &headers, &encoded.body, &mut frame);
    frame
}
