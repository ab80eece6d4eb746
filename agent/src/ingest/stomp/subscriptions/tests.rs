use super::super::Limits;
use super::super::decode::{Decoded, Decoder};
use super::*;

const QUEUE: &[u8] = b"/queue/graphite";

/// Has `test` look at the only frame of `text`.
fn with_frame<T>(version: Version, text: &str, test: impl FnOnce(&Frame<'_>) -> T) -> T {
    let text = format!("{text}\n\0");
    match Decoder::new(&Limits::default()).decode(version, text.as_bytes()) {
        Ok(Decoded::Frame(frame, _)) => test(&frame),
        other => panic!("{text:?} is no frame but {other:?}"),
    }
}

struct Talk {
    version: Version,
    subscriptions: Subscriptions<&'static str>,
    is_node: bool,
}

impl Talk {
    fn new(version: Version) -> Self {
        Self { version, subscriptions: Subscriptions::new(), is_node: false }
    }

    fn subscribe(&mut self, headers: &str) -> Result<Subscription, Refusal> {
        let Self { version, subscriptions, is_node } = self;
        with_frame(*version, &format!("SUBSCRIBE\ndestination:/queue/graphite\n{headers}"), |frame| {
            subscriptions.subscribe(frame, *version, 0, QUEUE, *is_node)
        })
    }

    /// What the frame acknowledges, and hands out.
    fn says(&mut self, frame: &str) -> Result<Vec<&'static str>, Refusal> {
        let named = with_frame(self.version, frame, |frame| self.subscriptions.named(frame, self.version))?;
        Ok(self.subscriptions.take(&named))
    }

    fn unsubscribe(&mut self, headers: &str) -> Result<(u32, Vec<&'static str>), Refusal> {
        let subscriptions = &mut self.subscriptions;
        with_frame(self.version, &format!("UNSUBSCRIBE\n{headers}"), |frame| subscriptions.unsubscribe(frame))
    }
}

/// STOMP 1.2, "SUBSCRIBE ack Header": "When the ack mode is client-individual, the ack operates like the
/// client mode, except that the ACK or NACK frames operate on individual messages".
#[test]
fn an_individual_ack_is_of_its_message_only() {
    let mut talk = Talk::new(Version::V1_2);
    let number = talk.subscribe("id:s\nack:client-individual\n").unwrap().number;
    for (message, loan) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(talk.subscriptions.send(number, loan), message as u64);
    }
    assert_eq!(talk.says("ACK\nid:0-1\n"), Ok(vec!["b"]));
    assert_eq!(talk.says("ACK\nid:0-1\n"), Ok(vec![]), "what was said before is no fault");
    assert_eq!(talk.says("NACK\nid:0-2\n"), Ok(vec!["c"]));
    assert_eq!(talk.unsubscribe("id:s\n"), Ok((0, vec!["a"])));
}

/// STOMP 1.2, "SUBSCRIBE ack Header": "the acknowledgment operates on all messages [...] up to and including".
#[test]
fn a_cumulative_ack_is_of_all_before_it_in_the_same_subscription() {
    let mut talk = Talk::new(Version::V1_2);
    let one = talk.subscribe("id:1\nack:client\n").unwrap().number;
    let other = talk.subscribe("id:2\nack:client\n").unwrap().number;
    for (subscription, loan) in [(one, "a"), (other, "x"), (one, "b"), (one, "c")] {
        talk.subscriptions.send(subscription, loan);
    }
    assert_eq!(talk.says("ACK\nid:0-2\n"), Ok(vec!["a", "b"]));
    assert_eq!(talk.says("ACK\nid:1-1\n"), Ok(vec!["x"]));
    assert_eq!(talk.says("ACK\nid:0-3\n"), Ok(vec!["c"]));
}

/// STOMP 1.1, "ACK": `message-id` and `subscription` are required, and must match.
#[test]
fn version_1_1_names_message_and_subscription() {
    let mut talk = Talk::new(Version::V1_1);
    let number = talk.subscribe("id:s\nack:client-individual\n").unwrap().number;
    talk.subscriptions.send(number, "a");
    let missing = |header| Err(Refusal::HeaderMissing { command: "ACK", header });
    assert_eq!(talk.says("ACK\nsubscription:s\n"), missing("message-id"));
    assert_eq!(talk.says("ACK\nmessage-id:0-0\n"), missing("subscription"));
    let unknown = Refusal::MessageUnknown { command: "ACK", id: "0-0".to_owned() };
    assert_eq!(talk.says("ACK\nmessage-id:0-0\nsubscription:t\n"), Err(unknown));
    assert_eq!(talk.says("ACK\nmessage-id:0-0\nsubscription:s\n"), Ok(vec!["a"]));
}

