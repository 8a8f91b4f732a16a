//! Writers of any schema, against the Avro library: what it writes we read, value by value as a tree and
//! field by field as a touchpoint.

use super::{framed, oracle, same, with};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Reader, Schema};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use touchline::codec::canonical::{Decoded, decode_avro, decode_avro_tree};
use touchline::codec::tree::Tree;
use touchline::model::reject::RejectReason;
use touchline::model::touchpoint::TouchpointRef;

/// A type of a writer.
#[derive(Clone, Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    /// A logical type and the type below it.
    Logical(&'static str, &'static str),
    Fixed(usize),
    Enum(usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(Vec<(String, Type)>),
}

const LOGICAL: [(&str, &str); 7] = [
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "timestamp-nanos"),
    ("long", "local-timestamp-millis"),
];

impl Type {
    /// What makes two branches of a union the same to Avro.
    fn branch(&self) -> u8 {
        match self {
            Type::Null => 0,
            Type::Boolean => 1,
            Type::Int | Type::Logical("int", _) => 2,
            Type::Long | Type::Logical(..) => 3,
            Type::Float => 4,
            Type::Double => 5,
            Type::Bytes => 6,
            Type::Text => 7,
            Type::Fixed(_) => 8,
            Type::Enum(_) => 9,
            Type::Array(_) => 10,
            Type::Map(_) => 11,
            Type::Union(_) => 12,
            Type::Record(_) => 13,
        }
    }

    /// As JSON; `names` gives named types names of their own.
    fn avsc(&self, names: &mut usize) -> String {
        let mut name = || {
            *names += 1;
            format!("N{names}")
        };
        match self {
            Type::Null => "\"null\"".into(),
            Type::Boolean => "\"boolean\"".into(),
            Type::Int => "\"int\"".into(),
            Type::Long => "\"long\"".into(),
            Type::Float => "\"float\"".into(),
            Type::Double => "\"double\"".into(),
            Type::Bytes => "\"bytes\"".into(),
            Type::Text => "\"string\"".into(),
            Type::Logical(of, logical) => {
                format!("{{\"type\":\"{of}\",\"logicalType\":\"{logical}\"}}")
            }
            Type::Fixed(size) => {
                format!("{{\"type\":\"fixed\",\"name\":\"{}\",\"size\":{size}}}", name())
            }
            Type::Enum(symbols) => {
                let symbols: Vec<String> = (0..*symbols).map(|n| format!("\"S{n}\"")).collect();
                let symbols = symbols.join(",");
                format!("{{\"type\":\"enum\",\"name\":\"{}\",\"symbols\":[{symbols}]}}", name())
            }
            Type::Array(items) => format!("{{\"type\":\"array\",\"items\":{}}}", items.avsc(names)),
            Type::Map(values) => format!("{{\"type\":\"map\",\"values\":{}}}", values.avsc(names)),
            Type::Union(branches) => {
                let all: Vec<String> = branches.iter().map(|branch| branch.avsc(names)).collect();
                format!("[{}]", all.join(","))
            }
            Type::Record(fields) => {
                let name = name();
                let all: Vec<String> = fields
                    .iter()
                    .map(|(name, of)| {
                        format!("{{\"name\":\"{name}\",\"type\":{}}}", of.avsc(names))
                    })
                    .collect();
                let all = all.join(",");
                format!("{{\"type\":\"record\",\"name\":\"{name}\",\"fields\":[{all}]}}")
            }
        }
    }
}

