//! The line rule: what a metric line may be, and the form in which it is stored.
//!
//! A line is `name value [timestamp]`, with one or more blanks (space, tab) between, and any around.
//! - The name is UTF-8 without control characters and without anything that Unicode calls white space,
//!   since carbon splits lines there. Tagged names (`name;tag=value`) are names like others.
//! - The value is a finite decimal number in ASCII: `1`, `-1.5`, `+.5`, `5.`, `1e-3`. Not `inf`, `nan`,
//!   `1_000`, `0x1f`, nor digits of other scripts, all of which carbon takes.
//! - The timestamp is in seconds, with or without a fraction, from 0 to [`TIMESTAMP_MAX`]; absent or
//!   `-1` it is the time of acceptance. Milliseconds are refused: whisper could not store them.
//! - The line is at most [`LINE_BYTES_MAX`] long, as received and as stored.
//!
//! One CR before the LF is dropped. A line with nothing but blanks is no line: neither stored nor
//! refused. What is stored is `name value timestamp` LF, with single blanks, otherwise byte for byte as
//! it came; checking that again yields the same bytes.
//!
//! It knows no sockets and no spool.

mod scan;

use std::io::Write;

use memchr::memchr;

use scan::{digits, graphic_ascii, plain_number, short_integer};

/// Bytes of the longest line that is accepted, without its LF.
pub const LINE_BYTES_MAX: usize = 4096;
/// The latest timestamp, in seconds since the Unix epoch: whisper stores 32 bits.
pub const TIMESTAMP_MAX: i64 = u32::MAX as i64;
/// Refused lines that a [`Checked`] holds; more are only counted, so that garbage costs no memory.
pub const REFUSED_KEPT_MAX: usize = 100;

/// A value without exponent that is no longer than this is far from overflow; others are converted to
/// see.
const PLAIN_VALUE_BYTES_MAX: usize = 300;

/// Lines that passed, in the form in which they are stored, and those that did not. Reused from read
/// to read.
#[derive(Debug, Default)]
pub struct Checked {
    /// `name value timestamp`, each ended by LF.
    pub lines: Vec<u8>,
    /// How many lines passed.
    pub count: u32,
    /// Smallest and largest timestamp of the lines that passed, in whole seconds since the Unix epoch.
    pub timestamps: Option<(i64, i64)>,
    /// What did not pass: the first [`REFUSED_KEPT_MAX`].
    pub refused: Vec<Refused>,
    /// How many more did not pass, by reason, in the order of [`Reason::ALL`].
    pub refused_only_counted: [u32; Reason::ALL.len()],
}

/// A line that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The line without its line end, cut at [`LINE_BYTES_MAX`].
    pub line: Vec<u8>,
}

/// Why a line did not pass; the `reason` label of the metrics and of the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// Not three (or two) fields.
    Fields,
    /// The name is not UTF-8, or has control characters or white space.
    Name,
    /// The value is not a finite decimal number.
    Value,
    /// The timestamp is not a number of seconds.
    Timestamp,
    /// Its sender may not send a metric of that name.
    NotAllowed,
}

impl Reason {
    /// Every reason, in the order of its discriminants.
    pub const ALL: [Self; 6] =
        [Self::TooLong, Self::Fields, Self::Name, Self::Value, Self::Timestamp, Self::NotAllowed];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Fields => "fields",
            Self::Name => "name",
            Self::Value => "value",
            Self::Timestamp => "timestamp",
            Self::NotAllowed => "not_allowed",
        }
    }
}

impl Checked {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.count = 0;
        self.timestamps = None;
        self.refused.clear();
        self.refused_only_counted = Default::default();
    }

    /// Whether there is nothing in it, neither good lines nor refused ones.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.refused_count() == 0
    }

    /// How many lines did not pass, kept or only counted.
    pub fn refused_count(&self) -> u64 {
        let only_counted: u64 = self.refused_only_counted.iter().copied().map(u64::from).sum();
        self.refused.len() as u64 + only_counted
    }

    /// Refuses the lines from byte `from` on whose name is not allowed.
    pub fn refuse_names(&mut self, from: usize, is_allowed: impl Fn(&[u8]) -> bool) {
        let lines = self.lines.split_off(from);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let name = line.split(|&byte| byte == b' ').next().unwrap_or_default();
            if is_allowed(name) {
                self.lines.extend_from_slice(line);
            } else {
                self.count -= 1;
                self.refuse(Reason::NotAllowed, line.strip_suffix(b"\n").unwrap_or(line));
            }
        }
    }

    /// Adds a line that did not pass.
    pub fn refuse(&mut self, reason: Reason, line: &[u8]) {
        if self.refused.len() < REFUSED_KEPT_MAX {
            let line = line[..line.len().min(LINE_BYTES_MAX)].to_vec();
            self.refused.push(Refused { reason, line });
        } else {
            self.refused_only_counted[reason as usize] += 1;
        }
    }

    /// Keeps the first `kept` of the refused lines and only counts the others.
    pub fn keep_refused(&mut self, kept: usize) {
        for refused in self.refused.drain(kept.min(self.refused.len())..) {
            self.refused_only_counted[refused.reason as usize] += 1;
        }
    }

    /// Counts a line that passed.
    fn note(&mut self, timestamp: i64) {
        self.count += 1;
        let (earliest, latest) = self.timestamps.unwrap_or((timestamp, timestamp));
        self.timestamps = Some((earliest.min(timestamp), latest.max(timestamp)));
    }
}

