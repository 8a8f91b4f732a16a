//! Configuration: every problem with its place, layers, masking, presets.

use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use touchline::config::{
    DetectorSettings, Format, IngestMode, Problem, Settings, Start, default_yaml, duration,
    json_schema, load, load_offline,
};
use touchline::model::dimension::Dimension;
use touchline::model::time::{EventTime, Millis};
use touchline::model::topic::Topic;

const SHOP: &str = "sources:\n  shop: {topic: shop, format: canonical_json, start: earliest}\n";
const NO_ENV: [(String, String); 0] = [];

fn problems(result: Result<Settings, Vec<Problem>>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

fn settings(text: &str) -> Settings {
    Settings::from_yaml_str("t.yaml", text, NO_ENV).unwrap_or_else(|p| panic!("{text}: {p:?}"))
}

/// A directory with these files; problems name them without the directory.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let dir = tempfile::tempdir().expect("as written");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("as written");
        }
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, names: &[&str], env: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        load(&paths, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    fn problems(&self, names: &[&str], env: &[(&str, &str)]) -> Vec<String> {
        let dir = format!("{}/", self.0.path().display());
        problems(self.load(names, env)).iter().map(|p| p.replace(&dir, "")).collect()
    }
}

#[test]
fn the_default_is_complete_and_says_what_the_documents_say() {
    let settings = settings("");
    assert_eq!(settings.app.name, "touchline");
    assert_eq!(settings.kafka["bootstrap.servers"], "localhost:9092");
    assert_eq!(settings.ingest, IngestMode::Canonical);
    assert_eq!(settings.time.slice, Millis::from_secs(10));
    assert_eq!(settings.time.max_age, Millis::from_hours(30 * 24));
    assert_eq!(settings.checkout.t_cart, Millis::from_mins(60));
    assert_eq!(settings.deduplication.ids, 64);
    assert_eq!(settings.limits.record_bytes, 1 << 20);
    assert_eq!(settings.group("journey"), "touchline.journey");
    for topic in Topic::ALL {
        let prefix = if topic == Topic::Rollup { "touchline." } else { "" };
        assert_eq!(settings.topic(topic), format!("{prefix}{}", topic.default_name()));
    }
    let lengths: Vec<String> =
        settings.figures.windows.iter().map(|w| format!("{}/{}", w.length, w.slide)).collect();
    assert_eq!(lengths, ["1m/10s", "5m/30s", "1h/1m", "24h/10m"]);
    assert_eq!(
        settings.figures.dimensions,
        [
            vec![Dimension::Channel],
            vec![Dimension::Channel, Dimension::Stage],
            vec![Dimension::Stage],
            vec![Dimension::Touchpoint]
        ]
    );
    let spike = &settings.rules["CheckoutAbandonmentSpike"];
    assert_eq!(spike.scopes, [vec![], vec![Dimension::Channel]]);
    assert_eq!((spike.enter_k, spike.enter_of, spike.leave), (2, 3, 3));
    let DetectorSettings::RatioSpike(spike) = &spike.detector else { panic!("{spike:?}") };
    assert_eq!((spike.min_sample, spike.min_effect, spike.min_relative), (30, 0.05, 0.2));
    assert_eq!(spike.learning.half_life, Millis::from_hours(72));
    let silent = &settings.rules["ChannelSilent"];
    let DetectorSettings::Silence(silence) = &silent.detector else { panic!("{silent:?}") };
    assert_eq!(silence.min_gap, Millis::from_mins(2));
}

#[test]
fn one_file_with_five_mistakes_gives_five_lines() {
    let files = Files::new(&[
        (
            "touchline.yaml",
            "sources:
  shop:
    topic: shop.events
    format: mapped_json
    mapping: shop.mapping.yaml
    start: earliest
time:
  alowed_lateness: 1h
  idle_timeout: 5 seconds
figures:
  windows:
    - {length: 1m, slide: 40s}
    - {length: 5m, slide: 30s}
    - {length: 1h, slide: 1m}
topics:
  late: {name: touchpoints.dropped}
  rejected: {name: touchpoints.dropped}
",
        ),
        (
            "shop.mapping.yaml",
            "mapping: shop
rules:
  - when: event.type == 'order'
    emit:
      - touchpoint: checkout
        action: complete
        stage: purchse
",
        ),
    ]);
    assert_eq!(
        files.problems(&["touchline.yaml"], &[]),
        [
            "shop.mapping.yaml:7:16: unknown stage `purchse`; did you mean `purchase`? accepted: \
             awareness, consideration, purchase, service, loyalty",
            "touchline.yaml:8:3: unknown key `alowed_lateness` in `time`; did you mean \
             `allowed_lateness`? accepted: slice, allowed_lateness, outage_tolerance, \
             idle_timeout, max_future_skew, max_age, max_drift",
            "touchline.yaml:9:17: `time.idle_timeout`: `5 seconds` is not accepted: expected a \
             length of time above zero: a whole number and a unit: ms, s, m, h or d, such as \
             `500ms`, `30s`, `5m`, `24h`, `7d`",
            "touchline.yaml:12:27: `figures.windows[0].slide`: 40s does not divide the length 1m; \
             accepted: 10s, 20s, 30s, 1m",
            "touchline.yaml:17:20: `topics.rejected.name`: topic `touchpoints.dropped` is already \
             that of `topics.late.name`: give each its own",
        ]
    );
}

