//! SUBSCRIBE, UNSUBSCRIBE, ACK and NACK.

use tests::edge::Edge;
use tests::stomp::Frame;

use crate::{Talk, VERSIONS, append, line};

/// STOMP 1.2, "SUBSCRIBE": "If the server cannot successfully create the subscription, the server MUST send
/// the client an ERROR frame and then close the connection."
#[test]
fn a_subscription_that_cannot_be_is_an_error_and_the_end() {
    let edge = Edge::keeping();
    for (headers, expected) in [
        ("id:s\ndestination:/queue/other\n", "no destination"),
        ("id:s\n", "without the header destination"),
        ("destination:/queue/graphite\n", "without the header id"),
        ("id:s\ndestination:/topic/graphite\n", "is a topic"),
        ("id:s\ndestination:/queue/graphite\nack:perhaps\n", "\"perhaps\""),
        ("id:s\ndestination:/queue/graphite\nselector:a = 1\n", "selectors are not served"),
    ] {
        let mut talk = Talk::new(&edge, "1.2");
        talk.say(format!("SUBSCRIBE\n{headers}receipt:asked\n\n\0"));
        assert_eq!(talk.ends_with_error(expected).header("receipt-id"), Some("asked"));
    }
}

/// STOMP 1.2, "SUBSCRIBE id Header": "Within the same connection, different subscriptions MUST use different
/// subscription identifiers"; another connection may use them, and so may a later subscription.
#[test]
fn subscription_ids_are_unique_in_a_session() {
    let edge = Edge::keeping();
    let mut one = Talk::subscribed(&edge, "1.2", "");
    let mut other = Talk::subscribed(&edge, "1.2", "");
    one.asks("UNSUBSCRIBE\nid:s\n");
    one.asks("SUBSCRIBE\nid:s\ndestination:/queue/graphite\n");
    one.say("SUBSCRIBE\nid:s\ndestination:/queue/graphite\n\n\0");
    one.ends_with_error("is open already");
    other.is_quiet();
}

/// STOMP 1.0, "SUBSCRIBE": the id is optional; UNSUBSCRIBE names the destination then, and ACK the message
/// alone.
#[test]
fn version_1_0_subscribes_without_an_id() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::new(&edge, "1.0");
    talk.asks("SUBSCRIBE\ndestination:/queue/graphite\nack:client\n");
    let message = talk.hears("MESSAGE");
    assert_eq!((message.header("subscription"), message.header("ack")), (None, None));
    talk.asks(&format!("ACK\nmessage-id:{}\n", message.header("message-id").unwrap()));
    talk.asks("UNSUBSCRIBE\ndestination:/queue/graphite\n");
    edge.subscribers_had(1, 0);
}

/// STOMP 1.2, "SUBSCRIBE ack Header": "The default value is auto": "The server will assume the client has
/// received the message as soon as it sends it".
#[test]
fn without_an_ack_header_nothing_is_to_be_acknowledged() {
    let edge = Edge::keeping();
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        append(&edge, "a");
        let mut talk = Talk::subscribed(&edge, version, "");
        assert_eq!(talk.hears("MESSAGE").header("ack"), None);
        edge.subscribers_had(turn as i64 + 1, 0);
    }
}

/// STOMP 1.2, "SUBSCRIBE ack Header", client: "the acknowledgment operates on all messages received by the
/// client up to and including the message"; "If the connection fails before a client sends an ACK frame for
/// the message the server will assume the message has not been processed and MAY redeliver".
#[test]
fn a_cumulative_ack_leaves_what_came_after() {
    let edge = Edge::keeping();
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        let mut talk = Talk::subscribed(&edge, version, "ack:client\n");
        let [_, second, _] = talk.is_sent(&edge, ["a", "b", "c"]);
        let id = if version == "1.2" { "id" } else { "subscription:s\nmessage-id" };
        talk.asks(&format!("ACK\n{id}:{second}\n"));
        let delivered = turn as i64 * 3;
        edge.subscribers_had(delivered + 2, 1);
        drop(talk);

        let mut next = Talk::subscribed(&edge, version, "");
        let message = next.hears("MESSAGE");
        assert_eq!((message.text(), message.header("redelivered")), (line("c"), Some("true")));
        edge.subscribers_had(delivered + 3, 0);
    }
}

