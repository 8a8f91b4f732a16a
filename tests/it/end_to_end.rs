//! The program on a real broker: sources in, derived topics out, against the truth and a replay.
#![cfg(test)]

mod alertmanager;
mod anew;
mod bad_input;
mod idle;
mod killed;
mod local_copy;
mod memory;
mod served;
mod standby;
pub(crate) mod support;
mod switched;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{App, Produced, WIDE, touchline};
use touchline::app::generate::{record, truth_settings};
use touchline::codec::canonical::Schemas;
use touchline::codec::derived::{decode_checkout, decode_session, decode_window};
use touchline::codec::recorded::{RecordedLine, write_line};
use touchline::generate::final_form::{FILES, FinalForm};
use touchline::generate::{Generator, Plan, Scenario, Truth};
use touchline::model::time::{EventTime, Millis};
use touchline::model::topic::Topic;

const PARTITIONS: i32 = 3;

/// A touchpoint of nobody's, of another tenant, so late that everything before it is decided.
fn closing(partition: i32, at: EventTime) -> Produced {
    let value = format!(
        "{{\"id\":\"close-{partition}\",\"source\":\"close\",\"tenant\":\"closing\",\
         \"event_time\":{},\"customer_id\":\"close-{partition}\",\"channel\":\"web\",\
         \"touchpoint\":\"page\",\"action\":\"view\"}}",
        at.as_ms()
    );
    let value = Some(value.into_bytes());
    Produced { partition: Some(partition), value, ..Produced::default() }
}

/// Creates our topics, and produces so much of a shop's traffic and what closes it. Its truth goes to
/// `truth`; events there are, and those that are counted.
fn shop(app: &App, config: &Path, seed: u64, events: u64) -> (u64, u64) {
    app.apply_topics(config);
    let settings = touchline::config::load(&[config.to_path_buf()], []).unwrap();
    let mut truth = Truth::new(truth_settings(&settings));
    let mut plan = Plan::new(Scenario::Shop, seed);
    plan.events = Some(events);
    let mut last = plan.start;
    let topic = "shop".into();
    let mut records: Vec<Produced> = Vec::new();
    for emitted in Generator::new(plan) {
        truth.add(&emitted);
        last = last.max(emitted.arrival);
        let out = record(&topic, &emitted.payload);
        let key = String::from_utf8(out.key.unwrap_or_default()).unwrap();
        let timestamp = Some(emitted.arrival.as_ms());
        records.push(Produced { key, value: out.value, timestamp, partition: None });
    }
    let end = last.plus(Millis::from_hours(24 * 20));
    records.extend((0..PARTITIONS).map(|partition| closing(partition, end)));
    app.produce("shop", records);
    let (form, summary) = truth.finish();
    form.write(&app.path("truth"), &summary).unwrap();
    (summary.events_in, summary.counted)
}

#[test]
fn a_run_gives_the_truth_and_a_replay_of_its_canonical_topic_the_same_bytes() {
    let app = App::new("e2e-shop", &[("shop", PARTITIONS)]);
    let config = app.configure(&format!(
        "time: {{{WIDE}}}\nsources:\n  shop:\n    topic: {}\n    format: canonical_json\n    \
         start: earliest\n    max_out_of_orderness: 2m",
        app.topic("shop")
    ));
    let (events_in, counted) = shop(&app, &config, 11, 20_000);
    let summary = app.run_to_end(&config);
    // Those that close stand in slices that are open at the end: they are counted all the same.
    let closing = PARTITIONS as u64;
    let counts = ["events_in", "counted"].map(|n| summary[n].as_u64().unwrap());
    assert_eq!(counts, [events_in + closing, counted + closing]);
    compare_with_truth(&app);
    compare_with_replay(&app, &config);
}