#[test]
fn each_kind_of_problem_is_named_at_its_place() {
    let check = |text: &str, expected: &[&str]| {
        let found = problems(Settings::from_yaml_str("t.yaml", text, NO_ENV));
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}\nexpected {expected}");
        }
    };
    check("tiem: {slice: 10s}", &["t.yaml:1:1: unknown key `tiem`; did you mean `time`?"]);
    check("time: {slice: 10}", &["t.yaml:1:15: `time.slice`: `10` is not accepted: expected"]);
    check("time: 5", &["t.yaml:1:7: `time`: `5` is not accepted: expected a map with the keys"]);
    check("sessions: {gap: 0s}", &["t.yaml:1:17: `sessions.gap`: `0s` is not accepted"]);
    check("sessions: {gap: -5m}", &["t.yaml:1:17: `sessions.gap`: `-5m` is not accepted"]);
    check("sessions: {by: gup}", &["t.yaml:1:16: `sessions.by`: unknown word `gup`; did you mean"]);
    check(
        "sessions: {channel_gaps: {stor: 4h}}",
        &["t.yaml:1:27: `sessions.channel_gaps`: unknown channel `stor`; did you mean `store`?"],
    );
    check("limits: {record_bytes: 1MB}", &["t.yaml:1:24: `limits.record_bytes`: `1MB` is not"]);
    check("limits: {json_depth: 0}", &["t.yaml:1:22: `limits.json_depth`: `0` is not accepted"]);
    check("http: {listen: 9464}", &["t.yaml:1:16: `http.listen`: `9464` is not accepted"]);
    check("app: {name: ~}", &["t.yaml:1:13: `app.name`: expected a text"]);
    check("a: [", &["t.yaml:"]);
    check("time: {slice: 10s, slice: 20s}", &["t.yaml:1:20: key `slice` stands here twice"]);
    check(
        "figures: {windows: [{length: 1m, slide: 15s}]}\nrules: {CheckoutAbandonmentSpike: ~, \
         ChannelSilent: ~}",
        &["t.yaml:1:41: `figures.windows[0].slide`: 15s is not a multiple of time.slice, 10s"],
    );
    check(
        "figures: {windows: [{length: 1h, slide: 1m}, {length: 1h, slide: 5m}]}",
        &["t.yaml:1:55: `figures.windows[1]`: a second window of length 1h"],
    );
    check(
        "figures: {windows: [{length: 1h, slide: 1m}]}",
        &["t.yaml:1:20: `rules.CheckoutAbandonmentSpike.window`: figures.windows has none of \
             length 5m, only 1h: add it"],
    );
    check(
        "figures: {windows: [{length: 1m, slide: 7s}]}",
        &["t.yaml:1:41: `figures.windows[0].slide`: 7s does not divide the length 1m; accepted: 1"],
    );
    check(
        "figures: {windows: [{length: 1 min, slide: 10s}]}",
        &["t.yaml:1:30: `figures.windows[0].length`: `1 min` is not accepted"],
    );
    check("app: {name: a b}", &["t.yaml:1:13: `topics.rollup.name`: `a b.rollup.repartition` is"]);
    check("figures: {dimensions: [[chanel]]}", &["t.yaml:1:25: `figures.dimensions[0][0]`: unkno"]);
    check("figures: {windows: []}\nrules: {CheckoutAbandonmentSpike: ~}", &["t.yaml:1:20: `fig"]);
    check(
        "figures: {dimensions: [[stage]]}",
        &[
            "t.yaml:1:23: `rules.ChannelSilent.scopes`: no set of figures.dimensions is [channel]",
            "t.yaml:1:23: `rules.CheckoutAbandonmentSpike.scopes`: no set of figures.dimensions",
        ],
    );
    check(
        "time: {allowed_lateness: 8d}",
        &[
            "t.yaml:1:26: `topics.canonical.retention`: 7d is not above time.allowed_lateness",
            "t.yaml:1:26: `topics.checkout_lifecycle.retention`",
            "t.yaml:1:26: `topics.rollup.retention`",
            "t.yaml:1:26: `topics.sessions.retention`",
        ],
    );
    check(
        "topics: {late: {retention: 30m}}",
        &["t.yaml:1:28: `topics.late.retention`: 30m is not above time.allowed_lateness, 1h"],
    );
    check(
        "topics: {late: {name: touchpoints.canonical}}",
        &["t.yaml:1:23: `topics.late.name`: topic `touchpoints.canonical` is already that of"],
    );
    check(
        "identity: {follow_customers: false}",
        &[
            "t.yaml:1:30: `identity.follow_customers` is false, and `rules.CheckoutAbandonmentSpike`",
        ],
    );
    check("topics: {late: {name: 'a b'}}", &["t.yaml:1:23: `topics.late.name`: `a b` is no name"]);
    check("registry: {username: u}", &["t.yaml:1:22: `registry.username` without"]);
    check("registry: {schemas: {x: a.avsc}}", &["t.yaml:1:22: `registry.schemas`: `x` is no id"]);
    check("registry: {schemas: {1: a.avsc}}", &["t.yaml:1:25: `a.avsc` cannot be read"]);
    check("taxonomy: {preset: retial}", &["t.yaml:1:20: `taxonomy.preset`: unknown word `retial`"]);
    check(
        "rules: {ChannelSilent: {detector: magic}}",
        &["t.yaml:1:35: `rules.ChannelSilent.detector`: unknown word `magic`; accepted: ratio_s"],
    );
    check(
        "rules: {ChannelSilent: {min_effect: 0.1}}",
        &["t.yaml:1:25: unknown key `min_effect` in `rules.ChannelSilent`; accepted: detector,"],
    );
    check(
        "rules: {ChannelSilent: {min_completeness: 1.1, summary: 'no {chanel} {value}'}}",
        &[
            "t.yaml:1:43: `rules.ChannelSilent.min_completeness`: `1.1` is not accepted",
            "t.yaml:1:57: `rules.ChannelSilent.summary`: unknown name `{chanel}`; did you mean \
             `channel`?",
        ],
    );
    check(
        "rules: {CheckoutAbandonmentSpike: {alpha: 1.5, enter: {k: 4}}}",
        &[
            "t.yaml:1:43: `rules.CheckoutAbandonmentSpike.alpha`: `1.5` is not accepted",
            "t.yaml:1:59: `rules.CheckoutAbandonmentSpike.enter`: k, 4, is above of, 3",
        ],
    );
    let threshold = |more: &str| {
        format!(
            "rules: {{Calls: {{detector: threshold, enabled: true, severity: info, owner: o, \
             summary: s, scopes: [[]], enter: {{k: 1, of: 1}}, leave: 1, merge_gap: 0s, \
             cool_down: 0s, min_completeness: 0, figure: events, {more}}}}}"
        )
    };
    check(
        &threshold("above: 1, below: 2, window: 1m"),
        &["t.yaml:1:16: `rules.Calls`: either `above` or `below` has to be set"],
    );
    check(&threshold("window: 1m"), &["t.yaml:1:16: `rules.Calls`: either `above` or `below`"]);
    check(
        &threshold("above: 0, window: 15s"),
        &["t.yaml:1:222: `rules.Calls.window`: 15s is not a multiple of time.slice, 10s"],
    );
    check(
        &threshold("below: 1, window: 3h"),
        &["t.yaml:1:222: `rules.Calls.window`: 3h is more than 1000 times time.slice, 10s"],
    );
    check("kafka: {sasl.password: '${NOT_SET}'}", &["t.yaml:1:24: the environment variable"]);
    check("kafka: {sasl.password: '${file:/no}'}", &["t.yaml:1:24: `/no` cannot be read"]);
}

