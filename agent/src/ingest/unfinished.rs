//! Cuts what was read into whole lines and keeps the beginning of the next one. Pure: no socket.

use memchr::{memchr, memrchr};

use crate::ingest::line::{self, Checked, LINE_BYTES_MAX, Reason};

/// What a sender has sent of a line that has no LF yet. Never more than a line may be long.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    line: Vec<u8>,
    /// The line was too long and is refused; what comes up to its LF belongs to it.
    skipping: bool,
}

impl Unfinished {
    /// Puts the beginning of the line in front of what is about to be read.
    pub(crate) fn continue_in(&mut self, read: &mut Vec<u8>) {
        read.extend_from_slice(&std::mem::take(&mut self.line));
    }

    /// Checks the whole lines in `read`, which began with what [`Self::continue_in`] put there, and
    /// keeps the rest.
    pub(crate) fn check(&mut self, read: &[u8], now_seconds: i64, into: &mut Checked) {
        let mut read = read;
        if self.skipping {
            let Some(lf) = memchr(b'\n', read) else { return };
            read = &read[lf + 1..];
            self.skipping = false;
        }
        let (lines, rest) = read.split_at(memrchr(b'\n', read).map_or(0, |lf| lf + 1));
        line::check(lines, now_seconds, into);
        if rest.len() > LINE_BYTES_MAX {
            into.refuse(Reason::TooLong, rest);
            self.skipping = true;
        } else {
            // Exactly as large as needed: most connections have nothing here, and thousands stand.
            self.line = rest.to_vec();
        }
    }

    /// The sender is done: what is there counts as a line.
    pub(crate) fn finish(&mut self, now_seconds: i64, into: &mut Checked) {
        line::check(&std::mem::take(&mut self.line), now_seconds, into);
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    /// Reads `stream` in pieces of the sizes of `cuts`, then the rest, then the end.
    fn read_in_pieces(stream: &[u8], cuts: &[usize]) -> Checked {
        let (mut unfinished, mut checked, mut stream) = (Unfinished::default(), Checked::default(), stream);
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (piece, rest) = stream.split_at(cut.min(stream.len()));
            let mut read = Vec::new();
            unfinished.continue_in(&mut read);
            read.extend_from_slice(piece);
            unfinished.check(&read, NOW, &mut checked);
            assert!(unfinished.line.len() <= LINE_BYTES_MAX);
            stream = rest;
        }
        unfinished.finish(NOW, &mut checked);
        checked
    }

    fn assert_same(stream: &[u8], cuts: &[usize]) {
        let mut whole = Checked::default();
        line::check(stream, NOW, &mut whole);
        let pieces = read_in_pieces(stream, cuts);
        assert_eq!(pieces.lines, whole.lines);
        assert_eq!((pieces.count, pieces.timestamps), (whole.count, whole.timestamps));
        assert_eq!(pieces.refused, whole.refused);
    }

    #[test]
    fn a_stream_may_be_cut_at_every_byte() {
        let stream = b"a 1 1\nb 2\r\n\nbad\n\xff 1 1\nlast 3 3";
        for at in 0..=stream.len() {
            assert_same(stream, &[at]);
        }
        assert_same(stream, &[1; 40]);
    }

    #[test]
    fn a_line_too_long_is_refused_once_and_never_held() {
        for bytes in [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 3 * LINE_BYTES_MAX, 100_000] {
            for rest in ["", "\n", "\na 1 1\n", "\na 1 1"] {
                let stream = format!("a 1 1\n{}{rest}", "x".repeat(bytes));
                assert_same(stream.as_bytes(), &[10_000; 12]);
                assert_same(stream.as_bytes(), &[6, LINE_BYTES_MAX, 1, 1]);
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_stream_is_cut(
            lines in vec(prop_oneof!["[ab]{1,3} [0-9]{1,3} [0-9]{1,9}", "\\PC{0,9}", "x{4000,9000}"], 0..8),
            ends in vec(prop_oneof![Just("\n"), Just("\r\n")], 8),
            last_lf in any::<bool>(),
            cuts in vec(0..6000usize, 0..20),
        ) {
            let mut stream: Vec<u8> = lines.iter().zip(ends).map(|(line, end)| format!("{line}{end}")).collect::<String>().into();
            if !last_lf {
                stream.pop();
            }
            assert_same(&stream, &cuts);
        }
    }
}
