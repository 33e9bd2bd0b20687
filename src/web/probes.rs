//! Probes for programs that monitor the gateway: `/livez`, `/readyz` and `/metrics`. They need no password, and their
//! answers contain nothing secret: no login, and no address of a device.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{AppState, Current, Health};
use crate::telemetry::metrics;

/// Adds the routes of the probes below `prefix`.
pub(super) fn routes(router: Router<Current>, prefix: &str) -> Router<Current> {
    router
        .route(&format!("{prefix}/livez"), get(livez))
        .route(&format!("{prefix}/readyz"), get(readyz))
        .route(&format!("{prefix}/metrics"), get(metrics_page))
}

/// The JSON object that a probe answers with.
#[derive(Debug, Default, Serialize)]
struct ProbeAnswer {
    status: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failing: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    degraded: BTreeMap<String, String>,
}

/// If `/livez` was asked for within this time, a load balancer watches the gateway.
const WATCHED: Duration = Duration::from_secs(5);
/// How long a gateway that ends gives load balancers to notice.
const FAREWELL: Duration = Duration::from_secs(3);

/// Whether the gateway is alive or about to end. `/livez` tells this.
///
/// If the port is closed, it refuses connections, and the load balancer sends them elsewhere. But if the address goes
/// away with the process, as a container's does, connections to it get no answer. So the load balancer must know before
/// the process ends.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// When `/livez` was asked for last.
    asked: Mutex<Option<Instant>>,
    is_ending: AtomicBool,
}

impl Liveness {
    /// Answers one request for `/livez`.
    fn is_alive(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        !self.is_ending.load(Ordering::Relaxed)
    }

    /// From now on `/livez` says that the gateway ends. If a load balancer watches the gateway, this waits for
    /// [`FAREWELL`].
    pub(super) async fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|asked| asked.elapsed() < WATCHED) {
            sleep(FAREWELL).await;
        }
    }
}

/// Answers 200 while the process works. If no answer comes, the process must be restarted. If the gateway is being
/// stopped and has served its last session, the answer is 503.
async fn livez(State(app): State<Arc<AppState>>) -> Response {
    let (code, status) = if app.liveness.is_alive() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "ending")
    };
    answer(
        code,
        &ProbeAnswer {
            status,
            ..ProbeAnswer::default()
        },
    )
}

/// Answers whether devices can be served; with `?strict`, whether all of them can.
async fn readyz(State(app): State<Arc<AppState>>, RawQuery(query): RawQuery) -> Response {
    let mut options = query.as_deref().unwrap_or_default().split('&');
    let is_strict = options.any(|option| option == "strict" || option.starts_with("strict="));
    let Health { failing, degraded } = app.overview.health().await;
    let (code, status) = if !failing.is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    } else if degraded.is_empty() {
        (StatusCode::OK, "ready")
    } else if is_strict {
        (StatusCode::SERVICE_UNAVAILABLE, "degraded")
    } else {
        (StatusCode::OK, "degraded")
    };
    answer(
        code,
        &ProbeAnswer {
            status,
            failing,
            degraded,
        },
    )
}

fn answer(code: StatusCode, answer: &ProbeAnswer) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    // Writing to memory, with strings as keys, cannot fail.
    (code, headers, serde_json::to_string(answer).unwrap_or_default()).into_response()
}

async fn metrics_page(State(app): State<Arc<AppState>>) -> Response {
    app.overview.measure().await;
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics().encode()).into_response()
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::join;

    use super::*;

    async fn lasts(future: impl Future<Output = ()>) -> Duration {
        let begun = Instant::now();
        future.await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_nobody_watches_ends_at_once() {
        let liveness = Liveness::default();
        assert_eq!(lasts(liveness.end()).await, Duration::ZERO);
        assert!(!liveness.is_alive());

        let liveness = Liveness::default();
        assert!(liveness.is_alive());
        tokio::time::advance(WATCHED).await;
        assert_eq!(lasts(liveness.end()).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_balancer_hears_of_the_end_before_it_comes() {
        let liveness = Liveness::default();
        assert!(liveness.is_alive() && liveness.is_alive());
        let asks = async {
            sleep(FAREWELL / 2).await;
            liveness.is_alive()
        };
        let (lasted, is_alive) = join!(lasts(liveness.end()), asks);
        assert_eq!((lasted, is_alive), (FAREWELL, false));
    }
}
