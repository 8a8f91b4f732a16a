//! Bytes to records and back, against the Avro library and vectors of another implementation.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use compact_str::CompactString;
use proptest::prelude::*;
use serde_json::json;
use touchline::codec::canonical::{
    CANONICAL_SCHEMA, CONTROL_SCHEMA, DecodeError, Decoded, JsonScratch, Needs, Schemas,
    canonical_with_origin_schema, decode_avro, decode_avro_full, decode_avro_tree, decode_json,
    decode_json_full, decode_json_tree, encode_avro, encode_control_avro, encode_control_json,
    encode_json,
};
use touchline::codec::recorded::{Line, RecordedLine, parse_line, read_container, write_line};
use touchline::codec::schemas::{CONTROL_NAME, RECORDED_SCHEMA, schema_of, schemas};
use touchline::codec::tree::Tree;
use touchline::codec::wire;
use touchline::model::control::{Control, Mark};
use touchline::model::dimension::Dimension;
use touchline::model::ids::{Offset, PartitionId};
use touchline::model::reject::{Reject, RejectReason};
use touchline::model::time::EventTime;
use touchline::model::topic::Topic;
use touchline::model::touchpoint::{
    Campaign, Exposure, Item, Origin, OriginRef, Rating, Touchpoint, TouchpointRef,
};

mod any_schema;
mod derived;

/// What the Avro library makes of `body`, resolved to `reader` if given; nothing may be left over.
fn oracle(writer: &str, reader: Option<&str>, mut body: &[u8]) -> Option<Value> {
    let writer = Schema::parse_str(writer).unwrap();
    let reader = reader.map(|schema| Schema::parse_str(schema).unwrap());
    let datum = GenericDatumReader::builder(&writer).maybe_reader_schema(reader.as_ref());
    let value = datum.build().unwrap().read_value(&mut body).ok()?;
    body.is_empty().then_some(value)
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::frame(id, &mut out);
    out.extend_from_slice(body);
    out
}

fn with(id: u32, avsc: &str) -> Schemas {
    let mut schemas = Schemas::new();
    schemas.insert(id, avsc).unwrap();
    schemas
}

fn rejected(reason: RejectReason, field: &str) -> DecodeError {
    DecodeError::Reject(Reject::field(reason, field))
}

fn word() -> impl Strategy<Value = CompactString> {
    // Quotes, backslashes, control characters and beyond ASCII, as JSON must escape or carry them.
    "[a-z\"\\\\\n\u{1}é漢\u{1f600}]{0,12}".prop_map(CompactString::from)
}

fn name() -> impl Strategy<Value = CompactString> {
    "[a-z\"\\\\é]{1,12}".prop_map(CompactString::from)
}

fn maybe<T: std::fmt::Debug + Clone>(
    inner: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop::option::of(inner)
}

fn time() -> impl Strategy<Value = EventTime> {
    (-62_135_596_800_000i64..=253_402_300_799_999).prop_map(EventTime::from_ms)
}

fn amount() -> impl Strategy<Value = i64> {
    -1_000_000_000_000_000i64..=1_000_000_000_000_000
}

fn campaign() -> impl Strategy<Value = Campaign> {
    (maybe(word()), maybe(word()), maybe(word())).prop_map(|(id, name, term)| Campaign {
        id,
        name,
        term,
        ..Campaign::default()
    })
}

fn item() -> impl Strategy<Value = Item> {
    (word(), maybe(word()), any::<i32>(), maybe(amount()))
        .prop_map(|(sku, category, quantity, price)| Item { sku, category, quantity, price })
}

prop_compose! {
    fn touchpoint()(
        (id, source, channel, tp, action) in (name(), name(), name(), name(), name()),
        (event_time, original, received) in (time(), maybe(time()), maybe(time())),
        ids in prop::array::uniform12(maybe(word())),
        words in prop::array::uniform16(maybe(word())),
        (step, value, paid) in (maybe(any::<i32>()), maybe(amount()), maybe(any::<bool>())),
        (is_bot, is_test) in (any::<bool>(), any::<bool>()),
        items in prop::collection::vec(item(), 0..3),
        campaign in maybe(campaign()),
        segments in prop::collection::vec(word(), 0..3),
        score in maybe(-1.0e3..1.0e3),
        consent in prop::collection::btree_map(word(), any::<bool>(), 0..3),
        attributes in prop::collection::btree_map(word(), word(), 0..3),
    ) -> Touchpoint {
        let mut t = Touchpoint::new(&id, &source, event_time, &channel, &tp, &action);
        t.original_event_time = original;
        t.received_time = received.map(EventTime::as_ms);
        let [customer, anonymous, device, account, session, checkout, order, cart, ticket,
            message, store, agent] = ids;
        (t.customer_id, t.anonymous_id, t.device_id, t.account_id) =
            (customer, anonymous, device, account);
        (t.session_id, t.checkout_id, t.order_id, t.cart_id) = (session, checkout, order, cart);
        (t.ticket_id, t.message_id, t.store_id, t.agent_id) = (ticket, message, store, agent);
        let [stage, outcome, error, surface, step_name, currency, payment, shipping, coupon,
            account_type, group, version, handled, department, country, region] = words;
        (t.stage, t.outcome, t.error_code, t.surface) = (stage, outcome, error, surface);
        (t.step_name, t.currency, t.payment_method) = (step_name, currency, payment);
        (t.shipping_method, t.coupon, t.account_type) = (shipping, coupon, account_type);
        (t.channel_group, t.content_version, t.handled_by) = (group, version, handled);
        (t.department, t.country, t.region) = (department, country, region);
        (t.step, t.value, t.paid, t.is_bot, t.is_test) = (step, value, paid, is_bot, is_test);
        t.experiments = segments.iter()
            .map(|s| Exposure { experiment_id: s.clone(), variant: "b".into() }).collect();
        t.rating = score.map(|score| Rating { kind: "nps".into(), score, scale_max: 10.0 });
        (t.items, t.campaign, t.segments) = (items, campaign, segments);
        (t.consent, t.attributes) = (consent, attributes);
        t
    }
}

