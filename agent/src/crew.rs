//! The tasks of one node, in stages. A task that ends before it was told to ends the node, with its
//! name; stopping tells one stage after the other.

use std::future::Future;

use anyhow::{Context, Result, anyhow};
use futures_util::future::select_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Named tasks that are told to stop together.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    stop: CancellationToken,
    tasks: JoinSet<(String, Result<()>)>,
}

impl Stage {
    /// Starts a task; `work` gets the token that tells it to stop.
    pub(crate) fn start<F>(&mut self, name: impl Into<String>, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let name = name.into();
        let work = work(self.stop.clone());
        self.tasks.spawn(async move { (name, work.await) });
    }

    /// Waits for a task to end that nobody told to: says which, and why. For ever without tasks.
    async fn first_end(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(panic)) => anyhow!(panic).context("a task ended by a panic"),
            None => std::future::pending().await,
        }
    }

    /// Tells the tasks to stop and waits until they have.
    async fn finish(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            let (name, done) = ended.context("a task ended by a panic")?;
            done.with_context(|| format!("{name} failed while stopping"))?;
        }
        Ok(())
    }
}

/// Runs until `stop`, then stops `stages` one after the other, each when the one before has ended. The
/// first task that ends by itself is an error at once.
pub(crate) async fn run<const N: usize>(mut stages: [Stage; N], stop: &CancellationToken) -> Result<()> {
    tokio::select! {
        (error, ..) = select_all(stages.iter_mut().map(|stage| Box::pin(stage.first_end()))) => return Err(error),
        () = stop.cancelled() => {}
    }
    for stage in stages {
        stage.finish().await?;
    }
    Ok(())
}
