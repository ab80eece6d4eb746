//! What an agent collects, as the file says it.

use super::book::Checked;
use super::credentials::Credentials;
use super::links::{LinkDraft, node_name};
use super::queues;
use super::section::Section;
use super::value::Value;
use crate::model::{Queue, TlsClient};
use crate::raw::Node;

const KEYS: [&str; 7] = ["from", "name", "queue", "login", "passcode_file", "tls", "prefer_first"];
const MEND: &str = "name an agent or a broker, or write a list of them";

/// A node that is collected from, whose address is not known yet.
pub(crate) struct CollectDraft<'c> {
    pub(crate) from: &'c str,
    pub(crate) from_at: Value<'c>,
    pub(crate) name: Checked<String>,
    pub(crate) queue: Checked<Option<String>>,
    pub(crate) credentials: Checked<Credentials>,
    pub(crate) tls: Checked<Option<TlsClient>>,
    pub(crate) prefer_first: Checked<Option<bool>>,
    /// `None`: nothing but a name was written.
    pub(crate) section: Option<Section<'c>>,
}

impl CollectDraft<'_> {
    /// The queue that is collected: the default one, unless it says so.
    pub(crate) fn queue<'q>(&'q self, queues: &'q [Queue]) -> Option<&'q str> {
        let named = self.queue.as_ref().ok()?.as_deref();
        named.or(queues.first().map(|queue| &*queue.name))
    }
}

/// One, or a list of them.
pub(crate) fn read<'c>(at: &Value<'c>, queues: &[Queue]) -> Checked<Vec<CollectDraft<'c>>> {
    let items = match at.node() {
        Node::List(list) if list.is_empty() => Vec::new(),
        Node::List(_) => at.items(MEND)?,
        _ => vec![at.clone()],
    };
    // One that is faulty hides no other.
    Ok(items.iter().filter_map(|item| one(item, queues).ok()).collect())
}

fn one<'c>(at: &Value<'c>, queues: &[Queue]) -> Checked<CollectDraft<'c>> {
    let Node::Map(_) = at.node() else {
        let from = node_name(at)?;
        return Ok(CollectDraft {
            from,
            from_at: at.clone(),
            name: Ok(from.to_owned()),
            queue: Ok(None),
            credentials: Ok(Credentials::none()),
            tls: Ok(None),
            prefer_first: Ok(None),
            section: None,
        });
    };
    let section = Section::open(at.clone(), &KEYS)?;
    let from_at = section.need("from", MEND, |at| Ok(at.clone()))?;
    let from = node_name(&from_at)?;
    let queue = section.read("queue", |at| queues::known(at, queues));
    Ok(CollectDraft {
        from,
        from_at,
        name: section.get("name").map_or(Ok(from.to_owned()), Value::name),
        queue,
        credentials: Credentials::read(&section),
        tls: section.read("tls", super::tls::client),
        prefer_first: section.read("prefer_first", Value::flag),
        section: Some(section),
    })
}

/// What an agent collects goes by other names than its links, and by different ones.
pub(crate) fn check_names(links: &[LinkDraft<'_>], collects: &[CollectDraft<'_>]) {
    let mut taken: Vec<(&str, &Value<'_>)> = Vec::new();
    taken.extend(links.iter().filter_map(|link| Some((link.name.as_deref().ok()?, link.section.at()))));
    for collect in collects {
        let Ok(name) = &collect.name else { continue };
        let at = collect.section.as_ref().map_or(&collect.from_at, Section::at);
        if let Some((_, by)) = taken.iter().find(|(known, _)| known == name) {
            let message = format!("`{name}` is the name of {}{} too", by.path(), by.on_line());
            at.fault(message, "give one of them a `name` of its own");
        }
        taken.push((name, at));
    }
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::tests::{agent, check_agent};

    #[test]
    fn what_is_collected_is_a_name_or_a_list() {
        let collect = agent("collect: eu").collect;
        assert_eq!(
            (&*collect[0].name, &*collect[0].from, &*collect[0].queue),
            ("eu", "eu", "/queue/graphite")
        );
        assert_eq!(collect, agent("collect: [eu]").collect);
        let named =
            agent("collect: [{ from: eu, name: x, login: l, passcode_file: /p, prefer_first: true }]")
                .collect;
        assert_eq!((&*named[0].name, named[0].upstream.login.as_deref()), ("x", Some("l")));
        assert!(named[0].upstream.prefer_first);
        assert_eq!(agent("collect: []").collect.len(), 0);
    }

    #[test]
    fn a_broker_is_collected_from_as_it_says_unless_the_collect_does() {
        let text = |collect| {
            format!(
                "mesh: m\nbrokers: {{ eu: {{ urls: [stomp://a, stomp://b], login: l, prefer_first: true, headers: {{ \
                 subscribe: {{ x-queue-type: quorum }} }} }} }}\nagents: {{ a: {{ collect: {collect} }} }}"
            )
        };
        let upstream =
            |collect| Topology::parse(&text(collect)).unwrap().agents.remove(0).collect.remove(0).upstream;
        let eu = upstream("eu");
        assert_eq!((eu.endpoints.len(), eu.prefer_first, eu.subscribe_headers.len()), (2, true, 1));
        assert!(!upstream("{ from: eu, prefer_first: false }").prefer_first);
    }

    /// An address may hold a secret.
    #[test]
    fn a_node_goes_by_its_name() {
        let rest = "a login inside an address ends up in logs and process lists; remove it, and use `login` and \
                    `passcode_file`";
        check_agent("collect: ['stomp://me:geheim@mq']", &format!("line 4: agents.a.collect[0]: {rest}"));
        let rest = "a STOMP broker is not named by its URL; declare it under `brokers`, with its `urls`, and write its \
                    name here";
        check_agent("collect: { from: stomp+tls://mq }", &format!("line 4: agents.a.collect.from: {rest}"));
        check_agent(
            "collect: { from: graphite://g }",
            "line 4: agents.a.collect.from: nothing is fetched over graphite://; name a broker or an agent",
        );
    }

    #[test]
    fn bad_collects_are_faults() {
        check_agent(
            "collect: [eu-hb]",
            "line 4: agents.a.collect[0]: no broker or agent is called `eu-hb`; did you mean `eu`?",
        );
        check_agent(
            "collect: a",
            "line 4: agents.a.collect: `a` would collect from itself; name another node",
        );
        check_agent(
            "collect: [{ name: x }]",
            "line 4: agents.a.collect[0].from: is missing; name an agent or a broker, or write a list of them",
        );
        check_agent(
            "collect: eu, forward: { to: eu }",
            "line 4: agents.a.collect: metrics would go in a circle: a -> eu -> a; let one of these agents forward to, \
             or collect from, somewhere else\n\
             line 4: agents.a.collect: `eu` is the name of agents.a.forward on line 4 too; give one of them a `name` of \
             its own",
        );
        check_agent(
            "collect: { from: eu, queue: /queue/x }",
            "line 4: agents.a.collect.queue: `/queue/x` is no queue of the mesh; name one of `/queue/graphite`, or add \
             it to `queues`",
        );
        check_agent(
            "collect: [eu, { from: eu }]",
            "line 4: agents.a.collect[1]: `eu` is the name of agents.a.collect[0] on line 4 too; give one of them a `name` of \
             its own",
        );
        check_agent(
            "collect: 7",
            "line 4: agents.a.collect: is the number 7, and a text is wanted; put it in quotes",
        );
    }
}