fn origin() -> Origin {
    Origin {
        source: "shop".into(),
        partition: 3,
        offset: 1 << 40,
        watermark: EventTime::from_ms(1_700_000_000_000),
    }
}

fn origin_ref(origin: &Origin) -> OriginRef<'_> {
    OriginRef {
        source: &origin.source,
        partition: origin.partition,
        offset: origin.offset,
        watermark: origin.watermark,
    }
}

proptest! {
    #[test]
    fn a_touchpoint_survives_avro(t in touchpoint(), has_origin in any::<bool>()) {
        let origin = has_origin.then(origin);
        let schema = if has_origin { canonical_with_origin_schema() } else { CANONICAL_SCHEMA };
        let schemas = with(5, schema);
        let mut payload = Vec::new();
        encode_avro(5, origin.as_ref(), &t, &mut payload);
        let expected =
            Decoded::Touchpoint { origin: origin.as_ref().map(origin_ref), touchpoint: t.view() };
        prop_assert_eq!(decode_avro(&schemas, &payload), Ok(expected));
        let whole = decode_avro_full(&schemas, &payload);
        prop_assert_eq!(whole, Ok((origin, t.clone())));
        // The library reads it, with our schema and as the contract, where it is the same record.
        prop_assert!(oracle(schema, None, &payload[5..]).is_some());
        let mut bare = Vec::new();
        encode_avro(5, None, &t, &mut bare);
        let resolved = oracle(schema, Some(CANONICAL_SCHEMA), &payload[5..]);
        prop_assert!(resolved.is_some());
        prop_assert_eq!(resolved, oracle(CANONICAL_SCHEMA, None, &bare[5..]));
    }

    #[test]
    fn texts_that_come_again_are_read_as_the_first_time(
        them in prop::collection::vec(touchpoint(), 1..6),
        flip in prop::option::of((any::<prop::sample::Index>(), 1_u8..=255)),
    ) {
        let warm = with(5, CANONICAL_SCHEMA);
        for pass in 0..3 {
            for t in &them {
                let mut payload = Vec::new();
                encode_avro(5, None, t, &mut payload);
                // Behind the frame, and only where the original is known already.
                if let (1, Some((index, bits))) = (pass, &flip) {
                    let at = 5 + index.index(payload.len() - 5);
                    payload[at] ^= bits;
                }
                let fresh = with(5, CANONICAL_SCHEMA);
                prop_assert_eq!(decode_avro(&warm, &payload), decode_avro(&fresh, &payload));
            }
        }
    }

    #[test]
    fn what_nobody_reads_is_passed_over_but_checked(
        t in touchpoint(),
        too_long in prop::sample::select(vec!["", "id", "customer_id", "cart_id"]),
        follows in any::<bool>(),
    ) {
        let mut t = t;
        let long = CompactString::from("x".repeat(1_025));
        match too_long {
            "id" => t.id = long,
            "customer_id" => t.customer_id = Some(long),
            "cart_id" => t.cart_id = Some(long),
            _ => {}
        }
        let needs = Needs::of_figures([Dimension::Country]);
        let needs = if follows { needs.and_customers(false) } else { needs };
        let mut schemas = Schemas::reading(needs);
        schemas.insert(5, CANONICAL_SCHEMA).unwrap();
        let mut payload = Vec::new();
        encode_avro(5, None, &t, &mut payload);
        let reads_all = with(5, CANONICAL_SCHEMA);
        let all = decode_avro(&reads_all, &payload);
        let some = decode_avro(&schemas, &payload);
        let (touchpoint, read) = match (&all, &some) {
            (
                Ok(Decoded::Touchpoint { touchpoint, .. }),
                Ok(Decoded::Touchpoint { touchpoint: read, .. }),
            ) => (touchpoint, read),
            _ => {
                prop_assert_eq!(&all, &some);
                return Ok(());
            }
        };
        prop_assert_eq!(too_long, "");
        let figures = |t: &TouchpointRef<'_>| {
            let texts = [t.tenant, t.channel, t.touchpoint, t.action].map(str::to_owned);
            let more = [t.stage, t.currency, t.country, t.campaign].map(|t| t.map(str::to_owned));
            (texts, more, t.value, t.event_time, t.original_event_time, t.is_bot, t.is_test)
        };
        prop_assert_eq!(figures(touchpoint), figures(read));
        let customers = |t: &TouchpointRef<'_>| {
            let ids = [t.customer_id, t.anonymous_id, t.checkout_id, t.order_id, t.cart_id];
            let details = [t.step_name, t.payment_method, t.shipping_method, t.coupon];
            let more = [Some(t.id), Some(t.source), t.account_type, t.error_code];
            let all = ids.into_iter().chain(details).chain(more);
            (all.map(|text| text.map(str::to_owned)).collect::<Vec<_>>(), t.step)
        };
        if follows {
            prop_assert_eq!(customers(touchpoint), customers(read));
        } else {
            let unread = [read.customer_id, read.anonymous_id, read.checkout_id, read.coupon];
            prop_assert_eq!(unread, [None; 4]);
        }
        prop_assert_eq!([read.session_id, read.device_id, read.region], [None; 3]);
    }

    #[test]
    fn a_touchpoint_survives_json(t in touchpoint(), has_origin in any::<bool>()) {
        let origin = has_origin.then(origin);
        let mut payload = Vec::new();
        encode_json(origin.as_ref(), &t, &mut payload);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        let expected =
            Decoded::Touchpoint { origin: origin.as_ref().map(origin_ref), touchpoint: t.view() };
        let mut scratch = JsonScratch::new();
        prop_assert_eq!(decode_json(&payload, &mut scratch), Ok(expected));
        prop_assert_eq!(decode_json_full(&payload), Ok((origin, t)));
    }

    #[test]
    fn a_cut_record_is_malformed(t in touchpoint(), at in any::<prop::sample::Index>()) {
        let schemas = with(5, CANONICAL_SCHEMA);
        let mut payload = Vec::new();
        encode_avro(5, None, &t, &mut payload);
        let cut = at.index(payload.len() - 5) + 5;
        let malformed = DecodeError::Reject(Reject::whole(RejectReason::MalformedAvro));
        prop_assert_eq!(decode_avro(&schemas, &payload[..cut]), Err(malformed.clone()));
        prop_assert_eq!(decode_avro_full(&schemas, &payload[..cut]), Err(malformed.clone()));
        payload.push(0);
        prop_assert_eq!(decode_avro(&schemas, &payload), Err(malformed));
        let mut json = Vec::new();
        encode_json(None, &t, &mut json);
        let cut = at.index(json.len());
        prop_assert!(decode_json(&json[..cut], &mut JsonScratch::new()).is_err());
    }

    #[test]
    fn changed_bytes_never_panic_and_both_readers_agree(
        t in touchpoint(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let schemas = with(5, canonical_with_origin_schema());
        let mut payload = Vec::new();
        encode_avro(5, Some(&origin()), &t, &mut payload);
        for (at, byte) in changes {
            let at = at.index(payload.len() - 5) + 5;
            payload[at] = byte;
        }
        let hot = decode_avro(&schemas, &payload);
        let whole = decode_avro_full(&schemas, &payload);
        if let (Ok(Decoded::Touchpoint { origin, touchpoint }), Ok((from, t))) = (&hot, &whole) {
            prop_assert_eq!(*origin, from.as_ref().map(origin_ref));
            prop_assert_eq!(touchpoint, &t.view());
        }
        // A schema that is not quite the contract is read in another way, with the same result.
        let id = r#"{"name": "id","#;
        let alias = r#"{"name": "id", "aliases": ["event"],"#;
        let other = canonical_with_origin_schema().replacen(id, alias, 1);
        prop_assert_ne!(&*other, canonical_with_origin_schema());
        let through_tree = decode_avro_full(&with(5, &other), &payload);
        prop_assert_eq!(format!("{whole:?}"), format!("{through_tree:?}"));
        // What the whole reader takes, the quick one takes: it looks at less.
        prop_assert!(whole.is_err() || hot.is_ok(), "{:?} {:?}", hot, whole);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let schemas = with(5, CANONICAL_SCHEMA);
        let payload = framed(5, &bytes);
        // A touchpoint needs six texts that are not empty and a time of this age: chance has none.
        prop_assert!(decode_avro(&schemas, &bytes).is_err() || bytes.len() > 30);
        prop_assert!(decode_avro_full(&schemas, &payload).is_err() || bytes.len() > 30);
        prop_assert!(decode_json(&bytes, &mut JsonScratch::new()).is_err());
        let has_brace = bytes.contains(&b'{');
        prop_assert!(parse_line(&bytes).is_err() || has_brace);
        prop_assert!(read_container(&bytes).is_err());
    }

    #[test]
    fn json_is_what_serde_json_takes_for_it(text in "[\\[\\]{}:, \"\\\\u0d89abcfnt/.eE+\\-12lrsé\t]{0,24}") {
        let ours = decode_json_tree(text.as_bytes(), 1 << 20).is_ok();
        let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}

/// Compares with the library, over the contract: what it resolves is what we read.
#[track_caller]
fn check_writer(writer: &str, value: Value, expected: Result<Touchpoint, (RejectReason, &str)>) {
    let schema = Schema::parse_str(writer).unwrap();
    let body = apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value_to_vec(value)
        .unwrap();
    let schemas = with(9, writer);
    let payload = framed(9, &body);
    match expected {
        Ok(expected) => {
            let whole = decode_avro_full(&schemas, &payload).unwrap().1;
            assert_eq!(whole, expected);
            let hot = Decoded::Touchpoint { origin: None, touchpoint: expected.view() };
            assert_eq!(decode_avro(&schemas, &payload), Ok(hot));
            let mut ours = Vec::new();
            encode_avro(9, None, &expected, &mut ours);
            // An enum as text goes beyond Avro's own rules: there the library has no opinion.
            let resolved = oracle(writer, Some(CANONICAL_SCHEMA), &body);
            assert_eq!(resolved.is_some(), !writer.contains("\"enum\""));
            if resolved.is_some() {
                assert_eq!(resolved, oracle(CANONICAL_SCHEMA, None, &ours[5..]));
            }
        }
        Err((reason, field)) => {
            assert_eq!(decode_avro(&schemas, &payload), Err(rejected(reason, field)));
            assert_eq!(decode_avro_full(&schemas, &payload), Err(rejected(reason, field)));
        }
    }
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

/// A writer schema of the required fields (without those in `but`) and some of one's own.
fn writer(own: &str, but: &[&str]) -> String {
    let fields = [
        ("id", "\"string\""),
        ("source", "\"string\""),
        ("event_time", "\"long\""),
        ("channel", "\"string\""),
        ("touchpoint", "\"string\""),
        ("action", "\"string\""),
    ];
    let mut all: Vec<String> = fields
        .iter()
        .filter(|(name, _)| !but.contains(name))
        .map(|(name, schema)| format!("{{\"name\":\"{name}\",\"type\":{schema}}}"))
        .collect();
    if !own.is_empty() {
        all.push(own.to_owned());
    }
    format!("{{\"type\":\"record\",\"name\":\"Touchpoint\",\"fields\":[{}]}}", all.join(","))
}

fn values(own: Vec<(&str, Value)>, but: &[&str]) -> Value {
    let fields = [
        ("id", text("e-1")),
        ("source", text("shop")),
        ("event_time", Value::Long(1_700_000_000_123)),
        ("channel", text("web")),
        ("touchpoint", text("product")),
        ("action", text("view")),
    ];
    let own = own.into_iter();
    let kept = fields.into_iter().filter(|(name, _)| !but.contains(name));
    Value::Record(kept.chain(own).map(|(name, value)| (name.to_owned(), value)).collect())
}

fn expected(change: impl FnOnce(&mut Touchpoint)) -> Touchpoint {
    let at = EventTime::from_ms(1_700_000_000_123);
    let mut touchpoint = Touchpoint::new("e-1", "shop", at, "web", "product", "view");
    change(&mut touchpoint);
    touchpoint
}

#[test]
fn writers_with_other_schemas() {
    let incompatible = RejectReason::IncompatibleSchema;
    // Only what has no default.
    check_writer(&writer("", &[]), values(vec![], &[]), Ok(expected(|_| {})));
    // Fields of one's own are skipped, whatever they are.
    let own = r#"{"name":"tree","type":{"type":"record","name":"Node","fields":[
        {"name":"next","type":["null","Node"]},{"name":"map","type":{"type":"map","values":"bytes"}},
        {"name":"fixed","type":{"type":"fixed","name":"F","size":3}}]}}"#;
    let node = |next: Value| {
        Value::Record(vec![
            ("next".into(), next),
            ("map".into(), Value::Map([("k".to_owned(), Value::Bytes(vec![1, 2]))].into())),
            ("fixed".into(), Value::Fixed(3, vec![1, 2, 3])),
        ])
    };
    let inner = Value::Union(1, Box::new(node(Value::Union(0, Box::new(Value::Null)))));
    check_writer(&writer(own, &[]), values(vec![("tree", node(inner))], &[]), Ok(expected(|_| {})));
    // The other order of a union, and one with more branches.
    let own = r#"{"name":"customer_id","type":["string","null"]}"#;
    let c1 = Value::Union(0, Box::new(text("c-1")));
    let is_c1 = || expected(|t| t.customer_id = Some("c-1".into()));
    check_writer(&writer(own, &[]), values(vec![("customer_id", c1)], &[]), Ok(is_c1()));
    let own = r#"{"name":"customer_id","type":["int","string","null"]}"#;
    let c1 = Value::Union(1, Box::new(text("c-1")));
    check_writer(&writer(own, &[]), values(vec![("customer_id", c1)], &[]), Ok(is_c1()));
    let own = r#"{"name":"customer_id","type":"bytes"}"#;
    let c1 = Value::Bytes(b"c-1".to_vec());
    check_writer(&writer(own, &[]), values(vec![("customer_id", c1)], &[]), Ok(is_c1()));
    // int becomes long; an enum its symbol.
    let own = r#"{"name":"value","type":["null","int"]}"#;
    let value = Value::Union(1, Box::new(Value::Int(-7)));
    let is_7 = expected(|t| t.value = Some(-7));
    check_writer(&writer(own, &[]), values(vec![("value", value)], &[]), Ok(is_7));
    let own = r#"{"name":"action","type":{"type":"enum","name":"A","symbols":["click","view"]}}"#;
    let action = Value::Enum(1, "view".into());
    let but = ["action"];
    check_writer(&writer(own, &but), values(vec![("action", action)], &but), Ok(expected(|_| {})));
    // An alias that the writer declares.
    let own = r#"{"name":"verb","aliases":["action"],"type":"string"}"#;
    let schemas = with(9, &writer(own, &but));
    let body = b"\x06e-1\x08shop\xf6\xa1\xab\xfe\xf9\x62\x06web\x0eproduct\x08view";
    let view = expected(|_| {});
    let hot = Decoded::Touchpoint { origin: None, touchpoint: view.view() };
    assert_eq!(decode_avro(&schemas, &framed(9, body)), Ok(hot));
    assert_eq!(decode_avro_full(&schemas, &framed(9, body)), Ok((None, view.clone())));
    // Not to be resolved.
    let own = r#"{"name":"value","type":"double"}"#;
    let double = vec![("value", Value::Double(1.5))];
    check_writer(&writer(own, &[]), values(double, &[]), Err((incompatible, "value")));
    let lacking = values(vec![], &["channel"]);
    check_writer(&writer("", &["channel"]), lacking, Err((incompatible, "channel")));
    let own =
        r#"{"name":"event_time","type":{"type":"long","logicalType":"local-timestamp-millis"}}"#;
    let but = ["event_time"];
    let local = vec![("event_time", Value::LocalTimestampMillis(1))];
    let result = Err((incompatible, "event_time"));
    check_writer(&writer(own, &but), values(local, &but), result);
}