#[test]
fn sources_need_a_decision() {
    let check = |text: &str, expected: &[&str]| {
        let files = Files::new(&[("t.yaml", text)]);
        let found = files.problems(&["t.yaml"], &[]);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    };
    check("app: {name: x}", &["t.yaml:1:1: `sources` is empty: name at least one"]);
    check(SHOP, &[]);
    check("sources: {s: ~}", &["t.yaml:1:10: `sources` is empty"]);
    check("sources: 5", &["t.yaml:1:10: `sources`: `5` is not accepted: expected a map"]);
    check(
        "sources: {s: {topic: a, format: canonical_json, strat: latest}}",
        &["t.yaml:1:49: unknown key `strat` in `sources.s`; did you mean `start`?"],
    );
    check(
        "sources: {s: {topic: a, format: canonical_json}}",
        &["t.yaml:1:14: `sources.s.start` is missing: give `earliest`, `latest` or a time"],
    );
    check(
        "sources: {s: {topic: a, format: canonical_json, start: now}}",
        &["t.yaml:1:56: `sources.s.start`: `now` is not accepted: expected `earliest`"],
    );
    check(
        "sources: {s: {topic: a, format: mapped_json, start: latest}}",
        &["t.yaml:1:33: `sources.s.mapping` is missing"],
    );
    check(
        "sources: {s: {topic: a, format: mapped_json, start: latest, mapping: no.yaml}}",
        &["t.yaml:1:70: mapping file `no.yaml` is not there"],
    );
    check(
        "sources: {s: {topic: a, format: canonical_avro, start: latest, mapping: no.yaml}}",
        &[
            "t.yaml:1:73: `sources.s.mapping` is only for mapped_json",
            "t.yaml:1:73: mapping file `no.yaml` is not there",
        ],
    );
    let two = "sources:\n  a: {topic: a, format: canonical_json, start: latest}\n  b: {topic: a, \
               format: canonical_json, start: latest, tenant: 'x|y'}\n";
    check(
        two,
        &[
            "t.yaml:3:14: `sources.b.topic`: topic `a` is already that of `sources.a.topic`",
            "t.yaml:3:64: `sources.b.tenant`: `x|y` must not hold `|`",
        ],
    );
    check(
        "ingest: direct\nsources:\n  a: {topic: touchpoints.canonical, format: canonical_json, \
         start: latest}\n",
        &[],
    );
    check(
        "ingest: direct\nsources:\n  a: {topic: a, format: canonical_json, start: latest}\n  b: \
         {topic: b, format: canonical_json, start: latest}\n",
        &["t.yaml:1:9: `ingest: direct` takes exactly one source, not 2"],
    );
    let source = &settings(SHOP).sources["shop"];
    assert_eq!((source.format, source.start), (Format::CanonicalJson, Start::Earliest));
    assert_eq!(source.max_out_of_orderness, Millis::from_secs(5));
    assert_eq!(source.tenant, "default");
    let dated = SHOP.replace("earliest", "2026-01-31T00:00:00Z");
    let at = EventTime::from_ms(1_769_817_600_000);
    assert_eq!(settings(&dated).sources["shop"].start, Start::Time(at));
    assert!(load_offline(&[], NO_ENV).is_ok());
    assert_eq!(duration("90s"), Ok(Millis::from_secs(90)));
    assert!(duration("90").is_err());
    assert_eq!(problems(load(&[], NO_ENV)).len(), 1);
}

