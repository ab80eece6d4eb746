//! No session keeps its own subscriptions waiting, or those of others.

use super::subscribers::{serving, subscribe};
use super::*;

/// What a session of its own shares with others.
fn common(rig: &Rig, subscribers: &Subscribers, limits: Limits) -> Common {
    Common {
        settings: Arc::new(Settings { limits, ..serving() }),
        budget: Budget::new(0),
        intake: rig.intake.clone(),
        users: Users::everybody(),
        subscribers: Arc::new([subscribers.clone()]),
        clock: Clock::system(),
        stop: CancellationToken::new(),
    }
}

#[tokio::test]
async fn a_subscriber_that_sends_without_a_pause_gets_its_messages() {
    with_server(serving(), async |rig: Rig| {
        let observer = Metrics::new().unwrap().link_observer("other", "agent");
        let subscribers = Subscribers::new(rig.desk.clone(), 0, Rest::default(), observer, Clock::system());
        rig.append("a").await;
        let visitor = Visitor { address: [127, 0, 0, 1].into(), names: Vec::new(), visit: None };
        let frames = CONNECT.to_owned() + &subscribe("s", "");
        let reader = frames.as_bytes().chain(tokio::io::repeat(b'\n'));
        let (mut client, writer) = tokio::io::duplex(1 << 16);
        let session = run_session(
            (reader, writer),
            rig.address,
            visitor,
            common(&rig, &subscribers, Limits::default()),
            1,
        );
        let hearing = async {
            let mut heard = Vec::new();
            while !String::from_utf8_lossy(&heard).contains("MESSAGE") {
                assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0);
            }
        };
        tokio::select! {
            end = session => panic!("{end:?}"),
            heard = timeout(PATIENCE, hearing) => heard.expect("it starves"),
        }
        rig.stop();
    })
    .await;
}

/// It may take a minute to read the rest of what is written to it.
#[tokio::test]
async fn a_subscriber_that_is_not_heard_any_more_keeps_nothing_and_nobody_waiting() {
    with_server(serving(), async |rig: Rig| {
        let observer = Metrics::new().unwrap().link_observer("other", "agent");
        let subscribers = Subscribers::new(rig.desk.clone(), 0, Rest::default(), observer, Clock::system());
        let limits = Limits { write_time: 10 * PATIENCE, ..Limits::default() };
        for last in [Some("NONSENSE\n"), Some("DISCONNECT\n\n\0"), None] {
            let common = common(&rig, &subscribers, limits);
            let visitor = Visitor { address: [127, 0, 0, 1].into(), names: Vec::new(), visit: None };
            let (mut client, server) = tokio::io::duplex(64);
            let session = run_session(tokio::io::split(server), rig.address, visitor, common, 1);
            let others = async {
                client
                    .write_all((CONNECT.to_owned() + &subscribe("s", "ack:client\n")).as_bytes())
                    .await
                    .unwrap();
                rig.append("a").await;
                let mut heard = Vec::new();
                while !String::from_utf8_lossy(&heard).contains("MESSAGE") {
                    assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0);
                }
                match last {
                    Some(frame) => client.write_all(frame.as_bytes()).await.unwrap(),
                    None => client.shutdown().await.unwrap(),
                }
                for name in ["what it had", "new"] {
                    if name == "new" {
                        rig.append("a").await;
                    }
                    let (loan, _) = timeout(PATIENCE, subscribers.lease()).await.expect(name).unwrap();
                    loan.confirm().unwrap();
                }
            };
            tokio::select! {
                end = session => panic!("{end:?}"),
                () = others => {}
            }
        }
        rig.stop();
    })
    .await;
}
