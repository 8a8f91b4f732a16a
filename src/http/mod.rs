//! The HTTP side: metrics, health, the API under `/api/v1`, server-sent events and the page at `/`.
//!
//! It reads the relay's view and the metrics, never a task. It binds to loopback unless configured
//! otherwise. Deliberately absent: any way to change something.

mod api;

use crate::relay::view::View;
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use futures_util::stream::Stream;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How often a live page hears of changes at most.
pub const STREAM_INTERVAL: Duration = Duration::from_millis(1_000);

/// What the process says about itself: filled by the composition root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// All well.
    Ok,
    /// Not, and why.
    Not(String),
}

/// What the HTTP side reads.
#[derive(Clone)]
pub struct Shared {
    /// The relay's view.
    pub view: Arc<View>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Alive: the workers make progress.
    pub live: Arc<dyn Fn() -> Health + Send + Sync>,
    /// Ready: partitions assigned, restored and the relay has read its topics to the end.
    pub ready: Arc<dyn Fn() -> Health + Send + Sync>,
}

/// All routes.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/windows", get(api::windows))
        .route("/api/v1/alerts", get(api::alerts))
        .route("/api/v1/summary", get(api::summary))
        .route("/api/v1/stream", get(stream))
        .with_state(shared)
}

/// Serves until `shutdown` is done.
///
/// # Errors
/// If the socket fails.
pub async fn serve(
    listener: TcpListener,
    shared: Shared,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(shared)).with_graceful_shutdown(shutdown).await
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    shared.view.export(&shared.metrics);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text())
}

async fn healthz(State(shared): State<Shared>) -> impl IntoResponse {
    answer((shared.live)())
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    answer((shared.ready)())
}

fn answer(health: Health) -> (StatusCode, String) {
    match health {
        Health::Ok => (StatusCode::OK, "ok\n".to_owned()),
        Health::Not(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Sends the summary once at the start and whenever the view has changed.
async fn stream(
    State(shared): State<Shared>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = futures_util::stream::unfold((shared, None), |(shared, seen)| async move {
        let mut wait = tokio::time::interval(STREAM_INTERVAL);
        wait.tick().await;
        loop {
            let changes = shared.view.changes();
            if seen != Some(changes) {
                let text = api::summary_json(&shared);
                if seen.is_some() {
                    wait.tick().await;
                }
                return Some((Ok(Event::default().data(text)), (shared, Some(changes))));
            }
            wait.tick().await;
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