/// Numbers by chance.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Of any size: most numbers of a record are small.
    fn long(&mut self) -> i64 {
        let bits = self.below(65) as u32;
        self.next().checked_shr(bits).unwrap_or_default().cast_signed()
    }

    fn int(&mut self) -> i32 {
        let bits = self.below(32);
        ((self.next() as u32) >> bits).cast_signed()
    }

    /// Empty, short, of more than a byte's length, or not ASCII.
    fn text(&mut self) -> String {
        let length = [0, 1, 5, 20, 63, 64, 70, 200][self.below(8)];
        let of = ["a", "é", "z9"][self.below(3)];
        of.repeat(length / of.len())
    }

    /// A value of a type. Arrays and maps are short, and deep down empty.
    fn value(&mut self, of: &Type, depth: usize) -> Value {
        let items = if depth > 4 { 0 } else { self.below(4) };
        match of {
            Type::Null => Value::Null,
            Type::Boolean => Value::Boolean(self.below(2) == 1),
            Type::Int => Value::Int(self.int()),
            Type::Long => Value::Long(self.long()),
            Type::Float => Value::Float(self.int() as f32),
            Type::Double => Value::Double(self.long() as f64),
            Type::Bytes => Value::Bytes((0..self.below(80)).map(|_| self.next() as u8).collect()),
            Type::Text => Value::String(self.text()),
            Type::Logical(_, logical) => match *logical {
                "date" => Value::Date(self.int()),
                "time-millis" => Value::TimeMillis(self.int()),
                "time-micros" => Value::TimeMicros(self.long()),
                "timestamp-millis" => Value::TimestampMillis(self.long()),
                "timestamp-micros" => Value::TimestampMicros(self.long()),
                "timestamp-nanos" => Value::TimestampNanos(self.long()),
                _ => Value::LocalTimestampMillis(self.long()),
            },
            Type::Fixed(size) => {
                Value::Fixed(*size, (0..*size).map(|_| self.next() as u8).collect())
            }
            Type::Enum(symbols) => {
                let symbol = self.below(*symbols);
                Value::Enum(symbol as u32, format!("S{symbol}"))
            }
            Type::Array(of) => {
                Value::Array((0..items).map(|_| self.value(of, depth + 1)).collect())
            }
            Type::Map(of) => {
                let entry = |n: usize| (format!("k{n}{}", self.text()), self.value(of, depth + 1));
                Value::Map((0..items).map(entry).collect())
            }
            Type::Union(branches) => {
                let branch = self.below(branches.len());
                Value::Union(branch as u32, Box::new(self.value(&branches[branch], depth + 1)))
            }
            Type::Record(fields) => {
                let of = |(name, of): &(String, Type)| (name.clone(), self.value(of, depth + 1));
                Value::Record(fields.iter().map(of).collect())
            }
        }
    }
}

fn any_type() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Null),
        Just(Type::Boolean),
        Just(Type::Int),
        Just(Type::Long),
        Just(Type::Float),
        Just(Type::Double),
        Just(Type::Bytes),
        Just(Type::Text),
        prop::sample::select(&LOGICAL[..]).prop_map(|(of, logical)| Type::Logical(of, logical)),
        (0_usize..20).prop_map(Type::Fixed),
        (1_usize..90).prop_map(Type::Enum),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let record = prop::collection::vec(inner.clone(), 0..6).prop_map(|types| {
            let name = |(n, of)| (format!("f{n}"), of);
            Type::Record(types.into_iter().enumerate().map(name).collect())
        });
        let union = prop::collection::vec(inner.clone(), 1..5).prop_map(|types| {
            let mut seen = BTreeSet::new();
            Type::Union(types.into_iter().filter(|t| seen.insert(t.branch())).collect())
        });
        prop_oneof![
            inner.clone().prop_map(|of| Type::Array(Box::new(of))),
            inner.prop_map(|of| Type::Map(Box::new(of))),
            record,
            // A union is no branch of a union.
            union.prop_map(|union| match union {
                Type::Union(all) if all.iter().any(|t| matches!(t, Type::Union(_))) => Type::Null,
                union => union,
            }),
        ]
    })
}

/// A type in which a slot for texts is written by somebody.
fn text_type() -> impl Strategy<Value = Type> {
    prop_oneof![
        Just(Type::Text),
        Just(Type::Union(vec![Type::Null, Type::Text])),
        Just(Type::Union(vec![Type::Text, Type::Null])),
        Just(Type::Enum(70)),
        Just(Type::Union(vec![Type::Null, Type::Enum(3), Type::Text])),
    ]
}

