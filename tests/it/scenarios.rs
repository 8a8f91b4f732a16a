//! Scenarios: text in, text out. Each `tests/scenarios/*.txt` is one story.
//!
//! ```text
//! # free text
//! set: sessions.gap=30m                    (configuration keys, any number of lines)
//! partitions: 1                            (of the canonical topic; 1 by default)
//! sources: web/0 store/0                   (source partitions; without it: direct)
//! show: checkouts sessions windows=5m,1h late alerts rejected summary
//!                                          (windows=LENGTHS: last revisions; revisions=LENGTHS: all)
//! ---
//! 12:00:00 ann checkout start checkout_id=k1 value=500   (an event; `d2 12:00` is on the second day)
//! @web/0 12:00:00 ann page view                          (an event of a source partition)
//! mark store/0 idle 12:05:00                             (a mark: idle or active, and its clock)
//! wait 30m                                               (a tick of every partition: direct only)
//! raw {"id": 7}                                          (a record as it comes; nothing: a tombstone)
//! close
//! ---
//! what is expected
//! ```
//!
//! `UPDATE_SCENARIOS=1` writes what came out into the files; read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use touchline::app::offline::{Offline, Recorded};
use touchline::app::parts::Parts;
use touchline::codec::canonical::{Decoded, JsonScratch, decode_json};
use touchline::config::Settings;
use touchline::engine::{Fact, Tick};
use touchline::ingest::Outcome;
use touchline::model::control::{Control, Mark};
use touchline::model::record::{CheckoutRecord, SessionRecord, WindowRecord};
use touchline::model::reject::FilterReason;
use touchline::model::time::{EventTime, Millis};
use touchline::model::touchpoint::{OriginRef, Touchpoint};

/// Midnight of the first day of every scenario, UTC.
const DAY_ONE_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;

struct Story {
    settings: Settings,
    partitions: i32,
    sources: Vec<(String, i32)>,
    show: Vec<String>,
}

fn parse_head(name: &str, head: &str) -> Story {
    let mut yaml: BTreeMap<String, String> = BTreeMap::new();
    let (mut partitions, mut sources, mut show) = (1, Vec::new(), Vec::new());
    for line in head.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let (what, rest) = line.split_once(':').expect("`what: value` in the head");
        match what {
            "set" => {
                let (key, value) = rest.trim().split_once('=').expect("key=value");
                let env = format!("TOUCHLINE_{}", key.to_uppercase().replace('.', "__"));
                yaml.insert(env, value.to_owned());
            }
            "partitions" => partitions = rest.trim().parse().expect("a number"),
            "sources" => sources = rest.split_whitespace().map(source_partition).collect(),
            "show" => show = rest.split_whitespace().map(str::to_owned).collect(),
            other => panic!("{name}: unknown line {other} in the head"),
        }
    }
    let base = "sources: {scenario: {topic: scenario, format: canonical_json, start: earliest}}\n";
    let settings = Settings::from_yaml_str(name, base, yaml).unwrap_or_else(|problems| {
        panic!("{name}: {}", problems.iter().map(ToString::to_string).collect::<String>())
    });
    Story { settings, partitions, sources, show }
}

fn source_partition(text: &str) -> (String, i32) {
    let (source, partition) = text.split_once('/').expect("source/partition");
    (source.to_owned(), partition.parse().expect("a number"))
}

/// `12:00`, `12:00:00`, `12:00:00.500`, after `d2` on the second day.
fn time(words: &mut std::iter::Peekable<std::str::SplitWhitespace<'_>>) -> EventTime {
    let mut day = 1;
    if let Some(number) = words.peek().and_then(|w| w.strip_prefix('d')?.parse::<i64>().ok()) {
        day = number;
        words.next();
    }
    let text = words.next().expect("a time");
    let (clock, ms) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<i64> = clock.split(':').map(|p| p.parse().expect("a time")).collect();
    let seconds =
        parts[0] * 3_600 + parts.get(1).unwrap_or(&0) * 60 + parts.get(2).copied().unwrap_or(0);
    let ms: i64 = ms.parse().expect("milliseconds");
    EventTime::from_ms(DAY_ONE_MS + (day - 1) * DAY_MS + seconds * 1_000 + ms)
}

fn length(text: &str) -> Millis {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: i64 = number.parse().expect("a length of time");
    Millis::from_ms(
        number
            * match unit {
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => panic!("a length ends with s, m or h, not {unit}"),
            },
    )
}

