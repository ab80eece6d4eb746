use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_700_000_000;

/// What the rule says about one line, as plainly as it can be said: `None` for no line at all.
fn reference(line: &[u8]) -> Option<Result<(Vec<u8>, i64), Reason>> {
    let content = line.strip_suffix(b"\r").unwrap_or(line);
    let fields: Vec<&[u8]> =
        content.split(|byte| b" \t".contains(byte)).filter(|field| !field.is_empty()).collect();
    if line.len() > LINE_BYTES_MAX {
        return Some(Err(Reason::TooLong));
    }
    let (name, value, timestamp) = match fields[..] {
        [] => return None,
        [name, value] => (name, value, b"-1".as_slice()),
        [name, value, timestamp] => (name, value, timestamp),
        _ => return Some(Err(Reason::Fields)),
    };
    let Ok(name) = std::str::from_utf8(name) else {
        return Some(Err(Reason::Name));
    };
    if name.chars().any(|char| char.is_control() || char.is_whitespace()) {
        return Some(Err(Reason::Name));
    }
    let Some(value) = finite_decimal(value) else {
        return Some(Err(Reason::Value));
    };
    let Some((timestamp, seconds)) = seconds(timestamp) else {
        return Some(Err(Reason::Timestamp));
    };
    let stored = format!("{name} {value} {timestamp}");
    if stored.len() > LINE_BYTES_MAX {
        return Some(Err(Reason::TooLong));
    }
    Some(Ok((stored.into_bytes(), seconds)))
}

fn finite_decimal(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let all_digits = |text: &str| text.chars().all(|char| char.is_ascii_digit());
    let (mantissa, exponent) = match value.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (value, "0"),
    };
    let mantissa = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_missing = exponent.is_empty() || (whole.is_empty() && fraction.is_empty());
    let decimal = !digits_missing && all_digits(whole) && all_digits(fraction) && all_digits(exponent);
    (decimal && value.parse::<f64>().unwrap().is_finite()).then_some(value)
}

fn seconds(timestamp: &[u8]) -> Option<(String, i64)> {
    let timestamp = std::str::from_utf8(timestamp).ok()?;
    if timestamp == "-1" {
        return Some((NOW.to_string(), NOW));
    }
    let (whole, fraction) = timestamp.split_once('.').unwrap_or((timestamp, ""));
    let digits = [whole, fraction].concat().chars().all(|char| char.is_ascii_digit());
    let seconds = whole.parse::<i128>().ok().filter(|seconds| *seconds < 1 << 32)?;
    digits.then(|| (timestamp.to_owned(), i64::try_from(seconds).unwrap()))
}

fn check_now(body: &[u8]) -> Checked {
    let mut checked = Checked::default();
    check(body, NOW, &mut checked);
    checked
}

/// One line in, `Ok(stored)` or `Err(reason)` out, and the reference agrees.
fn verdict(line: &[u8]) -> Result<String, Reason> {
    let checked = check_now(line);
    let reference = reference(line.strip_suffix(b"\n").unwrap_or(line)).expect("not blank");
    match (checked.count, &checked.refused[..]) {
        (1, []) => {
            let (mut stored, seconds) = reference.expect("the reference refuses it");
            stored.push(b'\n');
            assert_eq!(checked.lines, stored);
            assert_eq!(checked.timestamps, Some((seconds, seconds)));
            Ok(String::from_utf8(stored).unwrap())
        }
        (0, [refused]) => {
            assert_eq!(reference, Err(refused.reason));
            assert!(checked.lines.is_empty() && checked.timestamps.is_none());
            Err(refused.reason)
        }
        other => panic!("one line gave {other:?}"),
    }
}