#[test]
fn a_missing_file_is_the_only_problem() {
    let files = Files::new(&[]);
    let found = files.problems(&["no.yaml"], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("no.yaml:1:1: cannot be read: "), "{found:?}");
}

#[test]
fn later_files_and_the_environment_come_over_earlier_ones() {
    let files = Files::new(&[
        ("a.yaml", SHOP),
        ("b.yaml", "time: {allowed_lateness: 2h}\nsessions:\nsources: {shop: {tenant: eu}}\n"),
        ("secret", "hunter2\n"),
    ]);
    let secret = format!("${{file:{}}}", files.path("secret").display());
    let env = [
        ("TOUCHLINE_TIME__SLICE", "5s"),
        ("TOUCHLINE_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092"),
        ("TOUCHLINE_KAFKA__sasl.password", "a: b # c"),
        ("TOUCHLINE_KAFKA__SSL_KEY_PASSWORD", secret.as_str()),
        ("TOUCHLINE_KAFKA__CLIENT_RACK", "r-${ZONE}-$${x}"),
        ("TOUCHLINE_RULES__CHECKOUTABANDONMENTSPIKE__MIN_SAMPLE", "50"),
        ("TOUCHLINE_SOURCES__SHOP__START", "latest"),
        ("TOUCHLINE_RELAY__ALERTMANAGERS", "[http://a:9093, http://b:9093]"),
        ("TOUCHLINE_INGEST", "direct"),
        ("TOUCHLINE_SERVICE_HOST", "10.0.0.1"),
        ("ZONE", "z1"),
        ("OTHER_TIME__SLICE", "nonsense"),
    ];
    let settings = files.load(&["a.yaml", "b.yaml"], &env).expect("as written");
    assert_eq!(settings.time.slice, Millis::from_secs(5));
    assert_eq!(settings.time.allowed_lateness, Millis::from_hours(2));
    assert_eq!(settings.sessions.gap, Millis::from_mins(30));
    assert_eq!(settings.kafka["bootstrap.servers"], "kafka:9092");
    assert_eq!(settings.kafka["sasl.password"], "a: b # c");
    assert_eq!(settings.kafka["ssl.key.password"], "hunter2");
    assert_eq!(settings.kafka["client.rack"], "r-z1-${x}");
    let DetectorSettings::RatioSpike(spike) = &settings.rules["CheckoutAbandonmentSpike"].detector
    else {
        panic!("not a spike")
    };
    assert_eq!(spike.min_sample, 50);
    assert_eq!(settings.sources["shop"].start, Start::Latest);
    assert_eq!(settings.sources["shop"].tenant, "eu");
    assert_eq!(settings.relay.alertmanagers, ["http://a:9093", "http://b:9093"]);
    assert_eq!(settings.ingest, IngestMode::Direct);

    let wrong = [("TOUCHLINE_TIME__SLCE", "5s"), ("TOUCHLINE_HTTP__LISTEN", "x")];
    let found = files.problems(&["a.yaml"], &wrong);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("TOUCHLINE_HTTP__LISTEN:1:1: `http.listen`: `x` is not"));
    assert!(found[1].starts_with("TOUCHLINE_TIME__SLCE:1:1: unknown key `slce` in `time`; did"));
    let found = files.problems(&["a.yaml"], &[("TOUCHLINE_TMIE__SLICE", "5s")]);
    assert!(found[0].starts_with("TOUCHLINE_TMIE__SLICE:1:1: unknown section `tmie`; did you"));
}

