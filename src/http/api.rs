//! `/api/v1`: what scripts may rely on.
//!
//! | path | parameters | answers |
//! | --- | --- | --- |
//! | `/api/v1/windows` | `view=live` (default) or `channel_stage`, `tenant`, `window`, and any dimension (`channel=web`; `channel=` for series without it); `limit` | `{"windows": [record of engagement.live or engagement.channel_stage, …], "truncated": bool}` |
//! | `/api/v1/alerts` | `state=active` (default) or `all`, `tenant`, `alert` | `{"alerts": [record of alerts.events, …]}` |
//! | `/api/v1/summary` | – | what the page shows |

use super::Shared;
use crate::model::dimension::Dimension;
use crate::model::record::{AlertRecord, LiveRecord, WindowRecord};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Records in one answer, at most.
pub(super) const LIMIT_MAX: usize = 10_000;

type Params = BTreeMap<String, String>;
type Dims = BTreeMap<CompactString, CompactString>;

fn bad(message: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": message }))).into_response()
}

/// Refuses parameters that mean nothing: a typo must not look like "no results".
fn unknown(params: &Params, known: &[&str], dimensions: bool) -> Option<Response> {
    let is_dimension = |name: &str| dimensions && Dimension::ALL.iter().any(|d| d.name() == name);
    let odd = params.keys().find(|k| !known.contains(&k.as_str()) && !is_dimension(k))?;
    let also = if dimensions { " and the names of dimensions" } else { "" };
    Some(bad(format!("unknown parameter {odd}; known: {}{also}", known.join(", "))))
}

fn matches(params: &Params, tenant: &str, window: &str, dimensions: &Dims) -> bool {
    let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
    is("tenant", tenant)
        && is("window", window)
        && Dimension::ALL.iter().all(|d| {
            let value = dimensions.get(d.name()).map_or("", CompactString::as_str);
            is(d.name(), value)
        })
}

fn limited<R: Serialize>(mut windows: Vec<R>, params: &Params) -> Response {
    let limit = match params.get("limit").map(|l| l.parse::<usize>()) {
        None => LIMIT_MAX,
        Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
        Some(_) => return bad(format!("limit must be a number from 1 to {LIMIT_MAX}")),
    };
    let truncated = windows.len() > limit;
    windows.truncate(limit);
    Json(json!({ "windows": windows, "truncated": truncated })).into_response()
}

pub(super) async fn windows(
    State(shared): State<Shared>,
    Query(params): Query<Params>,
) -> Response {
    if let Some(refused) = unknown(&params, &["view", "tenant", "window", "limit"], true) {
        return refused;
    }
    match params.get("view").map_or("live", String::as_str) {
        "live" => {
            let keep = |r: &LiveRecord| matches(&params, &r.tenant, &r.window, &r.dimensions);
            limited(shared.view.live(keep), &params)
        }
        "channel_stage" => {
            let keep = |r: &WindowRecord| matches(&params, &r.tenant, &r.window, &r.dimensions);
            limited(shared.view.windows(keep), &params)
        }
        other => bad(format!("view is live or channel_stage, not {other}")),
    }
}

pub(super) async fn alerts(State(shared): State<Shared>, Query(params): Query<Params>) -> Response {
    if let Some(refused) = unknown(&params, &["state", "tenant", "alert"], false) {
        return refused;
    }
    let found = match params.get("state").map_or("active", String::as_str) {
        "active" => shared.view.active(),
        "all" => shared.view.recent(),
        other => return bad(format!("state is active or all, not {other}")),
    };
    let wanted = |name: &str, value: &str| params.get(name).is_none_or(|w| w == value);
    let alerts: Vec<AlertRecord> = found
        .into_iter()
        .filter(|a| wanted("tenant", &a.tenant) && wanted("alert", &a.alert))
        .collect();
    Json(json!({ "alerts": alerts })).into_response()
}

pub(super) async fn summary(State(shared): State<Shared>) -> Response {
    ([("content-type", "application/json")], summary_json(&shared)).into_response()
}

/// Everything that the page shows, as one JSON object.
pub(super) fn summary_json(shared: &Shared) -> String {
    let view = &shared.view;
    let page = |r: &LiveRecord| {
        let named = |n: &str| r.dimensions.contains_key(n);
        match r.dimensions.len() {
            0 => true,
            1 => named("channel") || named("stage"),
            2 => named("channel") && named("stage"),
            _ => false,
        }
    };
    let cohorts = view.windows(|w| w.dimensions.is_empty() || w.dimensions.contains_key("channel"));
    let cohorts: Vec<WindowRecord> =
        cohorts.into_iter().filter(|w| w.dimensions.len() <= 1).collect();
    let alerts = view.active();
    let mut past = view.recent();
    past.reverse();
    past.truncate(30);
    let summary = json!({
        "newest": view.newest(),
        "caught_up": view.is_caught_up(),
        "live": view.live(page),
        "cohorts": cohorts,
        "active": alerts,
        "recent": past,
    });
    summary.to_string()
}