#[test]
fn lines_that_pass_are_stored_with_single_blanks_and_a_timestamp() {
    for (line, stored) in [
        ("a.b 1 1700000001\n", "a.b 1 1700000001\n"),
        ("a.b 1 1700000001", "a.b 1 1700000001\n"),
        ("a.b 1 1700000001\r\n", "a.b 1 1700000001\n"),
        ("a.b\t1  \t 1700000001\n", "a.b 1 1700000001\n"),
        ("  a.b 1 1700000001 \r\n", "a.b 1 1700000001\n"),
        ("a.b 1\n", "a.b 1 1700000000\n"),
        ("a.b 1 -1\n", "a.b 1 1700000000\n"),
        ("a.b 1 1700000001.75\n", "a.b 1 1700000001.75\n"),
        ("a.b 1 1700000001.\n", "a.b 1 1700000001.\n"),
        ("a.b 1 0\n", "a.b 1 0\n"),
        ("a.b 1 4294967295\n", "a.b 1 4294967295\n"),
        ("a.b 1 01700000001\n", "a.b 1 01700000001\n"),
        ("disk;host=a;mount=/ 1 1\n", "disk;host=a;mount=/ 1 1\n"),
        ("größe.温度 1 1\n", "größe.温度 1 1\n"),
        ("a -1.50 1\n", "a -1.50 1\n"),
        ("a +1.5 1\n", "a +1.5 1\n"),
        ("a .5 1\n", "a .5 1\n"),
        ("a 5. 1\n", "a 5. 1\n"),
        ("a 1e3 1\n", "a 1e3 1\n"),
        ("a -1.5E-10 1\n", "a -1.5E-10 1\n"),
        ("a 1.7976931348623157e308 1\n", "a 1.7976931348623157e308 1\n"),
        ("a 1e-999 1\n", "a 1e-999 1\n"),
    ] {
        assert_eq!(verdict(line.as_bytes()).as_deref(), Ok(stored), "{line:?}");
    }
}

#[test]
fn lines_that_do_not_pass_are_refused_with_the_reason() {
    for (line, reason) in [
        ("a\n", Reason::Fields),
        ("a 1 2 3\n", Reason::Fields),
        ("GET / HTTP/1.1\r\n", Reason::Value),
        ("a\x001 1 1\n", Reason::Name),
        ("a\x0bb 1 1\n", Reason::Name),
        ("a\x7fb 1 1\n", Reason::Name),
        ("a\u{85}b 1 1\n", Reason::Name),
        ("a\u{a0}b 1 1\n", Reason::Name),
        ("a\u{2028}b 1 1\n", Reason::Name),
        ("\u{3000} 1 1\n", Reason::Name),
        ("a inf 1\n", Reason::Value),
        ("a -Infinity 1\n", Reason::Value),
        ("a nan 1\n", Reason::Value),
        ("a 1_000 1\n", Reason::Value),
        ("a 1,5 1\n", Reason::Value),
        ("a 0x1f 1\n", Reason::Value),
        ("a ١٢ 1\n", Reason::Value),
        ("a . 1\n", Reason::Value),
        ("a + 1\n", Reason::Value),
        ("a +-1 1\n", Reason::Value),
        ("a 1.2.3 1\n", Reason::Value),
        ("a 1e 1\n", Reason::Value),
        ("a 1e+ 1\n", Reason::Value),
        ("a e5 1\n", Reason::Value),
        ("a 1e1.5 1\n", Reason::Value),
        ("a 1e309 1\n", Reason::Value),
        ("a 1\x00 1\n", Reason::Value),
        ("a 1 x\n", Reason::Timestamp),
        ("a 1 -2\n", Reason::Timestamp),
        ("a 1 -1.0\n", Reason::Timestamp),
        ("a 1 +1\n", Reason::Timestamp),
        ("a 1 .5\n", Reason::Timestamp),
        ("a 1 1.5.2\n", Reason::Timestamp),
        ("a 1 1.7e9\n", Reason::Timestamp),
        ("a 1 nan\n", Reason::Timestamp),
        ("a 1 4294967296\n", Reason::Timestamp),
        ("a 1 1700000000000\n", Reason::Timestamp),
        ("a 1 99999999999999999999999999\n", Reason::Timestamp),
        ("a 1 1\r\r\n", Reason::Timestamp),
    ] {
        assert_eq!(verdict(line.as_bytes()), Err(reason), "{line:?}");
    }
    assert_eq!(verdict(b"caf\xe9 1 1\n"), Err(Reason::Name));
    assert_eq!(verdict(b"a\xc3 1 1\n"), Err(Reason::Name));
}

