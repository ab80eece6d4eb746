//! The batch of another node in a SEND: checked, and believed as far as the topology goes. No I/O.

use bytes::Bytes;
use forwarder::wire::{self, Decoded};

use super::Settings;
use super::frame::Frame;
use super::refusal::{Refusal, quoted};
use crate::users::{Rights, TrustedPeer};

/// The batch of `peer` that `frame` carries. `None`: it carries lines, like that of any producer.
///
/// [`Refusal::Wire`] may be mended where it comes from; [`Refusal::Batch`] is for ever, and its sender sets
/// the batch aside.
pub(super) fn read(
    frame: &Frame<'_>,
    settings: &Settings,
    peer: &TrustedPeer,
    rights: &Rights,
) -> Result<Option<Decoded>, Refusal> {
    if frame.header("packetboat-wire").is_none() {
        return Ok(None);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<(String, String)> =
        frame.all_headers().map(|(name, value)| (text(&name), text(&value))).collect();
    let header =
        |name: &'static str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let body = Bytes::copy_from_slice(frame.body);
    let decoded = wire::decode(header, &body, &settings.mesh).map_err(|error| match error {
        error if error.may_be_mended() => Refusal::Wire(error.to_string()),
        error => Refusal::Batch(error.to_string()),
    })?;
    let Some(Decoded { batch, lines }) = decoded else { return Ok(None) };
    let Some(label) = &batch.label else { return Ok(None) };
    if label.hops.iter().any(|hop| **hop == *settings.node) {
        return Err(Refusal::Batch(format!("loop: it has passed `{}` before", settings.node)));
    }
    if let Err(line) = rights.allows_lines(&lines) {
        let login = rights.login().unwrap_or_default();
        return Err(Refusal::Batch(format!("{:?} is not a name that `{login}` may send", quoted(line))));
    }
    if !peer.may_bring(label.origin.as_bytes()) {
        return Err(Refusal::Batch(format!(
            "origin `{}` is not one that the topology places behind this link",
            quoted(label.origin.as_bytes())
        )));
    }
    Ok(Some(Decoded { batch, lines }))
}
