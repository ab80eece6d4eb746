//! Around the pump: connect, pump, and connect again, for ever and with patience.
//!
//! [`keep_pumping`] is a link of an agent: its source, the spool, stands and its upstream is dialled.
//! [`drain`] is a consumer: it opens the pool to Graphite first, and subscribes only while that
//! stands, so that no message is taken that nobody can write.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::pump::{End, pump};
use crate::retry::Retry;
use crate::sink::{Sink, SinkEnd};
use crate::source::{Source, SourceEnd};
use crate::trouble::Trouble;
use crate::watch::LinkWatch;

/// A courier whose source was dropped has this long to hand in the last confirmations. It bounds
/// itself more closely; this is for one that hangs.
const FAREWELL_MAX: Duration = Duration::from_secs(10);

/// Opens one end of a link: a session with a broker, or a pool of connections to Graphite.
pub trait Connect: Send {
    /// What is opened.
    type Session: Send;
    /// Why it could not be. It names the address; its causes are shown too.
    type Error: Error + Send;

    /// Tries once, over the whole list of addresses. To be bounded in time: what waits for ever
    /// here is shown as down, but not why. May be dropped half-way.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Session, Self::Error>> + Send;

    /// What it has opened last was sent something, and took nothing, or nothing more, of it: elsewhere it may be
    /// taken.
    fn disappointed(&mut self) {}

    /// What it has opened last has served until it ended.
    fn served(&mut self) {}

