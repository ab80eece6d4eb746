use std::collections::HashMap;

use super::*;
use crate::batch::{BATCH_PARTS_MAX, Epoch, Part};
use proptest::prelude::*;

fn label() -> Label {
    Label { origin: "us-east".into(), epoch: Epoch([7; 16]), hops: Vec::new() }
}

fn part(seq: u64, lines: &[String], encoding: Encoding) -> Part {
    let raw: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let body = match encoding {
        Encoding::Plain => raw.clone().into(),
        Encoding::Zstd => zstd::bulk::compress(raw.as_bytes(), 1).unwrap().into(),
    };
    Part {
        seq,
        lines: u32::try_from(lines.len()).unwrap(),
        raw_bytes: u32::try_from(raw.len()).unwrap(),
        body,
        plain: None,
    }
}

fn batch(parts: &[Vec<String>], encoding: Encoding) -> Batch {
    let parts = (5..).zip(parts).map(|(seq, lines)| part(seq, lines, encoding)).collect();
    Batch { label: Some(label()), encoding, parts, accepted_ms: 1000..=2000 }
}

fn two_parts(encoding: Encoding) -> Batch {
    batch(&[vec!["a 1 1".into(), "b 2 2".into()], vec!["c 3 3".into()]], encoding)
}

fn sent(batch: &Batch, form: model::Encoding) -> Encoded {
    encode(batch, "acme", "us-east", form).unwrap()
}

fn taken(encoded: &Encoded) -> Result<Option<Batch>, WireError> {
    let headers: HashMap<_, _> =
        encoded.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let decoded = decode(|name| headers.get(name).copied(), &encoded.body, "acme")?;
    Ok(decoded.map(|decoded| {
        assert_eq!(decoded.lines, lines_of(&decoded.batch));
        decoded.batch
    }))
}

fn lines_of(batch: &Batch) -> Vec<u8> {
    let mut lines = Vec::new();
    batch.append_lines(&mut lines).unwrap();
    lines
}

/// With `name` replaced, or removed, and the CRC made right again.
fn changed(mut encoded: Encoded, name: &str, value: Option<&str>) -> Encoded {
    encoded.headers.retain(|(known, _)| *known != name);
    let name = [WIRE, MESH, ORIGIN, EPOCH, SEQ, COUNT, ACCEPTED, HOPS, CRC, PARTS, CONTENT_ENCODING]
        .into_iter()
        .find(|known| *known == name)
        .unwrap();
    encoded.headers.extend(value.map(|value| (name, value.to_owned())));
    encoded
}

fn with_body(encoded: Encoded, body: Bytes) -> Encoded {
    let crc = format!("{:08x}", crc32c(&body));
    changed(Encoded { body, ..encoded }, CRC, Some(&crc))
}

#[test]
fn the_headers_are_those_of_the_contract() {
    let encoded = sent(&two_parts(Encoding::Zstd), model::Encoding::Zstd);
    let crc = format!("{:08x}", crc32c(&encoded.body));
    let expected = [
        ("packetboat-wire", "1"),
        ("packetboat-mesh", "acme"),
        ("packetboat-origin", "us-east"),
        ("packetboat-epoch", "07070707070707070707070707070707"),
        ("packetboat-seq", "5-6"),
        ("packetboat-count", "3"),
        ("packetboat-accepted", "1000-2000"),
        ("packetboat-hops", "us-east"),
        ("packetboat-crc", &crc),
        ("packetboat-parts", "5:12:2,6:6:1"),
        ("content-encoding", "zstd"),
    ];
    let headers: Vec<_> = encoded.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(headers, expected);
    assert_eq!(zstd::stream::decode_all(&encoded.body[..]).unwrap(), b"a 1 1\nb 2 2\nc 3 3\n");
}

