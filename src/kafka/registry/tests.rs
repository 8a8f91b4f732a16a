//! Against a stand-in registry in this process, with Confluent's interface.

use super::*;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// What the stand-in does: counts requests, and answers all with `status` if that is not 0.
#[derive(Default)]
struct Script {
    asked: AtomicU32,
    status: AtomicU16,
}

const MONEY: &str = r#"{\"type\":\"record\",\"name\":\"Money\",\"fields\":[{\"name\":\"minor\",\"type\":\"long\"}]}"#;
const ORDER: &str = r#"{\"type\":\"record\",\"name\":\"Order\",\"fields\":[{\"name\":\"paid\",\"type\":\"Money\"},{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}}]}"#;

fn schema(id: &str) -> Option<String> {
    Some(match id {
        "1" => r#"{"schema":"\"string\""}"#.to_owned(),
        "2" => r#"{"schema":"syntax = \"proto3\";","schemaType":"PROTOBUF"}"#.to_owned(),
        "3" => format!(
            r#"{{"schema":"{ORDER}","references":[{{"name":"Money","subject":"money","version":1}}]}}"#
        ),
        _ => return None,
    })
}

async fn by_id(
    State(script): State<Arc<Script>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    script.asked.fetch_add(1, Ordering::SeqCst);
    let status = script.status.load(Ordering::SeqCst);
    if status != 0 {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, "<html>no registry here</html>").into_response();
    }
    if headers.get("authorization").is_none_or(|a| a != "Basic c2hvcDpzZWNyZXQ=") {
        let refused = r#"{"error_code":40101,"message":"Unauthorized"}"#;
        return (StatusCode::UNAUTHORIZED, refused).into_response();
    }
    match schema(&id) {
        Some(text) => text.into_response(),
        None => {
            let unknown = r#"{"error_code":40403,"message":"Schema not found"}"#;
            (StatusCode::NOT_FOUND, unknown).into_response()
        }
    }
}

async fn version() -> String {
    format!(r#"{{"subject":"money","version":1,"id":9,"schema":"{MONEY}"}}"#)
}

async fn register(Path(subject): Path<String>, body: String) -> Response {
    assert!(body.contains(r#""schemaType":"AVRO""#), "{body}");
    match subject.as_str() {
        "alerts.events-value" => r#"{"id":41}"#.into_response(),
        _ => {
            let refused = r#"{"error_code":409,"message":"incompatible"}"#;
            (StatusCode::CONFLICT, refused).into_response()
        }
    }
}

struct Stand {
    url: String,
    script: Arc<Script>,
    _runtime: Runtime,
}

fn stand_in() -> Stand {
    let script: Arc<Script> = Arc::default();
    let routes = axum::Router::new()
        .route("/schemas/ids/{id}", get(by_id))
        .route("/subjects/money/versions/1", get(version))
        .route("/subjects/{subject}/versions", post(register))
        .with_state(script.clone());
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, routes).await });
    Stand { url, script, _runtime: runtime }
}

fn registry(stand: &Stand) -> Registry {
    let mut settings = RegistrySettings::new(&stand.url);
    settings.basic_auth = Some(("shop".to_owned(), "secret".to_owned()));
    Registry::new(&settings).unwrap()
}

#[test]
fn schemas_and_unknown_ids_are_asked_for_once() {
    let stand = stand_in();
    let registry = registry(&stand);
    for _ in 0..3 {
        assert_eq!(registry.fetch(1).as_deref(), Ok(r#""string""#));
        assert_eq!(registry.fetch(2), Err(RegistryError::Unknown));
        assert_eq!(registry.fetch(7), Err(RegistryError::Unknown));
    }
    assert_eq!(stand.script.asked.load(Ordering::SeqCst), 3);
}

#[test]
fn an_unknown_id_is_asked_for_again_when_its_time_is_over() {
    let stand = stand_in();
    let mut settings = RegistrySettings::new(&stand.url);
    settings.basic_auth = Some(("shop".to_owned(), "secret".to_owned()));
    settings.unknown_for = Millis::ZERO;
    let registry = Registry::new(&settings).unwrap();
    assert_eq!(registry.fetch(7), Err(RegistryError::Unknown));
    assert_eq!(registry.fetch(7), Err(RegistryError::Unknown));
    assert_eq!(stand.script.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn references_are_resolved_and_logical_types_stay() {
    let stand = stand_in();
    let text = registry(&stand).fetch(3).unwrap();
    assert!(text.contains(r#""name":"Money""#), "{text}");
    assert!(text.contains("timestamp-micros"), "{text}");
}

#[test]
fn an_outage_is_no_answer_and_is_not_remembered() {
    let stand = stand_in();
    let registry = registry(&stand);
    // A 404 that is not the registry's own comes from a proxy or a wrong address.
    for status in [500, 503, 429, 404] {
        stand.script.status.store(status, Ordering::SeqCst);
        let answer = registry.fetch(1);
        assert!(matches!(answer, Err(RegistryError::Down(_))), "{status}: {answer:?}");
    }
    stand.script.status.store(0, Ordering::SeqCst);
    assert!(registry.fetch(1).is_ok());
    let nobody = Registry::new(&RegistrySettings::new("http://127.0.0.1:1")).unwrap();
    assert!(matches!(nobody.fetch(1), Err(RegistryError::Down(_))));
}

#[test]
fn credentials_are_sent_and_their_refusal_is_an_outage() {
    let stand = stand_in();
    let stranger = Registry::new(&RegistrySettings::new(&stand.url)).unwrap();
    let answer = stranger.fetch(1);
    assert!(matches!(&answer, Err(RegistryError::Down(why)) if why.contains("401")), "{answer:?}");
}

#[test]
fn a_schema_is_registered_or_refused() {
    let stand = stand_in();
    let registry = registry(&stand);
    assert_eq!(registry.register("alerts.events-value", r#""string""#), Ok(41));
    let refused = registry.register("other-value", r#""string""#);
    assert!(matches!(refused, Err(RegistryError::Refused(_))), "{refused:?}");
}