#[test]
fn timestamps_of_other_units_are_divided_down() {
    for (unit, raw) in [("micros", 1_700_000_000_123_999), ("nanos", 1_700_000_000_123_999_999)] {
        let logical = format!("{{\"type\":\"long\",\"logicalType\":\"timestamp-{unit}\"}}");
        let own = format!("{{\"name\":\"event_time\",\"type\":{logical}}}");
        let value = match unit {
            "micros" => Value::TimestampMicros(raw),
            _ => Value::TimestampNanos(raw),
        };
        let but = ["event_time"];
        let schema = Schema::parse_str(&writer(&own, &but)).unwrap();
        let body = apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
            .build()
            .unwrap()
            .write_value_to_vec(values(vec![("event_time", value)], &but))
            .unwrap();
        let schemas = with(9, &writer(&own, &but));
        let payload = framed(9, &body);
        assert_eq!(decode_avro_full(&schemas, &payload), Ok((None, expected(|_| {}))));
        let view = expected(|_| {});
        let hot = Decoded::Touchpoint { origin: None, touchpoint: view.view() };
        assert_eq!(decode_avro(&schemas, &payload), Ok(hot));
    }
}

#[test]
fn a_payload_cannot_nest_without_end() {
    let own = r#"{"name":"tree","type":{"type":"record","name":"Node","fields":[
        {"name":"next","type":["null","Node"]}]}}"#;
    let schemas = with(9, &writer(own, &[]));
    let head = b"\x06e-1\x08shop\xf6\xa1\xab\xfe\xf9\x62\x06web\x0eproduct\x08view";
    let nested = |depth: usize| {
        let mut body = head.to_vec();
        body.extend(std::iter::repeat_n(2u8, depth));
        body.push(0);
        framed(9, &body)
    };
    assert!(decode_avro(&schemas, &nested(3)).is_ok());
    let deep = nested(100_000);
    let too_deep = Err(DecodeError::Reject(Reject::whole(RejectReason::TooDeep)));
    assert_eq!(decode_avro(&schemas, &deep), too_deep);
    assert!(decode_avro_full(&schemas, &deep).is_err());
}