#[test]
fn the_effective_configuration_reads_back_and_hides_secrets() {
    let files = Files::new(&[("secret", "hunter2"), ("a.yaml", SHOP)]);
    let text = format!(
        "{SHOP}kafka: {{sasl.password: hunter2, sasl.username: me, \
         sasl.oauthbearer.client.secret: hunter2, ssl.keystore.location: '${{file:{}}}'}}\n\
         registry: {{url: 'http://u:hunter2@r:8081', username: u, password: hunter2}}\n",
        files.path("secret").display()
    );
    let shown = settings(&text);
    let shown = shown.effective_yaml();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("sasl.username: me") && shown.contains("********@r:8081"), "{shown}");
    let plain = settings(SHOP);
    let again = settings(plain.effective_yaml());
    assert_eq!(plain.effective_yaml(), again.effective_yaml());
    assert_eq!(format!("{plain:?}"), format!("{again:?}"));
}

#[test]
fn rules_can_be_changed_switched_off_and_added() {
    let off = settings("rules: {ChannelSilent: {enabled: false}, CheckoutAbandonmentSpike: ~}");
    assert!(off.rules.is_empty());
    let added = settings(
        "rules:\n  StoreSilent: {detector: silence, enabled: true, severity: info, owner: stores, \
         summary: s, scopes: [[channel]], min_gap: 1h, max_gap: 7d, chance: 0.1, horizon: 7d, \
         min_history: 7d, enter: {k: 1, of: 2}, leave: 1, merge_gap: 0s, cool_down: 0s, \
         min_completeness: 0.5}\n",
    );
    assert_eq!(added.rules.len(), 3);
    assert_eq!(added.rules["StoreSilent"].owner, "stores");
    let mut many = String::from("rules:\n  R0: &r\n");
    let rule = default_yaml().split("  ChannelSilent:\n").nth(1).expect("the rule is there");
    many.extend(rule.lines().take_while(|l| !l.is_empty()).map(|l| format!("{l}\n")));
    (1..62).for_each(|n| many.push_str(&format!("  R{n}: *r\n")));
    assert_eq!(settings(&many).rules.len(), 64);
    many.push_str("  R62: *r\n");
    let found = problems(Settings::from_yaml_str("t.yaml", &many, NO_ENV));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("`rules`: more than 64 are enabled"), "{found:?}");
}

