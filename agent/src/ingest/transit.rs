//! A batch of another node in transit to the next: it goes on as it came where all its lines go the same way
//! from here, and is taken apart only where they do not.

use std::collections::BTreeMap;

use forwarder::{Batch, Label, Part};
use memchr::{memchr_iter, memrchr};

use crate::ingest::Input;
use crate::ingest::route::Router;
use crate::spool::{Arrival, Desk, Kept, Number, RawBatch, Sealed};

/// The arrivals that `batch` is, one for each of its parts. `lines` are those of all parts, decoded.
/// Nothing of a batch without a label, which is no node's.
pub(super) fn arrivals(
    router: &Router,
    desk: &Desk,
    input: Input,
    queue: usize,
    batch: &Batch,
    lines: &[u8],
) -> Vec<Arrival> {
    let Some(label) = &batch.label else { return Vec::new() };
    let hops = label.hops.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",");
    let mut rest = lines;
    let mut arrivals = Vec::new();
    for part in &batch.parts {
        let (own, after) = rest.split_at(rest.len().min(part.raw_bytes as usize));
        rest = after;
        let kept = kept(router, desk, input, queue, batch, part, own);
        arrivals.push(Arrival { number: number(label, part), hops: hops.clone(), kept });
    }
    arrivals
}

fn number(label: &Label, part: &Part) -> Number {
    Number { origin: label.origin.clone(), epoch: label.epoch, seq: part.seq }
}

fn kept(
    router: &Router,
    desk: &Desk,
    input: Input,
    queue: usize,
    batch: &Batch,
    part: &Part,
    lines: &[u8],
) -> Kept {
    let accepted_ms = (*batch.accepted_ms.start(), *batch.accepted_ms.end());
    let inputs = |lines: u32| {
        let mut inputs = [0; Input::ALL.len()];
        inputs[input as usize] = u64::from(lines);
        inputs
    };
    let mut ways: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let pieces = router.pieces(queue, lines);
    if let [piece] = pieces.as_slice() {
        let times = (accepted_ms, timestamps(lines));
        return Kept::Whole(Sealed::passed(part, batch.encoding, piece.link_set, times, inputs(part.lines)));
    }
    for piece in pieces {
        ways.entry(piece.link_set).or_default().extend_from_slice(piece.lines);
    }
    let seal = |(link_set, raw): (usize, Vec<u8>)| {
        let count = u32::try_from(memchr_iter(b'\n', &raw).count()).unwrap_or(u32::MAX);
        let timestamps = timestamps(&raw);
        let batch = RawBatch {
            lines: count,
            accepted_ms,
            timestamps,
            inputs: inputs(count),
            raw,
            rejects: Vec::new(),
        };
        desk.seal(batch, link_set)
    };
    Kept::Split(ways.into_iter().map(seal).collect())
}

/// Bounds of the lines' timestamps in whole seconds. Their origin has written one into each line.
fn timestamps(lines: &[u8]) -> (i64, i64) {
    let (mut bounds, mut start) = ((i64::MAX, i64::MIN), 0);
    for end in memchr_iter(b'\n', lines) {
        let line = &lines[start..end];
        let timestamp = &line[memrchr(b' ', line).map_or(0, |blank| blank + 1)..];
        let digits = timestamp.iter().take_while(|byte| byte.is_ascii_digit()).take(10);
        let seconds = digits.fold(0, |seconds, digit| seconds * 10 + i64::from(digit - b'0'));
        bounds = (bounds.0.min(seconds), bounds.1.max(seconds));
        start = end + 1;
    }
    if start == 0 { (0, 0) } else { bounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_bounded_in_whole_seconds() {
        let check = |lines: &str, expected| assert_eq!(timestamps(lines.as_bytes()), expected, "{lines}");
        check("a 1 7\n", (7, 7));
        check("a 1 7.9\nb 2 1700000000\nc 3 8\n", (7, 1_700_000_000));
        check("", (0, 0));
    }
}