#[test]
fn the_wire_format_is_that_of_another_implementation() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/avro/confluent_wire_format_vectors.json"))
            .unwrap();
    let hex = |text: &serde_json::Value| -> Vec<u8> {
        let text = text.as_str().unwrap();
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    };
    for vector in vectors["valid"].as_array().unwrap() {
        let framed = hex(&vector["wire_hex"]);
        let (id, body) = wire::split(&framed).unwrap();
        assert_eq!(u64::from(id), vector["schema_id"].as_u64().unwrap());
        let mut again = Vec::new();
        wire::frame(id, &mut again);
        assert_eq!([&again[..], body].concat(), framed);
        let record = &vector["record"];
        if vector["format"] == json!("JSON") {
            assert_eq!(body, vector["payload_utf8"].as_str().unwrap().as_bytes());
            continue;
        }
        let schemas = with(id, &vector["schema"].to_string());
        let tree = decode_avro_tree(&schemas, &framed).unwrap();
        same(&tree, record);
        for cut in 5..framed.len() {
            assert!(decode_avro_tree(&schemas, &framed[..cut]).is_err());
        }
    }
    let schema = &vectors["valid"][0]["schema"];
    for negative in vectors["negative(hand-made)"].as_array().unwrap() {
        let payload = hex(&negative["wire_hex"]);
        let schemas = with(301, &schema.to_string());
        let whole = |reason| DecodeError::Reject(Reject::whole(reason));
        let expected = match negative["name"].as_str().unwrap() {
            "bad_magic" | "empty" => whole(RejectReason::WrongMagicByte),
            "truncated_header" | "truncated_payload" => whole(RejectReason::MalformedAvro),
            "unknown_schema_id" => DecodeError::MissingSchema(0x7fff_ffff),
            other => panic!("a vector that nobody has looked at: {other}"),
        };
        assert_eq!(decode_avro_tree(&schemas, &payload), Err(expected));
    }
}

