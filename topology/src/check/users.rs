//! Who may do what at the STOMP listeners of an agent.

use std::collections::HashMap;

use super::book::{Checked, by_ref, every};
use super::credentials::absolute;
use super::queues;
use super::section::{Section, check_repeats, repeated};
use super::value::Value;
use crate::model::{PASSCODE_COSTS_MAX, PasscodeHash, Queue, User};
use crate::names::plain;
use crate::raw::Node;

const KEYS: [&str; 8] =
    ["passcode_hash", "passcode_hash_file", "certificate", "send", "prefixes", "subscribe", "role", "node"];
const MEND: &str = "write a map from logins to what each may do, or remove the key";
/// Of 8 bytes, which is the least for argon2, and of 16, below which a hash would be met by chance: in base64.
const SALT_CHARS_MIN: usize = 11;
const HASH_CHARS_MIN: usize = 22;
const HASH_MEND: &str = "make one with `packetboat passcode`";

/// A user whose node is not looked up yet.
pub(crate) struct UserDraft<'c> {
    pub(crate) certificate: Option<Value<'c>>,
    /// The node that it is, and where the file says so.
    pub(crate) node: Option<(String, Value<'c>)>,
    user: Checked<User>,
}

/// The users of an agent.
pub(crate) fn read<'c>(at: &Value<'c>, queues: &[Queue]) -> Checked<Vec<UserDraft<'c>>> {
    let entries = at.entries(MEND)?;
    if entries.is_empty() {
        // To the model that would mean that anybody may do anything.
        return Err(at.fault("names nobody", MEND));
    }
    check_repeats(&entries);
    let users = every(entries.iter().map(|(login, at)| user(login, at, queues)))?;
    check_certificates(&users);
    Ok(users)
}

/// A certificate stands for one user.
fn check_certificates(users: &[UserDraft<'_>]) {
    let mut first: HashMap<&str, &Value<'_>> = HashMap::new();
    for at in users.iter().filter_map(|user| user.certificate.as_ref()) {
        let Ok(name) = at.text() else { continue };
        match first.get(name) {
            None => {
                first.insert(name, at);
            }
            Some(earlier) => {
                repeated(at, earlier);
            }
        }
    }
}

impl UserDraft<'_> {
    pub(crate) fn finish(&self) -> Checked<User> {
        self.user.clone()
    }

    /// The user itself, as far as it could be read.
    pub(crate) fn user(&self) -> Checked<&User> {
        by_ref(&self.user)
    }
}

fn user<'c>(login: &'c str, at: &Value<'c>, queues: &[Queue]) -> Checked<UserDraft<'c>> {
    if login.trim().is_empty() || login.contains(char::is_control) {
        return Err(at.fault(format!("`{}` is no login", plain(login)), "write one line of plain text"));
    }
    let section = Section::open(at.clone(), &KEYS)?;
    let passcode = passcode(&section);
    let certificate = section.read("certificate", Value::text);
    let send = section.read("send", |at| known_queues(at, queues));
    let prefixes = section.read("prefixes", prefixes);
    let subscribe = section.read("subscribe", |at| known_queues(at, queues));
    let is_node = section.read("role", |at| at.choice(&[("node", true)])).map(|role| role.unwrap_or(false));
    let node = node(&section, login, is_node);
    if matches!((&passcode, &certificate), (Ok(None), Ok(None))) {
        let mend = "add a `passcode_hash`, which `packetboat passcode` makes, or a `certificate`";
        return Err(at.fault("could never log in", mend));
    }
    if let (Some(at), Ok(None)) = (section.get("prefixes"), &send) {
        return Err(at.fault("says nothing without `send`", "add the queues that it may `send` to"));
    }
    let named = node?;
    let user = (|| {
        Ok(User {
            login: login.to_owned(),
            passcode: passcode?,
            certificate: certificate?.map(str::to_owned),
            send: send?.unwrap_or_default(),
            prefixes: prefixes?.unwrap_or_default(),
            subscribe: subscribe?.unwrap_or_default(),
            node: named.as_ref().map(|(name, _)| name.clone()),
        })
    })();
    Ok(UserDraft { certificate: section.get("certificate").cloned(), node: named, user })
}

fn passcode(section: &Section<'_>) -> Checked<Option<PasscodeHash>> {
    let text = section.read("passcode_hash", hash);
    let file = section.read("passcode_hash_file", |at| at.parse(absolute));
    match (text?, file?) {
        (Some(_), Some(_)) => Err(section.at().fault_at(
            "passcode_hash_file",
            "stands beside `passcode_hash`, and only one can count",
            "remove one of the two",
        )),
        (Some(text), None) => Ok(Some(PasscodeHash::Text(text))),
        (None, file) => Ok(file.map(PasscodeHash::File)),
    }
}