/// STOMP 1.0, "SUBSCRIBE" and "ACK": the id is optional, and there is no NACK.
#[test]
fn version_1_0_needs_no_id() {
    let mut talk = Talk::new(Version::V1_0);
    let number = talk.subscribe("ack:client\n").unwrap().number;
    talk.subscriptions.send(number, "a");
    talk.subscriptions.send(number, "b");
    assert_eq!(talk.says("NACK\nmessage-id:0-0\n"), Err(Refusal::NackVersion));
    assert_eq!(talk.says("ACK\nmessage-id:0-0\nsubscription:undefined\n"), Ok(vec!["a"]));
    assert_eq!(talk.unsubscribe("destination:/queue/graphite\n"), Ok((0, vec!["b"])));
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut talk = Talk::new(Version::V1_2);
    let number = talk.subscribe("id:s\nack:client-individual\n").unwrap().number;
    talk.subscriptions.send(number, "a");
    for id in ["0-1", "1-0", "x", "", "0-", "-0", "99999999999-0", "0-0-0"] {
        let unknown = Refusal::MessageUnknown { command: "ACK", id: id.to_owned() };
        assert_eq!(talk.says(&format!("ACK\nid:{id}\n")), Err(unknown));
    }
    assert_eq!(talk.says("ACK\n"), Err(Refusal::HeaderMissing { command: "ACK", header: "id" }));
}

/// The client may have sent it before it knew.
#[test]
fn an_ack_after_unsubscribe_or_of_a_mode_without_acks_is_no_fault() {
    let mut talk = Talk::new(Version::V1_2);
    let number = talk.subscribe("id:s\nack:client\n").unwrap().number;
    talk.subscriptions.send(number, "a");
    assert_eq!(talk.unsubscribe("id:s\n"), Ok((0, vec!["a"])));
    assert_eq!(talk.says("ACK\nid:0-0\n"), Ok(vec![]));

    talk.subscribe("id:t\n").unwrap();
    assert_eq!(talk.subscriptions.next_message(), 1);
    assert_eq!(talk.says("ACK\nid:1-1\n"), Ok(vec![]));
}

#[test]
fn a_subscription_is_what_it_asks_for() {
    let mut talk = Talk::new(Version::V1_2);
    let plain = talk.subscribe("id:1\n").unwrap();
    assert_eq!((plain.ack, plain.prefetch, plain.takes_frames), (AckMode::Auto, PREFETCH, false));
    let asked = talk.subscribe("id:2\nack:client\nactivemq.prefetchSize:7\npacketboat-wire:1\n").unwrap();
    assert_eq!((asked.ack, asked.prefetch, asked.takes_frames), (AckMode::Client, 7, false), "it is no node");
    let both = talk.subscribe("id:3\nprefetch-count:3\nactivemq.prefetchSize:7\n").unwrap();
    assert_eq!(both.prefetch, 3);
    assert_eq!(talk.subscribe("id:4\nprefetch-count:100000\n").unwrap().prefetch, PREFETCH_MAX);
    talk.is_node = true;
    assert!(talk.subscribe("id:5\npacketboat-wire:1\n").unwrap().takes_frames);
    assert!(!talk.subscribe("id:6\npacketboat-wire:2\n").unwrap().takes_frames);
}

#[test]
fn bad_input_says_what_helps() {
    let refused = |headers: &str, expected: &str| {
        let mut talk = Talk::new(Version::V1_2);
        talk.subscribe("id:open\n").unwrap();
        assert_eq!(talk.subscribe(headers).unwrap_err().to_string(), expected);
    };
    refused("", "SUBSCRIBE without the header id: add it");
    refused("id:open\n", "the subscription \"open\" is open already: UNSUBSCRIBE it, or use another id");
    refused("id:1\nack:often\n", "ack \"often\" is not understood: auto, client and client-individual are");
    refused(
        "id:1\nselector:a = 1\n",
        "selectors are not served: subscribe without one, and choose by name after receiving",
    );
    for number in ["0", "-1", "many", ""] {
        refused(
            &format!("id:1\nprefetch-count:{number}\n"),
            &format!(
                "prefetch-count {number:?} is not a number of batches from 1 on: send for example prefetch-count:16"
            ),
        );
    }
    let mut talk = Talk::new(Version::V1_2);
    assert_eq!(
        talk.unsubscribe("id:x\n").unwrap_err().to_string(),
        "there is no open subscription \"x\": SUBSCRIBE first"
    );
    for id in 0..OPEN_MAX {
        talk.subscribe(&format!("id:{id}\n")).unwrap();
    }
    assert_eq!(talk.subscribe("id:more\n"), Err(Refusal::SubscriptionCount(OPEN_MAX)));
}
