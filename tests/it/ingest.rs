//! Mappings and source tasks, through their public interface.

pub(crate) mod sets;

use sets::{fixture, rows};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use touchline::ingest::json::Limits;
use touchline::ingest::mapping::spec::MappingSpec;
use touchline::ingest::mapping::{Mapping, MappingError};
use touchline::ingest::record::{Outcome, SourceRecord};
use touchline::ingest::rules::{Rules, Settings, UnknownWords, customer, hashed_email};
use touchline::ingest::task::{CanonicalOut, SourceTask, is_ahead};
use touchline::model::observation::Observation;
use touchline::model::reject::{FilterReason, RejectReason};
use touchline::model::taxonomy::{Pair, Taxonomy};
use touchline::model::time::{EventTime, Millis};
use touchline::model::touchpoint::Touchpoint;

/// 2026-03-01T09:00:00Z.
const NOW: i64 = 1_772_355_600_000;
const DAY: i64 = 86_400_000;

fn taxonomy() -> Arc<Taxonomy> {
    let pairs = [
        ("page", "view", "awareness"),
        ("promotion", "view", "awareness"),
        ("email_campaign", "open", "awareness"),
        ("search", "submit", "consideration"),
        ("list", "view", "consideration"),
        ("product", "view", "consideration"),
        ("wishlist", "add", "consideration"),
        ("cart", "add", "purchase"),
        ("cart", "remove", "purchase"),
        ("cart", "view", "purchase"),
        ("checkout", "start", "purchase"),
        ("checkout", "step", "purchase"),
        ("checkout", "complete", "purchase"),
        ("checkout", "fail", "purchase"),
        ("payment", "fail", "purchase"),
        ("payment", "pending", "purchase"),
        ("delivery", "update", "service"),
        ("chat", "start", "service"),
        ("service", "deliver", "service"),
    ];
    let stages = ["awareness", "consideration", "purchase", "service", "loyalty"];
    let channels = ["web", "mobile_app", "email", "chat", "delivery", "store"];
    Arc::new(Taxonomy::new(
        channels.into_iter().map(Into::into),
        stages.into_iter().map(|stage| (stage.into(), "phase".into())),
        pairs.into_iter().map(|(touchpoint, action, stage)| Pair {
            touchpoint: touchpoint.into(),
            action: action.into(),
            stage: stage.into(),
        }),
        [],
    ))
}

fn try_compile(yaml: &str) -> Result<Mapping, Vec<MappingError>> {
    let spec: MappingSpec = serde_saphyr::from_str(yaml).expect("a mapping file");
    Mapping::compile(spec, &taxonomy())
}

fn compile(yaml: &str) -> Mapping {
    try_compile(yaml).expect("a good mapping")
}

fn shipped(name: &str) -> Mapping {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mappings").join(name);
    compile(&std::fs::read_to_string(path).expect("a shipped mapping"))
}

fn rules(settings: Settings) -> Arc<Rules> {
    Arc::new(Rules::new(settings, taxonomy()))
}

fn record(payload: &[u8]) -> SourceRecord<'_> {
    SourceRecord {
        partition: 3,
        offset: 7,
        payload,
        key: Some(b"the-key"),
        headers: &[("ce_id", b"h-1"), ("ce_type", b"click")],
        broker_time: Some(NOW - 5),
        arrival: NOW,
    }
}

fn task(mapping: Mapping) -> SourceTask {
    let bound = Millis::from_secs(5);
    SourceTask::new("in", 3, bound, rules(Settings::default()), Some(Arc::new(mapping)))
}

fn run(mapping: Mapping, payload: &[u8]) -> (Outcome, Vec<CanonicalOut>) {
    let mut out = Vec::new();
    let outcome = task(mapping).on_record(&record(payload), &mut out);
    (outcome, out)
}

/// The one touchpoint that a mapping makes of a payload.
#[track_caller]
fn one(yaml: &str, payload: &str) -> Touchpoint {
    let (outcome, mut out) = run(compile(yaml), payload.as_bytes());
    assert_eq!(outcome, Outcome::Mapped(1), "{payload}");
    out.remove(0).touchpoint
}

