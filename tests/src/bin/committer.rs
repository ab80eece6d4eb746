//! A receiver for one STOMP session that commits each SEND to SQLite as it is told to, and then confirms
//! it. With `FULL` its receipts may be believed, with `NORMAL` not: which is what the checker of receipts
//! has to find out.
//!
//!     committer PORT DIR FULL|NORMAL

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use rusqlite::Connection;
use tests::stomp::Stomp;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, dir, synchronous] = &arguments[..] else {
        bail!("usage: committer PORT DIR FULL|NORMAL");
    };
    let db = Connection::open(PathBuf::from(dir).join("spool.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", synchronous)?;
    db.execute_batch("CREATE TABLE body (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")?;

    let (stream, _) = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?.accept()?;
    let (mut session, _connect) = Stomp::accept(stream)?;
    session.write("CONNECTED", &[("version", "1.2")], b"")?;
    loop {
        let frame = session.read().context("the session broke")?;
        if frame.command == "SEND" {
            db.execute("INSERT INTO body (bytes) VALUES (?1)", [zstd::encode_all(&*frame.body, 1)?])?;
        }
        session.confirm(&frame)?;
        if frame.command == "DISCONNECT" {
            return Ok(());
        }
    }
}
