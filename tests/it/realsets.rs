//! Sets of others, through their mapping files and the whole program on a real broker.
#![cfg(test)]

use crate::end_to_end::support::{App, Produced, WIDE};
use crate::ingest::sets::{fixture, rows};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use touchline::codec::canonical::Schemas;
use touchline::codec::derived::decode_session;
use touchline::model::record::SessionRecord;
use touchline::model::topic::Topic;

const PARTITIONS: i32 = 3;

type Row = Map<String, Value>;

fn ms(text: &str) -> i64 {
    let time: jiff::civil::DateTime = text.trim_end_matches(" UTC").parse().expect("a time");
    time.to_zoned(jiff::tz::TimeZone::UTC).expect("in range").timestamp().as_millisecond()
}

fn text<'r>(row: &'r Row, name: &str) -> &'r str {
    row[name].as_str().expect("text")
}

/// What a set is.
struct Set {
    name: &'static str,
    mapping: &'static str,
    /// Column of the event time, and of the key of the records.
    time: &'static str,
    key: &'static str,
    /// Bound for disorder.
    disorder: &'static str,
    sessions_by: &'static str,
    /// Columns of the rows that close each partition.
    closing: &'static [(&'static str, &'static str)],
    /// Their time: everything is decided then.
    closes: &'static str,
}

/// Fewer windows than by default: of events as sparse as these each says 220 of those per series.
const FIGURES: &str = "figures: {windows: [{length: 5m, slide: 1m}, {length: 1h, slide: 5m}]}";

/// Runs a set through the program: its summary and its sessions in their last revision.
fn run(set: &Set, rows: &[Row]) -> (Value, Vec<SessionRecord>) {
    let app = App::new(set.name, &[("in", PARTITIONS)]);
    let mapping = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/mappings");
    let config = app.configure(&format!(
        "time: {{{WIDE}}}\nsessions: {{by: {}}}\n{FIGURES}\nsources:\n  set:\n    topic: {}\n    \
         format: mapped_json\n    mapping: {}\n    start: earliest\n    \
         max_out_of_orderness: {}",
        set.sessions_by,
        app.topic("in"),
        mapping.join(set.mapping).display(),
        set.disorder
    ));
    app.apply_topics(&config);
    let records = rows.iter().map(|row| Produced {
        key: text(row, set.key).to_owned(),
        value: Some(serde_json::to_vec(row).unwrap()),
        partition: None,
        timestamp: Some(ms(text(row, set.time))),
    });
    // One row far ahead in each partition, of somebody who is not in the set.
    let closing = (0..PARTITIONS).map(|partition| {
        let mut row = rows[0].clone();
        for (column, value) in set.closing {
            row.insert((*column).to_owned(), format!("{value}{partition}").into());
        }
        row.insert(set.time.to_owned(), set.closes.into());
        let value = Some(serde_json::to_vec(&row).unwrap());
        Produced { value, partition: Some(partition), ..Produced::default() }
    });
    app.produce("in", records.chain(closing));
    let summary = app.run_to_end(&config);
    let mut sessions = BTreeMap::new();
    for line in app.dump(Topic::Sessions) {
        let session = decode_session(&Schemas::new(), &line.value.unwrap()).unwrap();
        sessions.insert((session.customer.clone(), session.session_id.clone()), session);
    }
    let alive = sessions.into_values().filter(|s| s.merged_into.is_none());
    (summary, alive.collect())
}

/// The closing rows stand in slices that are open at the end: they may not be counted yet.
fn counted(summary: &Value, expected: u64) {
    let found = summary["counted"].as_u64().unwrap();
    assert!((expected..=expected + PARTITIONS as u64).contains(&found), "{summary}");
    assert_eq!(summary["events_in"], found, "{summary}");
}

/// Real input comes by and large in the order of time; these files are sorted by user.
fn by_time(mut rows: Vec<Row>, column: &str) -> Vec<Row> {
    rows.sort_by_key(|row| text(row, column).to_owned());
    rows
}

