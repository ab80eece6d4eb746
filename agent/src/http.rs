//! What a node shows over HTTP: `/metrics`, `/status.json`, `/healthz`, `/readyz`. It only reads.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use forwarder::{Clock, LinkState, LinkWatch};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::forecast::Forecast;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::spool::{Desk, DeskClosed, Report, SpoolError};

/// Connections at a time. Those who wish to be next wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;
/// For a client to send the head of a request, the next one of a connection that stands too: who asks once a
/// minute keeps it.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// For a request that has begun when the node stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What there is to show of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Inner>);

struct Inner {
    node: Node,
    metrics: Arc<Metrics>,
    desk: Desk,
    links: Vec<LinkWatch>,
    forecast: Mutex<Forecast>,
    clock: Clock,
}

/// Which node it is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Node {
    /// The mesh.
    pub mesh: String,
    /// The node's name.
    pub name: String,
    /// `agent` or `consumer`.
    pub kind: &'static str,
}

/// `/status.json`.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    node: Node,
    version: &'static str,
    now_ms: i64,
    links: Vec<LinkShown>,
    spool: Report,
}

/// A link in `/status.json`.
#[derive(Debug, Serialize)]
struct LinkShown {
    name: String,
    state: &'static str,
    since_ms: i64,
    last_error: Option<String>,
    reconnects: u64,
    confirmed_batches: u64,
    confirmed_lines: u64,
    set_aside_batches: u64,
}

impl LinkShown {
    fn of(watch: &LinkWatch) -> Self {
        let status = watch.status();
        Self {
            name: watch.name().to_owned(),
            state: match status.state {
                LinkState::Down => "down",
                LinkState::Up => "up",
                LinkState::Refused => "refused",
            },
            since_ms: status.since_ms,
            last_error: status.last_error,
            reconnects: status.reconnects,
            confirmed_batches: status.confirmed_batches,
            confirmed_lines: status.confirmed_lines,
            set_aside_batches: status.set_aside_batches,
        }
    }
}

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Desk(#[from] DeskClosed),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl IntoResponse for ShowError {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{self}\n")).into_response()
    }
}

impl Shown {
    /// What `node` shows.
    pub(crate) fn new(
        node: Node,
        metrics: Arc<Metrics>,
        desk: Desk,
        links: Vec<LinkWatch>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { node, metrics, desk, links, forecast: Mutex::default(), clock }))
    }

    /// Takes a look for the forecasts; to be called about once a second.
    pub(crate) async fn tick(&self) -> Result<(), DeskClosed> {
        // A spool that cannot be read says so itself, and to everybody.
        if let Ok(report) = self.report().await? {
            let mut forecast = self.0.forecast.lock().unwrap_or_else(PoisonError::into_inner);
            forecast.take(&report, self.0.clock.now_ms());
        }
        Ok(())
    }

    async fn report(&self) -> Result<Result<Report, SpoolError>, DeskClosed> {
        self.0.desk.look(|spool| spool.report()).await
    }

    async fn metrics(&self) -> Result<Vec<u8>, ShowError> {
        let report = self.report().await??;
        let forecast = self.0.forecast.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.metrics.show_spool(&report, &forecast, self.0.clock.now_ms());
        Ok(self.0.metrics.text()?)
    }

    async fn status(&self) -> Result<String, ShowError> {
        let status = Status {
            node: self.0.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            now_ms: self.0.clock.now_ms(),
            links: self.0.links.iter().map(LinkShown::of).collect(),
            spool: self.report().await??,
        };
        Ok(serde_json::to_string_pretty(&status)?)
    }

    fn is_accepting(&self) -> bool {
        !self.0.desk.is_full()
    }
}

/// Serves until `stop`, over HTTP or HTTPS as `listener` does. What has begun then may end, but nobody who
/// goes on for ever keeps the node from its end.
pub(crate) async fn serve<L: Listener>(mut listener: L, shown: Shown, stop: CancellationToken) {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "there are /metrics, /status.json, /healthz and /readyz\n")
        })
        .with_state(shown);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (stream, _) = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(converse(stream, pages.clone(), stop.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // Those that are left end with the set.
    timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await.ok();
}

/// Answers the requests of one connection until it ends, or the node stops.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, pages: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an http connection ended");
    }
}

async fn metrics(State(shown): State<Shown>) -> Result<Response, ShowError> {
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], shown.metrics().await?).into_response())
}

async fn status(State(shown): State<Shown>) -> Result<Response, ShowError> {
    Ok(([(header::CONTENT_TYPE, "application/json")], shown.status().await?).into_response())
}

async fn ready(State(shown): State<Shown>) -> Response {
    if shown.is_accepting() {
        "accepting\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the spool is full\n").into_response()
    }
}