#[test]
fn a_value_overflows_by_its_digits_too() {
    let value = |digits: usize| format!("a {} 1\n", "9".repeat(digits));
    assert!(verdict(value(308).as_bytes()).is_ok());
    assert_eq!(verdict(value(309).as_bytes()), Err(Reason::Value));
    assert!(verdict(format!("a {}1 1\n", "0".repeat(1000)).as_bytes()).is_ok());
}

#[test]
fn the_limit_holds_for_the_line_as_received_and_as_stored() {
    let line = |bytes: usize, rest: &str| format!("{}{rest}", "x".repeat(bytes - rest.len()));
    assert!(verdict(line(LINE_BYTES_MAX, " 1 1700000000").as_bytes()).is_ok());
    assert_eq!(verdict(line(LINE_BYTES_MAX + 1, " 1 1700000000").as_bytes()), Err(Reason::TooLong));
    assert_eq!(verdict((line(LINE_BYTES_MAX + 1, " 1 1") + "\n").as_bytes()), Err(Reason::TooLong));
    assert_eq!(verdict(line(LINE_BYTES_MAX, " 1").as_bytes()), Err(Reason::TooLong), "once stamped");
    assert!(verdict(line(LINE_BYTES_MAX - 11, " 1").as_bytes()).is_ok());
    let refused = check_now(&[b'x'; 10_000]).refused;
    assert_eq!(refused, [Refused { reason: Reason::TooLong, line: vec![b'x'; LINE_BYTES_MAX] }]);
}

#[test]
fn blank_lines_are_neither_stored_nor_refused() {
    assert!(check_now(b"").is_empty());
    assert!(check_now(b"\n\r\n \t \n\r").is_empty());
    assert_eq!(check_now(b"\n\na 1 1\n\n").lines, b"a 1 1\n");
}

#[test]
fn garbage_is_counted_but_not_kept() {
    let garbage = "x\n".repeat(100_000) + "a b 1\n";
    let checked = check_now(garbage.as_bytes());
    assert_eq!(checked.refused.len(), REFUSED_KEPT_MAX);
    assert_eq!(checked.refused_count(), 100_001);
    assert_eq!(checked.refused_only_counted[Reason::Value as usize], 1);
}

#[test]
fn timestamps_are_bounded_over_all_lines_and_reads() {
    let mut checked = Checked::default();
    check(b"a 1 50.9\na 1 40\nbad\n", NOW, &mut checked);
    check(b"a 1 60\n", NOW, &mut checked);
    assert_eq!((checked.count, checked.timestamps), (3, Some((40, 60))));
    checked.clear();
    assert!(checked.is_empty() && checked.lines.is_empty() && checked.timestamps.is_none());
}

#[test]
fn a_clock_out_of_its_mind_still_stamps_a_line_that_passes() {
    for (now, stamp) in [(-5, 0), (i64::MAX, TIMESTAMP_MAX)] {
        let mut checked = Checked::default();
        check(b"a 1\n", now, &mut checked);
        assert_eq!(checked.lines, format!("a 1 {stamp}\n").into_bytes());
    }
}

