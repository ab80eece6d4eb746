//! How fast the same producer gets the same lines into a reader that only counts them: what the machine and the
//! loopback give at this moment.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::lines::Payload;
use crate::producer::{self, Sent};
use crate::usage::cpu_seconds_of_this_thread;

const READ_BYTES: usize = 64 * 1024;

/// Sends at least `lines` lines of `payload` to the reader, whose CPU time it tells.
pub(crate) fn measure(payload: &Payload, lines: usize) -> Result<Sent> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the reader")?;
    let address = listener.local_addr()?;
    let reader = thread::spawn(move || count_lines(&listener));
    let mut sent = producer::plaintext(address, payload, lines)?;
    let (counted, cpu_seconds) = reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    ensure!(counted == sent.lines, "the reader counted {counted} of {} lines", sent.lines);
    sent.cpu_seconds = cpu_seconds;
    Ok(sent)
}

fn count_lines(listener: &TcpListener) -> Result<(u64, f64)> {
    let (mut connection, _) = listener.accept()?;
    let (mut buffer, mut lines) = (vec![0; READ_BYTES], 0);
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok((lines, cpu_seconds_of_this_thread()?)),
            read => lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64,
        }
    }
}
