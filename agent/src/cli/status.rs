//! `packetboat status`: one agent or consumer at a glance, from its `/status.json`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::cli::Failure;

/// How long the node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Where the node serves HTTP
    #[arg(long, default_value = "http://127.0.0.1:9613")]
    url: String,
    /// Print what the node says as it is
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &StatusArguments) -> Result<(), Failure> {
    let url = arguments.url.trim_end_matches('/');
    if url.starts_with("https://") {
        return Err(anyhow::anyhow!(
            "`status` reads http only: give the node an `http` on loopback beside its `https`, or ask curl for {url}/status.json"
        )
        .into());
    }
    let scheme = if url.contains("://") { "" } else { "http://" };
    let url = format!("{scheme}{url}/status.json");
    let text = fetch(&url)
        .with_context(|| format!("cannot read {url}: is the node running, and `listen.http` there?"))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        out.write_all(text.as_bytes())?;
    } else {
        let status: Value =
            serde_json::from_str(&text).with_context(|| format!("{url} does not answer like packetboat"))?;
        out.write_all(glance(&status).as_bytes())?;
    }
    Ok(())
}

fn fetch(url: &str) -> Result<String, ureq::Error> {
    // A proxy for the way out does not lead to a node, least of all to one on loopback.
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None);
    let agent: ureq::Agent = config.build().into();
    agent.get(url).call()?.body_mut().read_to_string()
}

/// What an operator asks first: is it taking metrics, do the links stand, how far are they behind.
fn glance(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let now_ms = status["now_ms"].as_i64().unwrap_or_default();
    let mut page = format!(
        "{} {} of mesh {}, packetboat {}\n",
        text(&status["kind"]),
        text(&status["name"]),
        text(&status["mesh"]),
        text(&status["version"])
    );
    let spool = &status["spool"];
    if spool.is_object() {
        // Writing to a String cannot fail.
        _ = writeln!(
            page,
            "spool    {}  {} of {} used, {} dead letters",
            if spool["is_full"] == true { "FULL, refusing" } else { "accepting" },
            size(&spool["used_bytes"]),
            size(&spool["limit_bytes"]),
            spool["rejects"]
        );
    }
    let links = || status["links"].as_array().into_iter().flatten();
    let all_books = || spool["links"].as_array().into_iter().flatten();
    for link in links() {
        let name = text(&link["name"]);
        let books = all_books().find(|books| books["name"] == name.as_str());
        page.push_str(&link_glance(&name, link, books, now_ms));
    }
    let is_kept =
        |books: &&Value| books["is_configured"] == true && !links().any(|link| link["name"] == books["name"]);
    for books in all_books().filter(is_kept) {
        _ = writeln!(page, "kept     {} {}", text(&books["name"]), books_glance(books, now_ms));
    }
    for orphan in all_books().filter(|link| link["is_configured"] == false && link["backlog"]["lines"] != 0) {
        _ = writeln!(
            page,
            "ORPHANED {}  {} metrics wait for a link that the topology no longer has",
            text(&orphan["name"]),
            orphan["backlog"]["lines"]
        );
    }
    page
}

fn link_glance(name: &str, link: &Value, books: Option<&Value>, now_ms: i64) -> String {
    let state = link["state"].as_str().unwrap_or("?");
    let since = age(now_ms - link["since_ms"].as_i64().unwrap_or(now_ms));
    let mut line = format!("link     {name}  {state} for {since}");
    if let Some(books) = books {
        line.push(',');
        line.push_str(&books_glance(books, now_ms));
    }
    line.push('\n');
    if let Some(error) = link["last_error"].as_str().filter(|_| state != "up") {
        _ = writeln!(line, "         {error}");
    }
    line
}

fn books_glance(books: &Value, now_ms: i64) -> String {
    let oldest = match books["oldest_ms"].as_i64() {
        Some(oldest_ms) => format!(", oldest {}", age(now_ms - oldest_ms)),
        None => String::new(),
    };
    let (backlog, delivered) = (&books["backlog"]["lines"], &books["delivered"]["lines"]);
    let mut text = format!(" backlog {backlog} metrics{oldest}, delivered {delivered}");
    if books["aside"]["lines"] != 0 {
        _ = write!(text, ", set aside {}", books["aside"]["lines"]);
    }
    text
}

fn age(ms: i64) -> String {
    let seconds = Duration::from_secs(Duration::from_millis(ms.max(0).unsigned_abs()).as_secs());
    humantime::format_duration(seconds).to_string()
}

fn size(bytes: &Value) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let mib = bytes.as_f64().unwrap_or_default() / MIB;
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_whose_link_is_down() {
        let status = json!({
            "mesh": "acme", "name": "us-east", "kind": "agent", "version": "0.1.0", "now_ms": 3_600_000,
            "links": [{"name": "eu", "state": "down", "since_ms": 3_540_000, "last_error": "mq.example.net:61613: connection refused"}],
            "spool": {
                "is_full": false, "used_bytes": 5_242_880, "limit_bytes": 4_294_967_296_u64, "rejects": 3,
                "links": [
                    {"name": "eu", "is_configured": true, "oldest_ms": 3_540_000,
                     "backlog": {"lines": 12}, "delivered": {"lines": 100}, "aside": {"lines": 0}},
                    {"name": "old", "is_configured": false, "oldest_ms": 0,
                     "backlog": {"lines": 7}, "delivered": {"lines": 0}, "aside": {"lines": 0}}
                ]
            }
        });
        insta::assert_snapshot!(glance(&status), @r"
        agent us-east of mesh acme, packetboat 0.1.0
        spool    accepting  5.0 MiB of 4.0 GiB used, 3 dead letters
        link     eu  down for 1m, backlog 12 metrics, oldest 1m, delivered 100
                 mq.example.net:61613: connection refused
        ORPHANED old  7 metrics wait for a link that the topology no longer has
        ");
    }

    #[test]
    fn an_agent_that_keeps_for_subscribers() {
        let status = json!({
            "mesh": "acme", "name": "dmz", "kind": "agent", "version": "0.1.0", "now_ms": 3_600_000,
            "links": [],
            "spool": {
                "is_full": false, "used_bytes": 0, "limit_bytes": 4_294_967_296_u64, "rejects": 0,
                "links": [
                    {"name": "subscribers", "is_configured": true, "oldest_ms": 3_540_000,
                     "backlog": {"lines": 12}, "delivered": {"lines": 100}, "aside": {"lines": 0}}
                ]
            }
        });
        insta::assert_snapshot!(glance(&status), @r"
        agent dmz of mesh acme, packetboat 0.1.0
        spool    accepting  0.0 MiB of 4.0 GiB used, 0 dead letters
        kept     subscribers  backlog 12 metrics, oldest 1m, delivered 100
        ");
    }
}