#[track_caller]
fn same(tree: &Tree<'_>, json: &serde_json::Value) {
    match (tree, json) {
        (Tree::Null, serde_json::Value::Null) => {}
        (Tree::Bool(a), serde_json::Value::Bool(b)) => assert_eq!(a, b),
        (Tree::Int(a), b) => assert_eq!(Some(*a), b.as_i64()),
        (Tree::Double(a), b) => assert_eq!(Some(*a), b.as_f64()),
        (Tree::Text(a), b) => assert_eq!(Some(&**a), b.as_str()),
        (Tree::Bytes(a), b) => {
            let hex: String = a.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(Some(hex.as_str()), b.as_str());
        }
        (Tree::List(a), serde_json::Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| same(a, b));
        }
        (Tree::Map(a), serde_json::Value::Object(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().for_each(|(key, value)| same(value, &b[&**key]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_schema_is_known_unknown_unusable_or_to_be_fetched() {
    let mut schemas = Schemas::new();
    let payload = framed(7, b"");
    let rejects = |schemas: &Schemas, reason| {
        let expected = Err(DecodeError::Reject(Reject::whole(reason)));
        assert_eq!(decode_avro(schemas, &payload), expected);
    };
    assert_eq!(decode_avro(&schemas, &payload), Err(DecodeError::MissingSchema(7)));
    schemas.insert_unknown(7);
    rejects(&schemas, RejectReason::UnknownSchemaId);
    assert!(schemas.insert(7, "{\"type\":\"recor").is_err());
    rejects(&schemas, RejectReason::IncompatibleSchema);
    schemas.forget_failures();
    assert_eq!(decode_avro(&schemas, &payload), Err(DecodeError::MissingSchema(7)));
    schemas.insert(7, "\"string\"").unwrap();
    rejects(&schemas, RejectReason::IncompatibleSchema);
}

#[test]
fn control_records_survive_both_formats() {
    let time = |ms| Some(EventTime::from_ms(ms));
    let marks = [
        Mark {
            source: "shop".into(),
            partition: 2,
            watermark: time(-5),
            clock: time(7),
            idle: true,
            of: 12,
        },
        Mark {
            source: "a \"b\"".into(),
            partition: 0,
            watermark: None,
            clock: None,
            idle: false,
            of: u32::MAX,
        },
    ];
    for mark in marks {
        let control = Control::Mark(mark);
        let mut json = Vec::new();
        encode_control_json(&control, &mut json);
        assert!(json.starts_with(b"{\"control\":\"mark\""));
        let mut scratch = JsonScratch::new();
        assert_eq!(decode_json(&json, &mut scratch), Ok(Decoded::Control(control.clone())));
        let mut avro = Vec::new();
        encode_control_avro(3, &control, &mut avro);
        assert!(oracle(CONTROL_SCHEMA, None, &avro[5..]).is_some());
        let schemas = with(3, CONTROL_SCHEMA);
        assert_eq!(decode_avro(&schemas, &avro), Ok(Decoded::Control(control)));
    }
}

#[track_caller]
fn check_json(text: &str, expected: Result<(), (RejectReason, Option<&str>)>) {
    let expected = expected.map_err(|(reason, field)| match field {
        Some(field) => Reject::field(reason, field),
        None => Reject::whole(reason),
    });
    let mut scratch = JsonScratch::new();
    assert_eq!(decode_json(text.as_bytes(), &mut scratch).map(drop), expected, "{text}");
    assert_eq!(decode_json_full(text.as_bytes()).map(drop).is_ok(), expected.is_ok(), "{text}");
}

#[test]
fn json_says_what_is_wrong() {
    let with = |own: &str| {
        format!(
            "{{\"id\":\"e\",\"source\":\"s\",\"event_time\":\"2026-01-02T03:04:05.678+01:00\",\
             \"channel\":\"web\",\"touchpoint\":\"product\",\"action\":\"view\"{own}}}"
        )
    };
    use RejectReason as R;
    check_json(&with(""), Ok(()));
    check_json(&with(",\"unknown\":[1,{\"a\":null}],\"customer_id\":null"), Ok(()));
    check_json(&with(",\"value\":12.0"), Ok(()));
    check_json(&with(",\"value\":12.5"), Err((R::WrongType, Some("value"))));
    check_json(&with(",\"value\":\"12\""), Err((R::WrongType, Some("value"))));
    check_json(
        &with(",\"value\":10000000000000000000000"),
        Err((R::AmountOutOfBounds, Some("value"))),
    );
    check_json(&with(",\"value\":1000000000000001"), Err((R::AmountOutOfBounds, Some("value"))));
    check_json(&with(",\"step\":3000000000"), Err((R::WrongType, Some("step"))));
    check_json(&with(",\"customer_id\":42"), Err((R::WrongType, Some("customer_id"))));
    check_json(&with(",\"is_bot\":1"), Err((R::WrongType, Some("is_bot"))));
    check_json(&with(",\"campaign\":\"x\""), Err((R::WrongType, Some("campaign"))));
    check_json(&with(",\"id\":\"again\""), Err((R::MalformedJson, Some("id"))));
    check_json(&with(",\"tenant\":\"a|b\""), Err((R::BadTenant, Some("tenant"))));
    check_json(&with(",\"original_event_time\":\"x\""), {
        Err((R::WrongType, Some("original_event_time")))
    });
    let some = ",\"origin\":{\"source\":\"s\",\"offset\":1}";
    check_json(&with(some), Err((R::MissingField, Some("origin"))));
    check_json("{}", Err((R::MissingField, Some("event_time"))));
    check_json("{\"event_time\":5}", Err((R::MissingField, Some("id"))));
    check_json("{\"event_time\":1e300}", Err((R::WrongType, Some("event_time"))));
    check_json("[]", Err((R::WrongType, None)));
    check_json("{\"a\":1,}", Err((R::MalformedJson, None)));
    check_json("{\"a\":01}", Err((R::MalformedJson, None)));
    check_json("", Err((R::MalformedJson, None)));
    let deep = |n: usize| with(&format!(",\"x\":{}{}", "[".repeat(n), "]".repeat(n)));
    check_json(&deep(63), Ok(()));
    check_json(&deep(65), Err((R::TooDeep, None)));
    check_json(&"[".repeat(100_000), Err((R::TooDeep, None)));
    check_json(&with(&format!(",\"x\":\"{}\"", "x".repeat(1 << 20))), Err((R::TooLarge, None)));
    let mut scratch = JsonScratch::with_limit(10);
    let too_large = Err(Reject::whole(R::TooLarge));
    assert_eq!(decode_json(with("").as_bytes(), &mut scratch), too_large);
    let bad = Err(Reject::whole(R::InvalidUtf8));
    assert_eq!(decode_json(b"{\"a\":\"\xff\"}", &mut JsonScratch::new()), bad);
}

#[test]
fn json_times_are_text_or_numbers() {
    let json =
        br#"{"id":"\u00e9","source":"s","event_time":"2026-01-02T03:04:05.678Z","channel":"web",
        "touchpoint":"product","action":"view","received_time":"1969-12-31T23:59:59.999Z",
        "original_event_time":-1,"campaign":{"name":"n\u0041","other":{"x":[1]}}}"#;
    let (_, whole) = decode_json_full(json).unwrap();
    let at = EventTime::from_ms(1_767_323_045_678);
    let mut expected = Touchpoint::new("é", "s", at, "web", "product", "view");
    expected.received_time = Some(-1);
    expected.original_event_time = Some(EventTime::from_ms(-1));
    expected.campaign = Some(Campaign { name: Some("nA".into()), ..Campaign::default() });
    assert_eq!(whole, expected);
    let hot = Decoded::Touchpoint { origin: None, touchpoint: expected.view() };
    assert_eq!(decode_json(json, &mut JsonScratch::new()), Ok(hot));
}

#[test]
fn a_schema_can_read_what_was_published() {
    let published = [
        (
            Topic::Canonical.default_name(),
            include_str!("../fixtures/avro/published/touchpoint.canonical.v1.avsc"),
        ),
        (CONTROL_NAME, include_str!("../fixtures/avro/published/control.v1.avsc")),
        (
            Topic::Sessions.default_name(),
            include_str!("../fixtures/avro/published/session.v1.avsc"),
        ),
        (
            Topic::CheckoutLifecycle.default_name(),
            include_str!("../fixtures/avro/published/checkout.v1.avsc"),
        ),
        (Topic::Live.default_name(), include_str!("../fixtures/avro/published/live.v1.avsc")),
        (
            Topic::ChannelStage.default_name(),
            include_str!("../fixtures/avro/published/window.v1.avsc"),
        ),
        (
            Topic::AlertEvents.default_name(),
            include_str!("../fixtures/avro/published/alert.v1.avsc"),
        ),
        (
            Topic::AlertsActive.default_name(),
            include_str!("../fixtures/avro/published/alert.v1.avsc"),
        ),
    ];
    for (name, old) in published {
        let old = Schema::parse_str(old).unwrap();
        let now = match name {
            // What ingest writes has `origin` in front; its readers are ours, the contract's are
            // not.
            "touchpoints.canonical" => CANONICAL_SCHEMA,
            _ => schemas().iter().find(|(n, _)| *n == name).unwrap().1,
        };
        let now = Schema::parse_str(now).unwrap();
        assert!(SchemaCompatibility::can_read(&old, &now).is_ok(), "{name}");
    }
    let contract = Schema::parse_str(CANONICAL_SCHEMA).unwrap();
    let ours = Schema::parse_str(canonical_with_origin_schema()).unwrap();
    assert!(SchemaCompatibility::can_read(&ours, &contract).is_ok());
}

#[test]
fn every_field_of_our_schemas_is_explained() {
    fn walk(schema: &serde_json::Value, path: &str) {
        match schema {
            serde_json::Value::Array(branches) => branches.iter().for_each(|b| walk(b, path)),
            serde_json::Value::Object(object) => {
                if let Some(fields) = object.get("fields").and_then(|f| f.as_array()) {
                    assert!(object.contains_key("doc"), "{path}");
                    for field in fields {
                        let path = format!("{path}.{}", field["name"].as_str().unwrap());
                        let doc = field["doc"].as_str().unwrap_or_default();
                        assert!(!doc.is_empty(), "{path}");
                        walk(&field["type"], &path);
                    }
                }
                for inner in ["items", "values", "type"] {
                    object.get(inner).into_iter().for_each(|s| walk(s, path));
                }
            }
            _ => {}
        }
    }
    let own = schemas().iter().filter(|(name, _)| !name.starts_with("touchpoints."));
    for (name, schema) in own.chain([&("recorded", RECORDED_SCHEMA), &("control", CONTROL_SCHEMA)])
    {
        walk(&serde_json::from_str(schema).unwrap(), name);
    }
    assert_eq!(schema_of(Topic::Rollup), None);
    assert_eq!(schemas().len(), 9);
}

fn recorded(value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> RecordedLine {
    let header = |(name, value): &(&str, Option<&[u8]>)| ((*name).to_owned(), value.map(Vec::from));
    RecordedLine {
        topic: "touchpoints.canonical".into(),
        partition: PartitionId::new(3),
        offset: Offset::new(42),
        timestamp: -7,
        key: Some(b"default|c-1".to_vec()),
        headers: headers.iter().map(header).collect(),
        value: value.map(Vec::from),
    }
}

#[test]
fn a_recording_gives_back_every_byte() {
    let cases = [
        recorded(None, &[]),
        recorded(Some(b""), &[("a", None), ("b", Some(b"\xff\x00"))]),
        recorded(
            Some(b"{ \"id\": 1.0 , \"x\":\"\\u00e9\" }"),
            &[("a", Some(b"1")), ("a", Some(b"2"))],
        ),
        recorded(Some(b"\x00\x00\x00\x00\x05\xff\xfe"), &[("ce_id", Some("é\"".as_bytes()))]),
        recorded(Some(b"{\"base64\":\"AA==\"}"), &[]),
    ];
    for case in cases {
        let mut line = Vec::new();
        write_line(&case, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(!line.contains(&b'\n'));
        assert_eq!(parse_line(&line), Ok(Line::Recorded(case)));
    }
}

#[test]
fn recordings_by_hand_and_bare_objects() {
    let line = br#"{"topic":"t","partition":0,"offset":1,"timestamp":2,"value":{"a": 1.0}}"#;
    let Ok(Line::Recorded(record)) = parse_line(line) else { panic!("a recorded line") };
    assert_eq!(record.value.as_deref(), Some(&b"{\"a\": 1.0}"[..]));
    assert_eq!((record.key.as_deref(), record.header("x")), (None, None));
    let bare = br#"{"id":"e-1","touchpoint":"product"}"#;
    assert_eq!(parse_line(bare), Ok(Line::Bare(bare[..].into())));
    let lacking = br#"{"topic":"t","partition":0,"timestamp":2}"#;
    let missing = Err(Reject::field(RejectReason::MissingField, "offset"));
    assert_eq!(parse_line(lacking), missing);
    let wrong = br#"{"topic":"t","partition":0,"offset":1,"timestamp":2,"value":{"base64":"?"}}"#;
    assert_eq!(parse_line(wrong), Err(Reject::field(RejectReason::WrongType, "value")));
}

#[test]
fn containers_hold_recorded_records_or_touchpoints() {
    let schema = Schema::parse_str(RECORDED_SCHEMA).unwrap();
    let mut container = Writer::new(&schema, Vec::new()).unwrap();
    let some = |bytes: &[u8]| Value::Union(1, Box::new(Value::Bytes(bytes.to_vec())));
    let header = |value| Value::Record(vec![("name".into(), text("a")), ("value".into(), value)]);
    let none = || Value::Union(0, Box::new(Value::Null));
    let record = Value::Record(vec![
        ("topic".into(), text("touchpoints.canonical")),
        ("partition".into(), Value::Int(3)),
        ("offset".into(), Value::Long(42)),
        ("timestamp".into(), Value::Long(-7)),
        ("key".into(), some(b"default|c-1")),
        ("headers".into(), Value::Array(vec![header(some(b"\xff")), header(none())])),
        ("value".into(), none()),
    ]);
    container.append_value(record).unwrap();
    let bytes = container.into_inner().unwrap();
    let expected = recorded(None, &[("a", Some(b"\xff")), ("a", None)]);
    let lines: Vec<_> = read_container(&bytes).unwrap().collect();
    assert_eq!(lines, [Ok(Line::Recorded(expected))]);
    for cut in 0..bytes.len() {
        if let Ok(lines) = read_container(&bytes[..cut]) {
            assert!(lines.take(9).count() <= 1);
        }
    }
    let schema = Schema::parse_str(&writer("", &[])).unwrap();
    let mut container = Writer::new(&schema, Vec::new()).unwrap();
    container.append_value(values(vec![], &[])).unwrap();
    let bytes = container.into_inner().unwrap();
    let lines: Vec<_> = read_container(&bytes).unwrap().collect();
    let [Ok(Line::Bare(json))] = lines.as_slice() else { panic!("one bare line: {lines:?}") };
    assert_eq!(decode_json_full(json), Ok((None, expected_touchpoint())));
}

fn expected_touchpoint() -> Touchpoint {
    expected(|_| {})
}