fn said(at: EventTime) -> String {
    let ms = at.as_ms() - DAY_ONE_MS;
    let (day, rest) = (ms.div_euclid(DAY_MS) + 1, ms.rem_euclid(DAY_MS));
    let day = if day == 1 { String::new() } else { format!("d{day} ") };
    let (secs, milli) = (rest / 1_000, rest % 1_000);
    let clock = format!("{:02}:{:02}:{:02}", secs / 3_600, secs / 60 % 60, secs % 60);
    if milli == 0 { format!("{day}{clock}") } else { format!("{day}{clock}.{milli:03}") }
}

fn event(
    words: &mut std::iter::Peekable<std::str::SplitWhitespace<'_>>,
    number: i64,
) -> Touchpoint {
    let at = time(words);
    let customer = words.next().expect("a customer");
    let touchpoint = words.next().expect("a touchpoint");
    let action = words.next().expect("an action");
    let id = format!("e{number}");
    let mut made = Touchpoint::new(&id, "scenario", at, "web", touchpoint, action);
    if customer != "-" {
        made.customer_id = Some(customer.into());
    }
    for pair in words {
        let (name, value) = pair.split_once('=').expect("name=value");
        let text = Some(value.into());
        match name {
            "id" => made.id = value.into(),
            "tenant" => made.tenant = value.into(),
            "channel" => made.channel = value.into(),
            "stage" => made.stage = text,
            "anonymous" => (made.customer_id, made.anonymous_id) = (None, text),
            "session_id" => made.session_id = text,
            "checkout_id" => made.checkout_id = text,
            "order_id" => made.order_id = text,
            "cart_id" => made.cart_id = text,
            "step" => made.step = Some(value.parse().expect("a number")),
            "step_name" => made.step_name = text,
            "value" => made.value = Some(value.parse().expect("a number")),
            "currency" => made.currency = text,
            "payment_method" => made.payment_method = text,
            "error_code" => made.error_code = text,
            "bot" => made.is_bot = true,
            "test" => made.is_test = true,
            other => panic!("unknown field {other}"),
        }
    }
    made
}

struct Run {
    offline: Offline,
    story: Story,
    marks: BTreeMap<(String, i32), EventTime>,
    offsets: BTreeMap<i32, i64>,
    source_offset: i64,
    ticks: u64,
    facts: Vec<Fact>,
    rejected: Vec<String>,
}

impl Run {
    fn new(story: Story) -> Run {
        let mut parts = Parts::new(&story.settings);
        parts.set_direct(story.sources.is_empty());
        let offline = Offline::new(&parts, story.partitions);
        Run {
            offline,
            story,
            marks: BTreeMap::new(),
            offsets: BTreeMap::new(),
            source_offset: 0,
            ticks: 0,
            facts: Vec::new(),
            rejected: Vec::new(),
        }
    }

    fn mark(
        &mut self,
        source: &(String, i32),
        watermark: Option<EventTime>,
        clock: Option<EventTime>,
        idle: bool,
    ) {
        let mark = Control::Mark(Mark {
            source: source.0.as_str().into(),
            partition: source.1,
            watermark,
            clock,
            idle,
            of: u32::try_from(self.story.sources.len()).expect("few sources"),
        });
        for partition in 0..self.story.partitions {
            let offset = self.offset(partition);
            self.offline.control(partition, offset, &mark, &mut |fact| self.facts.push(fact));
        }
    }

    fn offset(&mut self, partition: i32) -> i64 {
        let next = self.offsets.entry(partition).or_insert(0);
        *next += 1;
        *next - 1
    }

    fn line(&mut self, line: &str, number: i64) {
        let mut words = line.split_whitespace().peekable();
        match *words.peek().expect("words") {
            "close" => self.offline.close(&mut |fact| self.facts.push(fact)),
            "wait" => {
                words.next();
                let advance = length(words.next().expect("how long"));
                self.ticks += 1;
                for partition in 0..self.story.partitions {
                    let tick = Tick { number: self.ticks, advance };
                    self.offline.tick(partition, tick, &mut |fact| self.facts.push(fact));
                }
            }
            "raw" => self.raw(line["raw".len()..].trim()),
            "mark" => {
                words.next();
                let source = source_partition(words.next().expect("source/partition"));
                let idle = words.next() == Some("idle");
                let clock = words.peek().is_some().then(|| time(&mut words));
                let watermark = self.marks.get(&source).copied().or(clock.filter(|_| !idle));
                self.mark(&source, watermark, clock, idle);
            }
            _ => self.event(words, number),
        }
    }