/// Why a payload is rejected, and the field.
#[track_caller]
fn rejected(mapping: Mapping, payload: &[u8]) -> (RejectReason, String) {
    match run(mapping, payload) {
        (Outcome::Rejected(reject), out) if out.is_empty() => {
            (reject.reason, reject.field.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

const RULE: &str = "rules: [{emit: [{touchpoint: page, action: view}]}]\n";

#[test]
fn event_times_in_every_format() {
    let check = |time: &str, value: &str, expected: i64| {
        let yaml = format!("mapping: m\ntime: {{field: t, {time}}}\n{RULE}");
        let t = one(&yaml, &format!("{{\"t\":{value}}}"));
        assert_eq!(t.event_time.as_ms(), expected, "{time} {value}");
        assert_eq!(t.time_source.as_deref(), Some("true"));
    };
    check("format: rfc3339", "\"2026-03-01T09:00:00.120Z\"", NOW + 120);
    check("format: rfc3339", "\"2026-03-01T10:00:00+01:00\"", NOW);
    check("format: rfc3339", "\"2026-03-01 09:00:00.1239\"", NOW + 123);
    check("zone: Europe/Berlin", "\"2026-03-01T10:00:00\"", NOW);
    check("format: epoch_ms", "1772355600120", NOW + 120);
    check("format: epoch_ms", "\"1772355600120\"", NOW + 120);
    check("format: epoch_s", "1772355600", NOW);
    check("format: epoch_s", "1772355600.1209", NOW + 120);
    check("format: epoch_s", "1.7723556E9", NOW);
    check("format: epoch_us", "1772355600120999", NOW + 120);
    check("format: '%Y-%m-%d %H:%M:%S%.f %Z'", "\"2026-03-01 09:00:00.5 UTC\"", NOW + 500);
    check("format: '%Y-%m-%d %H:%M:%S%.f %Z'", "\"2026-03-01 10:00:00 Europe/Berlin\"", NOW);
    check("format: '%d.%m.%Y %H:%M', zone: Europe/Berlin", "\"01.03.2026 10:00\"", NOW);
    check("format: '%d/%b/%Y:%H:%M:%S %z'", "\"01/Mar/2026:10:00:00 +0100\"", NOW);
}

#[test]
fn times_that_cannot_be_used() {
    let check = |time: &str, value: &str, expected: RejectReason| {
        let yaml = format!("mapping: m\ntime: {{field: t, {time}}}\n{RULE}");
        let (reason, _) = rejected(compile(&yaml), format!("{{\"t\":{value}}}").as_bytes());
        assert_eq!(reason, expected, "{time} {value}");
    };
    use RejectReason::{AbsurdTime, FutureTime, PastTime, WrongType};
    check("format: epoch_ms", &(NOW + 600_001).to_string(), FutureTime);
    check("format: epoch_ms", &(NOW - 30 * DAY - 1).to_string(), PastTime);
    check("format: epoch_ms", "0", PastTime);
    check("format: epoch_ms", "253402300800000", AbsurdTime);
    check("format: epoch_ms", "-62135596800001", AbsurdTime);
    check("format: epoch_s", "1e300", AbsurdTime);
    check("format: epoch_us", "1e30", AbsurdTime);
    check("format: epoch_ms", "\"soon\"", WrongType);
    check("format: epoch_ms", "true", WrongType);
    check("format: epoch_ms", "[1]", WrongType);
    check("format: rfc3339", "\"2026-02-30T00:00:00Z\"", WrongType);
    check("format: rfc3339", "\"2026-03-01T09:00:00Zjunk\"", WrongType);
    check("format: '%Y-%m-%d %Z'", "\"2026-03-01 Nowhere/City\"", WrongType);
    check("format: '%Y-%m-%d %Z'", "\"2026-03-01\"", WrongType);
    // At the bounds themselves they are used.
    for at in [NOW + 600_000, NOW - 30 * DAY] {
        let yaml = format!("mapping: m\ntime: {{field: t, format: epoch_ms}}\n{RULE}");
        assert_eq!(one(&yaml, &format!("{{\"t\":{at}}}")).event_time.as_ms(), at);
    }
}

#[test]
fn candidates_for_the_time_in_their_order() {
    let yaml = format!(
        "mapping: m\n\
         time:\n\
         - {{field: truth, format: epoch_ms}}\n\
         - {{format: epoch_ms, corrected: {{timestamp: ts, received_at: got, sent_at: sent, \
         original: orig, max: 1h}}}}\n{RULE}"
    );
    let check = |payload: &str, time: i64, source: &str, original: Option<i64>| {
        let t = one(&yaml, &payload.replace("NOW", &NOW.to_string()));
        assert_eq!(t.event_time.as_ms() - NOW, time, "{payload}");
        assert_eq!(t.time_source.as_deref(), Some(source), "{payload}");
        assert_eq!(t.original_event_time.map(|o| o.as_ms() - NOW), original, "{payload}");
    };
    let at = |d: i64| (NOW + d).to_string();
    let obj = |pairs: &[(&str, i64)]| {
        let pairs: Vec<String> = pairs.iter().map(|(n, d)| format!("\"{n}\":{}", at(*d))).collect();
        format!("{{{}}}", pairs.join(","))
    };
    check(&obj(&[("truth", -1), ("ts", -2), ("orig", -3)]), -1, "true", None);
    check(&obj(&[("ts", -2), ("orig", -3)]), -2, "corrected", Some(-3));
    check(&obj(&[("ts", -2)]), -2, "corrected", None);
    check("{\"truth\":null,\"ts\":\"\"}", -5, "broker", None);
    check("{}", -5, "broker", None);
    // The producer's clock is 1,000 behind; sent 50 after it happened, received at −10.
    check(
        &obj(&[("got", -10), ("sent", -1_010), ("orig", -1_060)]),
        -60,
        "corrected",
        Some(-1_060),
    );
    // Without a time of receipt, that of arrival.
    check(&obj(&[("sent", -1_010), ("orig", -1_060)]), -50, "corrected", Some(-1_060));
    check(&obj(&[("orig", -7)]), -7, "original", None);
    // A correction at the bound is believed, one beyond it is not.
    check(&obj(&[("ts", 0), ("orig", -3_600_000)]), 0, "corrected", Some(-3_600_000));
    check(&obj(&[("ts", 0), ("orig", -3_600_001)]), -3_600_001, "original", None);
}

#[test]
fn without_a_broker_timestamp_the_arrival_counts() {
    let mut out = Vec::new();
    let record = SourceRecord { broker_time: None, ..record(b"{}") };
    let mapping = compile(&format!("mapping: m\n{RULE}"));
    assert_eq!(task(mapping).on_record(&record, &mut out), Outcome::Mapped(1));
    assert_eq!(out[0].touchpoint.event_time.as_ms(), NOW);
    assert_eq!(out[0].touchpoint.received_time, Some(NOW));
}

#[test]
fn ids_by_precedence() {
    let check = |id: &str, payload: &str, expected: &str| {
        let yaml = format!("mapping: m\nid: {id}\n{RULE}");
        assert_eq!(one(&yaml, payload).id, expected, "{id} {payload}");
    };
    check("{field: i, header: ce_id}", "{\"i\":\"a\"}", "a");
    check("{field: i}", "{\"i\":12345678901234567890123}", "12345678901234567890123");
    check("{field: i, header: ce_id}", "{\"i\":null}", "h-1");
    check("{field: i, position: true}", "{\"i\":\"\"}", "3-7");
    let fingerprint = |id: &str, payload: &str| {
        let got = one(&format!("mapping: m\nid: {id}\n{RULE}"), payload).id;
        assert_eq!(got.len(), 32, "{got}");
        got
    };
    let by_fields = |payload: &str| fingerprint("{fingerprint: [a, b]}", payload);
    assert_eq!(by_fields("{\"a\":1,\"b\":2,\"c\":3}"), by_fields("{\"b\":2,\"a\":1}"));
    assert_ne!(by_fields("{\"a\":12,\"b\":\"\"}"), by_fields("{\"a\":1,\"b\":2}"));
    assert_ne!(by_fields("{\"a\":1}"), by_fields("{\"b\":1}"));
    // Without any of these: event, customer, time and key properties.
    let of = |payload: &str| {
        let keys = "{field: i}\ncustomer_id: {field: c}\ntime: {field: t, format: epoch_ms}";
        fingerprint(keys, payload)
    };
    let t = |c: &str, at: i64| format!("{{\"c\":\"{c}\",\"t\":{},\"x\":{at}}}", NOW + at);
    assert_eq!(of(&t("a", 1)), of(&t("a", 1)));
    assert_ne!(of(&t("a", 1)), of(&t("b", 1)));
    assert_ne!(of(&t("a", 1)), of(&t("a", 2)));
}

#[test]
fn customers_by_precedence() {
    let yaml = format!(
        "mapping: m\ncustomer_id: {{field: u}}\nemail: {{field: e}}\nanonymous_id: {{field: a}}\n\
         id: {{field: i}}\n{RULE}"
    );
    let check = |payload: &str, key: &str| {
        let (outcome, out) = run(compile(&yaml), payload.as_bytes());
        assert_eq!(outcome, Outcome::Mapped(1));
        assert_eq!(String::from_utf8_lossy(&out[0].key), key, "{payload}");
    };
    let hash = hashed_email("a@example.org");
    check("{\"u\":42,\"e\":\"a@example.org\",\"a\":\"c\"}", "default|42");
    check("{\"u\":\"Guest\",\"e\":\" A@Example.ORG \",\"a\":\"c\"}", &format!("default|{hash}"));
    check("{\"u\":0,\"e\":\"null\",\"a\":\"c\"}", "default|c");
    check("{\"i\":\"e-1\",\"u\":\"0\",\"a\":\"undefined\"}", "e-1");
    check("{\"i\":\"e-1\"}", "e-1");
    assert_eq!(hash.len(), 32);
}

#[test]
fn money_is_exact_and_bounded() {
    let yaml = "mapping: m\nrules: [{emit: [{touchpoint: page, action: view, \
                fields: {value: {field: v, scale: 100}}}]}]\n";
    let check = |v: &str, expected: Option<i64>| {
        assert_eq!(one(yaml, &format!("{{\"v\":{v}}}")).value, expected, "{v}");
    };
    check("35.79", Some(3_579));
    check("0.29", Some(29));
    check("\"1.15\"", Some(115));
    check("1e3", Some(100_000));
    check("-4.005", Some(-401));
    check("null", None);
    check("\"\"", None);
    check("10000000000000.00", Some(1_000_000_000_000_000));
    let refused = |v: &str| rejected(compile(yaml), format!("{{\"v\":{v}}}").as_bytes());
    let field = |reason| (reason, "value".to_owned());
    assert_eq!(refused("10000000000000.01"), field(RejectReason::AmountOutOfBounds));
    assert_eq!(refused("-10000000000000.01"), field(RejectReason::AmountOutOfBounds));
    assert_eq!(refused("1e30").0, RejectReason::AmountOutOfBounds);
    assert_eq!(refused("1e300"), (RejectReason::AmountOutOfBounds, "v".to_owned()));
    assert_eq!(refused("\"free\""), (RejectReason::WrongType, "v".to_owned()));
    assert_eq!(refused("true").0, RejectReason::WrongType);
    assert_eq!(refused("{}").0, RejectReason::WrongType);
    let minor = "mapping: m\ndefaults: {value: {field: v}}\n\
                 rules: [{emit: [{touchpoint: page, action: view}]}]\n";
    assert_eq!(one(minor, "{\"v\":1250.0}").value, Some(1_250));
    assert_eq!(rejected(compile(minor), b"{\"v\":12.5}").0, RejectReason::WrongType);
}

#[test]
fn values_of_every_kind() {
    let t = one(
        "mapping: m\n\
         defaults: {source: src, tenant: {field: t, default: acme}, coupon: {key: true}}\n\
         values: {c: {ios: mobile_app}, d: {x: 5}}\n\
         rules:\n- emit:\n  - touchpoint: page\n    action: view\n    fields:\n\
         \x20     channel: {field: p, table: c, default: web}\n\
         \x20     device_id: {field: p, table: c}\n\
         \x20     store_id: {field: q, table: c}\n\
         \x20     account_id: {field: n, prefix: acc-}\n\
         \x20     message_id: {header: ce_type}\n\
         \x20     region: {cel: 'event.n > 4 ? \"big\" : \"small\"'}\n\
         \x20     country: {cel: event.missing.x, default: DE}\n\
         \x20     step: {field: x, table: d}\n\
         \x20     paid: {field: yes}\n\
         \x20     is_test: 1\n\
         \x20     segments: {field: s}\n\
         \x20     campaign.name: spring\n\
         \x20     rating.kind: nps\n      rating.score: {field: n}\n      rating.scale_max: 10\n\
         \x20     experiment.id: e\n      experiment.variant: {field: v}\n\
         \x20     attributes.k: {field: n}\n      consent.ads: {field: yes}\n",
        r#"{"p":"ios","q":"tv","n":7,"x":"x","yes":"TRUE","s":["a",1,null]}"#,
    );
    assert_eq!((t.source.as_str(), t.tenant.as_str()), ("src", "acme"));
    assert_eq!(t.coupon.as_deref(), Some("the-key"));
    assert_eq!(t.channel, "mobile_app");
    assert_eq!(t.device_id.as_deref(), Some("mobile_app"));
    assert_eq!(t.store_id.as_deref(), Some("tv"), "a word in no table stays");
    assert_eq!(t.account_id.as_deref(), Some("acc-7"));
    assert_eq!(t.message_id.as_deref(), Some("click"));
    assert_eq!(t.region.as_deref(), Some("big"));
    assert_eq!(t.country.as_deref(), Some("DE"));
    assert_eq!((t.step, t.paid, t.is_test), (Some(5), Some(true), true));
    assert_eq!(t.segments, ["a", "1"]);
    assert_eq!(t.campaign.and_then(|c| c.name).as_deref(), Some("spring"));
    assert_eq!(t.rating.map(|r| (r.kind, r.score as i64)), Some(("nps".into(), 7)));
    assert!(t.experiments.is_empty(), "an exposure without a variant is none");
    assert_eq!(t.attributes["k"], "7");
    assert!(t.consent["ads"]);
}

#[test]
fn one_record_may_give_several_touchpoints() {
    let yaml = "mapping: m\nid: {field: id}\ntime: {field: t, format: epoch_ms}\nrules:\n\
        - when: event.n > 1\n  stop: false\n\
        \x20 emit: [{touchpoint: page, action: view, shift: -5s}]\n\
        - when: event.n > 0\n  emit:\n  - each: lines\n    touchpoint: cart\n    action: add\n\
        \x20   fields: {value: {field: item.price, scale: 100}, coupon: {field: c}}\n\
        - when: 'true'\n  emit: [{touchpoint: product, action: view}]\n\
        otherwise: filter\n";
    let payload = format!(
        "{{\"id\":9,\"n\":2,\"t\":{NOW},\"c\":\"x\",\"lines\":[{{\"price\":1.5}},{{\"price\":2}}]}}"
    );
    let (outcome, out) = run(compile(yaml), payload.as_bytes());
    assert_eq!(outcome, Outcome::Mapped(3));
    let got: Vec<_> = out
        .iter()
        .map(|o| (o.touchpoint.id.as_str(), o.touchpoint.action.as_str(), o.touchpoint.value))
        .collect();
    assert_eq!(got, [("9", "view", None), ("9#2", "add", Some(150)), ("9#3", "add", Some(200))]);
    let marks: Vec<i64> = out.iter().map(|o| o.origin.watermark.as_ms() - NOW).collect();
    assert_eq!(marks, [-10_000, -5_000, -5_000], "each touchpoint moves the watermark");
    assert!(out[2].touchpoint.coupon.as_deref() == Some("x"));
    // A rule that matched and made nothing leaves the record to `otherwise`.
    let (outcome, out) = run(compile(yaml), b"{\"id\":1,\"n\":1,\"lines\":[]}");
    assert_eq!((outcome, out.len()), (Outcome::Filtered(FilterReason::Mapping), 0));
    // One touchpoint that cannot be used takes the record with it.
    let bad =
        format!("{{\"id\":9,\"n\":2,\"t\":{NOW},\"lines\":[{{\"price\":1}},{{\"price\":[]}}]}}");
    assert_eq!(
        rejected(compile(yaml), bad.as_bytes()),
        (RejectReason::WrongType, "item.price".to_owned())
    );
}

#[test]
fn poison_ends_as_a_reject_with_its_reason() {
    let mapping = || {
        compile(
            "mapping: m\nid: {field: id}\ncustomer_id: {field: u}\ndefaults: {tenant: {field: t}}\n\
             rules: [{when: event.k == 1, emit: [{touchpoint: {field: p}, action: view}]}]\n",
        )
    };
    let check = |payload: &[u8], reason: RejectReason, field: &str| {
        let got = rejected(mapping().with_limits(Limits { bytes: 4_096, depth: 8 }), payload);
        assert_eq!(got, (reason, field.to_owned()));
    };
    use RejectReason::*;
    check(b"{", MalformedJson, "");
    check(b"\0\0\0\0\x01", MalformedJson, "");
    check(b"{\"k\":NaN}", MalformedJson, "");
    check(b"{\"k\":1,\"k\":2}", MalformedJson, "k");
    check(b"{\"k\":\"\xc3\x28\"}", InvalidUtf8, "");
    check(&[b'['; 3_000], TooDeep, "");
    check(&[b' '; 5_000], TooLarge, "");
    check(b"[]", Unmapped, "");
    check(b"{\"k\":2}", Unmapped, "");
    check(b"{\"k\":1}", MissingField, "p");
    check(b"{\"k\":1,\"p\":{}}", WrongType, "p");
    check(b"{\"k\":1,\"p\":\"a\",\"id\":[]}", WrongType, "id");
    check(b"{\"k\":1,\"p\":\"a\",\"t\":\"a|b\"}", BadTenant, "tenant");
    let long = |n: usize| format!("{{\"k\":1,\"p\":\"a\",\"u\":\"{}\"}}", "x".repeat(n));
    check(long(1_025).as_bytes(), IdTooLong, "customer_id");
    assert_eq!(run(mapping(), long(1_024).as_bytes()).0, Outcome::Mapped(1));
    assert_eq!(run(mapping(), b"").0, Outcome::Filtered(FilterReason::Tombstone));
}

#[test]
fn any_bytes_end_somewhere() {
    // No panic, and exactly one outcome, for every cut and every changed byte of a good record.
    let good = br#"{"id":"e","ts":"2026-03-01T09:00:00Z","type":"order","total":1.5,"order":
        {"id":"o","lines":[{"sku":"A\u00e9","qty":2,"price":10.00}]}}"#;
    let mapping = shipped("shop.yaml");
    let mut task = task(mapping);
    for at in 0..good.len() {
        let mut out = Vec::new();
        let cut = task.on_record(&record(&good[..at]), &mut out);
        assert!(!matches!(cut, Outcome::Mapped(_)), "{at}");
        for byte in [0u8, b'"', b'{', b'9', 0x80, 0xff] {
            let mut changed = good.to_vec();
            changed[at] = byte;
            out.clear();
            match task.on_record(&record(&changed), &mut out) {
                Outcome::Mapped(n) => assert_eq!(n, out.len() as u64),
                _ => assert!(out.is_empty()),
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_mapping_is_told_with_its_place() {
    let errors = try_compile(
        "mapping: m\n\
         time: [{field: t, format: sometimes}, {field: a..b}, {}, {field: t, zone: Mars/Base}]\n\
         defaults: {event_time: 1, channel: telepathy}\n\
         values: {c: {a: web, b: fax}}\n\
         rules:\n\
         - {when: event.x = 1, emit: [{touchpoint: a, action: b}]}\n\
         - emit: [{touchpoint: a, action: b, stage: limbo, \
         \x20   fields: {channel: {field: c, table: c}}}]\n\
         - emit: [{touchpoint: a, action: b, fields: {value: {field: c, table: d, scale: 0}}}]\n\
         - emit: [{touchpoint: {field: a, cel: event.a}, action: b}]\n\
         - filter: true\n  emit: [{touchpoint: a, action: b}]\n\
         - {when: 'true'}\n",
    )
    .unwrap_err();
    let places: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(
        places,
        [
            "time[0].format",
            "time[1].field",
            "time[2]",
            "time[3].zone",
            "defaults.channel",
            "defaults.event_time",
            "rules[0].when",
            "rules[1].emit[0].stage",
            "rules[1].emit[0].fields.channel.table",
            "rules[2].emit[0].fields.value.table",
            "rules[3].emit[0].touchpoint",
            "rules[4]",
            "rules[5]",
        ]
    );
    assert!(errors[4].message.contains("unknown channel `telepathy`"), "{}", errors[4]);
}

#[test]
fn unknown_words_become_other_and_are_counted() {
    let yaml = "mapping: m\ndefaults: {channel: {field: c}}\n\
                rules: [{emit: [{touchpoint: {field: p}, action: view, stage: {field: s}}]}]\n";
    let mut task = task(compile(yaml));
    let mut check = |payload: &str, channel: &str, stage: &str| {
        let mut out = Vec::new();
        assert_eq!(task.on_record(&record(payload.as_bytes()), &mut out), Outcome::Mapped(1));
        let t = &out[0].touchpoint;
        assert_eq!((t.channel.as_str(), t.stage.as_deref()), (channel, Some(stage)), "{payload}");
    };
    check(r#"{"c":"web","p":"product"}"#, "web", "consideration");
    check(r#"{"c":"fax","p":"product"}"#, "other", "consideration");
    check(r#"{"p":"oracle"}"#, "other", "other");
    check(r#"{"c":"web","p":"oracle","s":"loyalty"}"#, "web", "loyalty");
    check(r#"{"c":"web","p":"oracle","s":"limbo"}"#, "web", "other");
    check(r#"{"c":"web","p":"product","s":"limbo"}"#, "web", "consideration");
    let mut observed = Vec::new();
    task.observe(&mut observed);
    task.observe(&mut observed);
    let word = |dimension, n| Observation::UnknownWord { dimension, n };
    assert_eq!(observed, [word("channel", 1), word("stage", 2), word("touchpoint", 1)]);
}

#[test]
fn a_task_keeps_its_watermark_and_makes_marks() {
    let yaml = format!("mapping: m\ntime: {{field: t, format: epoch_ms}}\n{RULE}");
    let mut task = task(compile(&yaml));
    let waited = Millis::from_secs(60);
    let mark = task.mark(true, waited, 4);
    assert_eq!((mark.watermark, mark.clock, mark.idle, mark.of), (None, None, true, 4));
    assert_eq!((mark.source.as_str(), mark.partition), ("in", 3));
    let mut out = Vec::new();
    for (at, watermark) in [(0, -5_000), (-2_000, -5_000), (1_000, -4_000)] {
        let payload = format!("{{\"t\":{}}}", NOW + at);
        task.on_record(&record(payload.as_bytes()), &mut out);
        let origin = &out.last().unwrap().origin;
        assert_eq!(origin.watermark.as_ms() - NOW, watermark);
        assert_eq!((origin.source.as_str(), origin.partition, origin.offset), ("in", 3, 7));
    }
    // Rejects do not move it.
    let future = format!("{{\"t\":{}}}", NOW + 10 * DAY);
    assert!(matches!(task.on_record(&record(future.as_bytes()), &mut out), Outcome::Rejected(_)));
    let at = |ms: i64| Some(EventTime::from_ms(NOW + ms));
    let busy = task.mark(false, waited, 4);
    assert_eq!((busy.watermark, busy.clock), (at(-4_000), at(-4_000)));
    let idle = task.mark(true, waited, 4);
    assert_eq!((idle.watermark, idle.clock), (at(-4_000), at(56_000)));
}

#[test]
fn canonical_touchpoints_follow_the_same_rules() {
    let bound = Millis::from_secs(5);
    let mut task = SourceTask::new("c", 0, bound, rules(Settings::default()), None);
    let touchpoint = |id: &str, at: i64| {
        Touchpoint::new(id, "native", EventTime::from_ms(at), "web", "cart", "add")
    };
    let mut check = |touchpoint: Option<Touchpoint>, expected: Result<u64, RejectReason>| {
        let mut out = Vec::new();
        let got = match task.on_touchpoint(&record(b"x"), touchpoint, &mut out) {
            Outcome::Mapped(n) => Ok(n),
            Outcome::Filtered(reason) => {
                assert_eq!(reason, FilterReason::Tombstone);
                Ok(0)
            }
            Outcome::Rejected(reject) => Err(reject.reason),
        };
        assert_eq!(got, expected);
    };
    check(None, Ok(0));
    check(Some(touchpoint("e", NOW)), Ok(1));
    check(Some(touchpoint("", NOW)), Err(RejectReason::MissingId));
    check(Some(touchpoint("e", NOW + DAY)), Err(RejectReason::FutureTime));
    check(Some(touchpoint("e", i64::MIN)), Err(RejectReason::AbsurdTime));
    check(Some(touchpoint("e", i64::MAX)), Err(RejectReason::AbsurdTime));
    let original = Some(EventTime::from_ms(i64::MAX));
    check(
        Some(Touchpoint { original_event_time: original, ..touchpoint("e", NOW) }),
        Err(RejectReason::AbsurdTime),
    );
    for tenant in ["a|b", ""] {
        let tenant = tenant.into();
        check(Some(Touchpoint { tenant, ..touchpoint("e", NOW) }), Err(RejectReason::BadTenant));
    }
    let value = Some(i64::MIN);
    check(Some(Touchpoint { value, ..touchpoint("e", NOW) }), Err(RejectReason::AmountOutOfBounds));
    check(Some(Touchpoint { is_bot: true, is_test: true, ..touchpoint("b", NOW) }), Ok(1));
}

#[test]
fn long_lists_are_cut() {
    let mut t = Touchpoint::new("e", "s", EventTime::from_ms(NOW), "web", "cart", "add");
    t.items = vec![touchline::model::touchpoint::Item::default(); 60];
    t.segments = vec!["s".into(); 20];
    t.attributes = (0..40).map(|n| (format!("{n:02}").into(), "v".into())).collect();
    rules(Settings::default()).finish(&mut t, NOW, &mut UnknownWords::default()).unwrap();
    assert_eq!((t.items.len(), t.segments.len(), t.attributes.len()), (50, 16, 32));
    assert!(t.attributes.contains_key("00") && !t.attributes.contains_key("39"));
}

#[test]
fn partitions_too_far_ahead_are_paused() {
    let report = |watermark: Option<i64>, idle: bool| {
        let watermark = watermark.map(EventTime::from_ms);
        touchline::engine::progress::Report { watermark, clock: watermark, idle }
    };
    let check = |reports: &[touchline::engine::progress::Report], expected: &[usize]| {
        let is = |r: &usize| is_ahead(reports[*r].watermark, reports.iter(), Millis::from_ms(100));
        assert_eq!((0..reports.len()).filter(is).collect::<Vec<_>>(), expected);
    };
    let (slow, at, over) = (report(Some(0), false), report(Some(100), false), 101);
    check(&[], &[]);
    check(&[slow, at, report(Some(over), false)], &[2]);
    check(&[report(Some(0), true), at, report(Some(over), false)], &[]);
    check(&[report(None, false), at, report(Some(900), false)], &[2]);
    check(&[report(Some(0), true), report(Some(900), true)], &[]);
}

// ---- the shipped mappings and the real sets

#[test]
fn the_shops_own_json() {
    let check = |body: &str, pair: &str, more: &dyn Fn(&Touchpoint)| {
        let head = r#""id":"e","ts":"2026-03-01T09:00:00Z","platform":"ios","user":{"id":42}"#;
        let (outcome, out) = run(shipped("shop.yaml"), format!("{{{head},{body}}}").as_bytes());
        assert_eq!(outcome, Outcome::Mapped(1), "{body}");
        let t = &out[0].touchpoint;
        assert_eq!(format!("{} {}", t.touchpoint, t.action), pair);
        assert_eq!(t.customer_id.as_deref(), Some("42"));
        more(t);
    };
    check(r#""type":"product","sku":"A""#, "product view", &|t| {
        assert_eq!((t.channel.as_str(), t.stage.as_deref()), ("mobile_app", Some("consideration")));
    });
    check(r#""type":"cart","op":"add","cart":{"id":1,"total":9.9}"#, "cart add", &|t| {
        assert_eq!((t.cart_id.as_deref(), t.value), (Some("1"), Some(990)));
    });
    check(r#""type":"checkout","step":1,"checkout":"k""#, "checkout start", &|t| {
        assert_eq!((t.checkout_id.as_deref(), t.step), (Some("k"), Some(1)));
    });
    check(r#""type":"checkout","step":2,"name":"pay""#, "checkout step", &|t| {
        assert_eq!((t.step, t.step_name.as_deref()), (Some(2), Some("pay")));
    });
    check(r#""type":"payment","status":"failed","error":"3ds""#, "payment fail", &|t| {
        assert_eq!(t.error_code.as_deref(), Some("3ds"));
    });
    let order = r#""type":"order","total":35.79,"currency":"CHF","order":{"id":"o","lines":
        [{"sku":"A","qty":2,"price":10.00},{"qty":1},{"sku":"B"}]}"#;
    check(order, "checkout complete", &|t| {
        assert_eq!((t.value, t.currency.as_deref()), (Some(3_579), Some("CHF")));
        let lines: Vec<_> = t.items.iter().map(|i| (i.sku.as_str(), i.quantity, i.price)).collect();
        assert_eq!(lines, [("A", 2, Some(1_000)), ("B", 1, None)]);
    });
    check(r#""type":"chat","what":"start""#, "chat start", &|t| assert_eq!(t.channel, "chat"));
    check(r#""type":"email","what":"opened""#, "email_campaign open", &|t| {
        assert_eq!((t.channel.as_str(), t.stage.as_deref()), ("email", Some("awareness")));
    });
    let ends = |payload: &str| run(shipped("shop.yaml"), payload.as_bytes()).0;
    assert_eq!(ends(r#"{"type":"shipment","parcels":[{"id":1},{"id":2}]}"#), Outcome::Mapped(2));
    assert_eq!(ends(r#"{"type":"heartbeat"}"#), Outcome::Filtered(FilterReason::Mapping));
    assert!(matches!(ends(r#"{"type":"order","total":0}"#), Outcome::Rejected(_)));
}

/// Maps a set, each record arriving when the newest of the set happened.
fn map_set(
    mapping: Mapping,
    records: impl Iterator<Item = Vec<u8>>,
    arrival: i64,
) -> (Vec<Touchpoint>, BTreeMap<String, u64>) {
    let max_age = Millis::from_hours(24 * 3_650);
    let rules = rules(Settings { max_age, ..Settings::default() });
    let mut task = SourceTask::new("set", 0, Millis::from_secs(5), rules, Some(Arc::new(mapping)));
    let (mut out, mut outcomes) = (Vec::new(), BTreeMap::new());
    for (offset, payload) in (0..).zip(records) {
        let record = SourceRecord { offset, broker_time: None, arrival, ..record(&payload) };
        let outcome = match task.on_record(&record, &mut out) {
            Outcome::Mapped(n) => format!("mapped {n}"),
            Outcome::Filtered(reason) => reason.name().to_owned(),
            Outcome::Rejected(reject) => panic!("{reject:?}"),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let mut unknown = Vec::new();
    task.observe(&mut unknown);
    assert_eq!(unknown, [], "every word of the set is known");
    (out.into_iter().map(|o| o.touchpoint).collect(), outcomes)
}

/// Start, end and number of events of each session by (customer, source session id).
fn by_source_id(touchpoints: &[Touchpoint]) -> BTreeMap<(String, String), (i64, i64, u64)> {
    let mut sessions = BTreeMap::new();
    for t in touchpoints {
        let Some(session) = &t.session_id else { continue };
        let key = (customer(t).expect("a customer").to_owned(), session.to_string());
        let at = t.event_time.as_ms();
        let (start, end, n) = sessions.entry(key).or_insert((at, at, 0));
        (*start, *end, *n) = (at.min(*start), at.max(*end), *n + 1);
    }
    sessions
}

/// The same by gaps of more than 30 min.
fn by_gap(touchpoints: &[Touchpoint]) -> Vec<(String, i64, i64, u64)> {
    let mut times: Vec<(String, i64)> = touchpoints
        .iter()
        .map(|t| (customer(t).expect("a customer").to_owned(), t.event_time.as_ms()))
        .collect();
    times.sort();
    let mut sessions: Vec<(String, i64, i64, u64)> = Vec::new();
    for (customer, at) in times {
        match sessions.last_mut() {
            Some((last, _, end, n)) if *last == customer && at - *end <= 30 * 60_000 => {
                (*end, *n) = (at, *n + 1);
            }
            _ => sessions.push((customer, at, at, 1)),
        }
    }
    sessions
}

fn ms(text: &str) -> i64 {
    let time: jiff::civil::DateTime = text.parse().expect("a time");
    time.to_zoned(jiff::tz::TimeZone::UTC).expect("in range").timestamp().as_millisecond()
}

fn payloads(
    rows: &[serde_json::Map<String, serde_json::Value>],
) -> impl Iterator<Item = Vec<u8>> + '_ {
    rows.iter().map(|row| serde_json::to_vec(row).expect("JSON"))
}

#[test]
fn ecom_sessions_come_out_by_id_and_by_gap() {
    let rows = rows(&fixture("ecom_sessions/ecom.csv.gz"));
    let arrival = ms("2024-06-30 00:00:00");
    let (touchpoints, outcomes) = map_set(shipped("ecom_sessions.yaml"), payloads(&rows), arrival);
    assert_eq!(outcomes, BTreeMap::from([("mapped 1".to_owned(), 31_106)]));
    let ids: BTreeSet<&str> = touchpoints.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids.len(), 31_106);
    let mut expected = BTreeMap::new();
    for row in &rows {
        let text = |name: &str| row[name].as_str().expect("text").to_owned();
        let at = ms(&text("timestamp"));
        let (start, end, n) =
            expected.entry((text("user_id"), text("session_id"))).or_insert((at, at, 0));
        (*start, *end, *n) = (at.min(*start), at.max(*end), *n + 1);
    }
    assert_eq!(expected.len(), 3_605);
    assert_eq!(by_source_id(&touchpoints), expected);
    let mut expected: Vec<_> =
        expected.into_iter().map(|((user, _), (s, e, n))| (user, s, e, n)).collect();
    expected.sort();
    assert_eq!(by_gap(&touchpoints), expected);
    let orders =
        touchpoints.iter().filter(|t| t.touchpoint == "checkout" && t.action == "complete");
    assert_eq!(orders.count(), 470);
}

#[test]
fn snowplow_sessions_come_out_as_expected() {
    let rows_in = rows(&fixture("snowplow_web/snowplow_web_events.csv.gz"));
    let arrival = ms("2021-03-15 00:00:00");
    let (touchpoints, outcomes) =
        map_set(shipped("snowplow_web.yaml"), payloads(&rows_in), arrival);
    let expected = [("mapped 1", 143), ("mapped 2", 8), ("mapping", 9)];
    assert_eq!(outcomes, expected.map(|(k, n)| (k.to_owned(), n)).into());
    let mut ids: BTreeMap<&str, u64> = BTreeMap::new();
    for t in &touchpoints {
        *ids.entry(&t.id).or_default() += 1;
    }
    assert_eq!(ids.values().filter(|n| **n == 2).count(), 3, "duplicates");
    assert!(ids.values().all(|n| *n <= 2));
    let sessions = by_source_id(&touchpoints);
    let expected = rows(&fixture("snowplow_web/snowplow_web_sessions_expected.csv"));
    assert_eq!(expected.len(), 18);
    for row in expected {
        let text = |name: &str| row[name].as_str().expect("text");
        let id = text("domain_sessionid");
        let found: Vec<_> =
            sessions.iter().filter(|((_, session), _)| session == id).map(|(_, s)| s).collect();
        let [(start, end, _)] = found.as_slice() else { panic!("{id}: {found:?}") };
        assert_eq!((*start, *end), (ms(text("start_tstamp")), ms(text("end_tstamp"))), "{id}");
    }
}

#[test]
fn rees46_rows_are_views_carts_and_purchases() {
    let row = |kind: &str, price: &str| {
        format!(
            "{{\"event_time\":\"2019-10-01 00:02:14 UTC\",\"event_type\":\"{kind}\",\
             \"product_id\":\"1\",\"category_id\":\"2\",\"category_code\":\"\",\"brand\":\"b\",\
             \"price\":\"{price}\",\"user_id\":\"7\",\"user_session\":\"s\"}}"
        )
    };
    let kinds = ["view", "cart", "purchase", "view"];
    let records = kinds.iter().map(|kind| row(kind, "130.76").into_bytes());
    let (touchpoints, _) = map_set(shipped("rees46.yaml"), records, ms("2019-10-02 00:00:00"));
    let got: Vec<_> = touchpoints
        .iter()
        .map(|t| (t.id.as_str(), t.touchpoint.as_str(), t.action.as_str(), t.value))
        .collect();
    assert_eq!(
        got,
        [
            ("3-0", "product", "view", None),
            ("3-1", "cart", "add", Some(13_076)),
            ("3-2", "checkout", "complete", Some(13_076)),
            ("3-3", "product", "view", None),
        ]
    );
    let t = &touchpoints[2];
    assert_eq!(t.event_time.as_ms(), ms("2019-10-01 00:02:14"));
    assert_eq!((t.order_id.as_deref(), t.session_id.as_deref()), (None, Some("s")));
    assert_eq!(t.attributes.get("category"), None, "an empty text is no value");
}

#[test]
fn a_task_may_move_between_threads() {
    fn movable<T: Send + Sync>(_: &T) {}
    movable(&task(shipped("snowplow_web.yaml")));
}