#[test]
fn the_json_schema_names_every_key_of_the_default() {
    fn names(value: &serde_json::Value, into: &mut Vec<String>) {
        if let Some(map) = value.as_object() {
            if let Some(properties) = map.get("properties").and_then(|p| p.as_object()) {
                into.extend(properties.keys().cloned());
            }
            map.values().for_each(|v| names(v, into));
        } else if let Some(list) = value.as_array() {
            list.iter().for_each(|v| names(v, into));
        }
    }
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).expect("as written");
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["additionalProperties"], false);
    let mut known = Vec::new();
    names(&schema, &mut known);
    // Names of the user's own making stand under these sections.
    let own = ["bootstrap.servers", "CheckoutAbandonmentSpike", "ChannelSilent"];
    let default: serde_json::Value = serde_saphyr::from_str(default_yaml()).expect("as written");
    let mut keys = Vec::new();
    fn all_keys(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                into.extend(map.keys().cloned());
                map.values().for_each(|v| all_keys(v, into));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| all_keys(v, into)),
            _ => {}
        }
    }
    all_keys(&default, &mut keys);
    assert!(keys.len() > 100);
    for key in keys.iter().filter(|key| !own.contains(&key.as_str())) {
        assert!(known.contains(key), "{key} is not in the schema");
    }
}

/// Every word of the vocabulary.
const CHANNELS: &str = "web, mobile_app, email, sms, push, social, search, ads, blog, marketplace, \
    reviews, store, phone, chat, chatbot, self_service, delivery, subscription, loyalty_program, \
    referral, survey, crm, other";
const TITLES: &str = "advertisement, word of mouth, influencer, search result, landing page, \
    blog post, site visit, FAQ, how-to video, product page, recommendation, cart, checkout step, \
    account creation, payment, store visit, chatbot session, complaint, marketing e-mail, \
    follow-up, order update, parcel tracking, review, survey answer, free trial, renewal, \
    service delivery, follow-up call";
const PAIRS: &str = "page view awareness, ad impression awareness, promotion click awareness, \
    social_post share awareness, email_campaign unsubscribe awareness, push open awareness, \
    search submit consideration, wishlist remove consideration, product view consideration, \
    cart view purchase, checkout start purchase, checkout expire purchase, payment info purchase, \
    coupon deny purchase, store_visit visit purchase, store_purchase complete purchase, \
    order refund service, delivery update service, call escalate service, chat end service, \
    survey answer service, complaint submit service, review submit loyalty, \
    loyalty redeem loyalty, referral use loyalty";

#[test]
fn every_preset_knows_every_word_of_the_vocabulary() {
    for preset in ["ecommerce", "services", "software", "retail"] {
        let settings = settings(&format!("taxonomy: {{preset: {preset}}}"));
        let taxonomy = &settings.taxonomy;
        for channel in CHANNELS.split(", ") {
            assert!(taxonomy.channel(channel).is_some(), "{preset}: {channel}");
        }
        let phases = ["pre_purchase", "purchase", "post_purchase"];
        for (stage, phase) in [("awareness", 0), ("consideration", 0), ("purchase", 1)] {
            assert_eq!(taxonomy.phase(stage), Some(phases[phase]), "{preset}");
        }
        for stage in ["service", "loyalty"] {
            assert_eq!(taxonomy.phase(stage), Some("post_purchase"), "{preset}");
        }
        let titles: Vec<&str> = settings.register.values().map(|r| r.title.as_str()).collect();
        for title in TITLES.split(", ") {
            assert!(titles.contains(&title), "{preset}: {title}");
        }
        for start in ["social post (sponsored, organic)", "loyalty (enrol, earn, redeem, tier)"] {
            assert!(titles.contains(&start), "{preset}: {start}");
        }
        assert!(titles.iter().any(|t| t.starts_with("service conversation")), "{preset}");
        for owner in ["marketing", "sales", "customer_service"] {
            assert!(settings.register.values().any(|r| r.owner == owner), "{preset}: {owner}");
        }
        for touchpoint in taxonomy.touchpoints() {
            assert!(taxonomy.registered(touchpoint).is_some(), "{preset}: {touchpoint}");
        }
        for pair in PAIRS.split(", ") {
            let words: Vec<&str> = pair.split(' ').collect();
            assert_eq!(taxonomy.stage_of(words[0], words[1]), Some(words[2]), "{preset}: {pair}");
        }
        assert!(settings.register.values().any(|r| !r.expectations.is_empty()));
    }
    let software = settings("taxonomy: {preset: software}").taxonomy;
    assert_eq!(software.stage_of("trial", "start"), Some("trial"));
    assert_eq!(software.stages().count(), 8);
}

