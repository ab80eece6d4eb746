//! Whether an agent with `users` lets in who dials it by a declared link. What the topology tells is said
//! here, and not by an ERROR when the link is up.

use super::agents::AgentDraft;
use super::book::Reported;
use super::value::Value;
use crate::model::{StompUpstream, User};
use crate::names::{closest, plain};

/// What a link does at its far end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Send,
    Subscribe,
}

/// Says at `at` why `agent` would not let a link do what it does with `queues`.
pub(crate) fn check<'q>(
    at: &Value<'_>,
    agent: &AgentDraft<'_>,
    link: &StompUpstream,
    doing: Doing,
    queues: impl Iterator<Item = &'q str>,
) {
    let Ok(drafts) = &agent.users else { return };
    let users: Result<Vec<&User>, Reported> = drafts.iter().map(|draft| draft.user()).collect();
    let Ok(users) = users else { return };
    if users.is_empty() {
        return;
    }
    let name = plain(agent.name);
    // Whom a certificate names, the topology does not know.
    let shows_certificate = link.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    let Some(login) = &link.login else {
        if !shows_certificate {
            let message =
                format!("agent `{name}` lets in nobody but its `users`, and this link has no `login`");
            at.fault(message, "add `login` and `passcode_file`");
        }
        return;
    };
    let login_shown = plain(login);
    match users.iter().find(|user| user.login == *login) {
        None if shows_certificate => {}
        None => {
            let mend = match closest(login, users.iter().map(|user| &*user.login)) {
                Some(meant) => format!("did you mean `{}`?", plain(meant)),
                None => format!("add `{login_shown}` to the `users` of `{name}`"),
            };
            at.fault(format!("agent `{name}` has no user `{login_shown}`, as which this link logs in"), mend);
        }
        Some(_) if link.passcode_file.is_none() && !shows_certificate => {
            let message =
                format!("agent `{name}` wants a passcode of `{login_shown}`, and this link has none");
            at.fault(message, "add a `passcode_file`");
        }
        Some(user) => check_rights(at, &name, user, doing, queues),
    }
}

fn check_rights<'q>(
    at: &Value<'_>,
    agent: &str,
    user: &User,
    doing: Doing,
    queues: impl Iterator<Item = &'q str>,
) {
    let (verb, rights, key) = match doing {
        Doing::Send => ("send to", &user.send, "send"),
        Doing::Subscribe => ("subscribe to", &user.subscribe, "subscribe"),
    };
    for queue in queues.filter(|queue| !rights.iter().any(|right| right == queue)) {
        let (login, queue) = (plain(&user.login), plain(queue));
        let message =
            format!("user `{login}` of agent `{agent}` may not {verb} `{queue}`, as this link would");
        at.fault(message, format!("add the queue to its `{key}` there"));
    }
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::tests::check;

    /// `a` on line 4 has users, `b` on line 5 dials it.
    fn text(users: &str, dial: &str) -> String {
        format!(
            "mesh: m\nqueues: [/queue/b]\nagents:\n  a: {{ host: a, listen: {{ stomp+tls: 0.0.0.0:1 }}, tls: {{ cert: /c, key: /k, \
             client_ca: /ca }}, users: {{ {users} }} }}\n  b: {{ host: b, {dial} }}\n"
        )
    }

    const USERS: &str =
        "us: { passcode_hash_file: /h, send: [/queue/graphite, /queue/b], subscribe: /queue/b }";

    fn check_dial(dial: &str, expected: &str) {
        check(&text(USERS, dial), expected);
    }

    #[test]
    fn a_link_has_a_login_or_a_certificate() {
        let rest = "agent `a` lets in nobody but its `users`, and this link has no `login`; add `login` and `passcode_file`";
        check_dial("forward: { to: a }", &format!("line 5: agents.b.forward.to: {rest}"));
        check_dial("collect: a", &format!("line 5: agents.b.collect: {rest}"));
        check(
            &format!("{}consumers: {{ c: {{ from: a, graphite: [g] }} }}", text(USERS, "region: x")),
            &format!("line 6: consumers.c.from: {rest}"),
        );
        check_dial(
            "forward: { to: a, login: us }",
            "line 5: agents.b.forward.to: agent `a` wants a passcode of `us`, and this link has none; add a `passcode_file`",
        );
        for dial in [
            "forward: { to: a, login: us, passcode_file: /p }",
            "forward: { to: a, tls: { cert: /c, key: /k } }",
            "tls: { cert: /c, key: /k }, forward: { to: a }",
        ] {
            assert!(Topology::parse(&text(USERS, dial)).is_ok(), "{dial}");
        }
    }

    #[test]
    fn a_link_logs_in_as_a_user_that_there_is() {
        check_dial(
            "forward: { to: a, login: u, passcode_file: /p }",
            "line 5: agents.b.forward.to: agent `a` has no user `u`, as which this link logs in; did you mean `us`?",
        );
        check_dial(
            "forward: { to: a, login: zz, passcode_file: /p }",
            "line 5: agents.b.forward.to: agent `a` has no user `zz`, as which this link logs in; add `zz` to the `users` of `a`",
        );
    }

    #[test]
    fn a_link_may_do_what_it_does() {
        check_dial(
            "collect: { from: a, login: us, passcode_file: /p }",
            "line 5: agents.b.collect.from: user `us` of agent `a` may not subscribe to `/queue/graphite`, as this link \
             would; add the queue to its `subscribe` there",
        );
        let dial = "collect: { from: a, queue: /queue/b, login: us, passcode_file: /p }";
        assert!(Topology::parse(&text(USERS, dial)).is_ok());
        check(
            &text(
                "us: { passcode_hash_file: /h, send: /queue/graphite }",
                "forward: { to: a, login: us, passcode_file: /p }",
            ),
            "line 5: agents.b.forward.to: user `us` of agent `a` may not send to `/queue/b`, as this link would; add the \
             queue to its `send` there",
        );
    }
}
