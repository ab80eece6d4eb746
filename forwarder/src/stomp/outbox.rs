//! What is still to be written: small frames in one run, and large bodies as they are, without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A body this large goes as it is: to copy less costs less than to keep it apart does.
const BODY_APART_BYTES: usize = 4 * 1024;

/// Bytes that wait to be written, taken from the front as a [`Buf`].
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Before `end`; none is empty.
    front: VecDeque<Bytes>,
    end: BytesMut,
}

impl Outbox {
    /// Where to append to.
    pub(super) fn end(&mut self) -> &mut BytesMut {
        &mut self.end
    }

    /// Appends a body.
    pub(super) fn put_body(&mut self, body: &Bytes) {
        if body.len() < BODY_APART_BYTES {
            self.end.put_slice(body);
            return;
        }
        let before = self.end.split().freeze();
        self.front.extend([before, body.clone()].into_iter().filter(|bytes| !bytes.is_empty()));
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.end.is_empty()
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.front.iter().map(Bytes::len).sum::<usize>() + self.end.len()
    }

    fn chunk(&self) -> &[u8] {
        self.front.front().map_or(&self.end, |bytes| bytes)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let end = Some(&self.end[..]).filter(|end| !end.is_empty());
        let chunks = self.front.iter().map(|bytes| &bytes[..]).chain(end);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(bytes) = self.front.front_mut() {
            let step = count.min(bytes.len());
            bytes.advance(step);
            count -= step;
            if bytes.has_remaining() {
                return;
            }
            self.front.pop_front();
        }
        self.end.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_in_comes_out_in_order(
            pieces in prop::collection::vec((any::<u8>(), 0usize..2 * BODY_APART_BYTES, any::<bool>()), 0..12),
            steps in prop::collection::vec(1usize..3 * BODY_APART_BYTES, 1..8),
            slices in 1usize..6,
        ) {
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            for (byte, length, is_body) in pieces {
                let piece = Bytes::from(vec![byte; length]);
                if is_body { outbox.put_body(&piece) } else { outbox.end().put_slice(&piece) }
                expected.extend_from_slice(&piece);
            }
            let (mut written, mut steps) = (Vec::new(), steps.into_iter().cycle());
            while !outbox.is_empty() {
                prop_assert_eq!(outbox.remaining(), expected.len() - written.len());
                prop_assert!(!outbox.chunk().is_empty());
                let mut vectored = vec![IoSlice::new(&[]); slices];
                let filled = outbox.chunks_vectored(&mut vectored);
                let shown: Vec<u8> = vectored[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = steps.next().unwrap_or(1).min(shown.len());
                written.extend_from_slice(&shown[..taken]);
                outbox.advance(taken);
            }
            prop_assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let (mut outbox, body) = (Outbox::default(), Bytes::from(vec![b'x'; BODY_APART_BYTES]));
        outbox.put_body(&body);
        assert_eq!(outbox.chunk().as_ptr(), body.as_ptr());
    }
}