    /// Ready once [`Connect::connect`] would open something better than what it has opened last: then
    /// that is left in order. Never, unless said otherwise. May be dropped half-way.
    fn better(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// A connector and its patience.
struct Redial<C> {
    connect: C,
    retry: Retry,
    failed: bool,
}

impl<C: Connect> Redial<C> {
    fn new(connect: C, retry: Retry) -> Self {
        let failed = false;
        Self { connect, retry, failed }
    }

    /// Connects, until it succeeds; after a failure it waits first, as the retry policy says. May be
    /// dropped at any time.
    async fn session(&mut self, watch: &LinkWatch) -> C::Session {
        loop {
            if self.failed {
                sleep(self.retry.delay()).await;
            }
            match self.connect.connect().await {
                Ok(session) => {
                    self.failed = false;
                    self.retry.stands();
                    return session;
                }
                Err(error) => {
                    self.failed = true;
                    watch.failed(&error, false);
                }
            }
        }
    }
}

/// Pumps `source` into what `connect` opens, and opens it again whenever it ends, until `stop` is
/// cancelled or the source is closed. An error means that the source itself is lost.
pub async fn keep_pumping<S: Source, C: Connect<Session: Sink>>(
    source: &mut S,
    connect: C,
    retry: Retry,
    mut trouble: Trouble,
    watch: &LinkWatch,
    stop: &CancellationToken,
) -> Result<(), SourceEnd> {
    let mut upstream = Redial::new(connect, retry);
    while let Some(mut sink) = stop.run_until_cancelled(upstream.session(watch)).await {
        watch.stands(trouble.is_refused());
        let leave = stop.child_token();
        let end = {
            let pumping = pump(source, &mut sink, &mut trouble, watch, &leave);
            leaving_for_better(pumping, &mut upstream.connect, &leave).await
        };
        if trouble.confirmed_in_session() > 0 {
            upstream.retry.confirmed();
        }
        match end {
            // It is left for a better one.
            End::Stopped if !stop.is_cancelled() => sink.close().await,
            End::Stopped | End::Source(SourceEnd::Closed) => {
                sink.close().await;
                break;
            }
            End::Source(lost) => {
                watch.failed(&lost, false);
                return Err(lost);
            }
            End::Sink(_) => {
                upstream.failed = true;
                if trouble.took_no_more() {
                    upstream.connect.disappointed();
                } else if trouble.confirmed_in_session() > 0 {
                    upstream.connect.served();
                }
                watch.failed(&end, trouble.is_refused());
            }
        }
    }
    watch.stopped();
    Ok(())
}

/// Pumps what `subscribe` opens into what `open_sink` opens, a Graphite or a store, and opens both again
/// whenever one of them ends, until `stop` is cancelled.
///
/// A subscription comes with its courier: the future that keeps its session while leases are out, so
/// that a slow sink does not cost it, and ends it when a message was out for too long. It ends soon
/// after the source was dropped, once the upstream has all confirmations.
///
/// Without a connection to Graphite for 10 s the sink ends with [`SinkEnd::Closed`]; then the
/// subscription is dropped with its session, so that its messages go to other consumers. When the
/// subscription is lost the sink is dropped, too: what it still holds belongs to a session that is
/// gone, and must not be confirmed in the next one.
pub async fn drain<O, C, S, F>(
    open_sink: O,
    sink_retry: Retry,
    subscribe: C,
    subscribe_retry: Retry,
    watch: &LinkWatch,
    stop: &CancellationToken,
) where
    O: Connect<Session: Sink>,
    C: Connect<Session = (S, F)>,
    S: Source,
    F: Future<Output: Display> + Send,
{
    let mut sinks = Redial::new(open_sink, sink_retry);
    let mut sources = Redial::new(subscribe, subscribe_retry);
    while let Some(mut sink) = stop.run_until_cancelled(sinks.session(watch)).await {
        let subscribed = tokio::select! {
            subscription = sources.session(watch) => Ok(subscription),
            end = ended(&mut sink) => Err(End::Sink(end)),
            () = stop.cancelled() => Err(End::Stopped),
        };
        let end = match subscribed {
            Ok((source, courier)) => {
                watch.stands(false);
                let leave = stop.child_token();
                let consuming = consume(source, courier, &mut sink, watch, &leave);
                let (end, moved) = leaving_for_better(consuming, &mut sources.connect, &leave).await;
                if moved {
                    sinks.retry.confirmed();
                    sources.retry.confirmed();
                    sources.connect.served();
                }
                end
            }
            Err(end) => end,
        };
        match end {
            End::Stopped if !stop.is_cancelled() => continue,
            End::Stopped => break,
            End::Source(_) => sources.failed = true,
            End::Sink(_) => sinks.failed = true,
        }
        watch.failed(&end, false);
    }
    watch.stopped();
}

/// Carries `session` on, and has it end in order by `leave` once there is something better.
async fn leaving_for_better<T, C: Connect>(
    session: impl Future<Output = T>,
    connect: &mut C,
    leave: &CancellationToken,
) -> T {
    let mut session = pin!(session);
    tokio::select! {
        ended = &mut session => return ended,
        () = connect.better() => leave.cancel(),
    }
    session.await
}

/// One subscription's life. Tells how it ended, and whether anything was confirmed.
async fn consume<S: Source, K: Sink>(
    mut source: S,
    courier: impl Future<Output: Display> + Send,
    sink: &mut K,
    watch: &LinkWatch,
    stop: &CancellationToken,
) -> (End, bool) {
    let mut trouble = Trouble::unsuspecting();
    let mut courier = pin!(courier);
    let end = {
        let pumping = async {
            let end = pump(&mut source, sink, &mut trouble, watch, stop).await;
            drop(source);
            end
        };
        tokio::select! {
            end = pumping => Ok(end),
            lost = &mut courier => Err(lost.to_string()),
        }
    };
    let end = match end {
        Ok(end) => {
            if timeout(FAREWELL_MAX, courier).await.is_err() {
                tracing::debug!(link = watch.name(), "the courier did not end");
            }
            end
        }
        Err(lost) => End::Source(SourceEnd::Lost(lost)),
    };
    (end, trouble.confirmed_in_session() > 0)
}

/// Waits for the end of a sink that has nothing in flight.
async fn ended<K: Sink>(sink: &mut K) -> SinkEnd {
    loop {
        if let Err(end) = sink.event().await {
            return end;
        }
    }
}

#[cfg(test)]
mod tests;