/// Names of slots, with a type that fits them.
fn slot() -> impl Strategy<Value = (String, Type)> {
    let texts = [
        "tenant",
        "stage",
        "customer_id",
        "anonymous_id",
        "session_id",
        "error_code",
        "checkout_id",
        "order_id",
        "cart_id",
        "step_name",
        "currency",
        "payment_method",
        "coupon",
        "channel_group",
        "device_id",
        "country",
        "region",
        "store_id",
    ];
    let optional = |of: Type| Type::Union(vec![Type::Null, of]);
    let millis = Type::Logical("long", "timestamp-millis");
    let micros = Type::Logical("long", "timestamp-micros");
    let number = [Type::Int, optional(Type::Int)];
    let time = [optional(millis), optional(micros), Type::Union(vec![Type::Long, Type::Null])];
    let flag = [Type::Boolean, optional(Type::Boolean)];
    let named = |name: &'static str, of: Vec<Type>| {
        prop::sample::select(of).prop_map(move |of| (name.to_owned(), of))
    };
    let texts = prop::sample::select(texts.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        4 => (texts, text_type()),
        1 => named("step", number.to_vec()),
        1 => named("value", [&number[..], &[Type::Long, optional(Type::Long)]].concat()),
        1 => named("original_event_time", time.to_vec()),
        1 => named("is_bot", flag.to_vec()),
        1 => campaign(),
    ]
}

/// A campaign with an id, a name and other fields, or none at all.
fn campaign() -> impl Strategy<Value = (String, Type)> {
    let own = || prop::option::of(text_type());
    (own(), own(), prop::collection::vec(any_type(), 0..3), any::<bool>()).prop_map(
        |(id, name, others, nullable)| {
            let named = [("id", id), ("name", name)];
            let own = named.into_iter().filter_map(|(name, of)| Some((name.to_owned(), of?)));
            let others = others.into_iter().enumerate().map(|(n, of)| (format!("f{n}"), of));
            let record = Type::Record(others.chain(own).collect());
            let of = if nullable { Type::Union(vec![Type::Null, record]) } else { record };
            ("campaign".to_owned(), of)
        },
    )
}

/// Fields of a record that is a touchpoint, in any order, among others.
fn touchpoint_fields() -> impl Strategy<Value = Vec<(String, Type)>> {
    let required = ["id", "source", "channel", "touchpoint", "action"];
    let times = vec![
        Type::Long,
        Type::Logical("long", "timestamp-millis"),
        Type::Logical("long", "timestamp-micros"),
    ];
    let others = ["items", "attributes", "rating", "x1", "x2", "x3", "received_time", "outcome"];
    let own = (prop::sample::select(others.to_vec()), any_type());
    let own = own.prop_map(|(name, of)| (name.to_owned(), of));
    let time = prop::sample::select(times).prop_map(|of| ("event_time".to_owned(), of));
    (time, prop::collection::vec(slot(), 0..10), prop::collection::vec(own, 0..6)).prop_flat_map(
        move |(time, slots, others)| {
            let required = required.iter().map(|name| ((*name).to_owned(), Type::Text));
            let mut seen = BTreeSet::new();
            let all = required.chain([time]).chain(slots).chain(others);
            let all: Vec<_> = all.filter(|(name, _)| seen.insert(name.clone())).collect();
            Just(all).prop_shuffle()
        },
    )
}