/// STOMP 1.2, "SUBSCRIBE ack Header", client-individual: "the ACK or NACK message operates on individual
/// messages". 1.1 has it too.
#[test]
fn an_individual_ack_leaves_what_came_before() {
    let edge = Edge::keeping();
    for version in ["1.1", "1.2"] {
        let mut talk = Talk::subscribed(&edge, version, "ack:client-individual\n");
        let [_, second] = talk.is_sent(&edge, ["a", "b"]);
        let id = if version == "1.2" { "id" } else { "subscription:s\nmessage-id" };
        talk.asks(&format!("ACK\n{id}:{second}\n"));
        drop(talk);
        Talk::subscribed(&edge, version, "").gets("a");
    }
    edge.subscribers_had(4, 0);
}

/// STOMP 1.2, "UNSUBSCRIBE": "to remove an existing subscription. Once the subscription is removed the STOMP
/// connections will no longer receive messages from that subscription." The others stand.
#[test]
fn unsubscribe_ends_one_subscription() {
    let edge = Edge::keeping();
    let mut talk = Talk::subscribed(&edge, "1.2", "");
    talk.asks("SUBSCRIBE\nid:t\ndestination:/queue/graphite\n");
    talk.asks("UNSUBSCRIBE\nid:s\n");
    for _ in 0..4 {
        append(&edge, "a");
        assert_eq!(talk.hears("MESSAGE").header("subscription"), Some("t"));
    }
    talk.asks("UNSUBSCRIBE\nid:t\n");
    append(&edge, "b");
    let mut other = Talk::subscribed(&edge, "1.2", "");
    other.gets("b");
    talk.is_quiet();
    talk.say("UNSUBSCRIBE\nid:s\n\n\0");
    talk.ends_with_error("there is no open subscription");
}

/// STOMP 1.2, "ACK": "The ACK frame MUST include an id header matching the ack header of the MESSAGE being
/// acknowledged."
#[test]
fn an_ack_names_a_message() {
    let edge = Edge::keeping();
    for (frame, expected) in [
        ("ACK\n\n\0", "without the header id"),
        ("ACK\nmessage-id:0-0\nsubscription:s\n\n\0", "without the header id"),
        ("ACK\nid:7-7\n\n\0", "was not sent in this session"),
        ("NACK\n\n\0", "without the header id"),
        ("NACK\nid:7-7\n\n\0", "was not sent in this session"),
    ] {
        let mut talk = Talk::subscribed(&edge, "1.2", "ack:client\n");
        talk.say(frame);
        talk.ends_with_error(expected);
    }
}

/// STOMP 1.2, "NACK": "NACK is the opposite of ACK. It is used to tell the server that the client did not
/// consume the message."
#[test]
fn what_is_nacked_comes_again() {
    let edge = Edge::keeping();
    let mut talk = Talk::subscribed(&edge, "1.2", "ack:client\n");
    let [_, second] = talk.is_sent(&edge, ["a", "b"]);
    // In the mode `client` it is cumulative, as ACK is.
    talk.asks(&format!("NACK\nid:{second}\n"));
    let mut again = [talk.hears("MESSAGE"), talk.hears("MESSAGE")];
    assert!(again.iter().all(|message| message.header("redelivered") == Some("true")), "{again:?}");
    again.sort_by_key(Frame::text);
    assert_eq!(again.each_ref().map(Frame::text), ["a", "b"].map(line));
    edge.subscribers_had(0, 2);
}

/// STOMP 1.0 has no NACK: "Client Commands".
#[test]
fn version_1_0_has_no_nack() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::subscribed(&edge, "1.0", "ack:client\n");
    let id = talk.gets("a");
    talk.say(format!("NACK\nmessage-id:{id}\n\n\0"));
    talk.ends_with_error("NACK is not in STOMP 1.0");
}
