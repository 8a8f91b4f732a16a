//! Routes and answers over a real socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use touchline::http::{Health, Shared};
use touchline::model::record::LiveRecord;
use touchline::model::time::EventTime;
use touchline::relay::view::{Update, View};
use touchline::telemetry::{Metric, Metrics};

fn live(channel: &str) -> LiveRecord {
    LiveRecord {
        schema_version: 1,
        id: "id".into(),
        tenant: "default".into(),
        window: "1m".into(),
        start: EventTime::from_ms(0),
        end: EventTime::from_ms(60_000),
        dimensions: [("channel".into(), channel.into())].into(),
        events: 7,
        customers: 3,
        sessions: 2,
        engaged_sessions: 1,
        orders: 0,
        value: [("EUR".into(), 1_500)].into(),
        checkouts_started: 0,
        checkouts_completed: 0,
        checkouts_abandoned: 0,
        checkouts_recovered: 0,
        completeness: 1.0,
    }
}

struct Server {
    address: std::net::SocketAddr,
    shared: Shared,
    _runtime: tokio::runtime::Runtime,
}

fn server(ready: Health) -> Server {
    let shared = Shared {
        view: Arc::new(View::default()),
        metrics: Arc::new(Metrics::new()),
        live: Arc::new(|| Health::Ok),
        ready: Arc::new(move || ready.clone()),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("a free port on loopback");
    let address = listener.local_addr().expect("the address");
    let serving = shared.clone();
    runtime.spawn(touchline::http::serve(listener, serving, std::future::pending()));
    Server { address, shared, _runtime: runtime }
}

fn get(server: &Server, path: &str) -> String {
    let mut socket = TcpStream::connect(server.address).expect("the server answers");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    text
}

#[track_caller]
fn check(server: &Server, path: &str, status: &str, contains: &str) {
    let text = get(server, path);
    assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {text}");
    assert!(text.contains(contains), "{path}: {text}");
}

#[test]
fn routes_answer() {
    let server = server(Health::Not("partitions are not assigned yet".to_owned()));
    server.shared.view.apply(Update::Live(Box::new(live("web"))));
    server.shared.view.apply(Update::Live(Box::new(live("store"))));
    server.shared.metrics.add(Metric::Events, &["web", "purchase"], 4.0);
    check(&server, "/", "200", "Touchpoints by channel and stage");
    let line = "touchline_events_total{channel=\"web\",stage=\"purchase\"} 4";
    check(&server, "/metrics", "200", line);
    check(&server, "/healthz", "200", "ok");
    check(&server, "/readyz", "503", "partitions are not assigned yet");
    check(&server, "/api/v1/windows?channel=web", "200", "\"dimensions\":{\"channel\":\"web\"}");
    check(&server, "/api/v1/windows?channel=", "200", "{\"windows\":[],\"truncated\":false}");
    check(&server, "/api/v1/windows?limit=1", "200", "\"truncated\":true");
    check(&server, "/api/v1/windows?chanel=web", "400", "unknown parameter chanel");
    check(&server, "/api/v1/windows?limit=0", "400", "limit must be a number from 1 to");
    check(&server, "/api/v1/windows?view=final", "400", "view is live or channel_stage");
    check(&server, "/api/v1/alerts?state=all", "200", "{\"alerts\":[]}");
    check(&server, "/nothing", "404", "");
}

#[test]
fn a_change_reaches_an_open_stream() {
    let server = server(Health::Ok);
    let mut socket = TcpStream::connect(server.address).expect("the server answers");
    let request = "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n";
    socket.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    let mut buffer = [0_u8; 4_096];
    let mut read_until = |socket: &mut TcpStream, wanted: &str| {
        while !text.contains(wanted) {
            let n = socket.read(&mut buffer).expect("the stream stays open");
            assert!(n > 0, "the stream ended before {wanted}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    read_until(&mut socket, "\"live\":[]");
    server.shared.view.apply(Update::Live(Box::new(live("web"))));
    read_until(&mut socket, "\"channel\":\"web\"");
}
