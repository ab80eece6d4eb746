//! Who may do what over STOMP.

use topology::model::{PasscodeHash, User};

use super::*;
use crate::users::quick_hash;

/// `web` may send below `web.`, `ops` may read, and `dmz` is the node of that name.
fn guests() -> Guests {
    let user = |login: &str, send: bool, prefixes: &[&str], subscribe: bool, node: Option<&str>| {
        let queues = |may: bool| if may { vec!["/queue/graphite".to_owned()] } else { Vec::new() };
        User {
            login: login.to_owned(),
            passcode: Some(PasscodeHash::Text(quick_hash(&format!("passcode of {login}")))),
            certificate: None,
            send: queues(send),
            prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            subscribe: queues(subscribe),
            node: node.map(str::to_owned),
        }
    };
    let users = [
        user("web", true, &["web."], false, None),
        user("ops", false, &[], true, None),
        user("dmz", true, &["dmz."], false, Some("dmz")),
    ];
    Guests { users: Users::new(&users, Clock::system()).unwrap(), ..everybody() }
}

fn guarded() -> Settings {
    let peer = |name: &str| topology::model::Peer { name: name.to_owned(), origins: vec![name.to_owned()] };
    Settings { serves: true, peers: crate::users::Peers::new(&[peer("dmz"), peer("bank")]), ..settings() }
}

impl Rig {
    /// What is heard after CONNECT with this login, and these headers more.
    async fn logs_in(&self, login: &str, passcode: &str, more: &str) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut client = Client { stream, heard: String::new() };
        client
            .say(&format!(
                "CONNECT\naccept-version:1.2\nhost:h\nlogin:{login}\npasscode:{passcode}\n{more}\n\0"
            ))
            .await;
        client
    }

    async fn user(&self, login: &str, more: &str) -> Client {
        let mut client = self.logs_in(login, &format!("passcode of {login}"), more).await;
        client.hears("CONNECTED\n").await;
        client.hears("\n\n\0\n").await;
        client
    }
}

/// Says `frame` and tells the ERROR that comes of it.
async fn refused(client: &mut Client, frame: &str) -> String {
    client.say(frame).await;
    let heard = client.hears_the_end().await;
    error_text(&heard).to_owned()
}

#[tokio::test]
async fn nobody_enters_without_the_right_passcode() {
    with_guests(guarded(), guests(), async |rig: Rig| {
        for (login, passcode) in [("web", "wrong"), ("nobody", "passcode of web"), ("web", "passcode of ops")]
        {
            let mut client = rig.logs_in(login, passcode, "").await;
            let heard = client.hears_the_end().await;
            assert!(error_text(&heard).starts_with("login or passcode are wrong\n"), "{heard}");
            assert!(!heard.contains("CONNECTED"), "{heard}");
        }
        let mut anonymous = rig.logs_in("", "", "").await;
        assert!(error_text(&anonymous.hears_the_end().await).contains("only users are admitted"));
        rig.user("web", "").await;
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_producer_writes_below_its_prefix_and_reads_nothing() {
    with_guests(guarded(), guests(), async |rig: Rig| {
        let mut web = rig.user("web", "").await;
        web.say(&send(1, "web.a 1 1700000000\nbank.a 1 1700000000\nweb.b 2 1700000000")).await;
        web.hears(&receipt(1)).await;
        let report = rig.report().await;
        assert_eq!((report.accepted.lines, report.rejects), (2, 1), "the other one is a dead letter");
        let error = refused(&mut web, &send(2, "bank.a 1 1700000000")).await;
        assert!(error.contains("has a name that this user may not send"), "{error}");

        let mut web = rig.user("web", "").await;
        let error = refused(&mut web, "SUBSCRIBE\nid:1\ndestination:/queue/graphite\n\n\0").await;
        assert!(error.contains("the user \"web\" may not SUBSCRIBE to"), "{error}");

        let mut web = rig.user("web", "").await;
        let in_it = "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/graphite\ntransaction:t\n\nbank.a 1 1700000000\0";
        let error = refused(&mut web, in_it).await;
        assert!(error.contains("has a name that this user may not send"), "{error}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_reader_writes_nothing() {
    with_guests(guarded(), guests(), async |rig: Rig| {
        let mut ops = rig.user("ops", "").await;
        let error = refused(&mut ops, &send(1, "a 1 1700000000")).await;
        assert!(error.contains("the user \"ops\" may not SEND to"), "{error}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn only_a_node_passes_batches_on_and_only_as_itself() {
    let claim = "packetboat-wire:1\npacketboat-node:dmz\n";
    let batch = |origin: &str, lines: &str| nodes::sent(&nodes::batch(origin, 1, &[origin], lines), "1");
    with_guests(guarded(), guests(), async |rig: Rig| {
        // A producer that claims to be one is a producer.
        let mut web = rig.user("web", claim).await;
        web.say(&batch("dmz", "web.a 1 1700000000\n")).await;
        web.hears(&receipt(1)).await;
        let mut node = rig.user("dmz", claim).await;
        node.say(&batch("dmz", "dmz.a 1 1700000000\n")).await;
        node.hears(&receipt(1)).await;
        let lent = rig.desk.look(|spool| spool.lend(0, 1 << 20).unwrap()).await.unwrap();
        let origins: Vec<_> = lent.iter().map(|lent| &*lent.batch.label.as_ref().unwrap().origin).collect();
        assert_eq!(origins, ["us-east", "dmz"]);

        let heard = refused(&mut node, &batch("bank", "dmz.a 1 1700000000\n")).await;
        assert!(heard.contains("origin `bank` is not one"), "{heard}");
        let mut node = rig.user("dmz", claim).await;
        let heard = refused(&mut node, &batch("dmz", "bank.a 1 1700000000\n")).await;
        assert!(heard.contains("is not a name that `dmz` may send"), "{heard}");
        let mut other = rig.logs_in("dmz", "passcode of dmz", "packetboat-node:bank\n").await;
        let heard = other.hears_the_end().await;
        assert!(error_text(&heard).contains("give each node a user of its own"), "{heard}");
        rig.stop();
    })
    .await;
}

/// Each address has so many connections, and so many lines a second; others do not notice.
#[tokio::test]
async fn a_client_over_its_limit_is_told_or_slowed() {
    let limits =
        topology::model::Limits { connections: 10, connections_per_client: 1, lines_per_second: Some(10) };
    let guests = Guests { clients: Clients::new(limits), ..everybody() };
    with_guests(settings(), guests, async |rig: Rig| {
        let mut first = rig.connect().await;
        let mut second = TcpStream::connect(rig.address).await.unwrap();
        let mut heard = String::new();
        second.read_to_string(&mut heard).await.unwrap();
        assert!(error_text(&heard).contains("1 connections of this address are open"), "{heard}");

        first.say(&send(1, &"a 1 1700000000\n".repeat(12))).await;
        first.hears(&receipt(1)).await;
        // Over its rate, which `clients` reckons: it is read later, and loses nothing.
        first.say(&send(2, "a 1 1700000000")).await;
        first.hears(&receipt(2)).await;
        assert_eq!(rig.report().await.accepted.lines, 13);
        rig.stop();
    })
    .await;
}