    /// A record as it comes.
    fn raw(&mut self, value: &str) {
        let mut scratch = JsonScratch::new();
        let source = self.offline.totals_mut().sources.entry("raw".to_owned()).or_default();
        if value.is_empty() {
            return source.record(&Outcome::Filtered(FilterReason::Tombstone));
        }
        match decode_json(value.as_bytes(), &mut scratch) {
            Err(reject) => {
                let field = reject.field.clone().map(|f| format!(" {f}")).unwrap_or_default();
                self.rejected.push(format!("rejected {}{field}", reject.reason.name()));
                source.record(&Outcome::Rejected(reject));
            }
            Ok(Decoded::Control(_)) => panic!("say marks as marks"),
            Ok(Decoded::Touchpoint { touchpoint, .. }) => {
                let (offset, value) = (self.offset(0), value.as_bytes());
                let record = Recorded { partition: 0, offset, key: b"", value };
                let facts = &mut self.facts;
                self.offline.touchpoint(record, None, &touchpoint, &mut |f| facts.push(f));
            }
        }
    }

    fn event(
        &mut self,
        mut words: std::iter::Peekable<std::str::SplitWhitespace<'_>>,
        number: i64,
    ) {
        let source = words.peek().and_then(|w| w.strip_prefix('@')).map(source_partition);
        if source.is_some() {
            words.next();
        }
        let touchpoint = event(&mut words, number);
        let customer = touchpoint.customer_id.as_deref().or(touchpoint.anonymous_id.as_deref());
        let key = format!("{}|{}", touchpoint.tenant, customer.unwrap_or(&touchpoint.id));
        let partition =
            touchline::codec::murmur2::partition_of(key.as_bytes(), self.story.partitions);
        let offset = self.offset(partition);
        let record = Recorded { partition, offset, key: key.as_bytes(), value: b"{}" };
        let facts = &mut self.facts;
        match &source {
            None => {
                self.offline.touchpoint(record, None, &touchpoint.view(), &mut |f| facts.push(f));
            }
            Some((name, source_partition)) => {
                let bound = Millis::from_secs(5);
                let seen = touchpoint.event_time.minus(bound);
                let mark = self.marks.entry((name.clone(), *source_partition)).or_insert(seen);
                *mark = (*mark).max(seen);
                self.source_offset += 1;
                let origin = OriginRef {
                    source: name,
                    partition: *source_partition,
                    offset: self.source_offset,
                    watermark: *mark,
                };
                let view = touchpoint.view();
                self.offline.touchpoint(record, Some(origin), &view, &mut |f| facts.push(f));
            }
        }
    }
}

fn checkout(record: &CheckoutRecord) -> String {
    let kind = format!("{:?}", record.kind).to_lowercase();
    let transition = serde_json::to_value(record.transition).expect("a word");
    let mut text = format!(
        "{kind} {} {} at {} started {} by {}",
        record.customer,
        transition.as_str().expect("a word"),
        said(record.at),
        said(record.started_at),
        record.correlated_by,
    );
    if let Some(step) = record.step {
        write!(text, " step {step}").expect("memory");
    }
    if let Some(value) = record.value {
        write!(text, " value {value}").expect("memory");
    }
    if record.merged_into.is_some() {
        text.push_str(" merged");
    }
    text
}

fn session(record: &SessionRecord) -> String {
    let status = format!("{:?}", record.status).to_lowercase();
    let mut text = format!(
        "session {} {status} {} to {} events {}",
        record.customer,
        said(record.start),
        said(record.end),
        record.events,
    );
    for (flag, name) in [
        (record.engaged, " engaged"),
        (record.converted, " converted"),
        (record.is_final, " final"),
    ] {
        if flag {
            text.push_str(name);
        }
    }
    text
}

