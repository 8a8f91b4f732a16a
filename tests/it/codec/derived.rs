//! Derived records: both encodings, keys, headers, and what the alert topics get.

use super::{oracle, with};
use apache_avro::types::Value;
use std::collections::BTreeMap;
use touchline::codec::canonical::Schemas;
use touchline::codec::derived::{
    Encoding, Produce, SchemaIds, decode_alert, decode_checkout, decode_live, decode_session,
    decode_window, encode,
};
use touchline::codec::flush;
use touchline::codec::schemas::schema_of;
use touchline::engine::Fact;
use touchline::model::figures::Flush;
use touchline::model::ids::PartitionId;
use touchline::model::record::{
    Abandonment, AlertRecord, AlertTransition, CheckoutKind, CheckoutRecord, Contributor, Evidence,
    LateRecord, LiveRecord, PathStep, SessionRecord, SessionStatus, Severity, Transition,
    WindowRecord,
};
use touchline::model::time::EventTime;
use touchline::model::topic::Topic;

const AT: EventTime = EventTime::from_ms(1_700_000_000_123);

fn session() -> SessionRecord {
    SessionRecord {
        schema_version: 1,
        id: "f-1".into(),
        tenant: "default".into(),
        customer: "c|1".into(),
        session_id: "s-1".into(),
        status: SessionStatus::Merged,
        merged_into: Some("s-0".into()),
        start: AT,
        end: AT,
        events: 3,
        channels: vec!["web".into(), "email".into()],
        entry_channel: "web".into(),
        stage_reached: "purchase".into(),
        path: vec![PathStep { touchpoint: "product".into(), action: "view".into(), at: AT }],
        path_truncated: true,
        engaged: true,
        converted: false,
        value: BTreeMap::from([("EUR".into(), -5), ("CHF".into(), 1 << 50)]),
        revision: 2,
        is_final: true,
    }
}

fn checkout(transition: Transition) -> CheckoutRecord {
    CheckoutRecord {
        schema_version: 1,
        id: "f-2".into(),
        tenant: "default".into(),
        customer: "c-1".into(),
        instance: "i-1".into(),
        kind: CheckoutKind::Cart,
        transition,
        revision: 0,
        at: AT,
        decided_at: AT,
        started_at: AT,
        last_activity: AT,
        step: Some(2),
        step_name: None,
        channel: "web".into(),
        value: Some(1),
        currency: Some("EUR".into()),
        payment_method: None,
        shipping_method: Some("post".into()),
        coupon: None,
        account_type: Some("guest".into()),
        error_code: None,
        correlated_by: "cart_id".into(),
        merged_into: None,
    }
}

fn live() -> LiveRecord {
    LiveRecord {
        schema_version: 1,
        id: "f-3".into(),
        tenant: "default".into(),
        window: "1m".into(),
        start: AT,
        end: AT,
        dimensions: BTreeMap::from([
            ("stage".into(), "purchase".into()),
            ("channel".into(), "a|b,c=d%".into()),
        ]),
        events: 1,
        customers: 2,
        sessions: 3,
        engaged_sessions: 4,
        orders: 5,
        value: BTreeMap::new(),
        checkouts_started: 6,
        checkouts_completed: 7,
        checkouts_abandoned: 8,
        checkouts_recovered: 9,
        completeness: 0.75,
    }
}

fn window() -> WindowRecord {
    WindowRecord {
        schema_version: 1,
        id: "f-4".into(),
        tenant: "default".into(),
        window: "1m".into(),
        start: AT,
        end: AT,
        dimensions: BTreeMap::new(),
        events: 1,
        customers: 2,
        sessions: 3,
        engaged_sessions: 4,
        orders: 5,
        value: BTreeMap::from([("EUR".into(), 12)]),
        checkouts_started: 6,
        checkouts_completed: 7,
        checkouts_abandoned: 8,
        checkouts_recovered: 9,
        abandonment: Abandonment {
            started: 5,
            abandoned: 4,
            expired: 3,
            undecided: 2,
            unique_abandoners: 1,
            mature: true,
        },
        revision: 1,
        is_final: true,
        completeness: 1.0,
    }
}