/// What may be a passcode is never repeated in a message.
fn hash(at: &Value<'_>) -> Checked<String> {
    let text = match at.node() {
        Node::Text(text) if text.starts_with("$argon2id$") => text,
        _ => {
            return Err(
                at.fault("is no argon2id hash, and a passcode itself does not belong here", HASH_MEND)
            );
        }
    };
    let Some(costs) = costs_of(text) else {
        return Err(at.fault("is cut off, or is no whole hash of argon2", HASH_MEND));
    };
    for ((what, asked), most) in ["m", "t", "p"].into_iter().zip(costs).zip(PASSCODE_COSTS_MAX) {
        if asked > most {
            return Err(
                at.fault(format!("asks for {what}={asked}, and at most {most} is allowed"), HASH_MEND)
            );
        }
    }
    Ok(text.clone())
}

/// What a hash asks for: KiB of memory, passes, lanes. `$argon2id$v=19$m=..,t=..,p=..$SALT$HASH`, if that is what it is
/// (the PHC string format).
fn costs_of(text: &str) -> Option<[u32; 3]> {
    let ["", "argon2id", "v=19" | "v=16", parameters, salt, hash] = text.split('$').collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let [memory, passes, lanes] = parameters.split(',').collect::<Vec<_>>()[..] else { return None };
    let number = |part: &str, name: &str| part.strip_prefix(name)?.parse::<u32>().ok();
    let costs = [number(memory, "m=")?, number(passes, "t=")?, number(lanes, "p=")?];
    let is_base64 =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
    let is_whole =
        salt.len() >= SALT_CHARS_MIN && hash.len() >= HASH_CHARS_MIN && is_base64(salt) && is_base64(hash);
    let [memory, passes, lanes] = costs;
    (is_whole && passes > 0 && lanes > 0 && memory >= lanes.saturating_mul(8)).then_some(costs)
}

fn node<'c>(
    section: &Section<'c>,
    login: &str,
    is_node: Checked<bool>,
) -> Checked<Option<(String, Value<'c>)>> {
    let at = section.get("node");
    match (is_node?, at) {
        (false, None) => Ok(None),
        (false, Some(at)) => Err(at.fault("says nothing without `role: node`", "add `role: node`")),
        (true, Some(at)) => Ok(Some((at.name()?, at.clone()))),
        (true, None) => {
            let at = section.get("role").unwrap_or(section.at());
            Ok(Some((login.to_owned(), at.clone())))
        }
    }
}

/// A queue or a list of queues, all of the mesh.
fn known_queues(at: &Value<'_>, queues: &[Queue]) -> Checked<Vec<String>> {
    let items = at.one_or_more("write a queue, or a list of them")?;
    every(items.iter().map(|item| queues::known(item, queues)))
}

