//! The demo in a terminal: the road as a picture with live numbers, and a key that cuts the link.

mod keys;
mod picture;
mod view;

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::keys::Wish;
use self::view::View;
use crate::demo::log_tail::LogTail;
use crate::demo::stage::{self, Director};
use crate::demo::verdict::Verdict;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(50);

/// Shows it until somebody quits, or `quit`. What the nodes log is in `log`.
pub(crate) async fn run(rate: u32, quit: &CancellationToken, log: &LogTail) -> Result<Verdict> {
    let mut out = io::stdout();
    writeln!(out, "packetboat demo: setting up a mesh on loopback")?;
    let verdict = stage::run(rate, async |director| {
        Show::begin(rate, director, log)?.play(quit).await?;
        Ok(writeln!(io::stdout(), "packetboat demo: nothing is on its way any more; the nodes stop")?)
    })
    .await?;
    writeln!(out, "{verdict}")?;
    Ok(verdict)
}

/// The terminal while it shows the picture. Dropped, it is as it was before.
///
/// ratatui's terminal is never dropped itself: if the window was closed its drop would tell standard error,
/// which is gone as well, and panic.
struct Screen(ManuallyDrop<DefaultTerminal>);

impl Screen {
    fn open() -> Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| drop(ratatui::try_restore()));
        let terminal = terminal.context("cannot draw in this terminal; --plain does without")?;
        Ok(Self(ManuallyDrop::new(terminal)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        drop(self.0.show_cursor());
        drop(ratatui::try_restore());
    }
}

/// One showing of the demo.
struct Show<'a> {
    screen: Screen,
    director: &'a mut Director,
    log: &'a LogTail,
    view: View,
}

impl<'a> Show<'a> {
    fn begin(rate: u32, director: &'a mut Director, log: &'a LogTail) -> Result<Self> {
        let screen = Screen::open()?;
        let view = View::new(rate, director.http, director.seen.borrow_and_update().clone());
        Ok(Self { screen, director, log, view })
    }

    async fn play(mut self, quit: &CancellationToken) -> Result<()> {
        let mut keys = keys::listen().context("cannot read the keyboard")?;
        let mut frame = interval(FRAME);
        frame.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !(self.view.is_finishing && self.view.seen().is_settled()) {
            tokio::select! {
                _ = frame.tick() => {}
                Some(wish) = keys.recv() => self.obey(wish?)?,
                () = quit.cancelled(), if !self.view.is_finishing => self.finish(),
            }
            if self.director.seen.has_changed()? {
                self.view.take(self.director.seen.borrow_and_update().clone());
            }
            self.screen.0.draw(|frame| picture::draw(&self.view, &self.log.lines(), frame))?;
        }
        Ok(())
    }

    fn obey(&mut self, wish: Wish) -> Result<()> {
        match wish {
            Wish::CutOrMend => self.cut_or_mend(),
            Wish::Quit if self.view.is_finishing => bail!("left before everything had come; no verdict"),
            Wish::Quit => self.finish(),
        }
        Ok(())
    }

    fn cut_or_mend(&mut self) {
        if self.director.link.is_cut() {
            self.director.link.mend();
        } else if !self.view.is_finishing {
            self.director.link.cut();
        }
        self.view.link_is_cut = self.director.link.is_cut();
    }

    /// Nothing more is produced, and what is on its way may arrive.
    fn finish(&mut self) {
        self.view.is_finishing = true;
        self.director.enough.cancel();
        self.director.link.mend();
        self.view.link_is_cut = false;
    }
}
