//! Starts that cannot be: the agent ends at once, with the right status and one message that names what is
//! wrong, where, and the mend; and it leaves what it found as it was (I15, I18, I19).

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use tests::berth::Berth;
use tests::disk::{Disk, can_mount};

const LIMIT: Duration = Duration::from_secs(30);
const FAILED: i32 = 1;
/// EX_CONFIG: systemd does not start it again.
const WRONG_TOPOLOGY: i32 = 78;

/// Starts the agent, which has to end by itself with this status; tells what it has said.
#[track_caller]
fn refusal(berth: &Berth, topology: &Path, expected: i32) -> String {
    let mut agent = berth.start(topology, &[]);
    let status = agent.wait(LIMIT);
    assert_eq!(status.code(), Some(expected), "{}", agent.log());
    agent.log()
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

fn dir(dir: &Path) -> String {
    format!("dir: {}", dir.display())
}

#[test]
fn a_second_agent_on_a_spool_is_told_who_has_it() {
    let (first, second) = (Berth::new("first"), Berth::new("second"));
    let mut owner = first.agent(&first.topology(&dir(&first.spool())));
    let said = refusal(&second, &second.topology(&dir(&first.spool())), FAILED);
    assert_says(&said, &[&format!("belongs to process {}", owner.id()), "spool.dir"]);
    assert_eq!(owner.get("/readyz").unwrap().0, 200);
    assert!(owner.terminate(LIMIT).success());
    // The lock goes with its owner.
    let mut agent = second.agent(&second.topology(&dir(&first.spool())));
    assert!(agent.terminate(LIMIT).success());
}

#[test]
fn every_fault_of_a_topology_is_said_at_once() {
    let berth = Berth::new("faults");
    let text = "mesh: test\nqeue: /queue/x\nagents:\n  edge:\n    listen: { stomp: 0.0.0.0:61613 }\n    \
                spool: { dir: relative, max_size: 20 }\n    forward: { to: nobody }\n";
    let topology = berth.scratch.write("topology.yaml", text);
    let said = refusal(&berth, &topology, WRONG_TOPOLOGY);
    let path = topology.display().to_string();
    assert_says(&said, &[&path, "qeue", "open: true", "relative", "without a unit", "nobody", ":7: "]);
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_topology_that_cannot_be_read_is_named() {
    let berth = Berth::new("no-topology");
    let said = refusal(&berth, Path::new("/nonexistent/topology.yaml"), WRONG_TOPOLOGY);
    assert_says(&said, &["/nonexistent/topology.yaml"]);
}

#[test]
fn an_agent_that_is_not_in_the_topology_is_named_with_those_that_are() {
    let berth = Berth::new("unknown");
    let topology = berth.topology(&dir(&berth.spool()));
    let text = fs::read_to_string(&topology).unwrap().replace("  edge:", "  edgy:");
    fs::write(&topology, text).unwrap();
    assert_says(&refusal(&berth, &topology, WRONG_TOPOLOGY), &["`edge`", "edgy"]);
    assert!(!berth.spool().exists(), "nothing is made for a wrong name");
}

#[test]
fn a_port_that_is_taken_is_named_and_the_spool_is_left_alone() {
    for port in [Berth::stomp, Berth::graphite, Berth::http] {
        let berth = Berth::new("port");
        let address = port(&berth);
        let _other = TcpListener::bind(address).unwrap();
        let said = refusal(&berth, &berth.topology(&dir(&berth.spool())), FAILED);
        assert_says(&said, &[&address.to_string()]);
        assert!(!berth.spool().exists(), "sockets come first");
    }
}

#[test]
fn a_spool_that_is_something_else_is_left_as_it_was() {
    let berth = Berth::new("not-ours");
    let (spool, topology) = (berth.spool(), berth.topology(&dir(&berth.spool())));
    fs::create_dir(&spool).unwrap();
    let photos = rusqlite::Connection::open(spool.join("spool.db")).unwrap();
    photos.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE photos (id INTEGER)").unwrap();
    drop(photos);
    for content in [fs::read(spool.join("spool.db")).unwrap(), b"a letter to my aunt".to_vec(), vec![0; 8192]]
    {
        fs::write(spool.join("spool.db"), &content).unwrap();
        let said = refusal(&berth, &topology, FAILED);
        assert_says(&said, &["spool.db is not a packetboat spool", "spool.dir"]);
        assert_eq!(fs::read(spool.join("spool.db")).unwrap(), content);
    }
}

#[test]
fn a_spool_of_a_newer_release_is_left_as_it_was() {
    let berth = Berth::new("newer");
    let topology = berth.topology(&dir(&berth.spool()));
    assert!(berth.agent(&topology).terminate(LIMIT).success());
    let path = berth.spool().join("spool.db");
    // `user_version`, by the file format of SQLite.
    fs::File::options().write(true).open(&path).unwrap().write_all_at(&[0, 0, 0, 99], 60).unwrap();
    let before = fs::read(&path).unwrap();
    let said = refusal(&berth, &topology, FAILED);
    assert_says(&said, &["schema version 99", "install the newer release"]);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_in_the_place_of_the_spool_is_named() {
    let berth = Berth::new("a-file");
    fs::write(berth.spool(), "not a folder").unwrap();
    let said = refusal(&berth, &berth.topology(&dir(&berth.spool())), FAILED);
    assert_says(&said, &[&berth.spool().display().to_string(), "is not a directory"]);
    assert_eq!(fs::read_to_string(berth.spool()).unwrap(), "not a folder");
}

#[test]
fn a_read_only_file_system_is_named() {
    if !can_mount() {
        return;
    }
    let (disk, berth) = (Disk::of_mib(64), Berth::new("read-only"));
    let spool = disk.path().join("spool");
    let topology = berth.topology(&format!("dir: {}, max_size: 16MiB", spool.display()));
    disk.make_read_only();
    assert_says(&refusal(&berth, &topology, FAILED), &[&spool.display().to_string(), "cannot be written"]);
    // The same with a spool that is there.
    disk.make_writable();
    assert!(berth.agent(&topology).terminate(LIMIT).success());
    disk.make_read_only();
    let said = refusal(&berth, &topology, FAILED);
    assert_says(&said, &[&spool.join("spool.lock").display().to_string(), "cannot be written"]);
}
