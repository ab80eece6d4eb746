//! STOMP clients that others have written, over TLS: each believes our authority and no other, and what they do
//! in clear text they do here as well. PECL stomp is not among them: Debian builds it without TLS (`php -i`
//! says "SSL Support => disabled").

use tests::certificates::Authority;
use tests::edge::{Edge, Tls};
use tests::points::Points;
use tests::wait::{until, when};

use crate::LIMIT;
use crate::client::Client;
use crate::subscriber::{acknowledges, lives_by_its_heart_beats, refuses};

/// It shows no certificate: as a client it reads only RSA keys, and by a method that newer Rubies lack.
#[test]
fn ruby_stomp_works_over_tls() {
    works(Client::Ruby, false);
    lives_by_its_heart_beats(&Edge::keeping_over_tls(false), Client::Ruby, &["1.2"]);
}

#[test]
fn pythons_client_works_over_tls() {
    works(Client::Python, true);
    lives_by_its_heart_beats(&Edge::keeping_over_tls(true), Client::Python, &["1.2"]);
}

#[test]
fn perls_client_works_over_tls() {
    works(Client::Perl, true);
}

#[test]
fn nodes_client_works_over_tls() {
    works(Client::Node, true);
    lives_by_its_heart_beats(&Edge::keeping_over_tls(true), Client::Node, &["1.2"]);
}

/// Its `connect` knows TCP only: the session is made of its codec over a TLS stream.
#[test]
fn the_tokio_stomp_client_works_over_tls() {
    works(Client::Rust, true);
}

/// It sends, is redelivered what it left and what it refused, and acknowledges; and it knows whom it talks to.
fn works(client: Client, mutual: bool) {
    acknowledges(&Edge::keeping_over_tls(mutual), client, &["1.2"]);
    refuses(&Edge::keeping_over_tls(mutual), client, &["1.2"]);
    believes_no_other(client, mutual);
}

fn believes_no_other(client: Client, mutual: bool) {
    let edge = Edge::keeping_over_tls(mutual);
    let own = edge.tls().and_then(|tls| tls.own.clone());
    let other = Tls { ca: Authority::new(edge.scratch().path(), "other").pem(), own };
    let points = Points::new(&format!("other.{}", client.name()), 2, 4);
    let output = client.try_to_produce(&edge, Some(&other), &points.lines(points.all()));
    assert!(!output.status.success(), "{client:?}: {output:?}");
    until(LIMIT, "the agent to say why", || {
        let log = edge.agent.log();
        when(log.contains("does not trust the CA") || log.contains("left during the TLS handshake"), log)
    });
    edge.subscribers_had(0, 0);
}
