//! Whole files: what is no topology at all, and what is nearly one.

mod examples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::model::Agent;

/// The faults of a text, as an operator sees them.
#[track_caller]
pub(crate) fn check(text: &str, expected: &str) {
    let faults = Topology::parse(text).expect_err("no fault was found").to_string();
    assert_eq!(faults, expected, "\n--- found:\n{faults}\n--- expected:\n{expected}\n--- in:\n{text}");
}

/// The faults of one agent `a`, which stands alone on line 4 of a mesh `m` with a broker `eu`.
#[track_caller]
pub(crate) fn check_agent(settings: &str, expected: &str) {
    check(&with_agent(settings), expected);
}

/// The model of the same agent.
#[track_caller]
pub(crate) fn agent(settings: &str) -> Agent {
    match Topology::parse(&with_agent(settings)) {
        Ok(mesh) => mesh.agent("a").expect("it is called `a`").clone(),
        Err(faults) => panic!("{faults}"),
    }
}

fn with_agent(settings: &str) -> String {
    format!("mesh: m\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nagents:\n  a: {{ {settings} }}\n")
}

fn examples() -> BTreeMap<String, PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path)).collect()
}

#[test]
fn an_empty_file_is_a_fault() {
    let expected = "is empty; begin with `mesh: NAME` and an agent under `agents`";
    for text in ["", "\n\n", "# nothing yet\n"] {
        let faults = Topology::parse(text).unwrap_err();
        assert_eq!(faults.faults()[0].to_string(), expected);
    }
}

#[test]
fn a_list_at_the_top_is_a_fault() {
    let mend = "write a map with keys like `mesh`, `queue`, `queues`, `brokers`, `agents`, `consumers`";
    check("- mesh: m\n", &format!("line 1: is a list, and a map is wanted; {mend}"));
    check("mesh", &format!("line 1: is the text `mesh`, and a map is wanted; {mend}"));
}

#[test]
fn several_documents_are_a_fault() {
    check(
        "mesh: m\n---\nmesh: n\n",
        "holds more than one YAML document; give each mesh its own file, and remove the `---` after the first key",
    );
}

#[test]
fn a_tab_is_a_fault_with_its_own_mend() {
    check(
        "mesh: m\nagents:\n\ta: {}\n",
        "line 3: cannot be read as YAML: found character that cannot start any token at line 3 column 1, \
         while scanning for the next token; indent with blanks, never with tabs",
    );
}

#[test]
fn broken_yaml_is_a_fault_with_its_line() {
    check(
        "mesh: m\nagents: { a: {}\n",
        "line 3: cannot be read as YAML: did not find expected ',' or '}' at line 3 column 1, while parsing a flow \
         mapping at line 2 column 9; check indentation and brackets there, and quote a text that begins with one \
         of [ { * & ! % @ `",
    );
    check(
        "mesh: !name m\n",
        "line 1: cannot be read as YAML: mesh: invalid type: enum, expected a value without a tag (`!name`) at \
         line 1 column 7; check indentation and brackets there, and quote a text that begins with one \
         of [ { * & ! % @ `",
    );
}

#[test]
fn a_key_that_is_no_text_is_a_fault() {
    let text = "mesh: m\n? [a]\n: b\n";
    let fault = &Topology::parse(text).unwrap_err().faults()[0].clone();
    assert_eq!(fault.line, Some(2));
    assert!(fault.message.ends_with("expected a key that is plain text at line 2 column 3"), "{fault}");
    let text = format!("mesh: m\n{}: b\n", "k".repeat(300));
    let fault = &Topology::parse(&text).unwrap_err().faults()[0].clone();
    assert_eq!((fault.line, &*fault.mend), (Some(2), "check for a missing `: `"));
}

#[test]
fn the_merge_key_wants_a_map() {
    let fault = &Topology::parse("mesh: m\nagents: { a: { <<: 1 } }\n").unwrap_err().faults()[0].clone();
    assert!(fault.message.contains("`<<` without a map"), "{fault}");
    assert_eq!(fault.mend, "write `<<: *name` or `<<: [*name, *other]`");
}

