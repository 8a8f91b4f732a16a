//! Nothing that a source topic may hold stops a task: each record is rejected or filtered by name.

use super::support::{App, Produced};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use touchline::codec::canonical::{
    CANONICAL_SCHEMA, Decoded, Schemas, decode_avro, decode_json_full, encode_avro,
};
use touchline::codec::recorded::RecordedLine;
use touchline::model::topic::Topic;
use touchline::model::touchpoint::Touchpoint;

fn touchpoint(id: &str, more: &str) -> String {
    let now = touchline::clock::now().as_ms();
    format!(
        "{{\"id\":\"{id}\",\"source\":\"s\",\"event_time\":{now},\"customer_id\":\"c-{id}\",\
         \"channel\":\"web\",\"touchpoint\":\"page\",\"action\":\"view\"{more}}}"
    )
}

fn parsed(text: &str) -> Touchpoint {
    decode_json_full(text.as_bytes()).unwrap().1
}

fn avro(schema: u32, id: &str) -> Vec<u8> {
    let mut value = Vec::new();
    encode_avro(schema, None, &parsed(&touchpoint(id, "")), &mut value);
    value
}

/// Canonical JSON that is not right, and what becomes of it.
fn json() -> Vec<(Vec<u8>, &'static str)> {
    let of = |id: &str, from: &str, to: &str| touchpoint(id, "").replace(from, to).into_bytes();
    let now = touchline::clock::now().as_ms();
    let time = format!("\"event_time\":{now}");
    // The text is made anew for each id, so the time is found by its name.
    let at = |id: &str, value: &str| {
        let text = touchpoint(id, "");
        let from = text.find("\"event_time\"").unwrap();
        let to = from + time.len();
        let value = format!("{}\"event_time\":{value}{}", &text[..from], &text[to..]);
        value.into_bytes()
    };
    let deep = format!(",\"attributes\":{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let huge = format!(",\"attributes\":{{\"a\":\"{}\"}}", "x".repeat(998_000));
    let most = format!(",\"attributes\":{{\"a\":\"{}\"}}", "y".repeat(998_500));
    let day = 86_400_000;
    vec![
        (b"{\"id\":".to_vec(), "malformed_json"),
        (b"no JSON at all".to_vec(), "malformed_json"),
        (of("j-utf8", "c-j-utf8", "\u{1}").replace_byte(1, 0xff), "invalid_utf8"),
        (touchpoint("j-deep", &deep).into_bytes(), "too_deep"),
        (touchpoint("j-huge", &huge).into_bytes(), "too_large"),
        (at("j-future", &(now + 10 * day).to_string()), "future_time"),
        (at("j-past", &(now - 400 * day).to_string()), "past_time"),
        (at("j-absurd", "9223372036854775807"), "absurd_time"),
        (at("j-text", "\"yesterday\""), "wrong_type"),
        (of("j-id", "\"id\":\"j-id\",", ""), "missing_field"),
        // It would fit as it came, but not with what is added to it.
        (touchpoint("j-most", &most).into_bytes(), "too_large"),
        (of("j-long", "c-j-long", &"x".repeat(2_000)), "id_too_long"),
    ]
}

trait ReplaceByte {
    fn replace_byte(self, from: u8, to: u8) -> Self;
}

impl ReplaceByte for Vec<u8> {
    fn replace_byte(mut self, from: u8, to: u8) -> Vec<u8> {
        self.iter_mut().filter(|b| **b == from).for_each(|b| *b = to);
        self
    }
}

fn header<'l>(line: &'l RecordedLine, name: &str) -> &'l str {
    std::str::from_utf8(line.header(name).unwrap_or_default()).unwrap()
}

/// Reason and bytes of rejected records, by topic and offset.
type Rejected = BTreeMap<(String, usize), (String, Option<Vec<u8>>)>;

fn rejected(app: &App) -> Rejected {
    let lines = app.dump(Topic::Rejected);
    let at = |l: &RecordedLine| {
        (header(l, "dlq.topic").to_owned(), header(l, "dlq.offset").parse().unwrap())
    };
    let all: BTreeMap<_, _> = lines
        .iter()
        .map(|l| (at(l), (header(l, "dlq.reason").to_owned(), l.value.clone())))
        .collect();
    assert_eq!(all.len(), lines.len());
    all
}

fn produced(values: impl IntoIterator<Item = Option<Vec<u8>>>) -> Vec<Produced> {
    let one = |value| Produced { key: "k".to_owned(), value, ..Produced::default() };
    values.into_iter().map(one).collect()
}