#[test]
fn a_taxonomy_file_is_laid_over_the_preset_and_checked() {
    let files = Files::new(&[
        ("t.yaml", "taxonomy: {file: words.yaml}\nsessions: {channel_gaps: {kiosk: 4h}}\n"),
        ("words.yaml", "channels: {kiosk: {}}\npairs: {page: {ping: consideration}}\n"),
        ("bad.yaml", "taxonomy: {file: wrong.yaml}\n"),
        (
            "wrong.yaml",
            "pairs: {page: {ping: considration}, poster: {view: awareness}}\n\
             touchpoints: {page: {owner: nobody}}\nstage: []\n",
        ),
        ("shop.yaml", SHOP),
    ]);
    let settings = files.load(&["shop.yaml", "t.yaml"], &[]).expect("as written");
    assert_eq!(settings.taxonomy.stage_of("page", "ping"), Some("consideration"));
    assert_eq!(settings.taxonomy.stage_of("page", "view"), Some("awareness"));
    assert!(settings.taxonomy.channel("kiosk").is_some());
    let found = files.problems(&["shop.yaml", "bad.yaml"], &[]);
    let expected = [
        "wrong.yaml:1:22: unknown stage `considration`; did you mean `consideration`?",
        "wrong.yaml:1:37: touchpoint `poster` has no entry in `touchpoints`",
        "wrong.yaml:2:29: unknown department `nobody`; accepted: marketing, sales,",
        "wrong.yaml:3:1: unknown key `stage`; did you mean `stages`?",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

const MAPPED: &str =
    "sources: {s: {topic: s, format: mapped_json, mapping: m.yaml, start: latest}}";

#[test]
fn mapping_files_are_checked_word_by_word() {
    let check = |text: &str, expected: &[&str]| {
        let files = Files::new(&[("t.yaml", MAPPED), ("m.yaml", text)]);
        let found = files.problems(&["t.yaml"], &[]);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    };
    check("mapping: m\nrules: []\notherwise: filter\n", &[]);
    check("rules: []\n", &["m.yaml:1:1: `mapping` is missing: give a text"]);
    check("mapping: m\notherwise: drop\n", &["m.yaml:2:12: `otherwise`: unknown word `drop`"]);
    check(
        "mapping: m\notherwise: {touchpoint: pgae, action: view}\n",
        &["m.yaml:2:25: unknown touchpoint `pgae`; did you mean `page`?"],
    );
    check(
        "mapping: m\ndefaults: {chanel: web, channel: wbe}\n",
        &[
            "m.yaml:2:12: unknown key `chanel` in `defaults`; did you mean `channel`?",
            "m.yaml:2:34: unknown channel `wbe`; did you mean `web`?",
        ],
    );
    check("mapping: m\ndefaults: {campaign.name: x, attributes.any: y, consent.ads: true}\n", &[]);
    check(
        "mapping: m\nvalues: {c: {d: web, t: tablet}}\ndefaults: {channel: {field: p, table: c}}\n",
        &["m.yaml:2:25: unknown channel `tablet`"],
    );
    check(
        "mapping: m\nvalues: {c: {d: web}}\ndefaults: {channel: {field: p, table: x, default: wep}\
         }",
        &[
            "m.yaml:3:39: unknown table `x`; accepted: c",
            "m.yaml:3:51: unknown channel `wep`; did you mean `web`?",
        ],
    );
    check(
        "mapping: m\ncustomer_id: {field: a, cel: b}\nanonymous_id: {table: x}\nvalues: {x: {}}\n",
        &[
            "m.yaml:2:14: `customer_id` needs exactly one of field, header, key, cel",
            "m.yaml:3:15: `anonymous_id` needs exactly one of",
        ],
    );
    let rule = |rule: &str| format!("mapping: m\nrules:\n  - {rule}\n");
    check(&rule("{filter: true, when: 'a ==='}"), &["m.yaml:3:26: `a ===` is no CEL expression"]);
    check(&rule("{when: 'true'}"), &["m.yaml:3:5: a rule needs `emit` or `filter: true`"]);
    check(
        &rule("{emit: [{touchpoint: checkout, action: complet}]}"),
        &["m.yaml:3:44: touchpoint `checkout` has no action `complet` in the taxonomy: correct"],
    );
    check(&rule("{emit: [{touchpoint: page, action: ping, stage: awareness}]}"), &[]);
    check(
        &rule("{emit: [{touchpoint: page, action: view, stage: {field: s, default: nix}}]}"),
        &["m.yaml:3:73: unknown stage `nix`; accepted: awareness,"],
    );
    check(
        &rule("{emit: [{touchpoint: page, action: view, fields: {value: {field: 'a[x]'}}}]}"),
        &["m.yaml:3:70: `rules[0].emit[0].fields.value.field`: `a[x]` is no path"],
    );
    check(
        &rule("{emit: [{touchpoint: page, action: view, shift: -5}]}"),
        &["m.yaml:3:53: `rules[0].emit[0].shift`: `-5` is not accepted"],
    );
    check(
        &rule("{emit: [{touchpoint: page}]}"),
        &["m.yaml:3:13: `rules[0].emit[0].action` is missing: give"],
    );
}

#[test]
fn a_mapping_knows_the_places_of_its_values() {
    let mapping = "mapping: m
time: {field: ts, format: epoch_ms}
rules:
  - when: event.type == 'order'
    emit:
      - touchpoint: checkout
        action: complete
        fields: {campaign.name: {field: utm}, value: {field: total, scale: 100}}
";
    let files = Files::new(&[("t.yaml", MAPPED), ("m.yaml", mapping)]);
    let settings = files.load(&["t.yaml"], &[]).expect("as written");
    let mapping = settings.sources["s"].mapping.as_ref().expect("as written");
    assert_eq!(mapping.spec.mapping, "m");
    assert_eq!(mapping.spec.rules[0].emit.len(), 1);
    let check = |path: &str, line: usize, column: usize| {
        let at = mapping.position(path);
        assert_eq!((at.line, at.column), (line, column), "{path}");
    };
    check("time[0].format", 2, 27);
    check("time.format", 2, 27);
    check("rules[0].when", 4, 11);
    check("rules[0].emit[0].action", 7, 17);
    check("rules[0].emit[0].fields.campaign.name.field", 8, 41);
    check("rules[0].emit[0].nothing", 6, 9);
    check("", 1, 1);
}

#[test]
fn every_file_in_config_is_read_without_a_problem() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    assert_eq!(fs::read_to_string(root.join("default.yaml")).expect("as written"), default_yaml());
    let check = |text: String| {
        let files = Files::new(&[("t.yaml", &text), ("shop.yaml", SHOP)]);
        assert_eq!(files.problems(&["shop.yaml", "t.yaml"], &[]), Vec::<String>::new(), "{text}");
    };
    let mut read = 0;
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("as written") {
            let path = entry.expect("as written").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            read += 1;
            let shown = path.display();
            match path.parent().and_then(Path::file_name).and_then(|n| n.to_str()) {
                Some("taxonomy") => check(format!("taxonomy: {{file: {shown}}}")),
                Some("mappings") => {
                    let source = "topic: m, format: mapped_json, start: latest";
                    check(format!("sources: {{m: {{{source}, mapping: {shown}}}}}"));
                }
                _ => {
                    assert!(
                        load(std::slice::from_ref(&path), NO_ENV).is_ok()
                            || path.ends_with("default.yaml")
                    )
                }
            }
        }
    }
    assert!(read >= 6, "{read}");
}

/// One edit of a file: at this share of it, so many characters are replaced by these.
fn edits() -> impl Strategy<Value = Vec<(f64, usize, String)>> {
    let edit = (0.0..1.0, 0usize..12, "[a-z0-9 :{}\\[\\],'\"&*#|>~$\n-]{0,6}");
    prop::collection::vec(edit, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_file_makes_it_panic_and_every_place_exists(edits in edits()) {
        let mut text: Vec<char> = default_yaml().chars().chain(SHOP[9..].chars()).collect();
        for (at, length, new) in edits {
            let at = (at * text.len() as f64) as usize;
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        let lines: Vec<usize> = text.split('\n').map(|l| l.chars().count()).collect();
        for problem in Settings::from_yaml_str("t.yaml", &text, NO_ENV).err().unwrap_or_default() {
            prop_assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
            if &*problem.at.file == "t.yaml" {
                let columns = lines.get(problem.at.line - 1);
                // The end of the file is one past its last character.
                let last = problem.at.line == lines.len() + 1 && problem.at.column == 1;
                let within = columns.is_some_and(|c| problem.at.column <= c + 1) || last;
                prop_assert!(within, "{problem}");
            }
        }
    }
}