/// The least that a broker is known to take is 8 kB of head.
#[test]
fn the_longest_headers_pass_where_a_head_may_have_8_kb() {
    let line = |bytes: usize| format!("{} 1 1700000000", "a".repeat(bytes - 14));
    let lines = vec![vec![line(BATCH_RAW_BYTES_MAX / BATCH_PARTS_MAX)]; BATCH_PARTS_MAX];
    let mut batch = batch(&lines, Encoding::Zstd);
    let last = i64::MAX.unsigned_abs() - 1;
    for (part, seq) in batch.parts.iter_mut().rev().zip((0..=last).rev()) {
        part.seq = seq;
        part.lines = 100;
    }
    let name = "n".repeat(64);
    batch.label =
        Some(Label { origin: name.as_str().into(), hops: vec![name.as_str().into(); 8], ..label() });
    batch.accepted_ms = i64::MAX..=i64::MAX;
    let encoded = encode(&batch, &name, "eu", model::Encoding::Zstd).unwrap();
    // A colon is sent as two bytes.
    let escaped = |text: &str| text.len() + text.matches(':').count();
    let head: usize = encoded.headers.iter().map(|(name, value)| name.len() + escaped(value) + 2).sum();
    // What the session adds, with a long queue: destination, receipt, content-length and the like.
    assert!(head + 400 < 8000, "{head}");
}

#[test]
fn a_plain_body_has_no_final_lf_however_it_was_stored() {
    for encoding in [Encoding::Plain, Encoding::Zstd] {
        let encoded = sent(&two_parts(encoding), model::Encoding::Plain);
        assert_eq!(encoded.body, "a 1 1\nb 2 2\nc 3 3");
        assert!(!encoded.headers.iter().any(|(name, _)| *name == CONTENT_ENCODING));
        let one = batch(&[vec!["a 1 1".into()]], encoding);
        assert_eq!(sent(&one, model::Encoding::Plain).body, "a 1 1");
    }
}

#[test]
fn a_batch_without_a_label_has_no_identity_to_send() {
    let foreign = Batch { label: None, ..two_parts(Encoding::Plain) };
    let encoded = sent(&foreign, model::Encoding::Zstd);
    assert_eq!(encoded, Encoded { headers: Vec::new(), body: "a 1 1\nb 2 2\nc 3 3".into() });
    assert!(taken(&encoded).unwrap().is_none());
}

#[test]
fn a_node_is_named_once_among_the_hops() {
    let mut batch = two_parts(Encoding::Plain);
    for (hops, expected) in [(vec![], "eu"), (vec!["us"], "us,eu"), (vec!["us", "eu"], "us,eu")] {
        let hops = hops.into_iter().map(Into::into).collect();
        batch.label = Some(Label { hops, ..label() });
        let encoded = encode(&batch, "acme", "eu", model::Encoding::Plain).unwrap();
        assert!(encoded.headers.contains(&(HOPS, expected.to_owned())));
    }
}

#[test]
fn a_zstd_body_that_says_nothing_about_parts_is_one() {
    let one = batch(&[vec!["a 1 1".into()]], Encoding::Zstd);
    let encoded = sent(&one, model::Encoding::Zstd);
    assert!(encoded.headers.iter().all(|(name, _)| *name != PARTS), "{encoded:?}");
    let got = taken(&encoded).unwrap().unwrap();
    assert_eq!(got.parts, one.parts);
}

#[test]
fn a_single_zstd_frame_that_does_not_tell_its_size_has_a_part_that_does() {
    let mut one = batch(&[vec!["a 1 1".into()]], Encoding::Zstd);
    let raw: &[u8] = b"a 1 1\n";
    // Written as a stream, so that its size was not known when its header was.
    one.parts[0].body = zstd::stream::encode_all(raw, 1).unwrap().into();
    assert!(!decode::tells_size(&one.parts[0].body, raw.len()));
    let encoded = sent(&one, model::Encoding::Zstd);
    assert!(encoded.headers.contains(&(PARTS, "5:6:1".to_owned())), "{encoded:?}");
    let got = taken(&encoded).unwrap().unwrap();
    assert_eq!(got.parts, one.parts);
}