/// Lines near the rule's borders: every field is good more often than not.
fn near_lines() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        6 => "[a-z.;=/-]{1,40}".prop_map(String::into_bytes),
        1 => "\\PC{1,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..12),
    ];
    let value = prop_oneof![
        4 => "[+-]?[0-9]{0,6}(\\.[0-9]{0,6})?",
        2 => "[+-]?[0-9]{1,3}(\\.[0-9]{0,3})?[eE][+-]?[0-9]{0,4}",
        1 => "[0-9]{290,320}",
        1 => "[-+._eEx0-9naif]{0,8}",
    ];
    let timestamp = prop_oneof![
        4 => "1[0-9]{9}",
        2 => "[0-9]{1,12}(\\.[0-9]{0,3})?",
        1 => "-1",
        1 => "[-+.e0-9]{0,8}",
    ];
    let blanks = prop_oneof![4 => Just(" ".to_owned()), 1 => "[ \t]{0,3}"];
    let end = prop_oneof![4 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r\r\n"), 1 => Just(" \n")];
    let edge = prop_oneof![6 => Just(String::new()), 1 => "[ \t]{0,2}"];
    (edge, name, blanks.clone(), value, blanks, timestamp, end).prop_map(
        |(edge, name, first, value, second, timestamp, end)| {
            [
                edge.as_bytes(),
                &name,
                first.as_bytes(),
                value.as_bytes(),
                second.as_bytes(),
                timestamp.as_bytes(),
                end.as_bytes(),
            ]
            .concat()
        },
    )
}

fn near_bodies() -> impl Strategy<Value = Vec<u8>> {
    let padding = prop_oneof![20 => Just(0usize), 1 => 4060..4110usize];
    let line = (padding, near_lines()).prop_map(|(padding, line)| [vec![b'p'; padding], line].concat());
    vec(line, 0..12).prop_map(|lines| lines.concat())
}

/// The whole body by the reference.
fn reference_of(body: &[u8]) -> (Vec<u8>, Vec<Reason>, Option<(i64, i64)>) {
    let (mut lines, mut reasons, mut timestamps) = (Vec::new(), Vec::new(), Vec::new());
    for verdict in body.split(|byte| *byte == b'\n').filter_map(reference) {
        match verdict {
            Ok((stored, seconds)) => {
                lines.extend(stored);
                lines.push(b'\n');
                timestamps.push(seconds);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    let bounds = timestamps.iter().min().copied().zip(timestamps.iter().max().copied());
    (lines, reasons, bounds)
}

fn agrees_with_the_reference(body: &[u8]) {
    let checked = check_now(body);
    let (lines, reasons, timestamps) = reference_of(body);
    assert_eq!(checked.count as usize, lines.iter().filter(|byte| **byte == b'\n').count());
    assert_eq!(checked.lines, lines);
    assert_eq!(checked.timestamps, timestamps);
    assert_eq!(checked.refused.iter().map(|refused| refused.reason).collect::<Vec<_>>(), reasons);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_agrees_with_the_reference(body in near_bodies()) {
        agrees_with_the_reference(&body);
    }

    #[test]
    fn it_agrees_with_the_reference_on_any_bytes(body in vec(any::<u8>(), 0..200)) {
        agrees_with_the_reference(&body);
    }

    #[test]
    fn what_it_stores_is_stored_again_unchanged(body in near_bodies()) {
        let once = check_now(&body);
        let mut twice = Checked::default();
        check(&once.lines, NOW + 1000, &mut twice);
        prop_assert_eq!(&twice.lines, &once.lines);
        prop_assert_eq!((twice.count, twice.timestamps, twice.refused_count()), (once.count, once.timestamps, 0));
    }

    #[test]
    fn it_does_not_matter_how_a_body_is_cut_at_line_ends(body in near_bodies(), cuts in vec(any::<bool>(), 12)) {
        let whole = check_now(&body);
        let mut pieces = Checked::default();
        let mut from = 0;
        for (lf, cut) in memchr::memchr_iter(b'\n', &body).zip(cuts) {
            if cut {
                check(&body[from..=lf], NOW, &mut pieces);
                from = lf + 1;
            }
        }
        check(&body[from..], NOW, &mut pieces);
        prop_assert_eq!(pieces.lines, whole.lines);
        prop_assert_eq!((pieces.count, pieces.timestamps), (whole.count, whole.timestamps));
        prop_assert_eq!(pieces.refused, whole.refused);
    }

    #[test]
    fn graphic_ascii_is_what_the_standard_library_says(bytes in vec(prop_oneof![9 => 0x21..=0x7eu8, 1 => any::<u8>()], 0..64)) {
        prop_assert_eq!(graphic_ascii(&bytes), bytes.iter().take_while(|byte| byte.is_ascii_graphic()).count());
    }
}
