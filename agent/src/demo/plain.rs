//! The demo without a terminal: it cuts and mends the link by itself, and tells what happens line by line.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::demo::figures::size;
use crate::demo::lookout::Seen;
use crate::demo::stage::{self, DMZ_PART, Director};
use crate::demo::verdict::Verdict;

/// Parts of the whole time after which the link is cut and mended, and the producers stop; the rest is
/// for what is still on its way.
const CUT_AT: f64 = 0.2;
const MEND_AT: f64 = 0.5;
const STOP_AT: f64 = 0.8;
/// A backlog whose oldest metric is younger is none.
const FRESH: Duration = Duration::from_secs(1);
/// If nothing arrives for this long, nothing will.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// Runs it for about `length`, or until `quit`, and tells `out`.
pub(crate) async fn run(
    rate: u32,
    length: Duration,
    quit: &CancellationToken,
    out: &mut impl Write,
) -> Result<Verdict> {
    let verdict = stage::run(rate, async |director| {
        let mut teller = Teller { out: &mut *out, started: Instant::now() };
        if let Some(played) = quit.run_until_cancelled(play(director, rate, length, &mut teller)).await {
            played?;
        }
        finish(director, &mut teller).await
    })
    .await?;
    writeln!(out, "{verdict}")?;
    Ok(verdict)
}

/// Tells what happens, and when.
struct Teller<'a, W> {
    out: &'a mut W,
    started: Instant,
}

impl<W: Write> Teller<'_, W> {
    fn tell(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.out, "{:6.1} s  {what}", self.started.elapsed().as_secs_f64())?;
        self.out.flush()
    }
}

async fn play<W: Write>(
    director: &mut Director,
    rate: u32,
    length: Duration,
    teller: &mut Teller<'_, W>,
) -> Result<()> {
    let at = |part: f64| teller.started + length.mul_f64(part);
    let (cut_at, mend_at, stop_at) = (at(CUT_AT), at(MEND_AT), at(STOP_AT));
    let in_dmz = rate / DMZ_PART;
    teller.tell(&format!(
        "{} metrics a second go to us-east, which forwards to eu, and {in_dmz} to dmz-web, where eu collects",
        rate - in_dmz
    ))?;
    teller.tell(&format!("us-east can be looked at: packetboat status --url http://{}", director.http))?;

    sleep_until(cut_at).await;
    director.link.cut();
    let arrived = director.seen.borrow().graphite.metrics;
    teller.tell(&format!("the link from us-east to eu is cut; {arrived} metrics are in Graphite"))?;

    sleep_until(mend_at).await;
    let seen = director.seen.borrow().clone();
    let (oldest, spool) = (seen.us.oldest.as_secs_f64(), size(seen.us.spool_bytes));
    teller.tell(&format!(
        "the backlog of us-east has grown to {} metrics, the oldest {oldest:.1} s old; its spool holds {spool}",
        seen.us.backlog
    ))?;
    let came = seen.graphite.metrics - arrived;
    teller.tell(&format!("{came} metrics came to Graphite meanwhile: eu goes on collecting from dmz-web"))?;
    director.link.mend();
    teller.tell("the link is mended")?;

    drain(director, stop_at + length, teller).await?;
    sleep_until(stop_at).await;
    Ok(())
}

/// Waits until only fresh metrics wait in the spool, or until `deadline`: with more metrics than the machine
/// can carry they never do.
async fn drain<W: Write>(
    director: &mut Director,
    deadline: Instant,
    teller: &mut Teller<'_, W>,
) -> Result<()> {
    let mended = Instant::now();
    let drained = |seen: &Seen| seen.at > mended && seen.us.link == "up" && seen.us.oldest < FRESH;
    if let Ok(done) = timeout_at(deadline, wait(director, drained)).await {
        done?;
        teller.tell(&format!(
            "the backlog of us-east is drained, {:.1} s later",
            mended.elapsed().as_secs_f64()
        ))?;
    } else {
        let backlog = director.seen.borrow().us.backlog;
        teller.tell(&format!(
            "the backlog of us-east is {backlog} metrics: they come faster than they are carried"
        ))?;
    }
    Ok(())
}

/// Stops the producers, and waits until everything that they sent has come, or never will.
async fn finish<W: Write>(director: &mut Director, teller: &mut Teller<'_, W>) -> Result<()> {
    director.link.mend();
    director.enough.cancel();
    teller.tell("the producers stop")?;
    wait(director, Seen::is_settled).await?;
    teller.tell("nothing is on its way any more")?;
    Ok(())
}

/// Waits until it is `done`, as long as there is something to wait for.
async fn wait(director: &mut Director, done: impl Fn(&Seen) -> bool) -> Result<()> {
    loop {
        let before = director.seen.borrow_and_update().clone();
        if done(&before) {
            return Ok(());
        }
        let moved = |seen: &Seen| done(seen) || seen.graphite != before.graphite;
        if timeout(STANDSTILL_MAX, director.seen.wait_for(moved)).await.is_err() {
            bail!("nothing has come to Graphite for {STANDSTILL_MAX:?}: {before:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 2000;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_link_is_cut_and_mended_and_nothing_is_lost() {
        let mut out = Vec::new();
        let length = Duration::from_secs(3);
        let verdict = run(RATE, length, &CancellationToken::new(), &mut out).await.unwrap();
        let told = String::from_utf8(out).unwrap();
        assert!(verdict.is_good(), "{told}");
        assert_eq!(verdict.accepted, verdict.arrived, "{told}");
        assert!(verdict.accepted >= u64::from(RATE) * 2, "{told}");
        for what in
            ["is cut", "has grown to", "goes on collecting", "is mended", "us-east is ", "the producers stop"]
        {
            assert!(told.contains(what), "no {what:?} in {told}");
        }
        assert_eq!(told.lines().last(), Some(verdict.to_string().as_str()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_metric_that_never_comes_is_missed() {
        let verdict = stage::run(RATE, async |director| {
            // As if an agent had receipted a metric and lost it.
            director.accepted.enter(b"us.host000.lost 1 1000\n");
            finish(director, &mut Teller { out: &mut Vec::new(), started: Instant::now() }).await
        })
        .await
        .unwrap();
        assert_eq!(verdict.missing, 1, "{verdict}");
        assert!(!verdict.is_good());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn told_to_quit_it_mends_the_link_and_drains() {
        let quit = CancellationToken::new();
        let mut out = Vec::new();
        let verdict = stage::run(RATE, async |director| {
            director.link.cut();
            director.seen.wait_for(|seen| seen.us.link == "down" && seen.us.backlog > 0).await?;
            quit.cancel();
            let mut teller = Teller { out: &mut out, started: Instant::now() };
            let played =
                quit.run_until_cancelled(play(director, RATE, Duration::from_secs(3600), &mut teller)).await;
            assert!(played.is_none());
            finish(director, &mut teller).await
        })
        .await
        .unwrap();
        assert!(verdict.is_good(), "{verdict}");
    }
}