#[track_caller]
fn check_refused(encoded: Encoded, expected: &str) {
    let error = taken(&encoded).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn each_header_is_checked() {
    let zstd = || sent(&two_parts(Encoding::Zstd), model::Encoding::Zstd);
    for (name, wrong, expected) in [
        (WIRE, "2", "wire version `2` is unknown here"),
        (MESH, "other", "it belongs to mesh `other`, and this is `acme`"),
        (ORIGIN, "", "header packetboat-origin is wrong: ``"),
        (EPOCH, "07", "header packetboat-epoch is wrong: `07`"),
        (EPOCH, "+7070707070707070707070707070707", "header packetboat-epoch is wrong"),
        (SEQ, "5", "header packetboat-seq is wrong: `5`"),
        (SEQ, "5-7", "its parts are not the batches 5 to 7"),
        (SEQ, "6-5", "its parts are not the batches 6 to 5"),
        (SEQ, "0-9223372036854775806", "its parts are not the batches"),
        (SEQ, "9223372036854775807-9223372036854775807", "header packetboat-seq is wrong"),
        (SEQ, "0-18446744073709551615", "header packetboat-seq is wrong"),
        (COUNT, "4", "its parts do not hold 4 lines"),
        (COUNT, "-1", "header packetboat-count is wrong: `-1`"),
        (ACCEPTED, "2000", "header packetboat-accepted is wrong"),
        (ACCEPTED, "99999999999999999999-0", "header packetboat-accepted is wrong"),
        (ACCEPTED, "0-9223372036854775807", "header packetboat-accepted is wrong"),
        (HOPS, "us,,eu", "header packetboat-hops is wrong: `us,,eu`"),
        (CRC, "00000000", "and 00000000 was announced"),
        (PARTS, "", "header packetboat-parts is wrong"),
        (PARTS, "5:12:2", "its parts are not the batches 5 to 6"),
        (PARTS, "5:12:2,7:6:1", "its parts are not the batches 5 to 6"),
        (PARTS, "5:12:1,6:6:2", "part 5 is not 1 whole lines, but 2"),
        (PARTS, "5:11:2,6:7:1", "part 5"),
        (PARTS, "5:13:2,6:6:1", "part 5"),
        (PARTS, "5:0:2,6:6:1", "a batch holds 1 to 65536 bytes"),
        (PARTS, "5:4294967295:2,6:4294967295:1", "a batch holds 1 to 65536 bytes, not 8589934590"),
        (CONTENT_ENCODING, "gzip", "header content-encoding is wrong: `gzip`"),
    ] {
        check_refused(changed(zstd(), name, Some(wrong)), expected);
    }
    for name in [MESH, ORIGIN, EPOCH, SEQ, COUNT, ACCEPTED, HOPS, CRC] {
        check_refused(changed(zstd(), name, None), &format!("header {name} is missing"));
    }
    check_refused(changed(zstd(), PARTS, None), "its parts are not the batches 5 to 6");
}

#[test]
fn a_body_that_is_not_what_was_announced_is_refused() {
    let zstd = || sent(&two_parts(Encoding::Zstd), model::Encoding::Zstd);
    let body = zstd().body;
    check_refused(with_body(zstd(), body.slice(..body.len() - 1)), "part 6 is not a whole zstd frame");
    check_refused(
        with_body(zstd(), [&body[..], b"x"].concat().into()),
        "1 bytes follow the last announced part",
    );
    check_refused(with_body(zstd(), Bytes::new()), "part 5 is not a whole zstd frame");
    check_refused(Encoded { body: body.slice(1..), ..zstd() }, "CRC32C");

    let plain = || sent(&two_parts(Encoding::Plain), model::Encoding::Plain);
    check_refused(
        with_body(plain(), "a 1 1\nb 2 2\nc 3 ".into()),
        "the body holds 17 bytes, 18 were announced",
    );
    check_refused(with_body(plain(), "a 1 1 b 2 2\nc 3 3".into()), "part 5 is not 2 whole lines, but 1");
    check_refused(with_body(changed(plain(), PARTS, None), Bytes::new()), "its parts are not the batches");
}

#[test]
fn a_body_that_decodes_to_far_more_than_it_says_stays_bounded() {
    let bomb = zstd::bulk::compress(&vec![b'\n'; 100_000_000], 1).unwrap();
    let one = batch(&[vec!["a 1 1".into()]], Encoding::Zstd);
    let encoded = || with_body(sent(&one, model::Encoding::Zstd), bomb.clone().into());
    check_refused(changed(encoded(), PARTS, Some("5:6:1")), "does not decode to 6 bytes");
    check_refused(encoded(), "a batch holds 1 to 65536 bytes, not 100000000");
}

fn any_batch() -> impl Strategy<Value = Batch> {
    let line = "[a-z.;=]{1,40} [0-9]{1,9} [0-9]{10}";
    let parts = prop::collection::vec(prop::collection::vec(line, 1..20), 1..8);
    let encoding = prop::sample::select(vec![Encoding::Plain, Encoding::Zstd]);
    (parts, encoding).prop_map(|(parts, encoding)| batch(&parts, encoding))
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_taken(batch in any_batch(), is_zstd in any::<bool>()) {
        let form = if is_zstd { model::Encoding::Zstd } else { model::Encoding::Plain };
        let got = taken(&sent(&batch, form)).unwrap().unwrap();
        prop_assert_eq!(lines_of(&got), lines_of(&batch));
        prop_assert_eq!(got.accepted_ms.clone(), batch.accepted_ms.clone());
        let hops = vec!["us-east".into()];
        prop_assert_eq!(got.label.clone(), Some(Label { hops, ..label() }));
        let numbers = |batch: &Batch| {
            batch.parts.iter().map(|part| (part.seq, part.lines, part.raw_bytes)).collect::<Vec<_>>()
        };
        prop_assert_eq!(numbers(&got), numbers(&batch));
        if is_zstd {
            prop_assert_eq!(got.parts, batch.parts);
        }
    }

    /// A column of a spool holds an `i64`. A number that did not fit would end whoever takes it, again and again.
    #[test]
    fn whatever_is_taken_fits_a_spool(from_end in 0..4_u64, is_near in any::<bool>(), any_seq in any::<u64>(), times in any::<(u64, u64)>()) {
        let seq = if is_near { (1 << 63) + 1 - from_end } else { any_seq };
        let mut one = batch(&[vec!["a 1 1".into()]], Encoding::Zstd);
        one.parts[0].seq = seq;
        let encoded = sent(&one, model::Encoding::Zstd);
        prop_assert_eq!(taken(&encoded).is_ok(), seq < (1 << 63) - 1);
        let times = format!("{}-{}", times.0, times.1);
        if let Ok(Some(got)) = taken(&changed(encoded, ACCEPTED, Some(&times))) {
            prop_assert!(i64::try_from(got.parts[0].seq + 1).is_ok());
            prop_assert!(*got.accepted_ms.start().min(got.accepted_ms.end()) >= 0);
            prop_assert!(*got.accepted_ms.start().max(got.accepted_ms.end()) < i64::MAX);
        }
    }

    #[test]
    fn no_flipped_bit_passes(batch in any_batch(), bit in any::<prop::sample::Index>()) {
        let encoded = sent(&batch, model::Encoding::Zstd);
        let mut body = encoded.body.to_vec();
        let bit = bit.index(body.len() * 8);
        body[bit / 8] ^= 1 << (bit % 8);
        let result = taken(&Encoded { body: body.into(), ..encoded });
        let is_crc_error = matches!(result, Err(WireError::Crc { .. }));
        prop_assert!(is_crc_error);
    }

    /// With a right CRC over a wrong body, decoding still ends in an error or in whole lines.
    #[test]
    fn any_body_under_good_headers_is_safe(batch in any_batch(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let encoded = with_body(sent(&batch, model::Encoding::Zstd), body.into());
        if let Ok(Some(got)) = taken(&encoded) {
            prop_assert_eq!(lines_of(&got).len(), got.raw_bytes());
        }
    }
}
