//! What CONNECT settles: the version, and the heart-beats. Pure.

use std::time::Duration;

use super::frame::Frame;
use super::refusal::{Refusal, quoted};
use super::version::Version;

/// How often each side beats at least; `None`: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beats {
    pub(crate) ours: Option<Duration>,
    pub(super) clients: Option<Duration>,
}

/// The greatest version that both speak (STOMP 1.2, "Protocol Negotiation"). A client that names none
/// speaks 1.0.
pub(crate) fn version(connect: &Frame<'_>) -> Result<Version, Refusal> {
    let Some(asked) = connect.header("accept-version") else {
        return Ok(Version::V1_0);
    };
    let accepts = |version: &Version| {
        asked.split(|&octet| octet == b',').any(|one| one.trim_ascii() == version.as_str().as_bytes())
    };
    Version::ALL.into_iter().rev().find(accepts).ok_or_else(|| Refusal::Version(quoted(&asked)))
}

/// Each side beats as often as it can and the other wishes (STOMP 1.2, "Heart-beating"): of the two
/// intervals the greater, and not at all where either is 0.
pub(crate) fn beats(connect: &Frame<'_>, offered: Duration, wished: Duration) -> Result<Beats, Refusal> {
    let Some(header) = connect.header("heart-beat") else {
        return Ok(Beats { ours: None, clients: None });
    };
    let interval = |digits: &str| digits.trim().parse().ok().map(Duration::from_millis);
    let pair = std::str::from_utf8(&header).ok().and_then(|text| text.split_once(','));
    let pair = pair.and_then(|(can, wish)| Some((interval(can)?, interval(wish)?)));
    let (can, wish) = pair.ok_or_else(|| Refusal::HeartBeat(quoted(&header)))?;
    Ok(Beats { ours: agreed(offered, wish), clients: agreed(can, wished) })
}

fn agreed(can: Duration, wish: Duration) -> Option<Duration> {
    (!can.is_zero() && !wish.is_zero()).then(|| can.max(wish))
}