fn alert(transition: AlertTransition) -> AlertRecord {
    AlertRecord {
        schema_version: 1,
        id: "f-5".into(),
        fingerprint: "fp".into(),
        episode: "fp-1".into(),
        sequence: 1,
        alert: "abandonment".into(),
        transition,
        severity: Severity::Critical,
        owner: "checkout".into(),
        tenant: "default".into(),
        dimensions: BTreeMap::from([("channel".into(), "web".into())]),
        at: AT,
        starts_at: AT,
        ends_at: None,
        value: 0.5,
        expected: 0.25,
        lower: 0.125,
        upper: 0.375,
        n: 40,
        effect: 0.25,
        p_value: 0.0625,
        window: "5m".into(),
        maturity: 1.0,
        completeness: 1.0,
        contributors: vec![Contributor {
            dimensions: BTreeMap::from([("stage".into(), "purchase".into())]),
            effect: 0.5,
            value: 1.5,
            n: 4,
        }],
        at_risk: BTreeMap::from([("EUR".into(), 99)]),
        evidence: vec![Evidence { topic: "t".into(), partition: 1, from: 2, to: 3 }],
        summary: "Checkout \"web\" breaks".into(),
        runbook: "".into(),
    }
}

const IDS: SchemaIds = SchemaIds {
    sessions: 11,
    checkout_lifecycle: 12,
    live: 13,
    channel_stage: 14,
    alert_events: 15,
    alerts_active: 16,
};

fn records(fact: &Fact, encoding: &Encoding) -> Vec<Produce> {
    let mut out = Vec::new();
    encode(fact, encoding, "shop-app", &mut out);
    out
}

fn header<'a>(record: &'a Produce, name: &str) -> &'a str {
    let (_, value) = record.headers.iter().find(|(n, _)| *n == name).unwrap();
    std::str::from_utf8(value.as_deref().unwrap()).unwrap()
}

/// Encodes both ways, has the Avro library read it, decodes both, and gives the JSON record back.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    fact: &Fact,
    record: &T,
    (id, topic): (u32, Topic),
    decode: impl Fn(&Schemas, &[u8]) -> T,
) -> Produce {
    let mut json = records(fact, &Encoding::Json);
    let avro = records(fact, &Encoding::Avro(IDS));
    assert_eq!(avro[0].topic, topic);
    let schema = schema_of(topic).unwrap();
    let payload = avro[0].value.as_deref().unwrap();
    assert_eq!(payload[..5], [0, 0, 0, 0, u8::try_from(id).unwrap()]);
    let Some(Value::Record(fields)) = oracle(schema, None, &payload[5..]) else {
        panic!("the library cannot read it");
    };
    let text = json[0].value.as_deref().unwrap();
    // The same names in the same order in both.
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).unwrap();
    let names: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
    assert_eq!(object.keys().collect::<Vec<_>>(), names);
    let schemas = with(id, schema);
    assert_eq!(&decode(&schemas, payload), record);
    assert_eq!(&decode(&schemas, text), record);
    assert!(decode_alert(&schemas, &payload[..payload.len() - 1]).is_err());
    assert!(decode_alert(&schemas, &text[..text.len() - 1]).is_err());
    assert_eq!(json[0].key, avro[0].key);
    assert_eq!(header(&json[0], "ce_id"), object["id"].as_str().unwrap());
    assert_eq!(header(&json[0], "ce_source"), "shop-app");
    assert_eq!(header(&json[0], "ce_specversion"), "1.0");
    assert_eq!(header(&json[0], "ce_time"), "2023-11-14T22:13:20.123Z");
    json.swap_remove(0)
}

#[test]
fn every_record_survives_both_formats() {
    let fact = Fact::Session(Box::new(session()));
    let out = check(&fact, &session(), (11, Topic::Sessions), |s, b| decode_session(s, b).unwrap());
    assert_eq!(out.key, b"default|c|1|s-1");
    assert_eq!(header(&out, "ce_type"), "journeys.session.v1");
    for transition in Transition::ALL {
        let record = checkout(transition);
        let fact = Fact::Checkout(Box::new(record.clone()));
        let topic = (12, Topic::CheckoutLifecycle);
        let out = check(&fact, &record, topic, |s, b| decode_checkout(s, b).unwrap());
        assert_eq!(out.key, b"i-1");
    }
    let fact = Fact::Live(Box::new(live()));
    let out = check(&fact, &live(), (13, Topic::Live), |s, b| decode_live(s, b).unwrap());
    assert_eq!(out.key, b"default|1m|channel=a%7Cb%2Cc%3Dd%25,stage=purchase");
    let fact = Fact::Window(Box::new(window()));
    let topic = (14, Topic::ChannelStage);
    let out = check(&fact, &window(), topic, |s, b| decode_window(s, b).unwrap());
    assert_eq!(out.key, b"default|1m|1700000000123|");
    for transition in [
        AlertTransition::Pending,
        AlertTransition::Firing,
        AlertTransition::Amended,
        AlertTransition::Recovering,
        AlertTransition::Resolved,
        AlertTransition::Suppressed,
    ] {
        let record = alert(transition);
        let fact = Fact::Alert(Box::new(record.clone()));
        let topic = (15, Topic::AlertEvents);
        let out = check(&fact, &record, topic, |s, b| decode_alert(s, b).unwrap());
        assert_eq!(out.key, b"fp");
    }
}