fn written(avsc: &str, value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(avsc).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

/// True if the tree is what the library says; times are in milliseconds there.
fn is_same(tree: &Tree<'_>, value: &Value) -> bool {
    match (tree, value) {
        (Tree::Null, Value::Null) => true,
        (Tree::Bool(a), Value::Boolean(b)) => a == b,
        (Tree::Int(a), Value::Int(b) | Value::Date(b) | Value::TimeMillis(b)) => {
            *a == i64::from(*b)
        }
        (Tree::Int(a), Value::Long(b) | Value::TimeMicros(b)) => a == b,
        (Tree::Int(a), Value::TimestampMillis(b) | Value::LocalTimestampMillis(b)) => a == b,
        (Tree::Int(a), Value::TimestampMicros(b)) => *a == b.div_euclid(1_000),
        (Tree::Int(a), Value::TimestampNanos(b)) => *a == b.div_euclid(1_000_000),
        (Tree::Double(a), Value::Float(b)) => *a == f64::from(*b),
        (Tree::Double(a), Value::Double(b)) => a == b,
        (Tree::Bytes(a), Value::Bytes(b) | Value::Fixed(_, b)) => a == b,
        (Tree::Text(a), Value::String(b) | Value::Enum(_, b)) => a == b,
        (Tree::List(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Tree::Map(a), Value::Map(b)) => {
            let mut both = a.iter().map(|(key, tree)| (tree, b.get(&**key)));
            a.len() == b.len() && both.all(|(tree, b)| b.is_some_and(|b| is_same(tree, b)))
        }
        (Tree::Map(a), Value::Record(b)) => {
            let both = a.iter().zip(b);
            a.len() == b.len() && { both }.all(|((n, a), (name, b))| n == name && is_same(a, b))
        }
        (tree, Value::Union(_, value)) => is_same(tree, value),
        _ => false,
    }
}

/// The text, number or flag below unions.
fn plain(value: &Value) -> Option<&Value> {
    match value {
        Value::Union(_, value) => plain(value),
        Value::Null => None,
        value => Some(value),
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match plain(value)? {
        Value::String(text) | Value::Enum(_, text) => Some(text),
        other => panic!("{other:?} is no text"),
    }
}

fn number_of(value: &Value) -> Option<i64> {
    Some(match plain(value)? {
        Value::Int(number) => i64::from(*number),
        Value::Long(number) | Value::TimestampMillis(number) => *number,
        Value::TimestampMicros(number) => number.div_euclid(1_000),
        other => panic!("{other:?} is no number"),
    })
}

/// What a touchpoint says in a field.
fn check_field(t: &TouchpointRef<'_>, name: &str, value: &Value) {
    let texts = [
        ("tenant", Some(t.tenant)),
        ("id", Some(t.id)),
        ("source", Some(t.source)),
        ("channel", Some(t.channel)),
        ("touchpoint", Some(t.touchpoint)),
        ("action", Some(t.action)),
        ("stage", t.stage),
        ("customer_id", t.customer_id),
        ("anonymous_id", t.anonymous_id),
        ("session_id", t.session_id),
        ("error_code", t.error_code),
        ("checkout_id", t.checkout_id),
        ("order_id", t.order_id),
        ("cart_id", t.cart_id),
        ("step_name", t.step_name),
        ("currency", t.currency),
        ("payment_method", t.payment_method),
        ("coupon", t.coupon),
        ("channel_group", t.channel_group),
        ("device_id", t.device_id),
        ("country", t.country),
        ("region", t.region),
        ("store_id", t.store_id),
    ];
    if let Some((_, ours)) = texts.iter().find(|(of, _)| *of == name) {
        let default = (name == "tenant").then_some("default");
        assert_eq!(*ours, text_of(value).or(default), "{name}");
    }
    let original = t.original_event_time.map(|time| time.as_ms());
    let numbers = [
        ("event_time", Some(t.event_time.as_ms())),
        ("original_event_time", original),
        ("step", t.step.map(i64::from)),
        ("value", t.value),
    ];
    if let Some((_, ours)) = numbers.iter().find(|(of, _)| *of == name) {
        assert_eq!(*ours, number_of(value), "{name}");
    }
    if name == "is_bot" {
        assert_eq!(t.is_bot, plain(value) == Some(&Value::Boolean(true)));
    }
    if let ("campaign", Some(Value::Record(fields))) = (name, plain(value)) {
        let of: BTreeMap<&str, &Value> = fields.iter().map(|(n, v)| (n.as_str(), v)).collect();
        let said = |name| of.get(name).and_then(|value| text_of(value));
        assert_eq!(t.campaign, said("id").or(said("name")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_schema_is_read_as_the_library_reads_it(of in any_type(), seed in any::<u64>()) {
        let avsc = of.avsc(&mut 0);
        let body = written(&avsc, Chance(seed).value(&of, 0));
        let expected = oracle(&avsc, None, &body).expect("it was written by the same library");
        let schemas = with(7, &avsc);
        let payload = framed(7, &body);
        let tree = decode_avro_tree(&schemas, &payload);
        let is_same = tree.as_ref().is_ok_and(|tree| is_same(tree, &expected));
        prop_assert!(is_same, "{:?} {:?}", tree, expected);
        for cut in 0..body.len() {
            let cut = framed(7, &body[..cut]);
            prop_assert!(decode_avro_tree(&schemas, &cut).is_err());
        }
    }

    #[test]
    fn a_touchpoint_of_any_schema_is_what_the_library_reads(
        fields in touchpoint_fields(),
        seed in any::<u64>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut chance = Chance(seed);
        let mut values = Vec::new();
        for (name, of) in &fields {
            let value = match name.as_str() {
                "id" | "source" | "channel" | "touchpoint" | "action" => {
                    Value::String(format!("{name}{}", chance.text()))
                }
                // Absurd times and amounts are refused.
                "event_time" | "original_event_time" | "value" => loop {
                    let value = chance.value(of, 0);
                    let number = number_of(&value);
                    if number.is_none_or(|n| n.unsigned_abs() <= 1_000_000_000_000) {
                        break value;
                    }
                },
                "tenant" => loop {
                    let value = chance.value(of, 0);
                    if text_of(&value).is_none_or(|text| !text.is_empty()) {
                        break value;
                    }
                },
                _ => chance.value(of, 0),
            };
            values.push((name.clone(), value));
        }
        let avsc = Type::Record(fields).avsc(&mut 0);
        let mut body = written(&avsc, Value::Record(values));
        let schemas = with(7, &avsc);
        {
            let Some(Value::Record(expected)) = oracle(&avsc, None, &body) else {
                panic!("it was written by the same library");
            };
            let payload = framed(7, &body);
            // Read twice: combinations of words that came before are found as a whole.
            for _ in 0..2 {
                let decoded = decode_avro(&schemas, &payload);
                let Ok(Decoded::Touchpoint { origin: None, touchpoint }) = &decoded else {
                    panic!("{decoded:?} of {avsc}");
                };
                for (name, value) in &expected {
                    check_field(touchpoint, name, value);
                }
            }
            for cut in 0..body.len() {
                let cut = framed(7, &body[..cut]);
                prop_assert!(decode_avro(&schemas, &cut).is_err());
            }
        }
        // What is malformed for the plan is malformed, and nothing makes it panic.
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let payload = framed(7, &body);
        let whole = decode_avro_tree(&schemas, &payload);
        match decode_avro(&schemas, &payload) {
            Err(touchline::codec::canonical::DecodeError::Reject(reject))
                if reject.reason == RejectReason::MalformedAvro =>
            {
                prop_assert!(whole.is_err(), "{:?}", whole);
            }
            _ => {}
        }
    }
}

/// Every value of a container, written anew and read by us: as many as there are, and as JSON if given.
#[track_caller]
fn check_container(bytes: &[u8], number: usize, json: Option<&str>) {
    let reader = Reader::new(bytes).unwrap();
    let avsc = serde_json::to_string(reader.writer_schema()).unwrap();
    let schemas = with(3, &avsc);
    let mut lines = json.map(str::lines);
    let mut read = 0;
    for value in reader.map(Result::unwrap) {
        let payload = framed(3, &written(&avsc, value.clone()));
        let tree = decode_avro_tree(&schemas, &payload).unwrap();
        assert!(is_same(&tree, &value), "{tree:?} {value:?}");
        if let Some(lines) = &mut lines {
            same(&tree, &serde_json::from_str(lines.next().unwrap()).unwrap());
        }
        read += 1;
    }
    assert_eq!(read, number);
}

#[test]
fn files_of_other_implementations() {
    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!("../../fixtures/avro/interop/", $name)).as_slice()
        };
    }
    let json = include_str!("../../fixtures/avro/interop/weather.json");
    check_container(file!("weather.avro"), 5, Some(json));
    check_container(file!("weather-deflate.avro"), 5, Some(json));
    check_container(file!("simple.avro"), 3, None);
    check_container(file!("with-union.avro"), 3, None);
    // A message by itself: two bytes and a fingerprint, then the datum.
    let avsc = include_str!("../../fixtures/avro/interop/test_schema.avsc");
    let body = &file!("test_message.bin")[10..];
    let payload = framed(3, body);
    let schemas = with(3, avsc);
    let tree = decode_avro_tree(&schemas, &payload).unwrap();
    assert!(is_same(&tree, &oracle(avsc, None, body).unwrap()), "{tree:?}");
}