#[test]
fn every_bad_record_is_rejected_or_filtered_by_name_and_the_rest_goes_on() {
    let app = App::new("e2e-bad", &[("json", 1), ("avro", 1)]);
    let schema = app.path("canonical.avsc");
    std::fs::write(&schema, CANONICAL_SCHEMA).unwrap();
    let config = app.configure(&format!(
        "registry: {{schemas: {{17: {}}}}}\nsources:\n  \
         json: {{topic: {}, format: canonical_json, start: earliest}}\n  \
         avro: {{topic: {}, format: canonical_avro, start: earliest}}",
        schema.display(),
        app.topic("json"),
        app.topic("avro")
    ));
    app.apply_topics(&config);
    let good = |id: &str, more: &str| touchpoint(id, more).into_bytes();
    let bad = json();
    let mut values: Vec<Option<Vec<u8>>> = bad.iter().map(|(v, _)| Some(v.clone())).collect();
    let words = touchpoint("j-words", "").replace("\"web\"", "\"telepathy\"").into_bytes();
    // A tombstone, a bot, unknown words, and two that are as they should be.
    values.push(None);
    values.push(Some(good("j-bot", ",\"is_bot\":true")));
    values.push(Some(words));
    values.extend([Some(good("j-1", "")), Some(good("j-2", ""))]);
    app.produce("json", produced(values));
    let whole = avro(17, "a-1");
    let mut magic = whole.clone();
    magic[0] = 9;
    let bad_avro = [
        (whole[..whole.len() / 2].to_vec(), "malformed_avro"),
        (whole[..3].to_vec(), "malformed_avro"),
        (magic, "wrong_magic_byte"),
        (avro(4_711, "a-2"), "unknown_schema_id"),
    ];
    let values = bad_avro.iter().map(|(v, _)| Some(v.clone())).chain([None, Some(whole.clone())]);
    app.produce("avro", produced(values));
    let summary = app.run_to_end(&config);
    let counts = ["events_in", "counted", "dead_letter", "filtered"].map(|n| &summary[n]);
    assert_eq!(counts, [23, 4, 16, 3]);
    let rejected = rejected(&app);
    let of = |topic: &str, bad: &[(Vec<u8>, &str)]| {
        for (n, (value, reason)) in bad.iter().enumerate() {
            let (found, kept) = &rejected[&(app.topic(topic), n)];
            assert_eq!(found, reason, "{}", String::from_utf8_lossy(&value[..value.len().min(99)]));
            let kept = kept.as_ref().unwrap();
            assert!(value.starts_with(kept) && kept.len() >= value.len().min(990_000), "{reason}");
        }
    };
    of("json", &bad);
    of("avro", &bad_avro);
    assert_eq!(rejected.len(), bad.len() + bad_avro.len());
}

/// A schema registry that keeps what is registered, and is out for the first calls for one id.
#[derive(Default)]
struct Registry {
    schemas: Mutex<Vec<String>>,
    asked: Mutex<u32>,
}

/// Id of the writer's schema, and how often it is not to be had.
const WRITER: u32 = 900;
const REFUSALS: u32 = 4;

impl Registry {
    fn start() -> (Arc<Registry>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let registry: Arc<Registry> = Arc::default();
        let serving = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let registry = serving.clone();
                // A connection that is cut off is its client's to open again.
                std::thread::spawn(move || registry.serve(stream).unwrap_or_default());
            }
        });
        (registry, url)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let (mut line, mut length) = (String::new(), 0);
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.trim().to_ascii_lowercase();
                if let Some(n) = header.strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap_or(0);
                }
                if header.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let (status, answer) = self.answer(&line, &body);
            let kind = "application/vnd.schemaregistry.v1+json";
            write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
        }
    }

    fn answer(&self, request: &str, body: &[u8]) -> (u16, String) {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let mut schemas = self.schemas.lock().unwrap();
        if let Some(id) = path.strip_prefix("/schemas/ids/") {
            let id: usize = id.split('?').next().unwrap_or_default().parse().unwrap();
            if id == WRITER as usize {
                let mut asked = self.asked.lock().unwrap();
                *asked += 1;
                if *asked <= REFUSALS {
                    return (503, "{\"error_code\":50301,\"message\":\"out\"}".to_owned());
                }
                let schema = CANONICAL_SCHEMA;
                return (200, serde_json::json!({"schema": schema}).to_string());
            }
            return match schemas.get(id.wrapping_sub(1)) {
                Some(schema) => (200, serde_json::json!({"schema": schema}).to_string()),
                None => (404, "{\"error_code\":40403,\"message\":\"no schema\"}".to_owned()),
            };
        }
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let schema = body["schema"].as_str().unwrap_or_default().to_owned();
        let at = schemas.iter().position(|s| *s == schema).unwrap_or_else(|| {
            schemas.push(schema);
            schemas.len() - 1
        });
        (200, serde_json::json!({"id": at + 1, "version": 1, "subject": "s"}).to_string())
    }
}

#[test]
fn a_registry_that_is_out_pauses_a_partition_and_loses_nothing() {
    let app = App::new("e2e-registry", &[("avro", 2)]);
    let (registry, url) = Registry::start();
    let config = app.configure(&format!(
        "registry: {{url: \"{url}\"}}\nsources:\n  \
         avro: {{topic: {}, format: canonical_avro, start: earliest}}",
        app.topic("avro")
    ));
    app.apply_topics(&config);
    let good = (0..50).map(|n| Produced {
        key: format!("c-{n}"),
        value: Some(avro(WRITER, &format!("r-{n}"))),
        ..Produced::default()
    });
    let unknown = produced([Some(avro(4_711, "r-unknown"))]);
    app.produce("avro", good.chain(unknown));
    let summary = app.run_to_end(&config);
    let counts = ["events_in", "counted", "dead_letter"].map(|n| &summary[n]);
    assert_eq!(counts, [51, 50, 1]);
    assert!(*registry.asked.lock().unwrap() > REFUSALS);
    let reasons: Vec<String> = rejected(&app).into_values().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["unknown_schema_id"]);
    // With a registry the canonical topic is Avro, by the ids that it gave.
    let mut schemas = Schemas::new();
    for (n, schema) in registry.schemas.lock().unwrap().iter().enumerate() {
        let _only_ours_fit = schemas.insert(u32::try_from(n).unwrap() + 1, schema);
    }
    let canonical = app.dump(Topic::Canonical).into_iter().filter_map(|line| line.value);
    let touchpoints = canonical
        .filter(|value| matches!(decode_avro(&schemas, value), Ok(Decoded::Touchpoint { .. })));
    assert_eq!(touchpoints.count(), 50);
}