#[test]
fn what_a_map_says_itself_counts_before_what_it_merges() {
    let mesh = Topology::parse(
        "mesh: m
agents:
  a: &a { region: one, host: a, spool: { max_size: 1GiB } }
  b: &b { <<: *a, region: two, host: b }
  c: { <<: [*b, *a], host: c }
",
    )
    .unwrap();
    let c = mesh.agent("c").unwrap();
    assert_eq!((c.region.as_deref(), c.host.as_deref()), (Some("two"), Some("c")));
    assert_eq!(c.spool.max_size_bytes, Some(1 << 30));
}

#[test]
fn aliases_cannot_blow_up_a_small_file() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
    for depth in 1..12 {
        let alias = format!("*a{}", depth - 1);
        text.push_str(&format!("a{depth}: &a{depth} [{}]\n", vec![alias; 8].join(", ")));
    }
    let fault = &Topology::parse(&text).unwrap_err().faults()[0].clone();
    assert_eq!(fault.mend, "use fewer aliases (`*name`)");
}

#[test]
fn deep_nesting_is_a_fault() {
    for open in ["[", "{", "- ", "? ", "{a: "] {
        let faults = Topology::parse(&open.repeat(1_000)).unwrap_err();
        assert!(faults.faults()[0].message.starts_with("cannot be read as YAML"), "{faults}");
    }
    check(
        &format!("mesh: m\nagents: {}", "{a: ".repeat(100_000)),
        "line 2: 100000 brackets are open; close them; a topology needs no more than a few at a time",
    );
}

#[test]
fn a_byte_order_mark_and_crlf_are_no_fault() {
    let mesh = Topology::parse("\u{feff}mesh: m\r\nagents:\r\n  a: {}\r\n").unwrap();
    assert_eq!(mesh.agents[0].name, "a");
}