fn window(record: &WindowRecord) -> String {
    let dims: Vec<String> = record.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut text = format!("window {} {} [{}]", record.window, said(record.start), dims.join(","));
    if record.tenant != "default" {
        write!(text, " of {}", record.tenant).expect("memory");
    }
    let a = &record.abandonment;
    for (name, n) in [
        ("events", record.events),
        ("customers", record.customers),
        ("sessions", record.sessions),
        ("engaged", record.engaged_sessions),
        ("orders", record.orders),
        ("started", record.checkouts_started),
        ("completed", record.checkouts_completed),
        ("abandoned", record.checkouts_abandoned),
        ("recovered", record.checkouts_recovered),
        ("cohort", a.started),
        ("cohort_abandoned", a.abandoned),
        ("cohort_expired", a.expired),
        ("undecided", a.undecided),
        ("unique", a.unique_abandoners),
    ] {
        if n != 0 {
            write!(text, " {name} {n}").expect("memory");
        }
    }
    for (currency, minor) in &record.value {
        write!(text, " {currency} {minor}").expect("memory");
    }
    if a.mature && a.started > 0 {
        text.push_str(" mature");
    }
    write!(text, " r{}", record.revision).expect("memory");
    if record.is_final {
        text.push_str(" final");
    }
    text
}

fn wanted<'s>(show: &'s [String], name: &str) -> Option<&'s str> {
    show.iter().find_map(|s| {
        let (what, lengths) = s.split_once('=').unwrap_or((s, ""));
        (what == name).then_some(lengths)
    })
}

fn tell(run: &mut Run) -> String {
    let show = &run.story.show;
    let mut lines = Vec::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let has = |lengths: Option<&str>, window: &str| {
        lengths.is_some_and(|l| l.split(',').any(|one| one == window))
    };
    for fact in &run.facts {
        match fact {
            Fact::Checkout(r) if wanted(show, "checkouts").is_some() => lines.push(checkout(r)),
            Fact::Session(r) if wanted(show, "sessions").is_some() => lines.push(session(r)),
            Fact::Late(r) if wanted(show, "late").is_some() => {
                lines.push(format!("late {} by {} ms", said(r.event_time), r.late_by_ms));
            }
            Fact::Alert(r) if wanted(show, "alerts").is_some() => {
                let transition = format!("{:?}", r.transition).to_lowercase();
                let dims: Vec<String> =
                    r.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
                lines.push(format!(
                    "alert {} [{}] {transition} #{} at {} starts {}",
                    r.alert,
                    dims.join(","),
                    r.sequence,
                    said(r.at),
                    said(r.starts_at)
                ));
            }
            Fact::Window(r) => {
                let total_only = wanted(show, "total").is_some() && !r.dimensions.is_empty();
                if total_only {
                    continue;
                }
                if has(wanted(show, "revisions"), &r.window) {
                    lines.push(window(r));
                }
                if has(wanted(show, "windows"), &r.window) {
                    let of = (&r.tenant, r.start.as_ms());
                    let key = format!("{} {of:?} {:?}", r.window, r.dimensions);
                    last.insert(key, window(r));
                }
            }
            _ => {}
        }
    }
    lines.extend(last.into_values());
    let summary = run.offline.summary(0.0);
    assert!(summary.adds_up(), "{summary:?}");
    if wanted(show, "rejected").is_some() {
        lines.extend(run.rejected.iter().cloned());
    }
    if wanted(show, "summary").is_some() {
        let s = &summary;
        let mut text = format!(
            "in {} counted {} duplicate {} late {} filtered {}",
            s.events_in, s.counted, s.duplicate, s.late, s.filtered
        );
        if s.dead_letter > 0 {
            write!(text, " dead_letter {}", s.dead_letter).expect("memory");
        }
        lines.push(text);
    }
    lines.join("\n") + "\n"
}

fn check(path: &Path) -> Result<(), String> {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).expect("a scenario");
    let mut parts = text.splitn(3, "---\n");
    let mut part = || parts.next().unwrap_or_else(|| panic!("{name}: three parts"));
    let (head, input, expected) = (part(), part(), part());
    let mut run = Run::new(parse_head(&name, head));
    for source in run.story.sources.clone() {
        run.mark(&source, None, None, false);
    }
    for (number, line) in input.lines().enumerate() {
        if !line.trim().is_empty() && !line.starts_with('#') {
            run.line(line, i64::try_from(number).expect("a short story"));
        }
    }
    let got = tell(&mut run);
    if got == expected {
        return Ok(());
    }
    if std::env::var_os("UPDATE_SCENARIOS").is_some() {
        std::fs::write(path, format!("{head}---\n{input}---\n{got}")).expect("a scenario");
        return Ok(());
    }
    Err(format!("{name}\n--- expected\n{expected}--- got\n{got}"))
}

#[test]
fn every_scenario_comes_out_as_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 20, "scenarios are missing: {}", paths.len());
    let wrong: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    assert!(
        wrong.is_empty(),
        "{} scenarios came out otherwise:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