/// Checks every line of `body` by the line rule, a last one without LF too, and adds what it finds to
/// `into`. Lines without a timestamp get `now_seconds` (since the Unix epoch).
pub fn check(body: &[u8], now_seconds: i64, into: &mut Checked) {
    let now_seconds = now_seconds.clamp(0, TIMESTAMP_MAX);
    let mut at = 0;
    // Lines that came in the form in which they are stored are copied together: from here to `at`.
    let mut copied = 0;
    while at < body.len() {
        let rest = &body[at..];
        if let Some((bytes, timestamp)) = canonical_line(rest) {
            into.note(timestamp);
            at += bytes;
            continue;
        }
        into.lines.extend_from_slice(&body[copied..at]);
        let bytes = memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
        check_line(&rest[..bytes], now_seconds, into);
        at += bytes;
        copied = at;
    }
    into.lines.extend_from_slice(&body[copied..]);
}

/// If `bytes` start with a line as most producers write it, which is stored as it came, tells its
/// length with LF and its timestamp. `None` means only that it needs a closer look.
fn canonical_line(bytes: &[u8]) -> Option<(usize, i64)> {
    let name = graphic_ascii(bytes);
    if name == 0 || bytes.get(name) != Some(&b' ') {
        return None;
    }
    let value_at = name + 1;
    let value = plain_number(&bytes[value_at..]);
    if value == 0 || value > PLAIN_VALUE_BYTES_MAX || bytes.get(value_at + value) != Some(&b' ') {
        return None;
    }
    let timestamp_at = value_at + value + 1;
    let (whole, timestamp) = short_integer(&bytes[timestamp_at..]);
    let point = timestamp_at + whole;
    let lf = if bytes.get(point) == Some(&b'.') { point + 1 + digits(&bytes[point + 1..]) } else { point };
    let good =
        whole > 0 && timestamp <= TIMESTAMP_MAX && lf <= LINE_BYTES_MAX && bytes.get(lf) == Some(&b'\n');
    good.then_some((lf + 1, timestamp))
}

/// Checks one line in any form that the rule allows.
fn check_line(line: &[u8], now_seconds: i64, into: &mut Checked) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let content = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_BYTES_MAX {
        return into.refuse(Reason::TooLong, line);
    }
    let mut fields = content.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty());
    let Some(name) = fields.next() else { return };
    match parse(name, fields.next(), fields.next(), fields.next().is_some(), now_seconds) {
        Ok(good) => store(&good, content, into),
        Err(reason) => into.refuse(reason, content),
    }
}

/// The fields of a line that passed.
struct Good<'a> {
    name: &'a [u8],
    value: &'a [u8],
    /// As it came; `None`: to be written in.
    timestamp: Option<&'a [u8]>,
    /// In whole seconds.
    seconds: i64,
}

fn parse<'a>(
    name: &'a [u8],
    value: Option<&'a [u8]>,
    timestamp: Option<&'a [u8]>,
    more: bool,
    now_seconds: i64,
) -> Result<Good<'a>, Reason> {
    let (Some(value), false) = (value, more) else {
        return Err(Reason::Fields);
    };
    if !is_name(name) {
        return Err(Reason::Name);
    }
    if !is_finite_decimal(value) {
        return Err(Reason::Value);
    }
    match timestamp {
        None | Some(b"-1") => Ok(Good { name, value, timestamp: None, seconds: now_seconds }),
        Some(written) => {
            let seconds = whole_seconds(written).ok_or(Reason::Timestamp)?;
            Ok(Good { name, value, timestamp: Some(written), seconds })
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    let unfit = |char: char| char.is_control() || char.is_whitespace();
    graphic_ascii(name) == name.len() || std::str::from_utf8(name).is_ok_and(|text| !text.contains(unfit))
}

/// Whether `value` is a decimal number, with or without exponent, that is not too large for a double.
fn is_finite_decimal(value: &[u8]) -> bool {
    let plain = plain_number(value);
    if plain == 0 {
        return false;
    }
    let well_formed = match value[plain..] {
        [] if plain <= PLAIN_VALUE_BYTES_MAX => return true,
        [] => true,
        [b'e' | b'E', b'+' | b'-', ref exponent @ ..] | [b'e' | b'E', ref exponent @ ..] => {
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        _ => false,
    };
    // Well formed, it is ASCII and only its size is in doubt.
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<f64>().ok());
    well_formed && number.is_some_and(f64::is_finite)
}

/// The whole seconds of `timestamp`, an integer or a fraction from 0 to [`TIMESTAMP_MAX`].
fn whole_seconds(timestamp: &[u8]) -> Option<i64> {
    let whole = digits(timestamp);
    let fraction = match timestamp[whole..] {
        [] => &[],
        [b'.', ref fraction @ ..] => fraction,
        _ => return None,
    };
    if whole == 0 || digits(fraction) != fraction.len() {
        return None;
    }
    let seconds = std::str::from_utf8(&timestamp[..whole]).ok()?.parse().ok()?;
    (seconds <= TIMESTAMP_MAX).then_some(seconds)
}

fn store(good: &Good<'_>, content: &[u8], into: &mut Checked) {
    let start = into.lines.len();
    into.lines.extend_from_slice(good.name);
    into.lines.push(b' ');
    into.lines.extend_from_slice(good.value);
    into.lines.push(b' ');
    match good.timestamp {
        Some(timestamp) => into.lines.extend_from_slice(timestamp),
        #[expect(clippy::let_underscore_must_use, reason = "writing into a Vec cannot fail")]
        None => {
            let _ = write!(into.lines, "{}", good.seconds);
        }
    }
    if into.lines.len() - start > LINE_BYTES_MAX {
        into.lines.truncate(start);
        return into.refuse(Reason::TooLong, content);
    }
    into.lines.push(b'\n');
    into.note(good.seconds);
}

#[cfg(test)]
mod tests;
