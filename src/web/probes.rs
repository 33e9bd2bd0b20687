//! Probes for programs that monitor the gateway: `/livez`, `/readyz` and `/metrics`. They need no password, and their
//! answers contain nothing secret: no login, and no address of a device.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

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

/// Answers as long as the process works at all: if there is no answer, the process must be restarted.
async fn livez() -> Response {
    let alive = ProbeAnswer {
        status: "ok",
        ..ProbeAnswer::default()
    };
    answer(StatusCode::OK, &alive)
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