fn prefixes(at: &Value<'_>) -> Checked<Vec<String>> {
    let one = |at: &Value<'_>| {
        let text = at.text()?;
        if text.contains(char::is_whitespace) || text.contains('*') {
            let message = format!("`{}` is no beginning of a metric name", plain(text));
            return Err(at.fault(message, "write it like `dmz.web.`, without blanks and stars"));
        }
        Ok(text.to_owned())
    };
    let items = at.one_or_more("write a list such as [dmz.web.]")?;
    every(items.iter().map(one))
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::model::PasscodeHash;
    use crate::tests::{agent, check, check_agent};

    const HASH: &str = "'$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA'";

    #[test]
    fn a_user_is_what_it_says() {
        let users = agent(&format!(
            "users: {{ web: {{ passcode_hash: {HASH}, send: /queue/graphite, prefixes: [web., app.] }}, \
             ops: {{ passcode_hash_file: /etc/ops, subscribe: [/queue/graphite] }} }}"
        ))
        .users;
        assert_eq!(
            (&*users[0].login, &*users[0].prefixes),
            ("web", &["web.".to_owned(), "app.".to_owned()][..])
        );
        assert_eq!((users[0].send.len(), users[0].subscribe.len(), users[1].subscribe.len()), (1, 0, 1));
        assert_eq!(users[1].node, None);
    }

    #[test]
    fn a_hash_is_not_shown() {
        let user = agent(&format!("users: {{ web: {{ passcode_hash: {HASH} }} }}")).users.remove(0);
        assert!(format!("{user:?}").contains("passcode: Some(Text(..))"), "{user:?}");
        let user = agent("users: { web: { passcode_hash_file: /etc/web } }").users.remove(0);
        assert_eq!(user.passcode, Some(PasscodeHash::File("/etc/web".into())));
    }

    #[test]
    fn a_hash_is_given_once() {
        check_agent(
            &format!("users: {{ web: {{ passcode_hash: {HASH}, passcode_hash_file: /x }} }}"),
            "line 4: agents.a.users.web.passcode_hash_file: stands beside `passcode_hash`, and only one can count; remove \
             one of the two",
        );
        check_agent(
            "users: { web: { passcode_hash_file: web.hash } }",
            "line 4: agents.a.users.web.passcode_hash_file: `web.hash` is a relative path; write the whole path, from / on \
             (`~` and `$` are not expanded)",
        );
    }

    /// It would let everybody in.
    #[test]
    fn users_name_somebody() {
        let rest = "names nobody; write a map from logins to what each may do, or remove the key";
        check_agent("open: true, users: {}", &format!("line 4: agents.a.users: {rest}"));
        check_agent("users:", &format!("line 4: agents.a.users: {rest}"));
        check_agent(
            "users: [web]",
            "line 4: agents.a.users: is a list, and a map is wanted; write a map from logins to what each may do, or remove \
             the key",
        );
        check_agent(
            "users: { \"a\\nb\": {} }",
            "line 4: agents.a.users.a\\u{a}b: `a\\u{a}b` is no login; write one line of plain text",
        );
    }

    #[test]
    fn users_want_a_stomp_listener() {
        check_agent(
            &format!(
                "listen: {{ graphite: 127.0.0.1:1 }}, serve: true, users: {{ web: {{ passcode_hash: {HASH} }} }}"
            ),
            "line 4: agents.a.users: says nothing without a STOMP listener; add `stomp` or `stomp+tls` to `listen`\n\
             line 4: agents.a.serve: says nothing without a STOMP listener; add `stomp` or `stomp+tls` to `listen`",
        );
    }

    #[test]
    fn a_user_can_log_in() {
        check_agent(
            "users: { web: { send: /queue/graphite } }",
            "line 4: agents.a.users.web: could never log in; add a `passcode_hash`, which `packetboat passcode` makes, \
             or a `certificate`",
        );
    }

    #[test]
    fn a_passcode_is_never_repeated() {
        check_agent(
            "users: { web: { passcode_hash: geheim } }",
            "line 4: agents.a.users.web.passcode_hash: is no argon2id hash, and a passcode itself does not belong here; \
             make one with `packetboat passcode`",
        );
        check_agent(
            "users: { web: { passcode_hash: 123456 } }",
            "line 4: agents.a.users.web.passcode_hash: is no argon2id hash, and a passcode itself does not belong here; \
             make one with `packetboat passcode`",
        );
        for value in ["true", "[geheim]", "~", r#""ge\nheim""#] {
            check_agent(
                &format!("users: {{ web: {{ passcode_hash: {value} }} }}"),
                "line 4: agents.a.users.web.passcode_hash: is no argon2id hash, and a passcode itself does not belong here; \
                 make one with `packetboat passcode`",
            );
        }
        let fields = [
            "m=1",
            "m=1,t=1,p=1$c2FsdA",
            "m=1,t=1,p=1$c2FsdA$",
            "m=1,t=1,p=1$c2FsdA$a b",
            "m=1$c2FsdA$aGFzaA",
            "m=x,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "m=8,t=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
        ];
        for rest in fields {
            check_agent(
                &format!("users: {{ web: {{ passcode_hash: '$argon2id$v=19${rest}' }} }}"),
                "line 4: agents.a.users.web.passcode_hash: is cut off, or is no whole hash of argon2; make one with \
                 `packetboat passcode`",
            );
        }
        check_agent(
            "users: { web: { passcode_hash: '$argon2id$v=19$m=1048576,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA' } }",
            "line 4: agents.a.users.web.passcode_hash: asks for m=1048576, and at most 65536 is allowed; make one with \
             `packetboat passcode`",
        );
        check_agent(
            "users: { web: { passcode: geheim } }",
            "line 4: agents.a.users.web.passcode: secrets do not belong into the topology; write its hash as \
             `passcode_hash`, or into a file that `passcode_hash_file` names; `packetboat passcode` makes one\n\
             line 4: agents.a.users.web: could never log in; add a `passcode_hash`, which `packetboat passcode` makes, or \
             a `certificate`",
        );
    }

    #[test]
    fn rights_are_of_queues_that_there_are() {
        check_agent(
            &format!("users: {{ web: {{ passcode_hash: {HASH}, send: /queue/x }} }}"),
            "line 4: agents.a.users.web.send: `/queue/x` is no queue of the mesh; name one of `/queue/graphite`, or add it \
             to `queues`",
        );
        check_agent(
            &format!("users: {{ web: {{ passcode_hash: {HASH}, prefixes: web }} }}"),
            "line 4: agents.a.users.web.prefixes: says nothing without `send`; add the queues that it may `send` to",
        );
        check_agent(
            &format!(
                "users: {{ web: {{ passcode_hash: {HASH}, send: /queue/graphite, prefixes: 'web.*' }} }}"
            ),
            "line 4: agents.a.users.web.prefixes: `web.*` is no beginning of a metric name; write it like `dmz.web.`, \
             without blanks and stars",
        );
    }

    #[test]
    fn a_node_is_one_that_dials_here() {
        check_agent(
            &format!("users: {{ web: {{ passcode_hash: {HASH}, role: node }} }}"),
            "line 4: agents.a.users.web.role: no node `web` dials `a`: none forwards to it, collects from it or drains it; \
             name the one that does in `node`, or remove the role",
        );
        check_agent(
            &format!("users: {{ web: {{ passcode_hash: {HASH}, node: b }} }}"),
            "line 4: agents.a.users.web.node: says nothing without `role: node`; add `role: node`",
        );
    }

    #[test]
    fn a_node_is_an_agent_or_a_consumer_that_dials_here() {
        let text = |user: &str| {
            format!(
                "mesh: m
brokers: {{ eu: {{ urls: [stomp://mq] }} }}
agents:
  a: {{ host: a, listen: {{ stomp: 0.0.0.0:1 }}, users: {{ {user} }} }}
  b: {{ host: b, forward: {{ to: a, login: b, passcode_file: /p }} }}
  c: {{ host: c, collect: {{ from: a, login: c, passcode_file: /p }} }}
  d: {{ host: d, forward: {{ to: eu }} }}
consumers: {{ e: {{ from: a, login: e, passcode_file: /p, graphite: [g] }} }}"
            )
        };
        let all = "/queue/graphite";
        let user = |login, rest: &str| {
            format!("{login}: {{ passcode_hash_file: /x, send: {all}, subscribe: {all}, {rest} }}")
        };
        let nodes =
            [user("b", "role: node"), user("c", "role: node"), user("e", "role: node, node: e")].join(", ");
        let mesh = Topology::parse(&text(&nodes)).unwrap_or_else(|faults| panic!("{faults}"));
        let nodes_of: Vec<_> = mesh.agents[0].users.iter().map(|user| user.node.as_deref()).collect();
        assert_eq!(nodes_of, [Some("b"), Some("c"), Some("e")]);
        let others = [user("c", ""), user("e", "")].join(", ");
        for (node, key) in [("d", "node"), ("eu", "node"), ("nobody", "node")] {
            check(
                &text(&[user("b", &format!("role: node, node: {node}")), others.clone()].join(", ")),
                &format!(
                    "line 4: agents.a.users.b.{key}: no node `{node}` dials `a`: none forwards to it, collects from it or \
                     drains it; name the one that does in `node`, or remove the role"
                ),
            );
        }
        check(
            &text(&[user("b", "role: admin"), others].join(", ")),
            "line 4: agents.a.users.b.role: `admin` is no choice here; write `node`",
        );
    }

    #[test]
    fn a_certificate_stands_for_one_user() {
        let tls = "listen: { stomp+tls: 127.0.0.1:1 }, tls: { cert: /c, key: /k, client_ca: /ca }";
        let a = agent(&format!("{tls}, users: {{ web: {{ certificate: web.example.net }} }}"));
        assert_eq!(a.users[0].certificate.as_deref(), Some("web.example.net"));
        check_agent(
            &format!("{tls}, users: {{ web: {{ certificate: w }}, app: {{ certificate: w }} }}"),
            "line 4: agents.a.users.app.certificate: is given twice, before this on line 4; keep one of the two",
        );
    }

    #[test]
    fn a_certificate_wants_a_listener_that_asks_for_it() {
        check_agent(
            "users: { web: { certificate: web.example.net } }",
            "line 4: agents.a.users.web.certificate: no listener asks for a client certificate; add `stomp+tls` to \
             `listen`, and `client_ca` to the agent's `tls`",
        );
    }
}