#[test]
fn active_alerts_are_set_by_firing_and_cleared_by_resolved() {
    let active = |transition| {
        let out = records(&Fact::Alert(Box::new(alert(transition))), &Encoding::Json);
        assert_eq!(out[0].topic, Topic::AlertEvents);
        out.into_iter().skip(1).collect::<Vec<_>>()
    };
    use AlertTransition as T;
    for transition in [T::Pending, T::Recovering, T::Suppressed] {
        assert_eq!(active(transition), []);
    }
    for transition in [T::Firing, T::Amended] {
        let out = active(transition);
        assert_eq!((out.len(), out[0].topic), (1, Topic::AlertsActive));
        let value = out[0].value.as_deref().unwrap();
        assert_eq!(decode_alert(&Schemas::new(), value), Ok(alert(transition)));
    }
    let out = active(T::Resolved);
    assert_eq!((out.len(), out[0].topic, &out[0].value), (1, Topic::AlertsActive, &None));
    assert_eq!(out[0].key, b"fp");
    let avro = records(&Fact::Alert(Box::new(alert(T::Firing))), &Encoding::Avro(IDS));
    assert_eq!(avro[1].value.as_deref().unwrap()[..5], [0, 0, 0, 0, 16]);
}

#[test]
fn no_double_breaks_the_json() {
    let mut record = alert(AlertTransition::Firing);
    record.lower = f64::NEG_INFINITY;
    record.upper = f64::INFINITY;
    record.contributors[0].effect = f64::NAN;
    let out = records(&Fact::Alert(Box::new(record)), &Encoding::Json);
    let read = decode_alert(&Schemas::new(), out[0].value.as_deref().unwrap()).unwrap();
    assert_eq!((read.lower, read.upper), (f64::MIN, f64::MAX));
    assert_eq!(read.contributors[0].effect.to_bits(), 0);
}

#[test]
fn sums_beyond_64_bits_are_exact_in_json_and_saturate_in_avro() {
    let mut record = window();
    let huge = i128::MAX - 1;
    record.value = BTreeMap::from([("EUR".into(), huge), ("CHF".into(), -huge)]);
    let fact = Fact::Window(Box::new(record.clone()));
    let json = records(&fact, &Encoding::Json);
    let value = json[0].value.as_deref().unwrap();
    assert_eq!(decode_window(&Schemas::new(), value), Ok(record));
    let avro = records(&fact, &Encoding::Avro(IDS));
    let schemas = with(14, schema_of(Topic::ChannelStage).unwrap());
    let read = decode_window(&schemas, avro[0].value.as_deref().unwrap()).unwrap();
    let bounds = [i128::from(i64::MIN), i128::from(i64::MAX)];
    assert_eq!(read.value.into_values().collect::<Vec<_>>(), bounds);
}

#[test]
fn late_records_keep_their_bytes_and_flushes_their_partition() {
    let late = LateRecord {
        id: "f-6".into(),
        key: b"default|c-1".to_vec(),
        value: b"\x00\xff".to_vec(),
        event_time: AT,
        late_by_ms: 17,
        watermark: EventTime::from_ms(5),
        origin: "shop/3/42".into(),
    };
    let out = records(&Fact::Late(Box::new(late)), &Encoding::Avro(IDS));
    assert_eq!((out.len(), out[0].topic), (1, Topic::Late));
    assert_eq!(out[0].key, b"default|c-1");
    assert_eq!(out[0].value.as_deref(), Some(&b"\x00\xff"[..]));
    let headers = ["late.by_ms", "late.watermark", "late.origin", "ce_type", "ce_time"];
    assert_eq!(
        headers.map(|name| header(&out[0], name)),
        ["17", "5", "shop/3/42", "touchpoints.late.v1", "2023-11-14T22:13:20.123Z"]
    );
    let flush = Flush {
        generation: 1,
        number: 1,
        partition: 6,
        partitions: 8,
        clock: None,
        watermark: None,
        idle: false,
        closed: false,
        tenants: Vec::new(),
    };
    let fact = Fact::Flush(PartitionId::new(2), Box::new(flush.clone()));
    let out = records(&fact, &Encoding::Json);
    assert_eq!((out[0].topic, out[0].partition), (Topic::Rollup, Some(PartitionId::new(2))));
    assert_eq!(out[0].key, b"6");
    assert_eq!(flush::decode(out[0].value.as_deref().unwrap()), Ok(flush));
}
