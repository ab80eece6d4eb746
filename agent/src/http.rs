//! What a node shows over HTTP: `/metrics`, `/status.json`, `/healthz`, `/readyz`. It only reads.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use forwarder::{Clock, LinkState, LinkWatch};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::forecast::Forecast;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::spool::{Desk, DeskClosed, Report, SpoolError};

/// What there is to show of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Inner>);

struct Inner {
    node: Node,
    metrics: Arc<Metrics>,
    /// A consumer has none.
    desk: Option<Desk>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    spool: Option<Report>,
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
        desk: Option<Desk>,
        links: Vec<LinkWatch>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { node, metrics, desk, links, forecast: Mutex::default(), clock }))
    }

    /// Takes a look for the forecasts; to be called about once a second.
    pub(crate) async fn tick(&self) -> Result<(), DeskClosed> {
        // A spool that cannot be read says so itself, and to everybody.
        if let Some(Ok(report)) = self.report().await? {
            let mut forecast = self.0.forecast.lock().unwrap_or_else(PoisonError::into_inner);
            forecast.take(&report, self.0.clock.now_ms());
        }
        Ok(())
    }

    async fn report(&self) -> Result<Option<Result<Report, SpoolError>>, DeskClosed> {
        match &self.0.desk {
            Some(desk) => desk.look(|spool| spool.report()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn metrics(&self) -> Result<Vec<u8>, ShowError> {
        if let Some(report) = self.report().await? {
            let forecast = self.0.forecast.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.0.metrics.show_spool(&report?, &forecast, self.0.clock.now_ms());
        }
        Ok(self.0.metrics.text()?)
    }

    async fn status(&self) -> Result<String, ShowError> {
        let status = Status {
            node: self.0.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            now_ms: self.0.clock.now_ms(),
            links: self.0.links.iter().map(LinkShown::of).collect(),
            spool: self.report().await?.transpose()?,
        };
        Ok(serde_json::to_string_pretty(&status)?)
    }

    fn is_accepting(&self) -> bool {
        self.0.desk.as_ref().is_none_or(|desk| !desk.is_full())
    }
}

/// Serves until `stop`, over HTTP or HTTPS as `listener` does.
pub(crate) async fn serve<L: Listener<Addr: std::fmt::Debug>>(
    listener: L,
    shown: Shown,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "there are /metrics, /status.json, /healthz and /readyz\n")
        })
        .with_state(shown);
    axum::serve(listener, pages).with_graceful_shutdown(stop.cancelled_owned()).await
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