#[test]
fn the_sessions_of_a_shop_are_those_that_it_counts_itself() {
    let set = Set {
        name: "set-ecom",
        mapping: "ecom_sessions.yaml",
        time: "timestamp",
        key: "user_id",
        disorder: "5s",
        sessions_by: "gap",
        closing: &[("user_id", "close-"), ("session_id", "close-")],
        closes: "2024-08-01 00:00:00",
    };
    let rows = by_time(rows(&fixture("ecom_sessions/ecom.csv.gz")), "timestamp");
    assert_eq!(rows.len(), 31_106);
    let (summary, sessions) = run(&set, &rows);
    counted(&summary, 31_106);
    let mut expected = BTreeMap::new();
    for row in &rows {
        let at = ms(text(row, "timestamp"));
        let key = (text(row, "user_id").to_owned(), text(row, "session_id"));
        let (start, end, n) = expected.entry(key).or_insert((at, at, 0));
        (*start, *end, *n) = (at.min(*start), at.max(*end), *n + 1);
    }
    assert_eq!(expected.len(), 3_605);
    let mut expected: Vec<(String, i64, i64, i64)> =
        expected.into_iter().map(|((user, _), (s, e, n))| (user, s, e, n)).collect();
    expected.sort();
    let mut found: Vec<(String, i64, i64, i64)> = sessions
        .iter()
        .map(|s| (s.customer.to_string(), s.start.as_ms(), s.end.as_ms(), s.events))
        .collect();
    found.sort();
    assert_eq!(found.iter().zip(&expected).find(|(f, e)| f != e), None);
    assert_eq!(found.len(), expected.len());
}

#[test]
fn the_sessions_of_a_web_tracker_begin_and_end_as_its_package_expects() {
    let set = Set {
        name: "set-snowplow",
        mapping: "snowplow_web.yaml",
        time: "derived_tstamp",
        key: "domain_sessionid",
        // The file is in no order of time, and spans eight months.
        disorder: "400d",
        sessions_by: "source",
        closing: &[("domain_sessionid", "close-"), ("event_id", "close-"), ("user_id", "close-")],
        closes: "2022-06-01 00:00:00",
    };
    let rows_in = rows(&fixture("snowplow_web/snowplow_web_events.csv.gz"));
    assert_eq!(rows_in.len(), 160);
    let (summary, sessions) = run(&set, &rows_in);
    assert_eq!(summary["duplicate"], 3);
    let expected = rows(&fixture("snowplow_web/snowplow_web_sessions_expected.csv"));
    assert_eq!(expected.len(), 18);
    for row in expected {
        let id = text(&row, "domain_sessionid");
        let found: Vec<(i64, i64)> = sessions
            .iter()
            .filter(|s| s.customer == id)
            .map(|s| (s.start.as_ms(), s.end.as_ms()))
            .collect();
        let want = (ms(text(&row, "start_tstamp")), ms(text(&row, "end_tstamp")));
        assert_eq!(found, [want], "{id}");
    }
}

/// A few rows in the form of the open set, which may not be copied.
fn made_up() -> Vec<Row> {
    [("00:02:14", "view"), ("00:03:00", "cart"), ("00:40:00", "purchase")]
        .map(|(at, kind)| {
            serde_json::from_value(serde_json::json!({
                "event_time": format!("2019-10-01 {at} UTC"), "event_type": kind,
                "product_id": "1", "category_id": "2", "category_code": "", "brand": "b",
                "price": "130.76", "user_id": "7", "user_session": "s",
            }))
            .unwrap()
        })
        .into()
}

/// With `TOUCHLINE_REES46` naming the set's first file (`2019-Oct.csv.gz`, the first 5,019 rows of
/// it): the whole set. Without it: three rows of the same form, with a pause of more than 30 min.
#[test]
fn an_open_set_of_a_shop_has_its_events_purchases_and_sessions() {
    let set = Set {
        name: "set-rees46",
        mapping: "rees46.yaml",
        time: "event_time",
        key: "user_id",
        disorder: "5s",
        sessions_by: "gap",
        closing: &[("user_id", "close-"), ("user_session", "close-")],
        closes: "2019-10-20 00:00:00 UTC",
    };
    let (rows, events, purchases, expected) = match std::env::var_os("TOUCHLINE_REES46") {
        Some(path) => (by_time(rows(path.as_ref()), "event_time"), 5_019, 54, 1_761),
        None => (made_up(), 3, 1, 2),
    };
    assert_eq!(rows.len(), events);
    let (summary, sessions) = run(&set, &rows);
    counted(&summary, events as u64);
    assert_eq!(sessions.len(), expected);
    let orders: usize = rows.iter().filter(|r| text(r, "event_type") == "purchase").count();
    assert_eq!((orders, &summary["checkouts"]["completed"]), (purchases, &purchases.into()));
}