fn compare_with_truth(app: &App) {
    let (mut form, schemas) = (FinalForm::new(), Schemas::new());
    for line in app.dump(Topic::Sessions) {
        let session = decode_session(&schemas, &line.value.unwrap()).unwrap();
        if session.tenant == "default" {
            form.add_session(&session);
        }
    }
    for line in app.dump(Topic::CheckoutLifecycle) {
        let checkout = decode_checkout(&schemas, &line.value.unwrap()).unwrap();
        if checkout.tenant == "default" {
            form.add_checkout(&checkout);
        }
    }
    for line in app.dump(Topic::ChannelStage) {
        let window = decode_window(&schemas, &line.value.unwrap()).unwrap();
        if window.tenant == "default" {
            form.add_window(&window);
        }
    }
    assert_eq!(app.dump(Topic::Late), []);
    form.write(&app.path("found"), &Default::default()).unwrap();
    for name in FILES {
        let read = |dir: &str| std::fs::read_to_string(app.path(dir).join(name)).unwrap();
        let (found, truth) = (read("found"), read("truth"));
        let differing = found.lines().zip(truth.lines()).find(|(f, t)| f != t);
        assert_eq!(differing, None, "{name}");
        assert_eq!(found.lines().count(), truth.lines().count(), "{name}");
    }
}

/// Values by key, in the order of the topic.
type ByKey = BTreeMap<String, Vec<String>>;

/// What a record is a revision of, from its value alone.
fn key_of(value: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(value).unwrap();
    let named = ["instance", "session_id", "fingerprint", "key"];
    if let Some(name) = named.iter().find(|name| value[**name].is_string()) {
        return value[*name].to_string();
    }
    let parts = ["tenant", "window", "start", "length_ms", "dimensions"].map(|n| &value[n]);
    serde_json::to_string(&parts).unwrap()
}

fn by_key(values: impl IntoIterator<Item = String>) -> ByKey {
    let mut all = ByKey::new();
    for value in values {
        all.entry(key_of(&value)).or_default().push(value);
    }
    all
}

fn compare_with_replay(app: &App, config: &Path) {
    let out = replayed(app, config, "canonical", [app.dump(Topic::Canonical)]);
    compare_with(app, &out);
}

/// The arguments that replay dumps of topics, and where the files are that come out.
fn replay(
    app: &App,
    config: &Path,
    name: &str,
    dumps: impl IntoIterator<Item = Vec<RecordedLine>>,
) -> (Vec<PathBuf>, PathBuf) {
    let out = app.path(&format!("replay-{name}"));
    let replay = ["replay", "--no-close", "--config"].map(Path::new);
    let mut arguments: Vec<PathBuf> = replay.map(Path::to_owned).to_vec();
    arguments.extend([config.to_owned(), "--out".into(), out.clone(), "--input".into()]);
    for (number, dump) in dumps.into_iter().enumerate() {
        let mut lines = Vec::new();
        dump.iter().for_each(|line| write_line(line, &mut lines));
        let path = app.path(&format!("{name}-{number}.jsonl"));
        std::fs::write(&path, lines).unwrap();
        arguments.push(path);
    }
    (arguments, out)
}

/// Replays dumps of topics; where the files are that come out.
fn replayed(
    app: &App,
    config: &Path,
    name: &str,
    dumps: impl IntoIterator<Item = Vec<RecordedLine>>,
) -> PathBuf {
    let (arguments, out) = replay(app, config, name, dumps);
    let arguments: Vec<&Path> = arguments.iter().map(PathBuf::as_path).collect();
    touchline(&arguments);
    out
}

/// The same, which must fail; what it says.
fn replayed_fails(
    app: &App,
    config: &Path,
    dumps: impl IntoIterator<Item = Vec<RecordedLine>>,
) -> String {
    let (arguments, _) = replay(app, config, "refused", dumps);
    let words: Vec<&str> = arguments.iter().map(|path| path.to_str().unwrap()).collect();
    support::fails(&words, config)
}

/// What a replay says of a topic, by key.
fn said(out: &Path, topic: Topic) -> ByKey {
    let path = out.join(format!("{}.jsonl", topic.default_name()));
    by_key(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned))
}

/// What was published is what a replay says, byte for byte.
fn compare_with(app: &App, out: &Path) {
    let topics = [Topic::Sessions, Topic::CheckoutLifecycle, Topic::ChannelStage, Topic::Live];
    for topic in topics {
        let published = app.dump(topic);
        let text = |line: RecordedLine| String::from_utf8(line.value.unwrap()).unwrap();
        let published = by_key(published.into_iter().map(text));
        let replayed = said(out, topic);
        let differing = published.iter().find(|(key, values)| replayed.get(*key) != Some(*values));
        let other = differing.map(|(key, _)| replayed.get(key));
        assert_eq!(differing, None, "{topic:?}: the replay has {other:?}");
        assert_eq!(published.len(), replayed.len(), "{topic:?}");
        assert!(!published.is_empty(), "{topic:?}");
    }
}