#[test]
fn the_words_of_older_yaml_are_texts() {
    let text = "mesh: NO\nbrokers: { on: { urls: [stomp://mq], login: 0123 } }\n\
                agents: { 1: { region: yes, forward: { to: on } } }\n";
    let mesh = Topology::parse(text).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((&*mesh.name, &*mesh.agents[0].name), ("NO", "1"));
    assert_eq!(mesh.agents[0].region.as_deref(), Some("yes"));
    assert_eq!(mesh.brokers[0].stomp.login.as_deref(), Some("0123"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let dir = env!("CARGO_MANIFEST_DIR");
    let faults = Topology::load(&Path::new(dir).join("no-such.yaml")).unwrap_err();
    let mend = "name a topology file that this user may read";
    assert_eq!(
        faults.to_string(),
        format!("{dir}/no-such.yaml: cannot be read: No such file or directory (os error 2); {mend}")
    );
    let faults = Topology::load(Path::new(dir)).unwrap_err();
    assert_eq!(faults.to_string(), format!("{dir}: cannot be read: Is a directory (os error 21); {mend}"));
}

#[test]
fn a_file_without_end_is_a_fault() {
    let faults = Topology::load(Path::new("/dev/zero")).unwrap_err();
    let expected = "/dev/zero: is larger than 1024 KiB; \
                    check that this is the topology; split a mesh that is really so large";
    assert_eq!(faults.to_string(), expected);
    let faults = Topology::parse(&" ".repeat(1024 * 1024 + 1)).unwrap_err();
    assert!(faults.to_string().starts_with("is larger than 1024 KiB"));
}

#[test]
fn a_file_that_is_not_utf8_is_a_fault() {
    let path = std::env::temp_dir().join(format!("packetboat-topology-{}.yaml", std::process::id()));
    fs::write(&path, b"mesh: m\nregion: K\xf6ln\n").unwrap();
    let faults = Topology::load(&path).unwrap_err();
    fs::remove_file(&path).unwrap();
    assert_eq!(
        faults.to_string(),
        format!("{}:2: this is not UTF-8 text; save the file as UTF-8", path.display())
    );
}

/// Shown as the agent shows it: one line each, in the order of the file.
#[test]
fn all_faults_are_found_at_once() {
    let text = "mesh: acme
brokers:
  eu: { urls: [stomp://mq], vhots: / }
agents:
  us-east:
    spool: { dir: spool, max_size: 20 }
    listen: { stomp: 0.0.0.0:61613, pickle: 0.0.0.0:2004 }
    forward:
      - to: eu-hb
      - { to: us-west, name: us-west }
  us-west:
    listen: { stomp: 127.0.0.1:61613 }
    forward: { to: us-east }
mesh: emca
";
    let faults = Topology::parse(text).unwrap_err().in_file(Path::new("topology.yaml"));
    let expected = [
        "3: brokers.eu.vhots: there is no key `vhots` here; did you mean `vhost`?",
        "6: agents.us-east.spool.dir: `spool` is a relative path; write the whole path, from / on (`~` and `$` are \
         not expanded)",
        "6: agents.us-east.spool.max_size: `20` is a size without a unit; write a whole number and KiB, MiB, GiB or \
         TiB (kB, MB, GB, TB), such as 4GiB",
        "7: agents.us-east.listen.pickle: not in this version; remove the key",
        "7: agents.us-east.listen.stomp: 0.0.0.0:61613 can be reached from other machines, by anybody; listen on \
         127.0.0.1, give `us-east` `users`, or say `open: true` for `us-east`",
        "9: agents.us-east.forward[0].to: no broker or agent is called `eu-hb`; did you mean `eu`?",
        "12: agents.us-west.listen.stomp: port 61613 is taken by agents.us-east.listen.stomp on \
         line 7; nodes without `host` count as one machine; give one of them another port, or each its own `host`",
        "13: agents.us-west.forward.to: metrics would go in a circle: us-east -> us-west -> us-east; let one of \
         these agents forward to a broker or a Graphite instead",
        "13: agents.us-west.forward.to: nobody knows how to reach agent `us-east`; give `us-east` a `host`, the name \
         that others reach it by",
        "14: mesh: is given twice, before this on line 1; keep one of the two",
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("topology.yaml:{line}")).collect();
    assert_eq!(faults.to_string().lines().collect::<Vec<_>>(), expected);
}

/// A text that is nearly a topology: an example with a piece of it replaced.
fn nearly_topology() -> impl Strategy<Value = String> {
    let texts: Vec<_> = examples().values().map(|path| fs::read_to_string(path).unwrap()).collect();
    let piece = "[a-z:{}\\[\\]&*!|>,#%@`~?<= \\-\n\t\"'0-9./]{0,12}|\\PC{0,4}|<<: \\*a|---\n|\\.\\.\\.\n";
    let at = any::<prop::sample::Index>();
    (prop::sample::select(texts), at, 0..60_usize, piece).prop_map(|(text, at, cut, piece)| {
        let begin = text.floor_char_boundary(at.index(text.len()));
        let end = text.floor_char_boundary((begin + cut).min(text.len()));
        format!("{}{piece}{}", &text[..begin], &text[end..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        drop(Topology::parse(&text));
    }

    #[test]
    fn anything_that_looks_like_yaml_is_answered(text in "[ab:{}\\[\\]\\-&*!|>,#?%<~. \n\t\"']{0,80}") {
        drop(Topology::parse(&text));
    }

    /// Each fault says something and has a mend.
    #[test]
    fn a_broken_topology_is_answered_in_full(text in nearly_topology()) {
        if let Err(faults) = Topology::parse(&text) {
            prop_assert!(!faults.faults().is_empty());
            for fault in faults.faults() {
                prop_assert!(!fault.message.is_empty() && !fault.mend.is_empty());
                prop_assert!(fault.line.is_none_or(|line| line >= 1 && line <= text.lines().count() + 1));
            }
        }
    }
}
