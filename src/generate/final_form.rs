//! The final form: what is left of the derived topics when everything is decided, in one shape that
//! the naive model and `replay --final` share, so that a plain `diff -r` compares them.
//!
//! One directory with one file per topic: JSON objects, one a line, sorted by key, and `summary.json`.
//! A file is there even if it is empty. It is the same for every partition count and every order of
//! arrival within the bounds; what is not, is left out:
//!
//! | file | a row is | key | left out |
//! | --- | --- | --- | --- |
//! | `journeys.sessions.jsonl` | the last revision of a session that was not merged away | tenant, customer, start | `session_id` (a hash of the first event), `status` (closed or amended: depends on arrival), `merged_into`; `channels` are sorted |
//! | `checkout.lifecycle.jsonl` | per instance and transition the last record (of `step` and `payment_failed` the one with the latest `at`), of instances not merged away; of outcomes the last one (`recovered` with its `abandoned`): those that a later `retracted` or outcome took back, and `retracted` itself, are gone, since whether they were ever published depends on arrival | tenant, customer, kind, started_at, transition | `instance` (in its place: tenant, customer, kind and the last `started_at`), `correlated_by`; and see below |
//! | `engagement.channel_stage.jsonl` | the last revision of a window, unless all of its figures are 0 | tenant, window length, start, dimensions | `abandonment.mature` stays |
//! | `touchpoints.late.jsonl` | tenant, customer, id, event time of a touchpoint that came too late | the same | headers, position |
//! | `summary.json` | the counts | – | `checkouts.retracted` (depends on arrival), `alerts`, and what was measured |
//!
//! Left out everywhere: `id`, `revision`, `decided_at`, `completeness`, `schema_version`, and positions.
//! `is_final` stays: a row that never became final differs from the truth.
//!
//! Rows of `checkout.lifecycle` have `tenant, customer, kind, started_at, transition, at, channel`;
//! `step` has `step, step_name` besides, `payment_failed` has `error_code`; outcomes (`completed`,
//! `abandoned`, `recovered`, `expired`) have `step, step_name, value, currency, payment_method,
//! shipping_method, coupon, account_type, error_code`, the latest known each; `abandoned` and `expired`
//! also `last_activity`.
//!
//! Not part of it: `engagement.live` (its last slide is where the input happens to end), and alerts
//! (they follow from revisions and the clock; what was injected stands in the labels).

use crate::model::record::{
    Abandonment, CheckoutKind, CheckoutRecord, PathStep, SessionRecord, Transition, Value,
    WindowRecord,
};
use crate::model::time::{EventTime, Millis};
use compact_str::CompactString;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Names of the files of the final form, without the summary.
pub const FILES: [&str; 4] = [
    "journeys.sessions.jsonl",
    "checkout.lifecycle.jsonl",
    "engagement.channel_stage.jsonl",
    "touchpoints.late.jsonl",
];

/// The counts of `summary.json` that do not depend on the order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the design's section on the command line names them")]
pub struct FinalSummary {
    pub events_in: u64,
    pub counted: u64,
    pub duplicate: u64,
    pub late: u64,
    pub dead_letter: u64,
    pub filtered: u64,
    pub sessions: i64,
    pub checkouts: FinalCheckouts,
}

/// Checkouts (carts are none of them) by what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub struct FinalCheckouts {
    pub started: i64,
    pub completed: i64,
    /// Net of retracted ones.
    pub abandoned: i64,
    pub recovered: i64,
}

#[derive(Serialize)]
struct SessionRow<'a> {
    tenant: &'a str,
    customer: &'a str,
    start: EventTime,
    end: EventTime,
    events: i64,
    channels: BTreeSet<&'a CompactString>,
    entry_channel: &'a str,
    stage_reached: &'a str,
    path: &'a [PathStep],
    path_truncated: bool,
    engaged: bool,
    converted: bool,
    value: &'a Value,
    is_final: bool,
}

#[derive(Serialize)]
struct WindowRow<'a> {
    tenant: &'a str,
    window: &'a str,
    start: EventTime,
    end: EventTime,
    dimensions: &'a BTreeMap<CompactString, CompactString>,
    events: i64,
    customers: i64,
    sessions: i64,
    engaged_sessions: i64,
    orders: i64,
    value: &'a Value,
    checkouts_started: i64,
    checkouts_completed: i64,
    checkouts_abandoned: i64,
    checkouts_recovered: i64,
    abandonment: &'a Abandonment,
    is_final: bool,
}

#[derive(Serialize)]
struct CheckoutRow<'a> {
    tenant: &'a str,
    customer: &'a str,
    kind: CheckoutKind,
    started_at: EventTime,
    transition: Transition,
    at: EventTime,
    channel: &'a str,
    #[serde(flatten)]
    more: More<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum More<'a> {
    Nothing {},
    Step { step: Option<i32>, step_name: Option<&'a str> },
    Failed { error_code: Option<&'a str> },
    Outcome(Box<Outcome<'a>>),
}

#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activity: Option<EventTime>,
    step: Option<i32>,
    step_name: Option<&'a str>,
    value: Option<i64>,
    currency: Option<&'a str>,
    payment_method: Option<&'a str>,
    shipping_method: Option<&'a str>,
    coupon: Option<&'a str>,
    account_type: Option<&'a str>,
    error_code: Option<&'a str>,
}

#[derive(Serialize)]
struct LateRow<'a> {
    tenant: &'a str,
    customer: Option<&'a str>,
    id: &'a str,
    event_time: EventTime,
}

/// Key of a window: tenant, length, start, dimensions.
type WindowKey = (CompactString, i64, EventTime, Vec<(CompactString, CompactString)>);

/// Gathers records, in any order and all revisions, and writes the final form.
///
/// Memory: one record per session, per instance and transition, and per window.
#[derive(Default)]
pub struct FinalForm {
    sessions: BTreeMap<CompactString, SessionRecord>,
    checkouts: BTreeMap<CompactString, Vec<CheckoutRecord>>,
    windows: BTreeMap<WindowKey, WindowRecord>,
    late: BTreeMap<(CompactString, Option<CompactString>, CompactString, EventTime), u64>,
}

impl FinalForm {
    /// Nothing gathered.
    pub fn new() -> FinalForm {
        FinalForm::default()
    }

    /// Takes a revision of a session.
    pub fn add_session(&mut self, record: &SessionRecord) {
        let kept = self.sessions.entry(record.session_id.clone()).or_insert_with(|| record.clone());
        if record.revision >= kept.revision {
            kept.clone_from(record);
        }
    }

    /// Takes a transition of a checkout or cart.
    pub fn add_checkout(&mut self, record: &CheckoutRecord) {
        let kept = self.checkouts.entry(record.instance.clone()).or_default();
        match kept.iter_mut().find(|k| k.transition == record.transition) {
            None => kept.push(record.clone()),
            Some(k) if replaces(record, k) => k.clone_from(record),
            Some(_) => {}
        }
    }

    /// Takes a revision of a window.
    pub fn add_window(&mut self, record: &WindowRecord) {
        let dimensions = record.dimensions.iter().map(|(d, v)| (d.clone(), v.clone())).collect();
        let length = record.end.since(record.start).as_ms();
        let key = (record.tenant.clone(), length, record.start, dimensions);
        let kept = self.windows.entry(key).or_insert_with(|| record.clone());
        if record.revision >= kept.revision {
            kept.clone_from(record);
        }
    }

    /// Takes a touchpoint that came too late.
    pub fn add_late(&mut self, tenant: &str, customer: Option<&str>, id: &str, at: EventTime) {
        let key = (tenant.into(), customer.map(CompactString::from), id.into(), at);
        *self.late.entry(key).or_default() += 1;
    }

    /// Writes all files into `dir`, which it makes if need be.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path, summary: &FinalSummary) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let rows: [Vec<String>; 4] = [
            self.session_rows(),
            self.checkout_rows(),
            self.windows.values().filter(|w| !is_zero(w)).map(window_row).collect(),
            self.late_rows(),
        ];
        for (name, rows) in FILES.iter().zip(rows) {
            let mut file = BufWriter::new(File::create(dir.join(name))?);
            for row in rows {
                writeln!(file, "{row}")?;
            }
            file.flush()?;
        }
        fs::write(dir.join("summary.json"), json(summary) + "\n")
    }

    /// The sessions gathered, in their last revisions.
    pub fn session_records(&self) -> impl Iterator<Item = &SessionRecord> {
        self.sessions.values()
    }

    /// The transitions gathered.
    pub fn checkout_records(&self) -> impl Iterator<Item = &CheckoutRecord> {
        self.checkouts.values().flatten()
    }

    /// The windows gathered, in their last revisions.
    pub fn window_records(&self) -> impl Iterator<Item = &WindowRecord> {
        self.windows.values()
    }

    fn session_rows(&self) -> Vec<String> {
        let mut alive: Vec<&SessionRecord> =
            self.sessions.values().filter(|s| s.merged_into.is_none()).collect();
        alive.sort_by_key(|s| (&s.tenant, &s.customer, s.start, &s.session_id));
        alive.into_iter().map(session_row).collect()
    }

    fn checkout_rows(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.checkouts.values().flat_map(|i| instance_rows(i)).collect();
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn late_rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for ((tenant, customer, id, event_time), n) in &self.late {
            let customer = customer.as_deref();
            let row = json(&LateRow { tenant, customer, id, event_time: *event_time });
            rows.extend((0..*n).map(|_| row.clone()));
        }
        rows
    }
}

/// Of two records of one instance and transition: true if `new` is the one that stays.
fn replaces(new: &CheckoutRecord, old: &CheckoutRecord) -> bool {
    match new.transition {
        Transition::Step | Transition::PaymentFailed => {
            (new.at, new.revision) >= (old.at, old.revision)
        }
        _ => new.revision >= old.revision,
    }
}

type CheckoutKey<'a> = (&'a str, &'a str, CheckoutKind, EventTime, Transition, EventTime);

/// The rows of one instance; none if it was merged into another.
fn instance_rows(records: &[CheckoutRecord]) -> Vec<(CheckoutKey<'_>, String)> {
    let Some(last) = records.iter().max_by_key(|r| r.revision) else { return Vec::new() };
    if last.merged_into.is_some() {
        return Vec::new();
    }
    let retracted =
        records.iter().filter(|r| r.transition == Transition::Retracted).map(|r| r.revision).max();
    let stands = |r: &&CheckoutRecord| {
        r.transition.is_outcome() && retracted.is_none_or(|revision| r.revision > revision)
    };
    let outcome = records.iter().filter(stands).max_by_key(|r| r.revision).map(|r| r.transition);
    let holds = |r: &&CheckoutRecord| match r.transition {
        Transition::Retracted => false,
        Transition::Started | Transition::Step | Transition::PaymentFailed => true,
        Transition::Abandoned if outcome == Some(Transition::Recovered) => stands(r),
        transition => stands(r) && outcome == Some(transition),
    };
    let row = |r| checkout_row(r, last.started_at);
    records.iter().filter(holds).map(row).collect()
}

fn checkout_row(record: &CheckoutRecord, started_at: EventTime) -> (CheckoutKey<'_>, String) {
    let r = record;
    let more = match r.transition {
        Transition::Started | Transition::Retracted => More::Nothing {},
        Transition::Step => More::Step { step: r.step, step_name: r.step_name.as_deref() },
        Transition::PaymentFailed => More::Failed { error_code: r.error_code.as_deref() },
        Transition::Completed
        | Transition::Abandoned
        | Transition::Recovered
        | Transition::Expired => {
            let ended = matches!(r.transition, Transition::Abandoned | Transition::Expired);
            More::Outcome(Box::new(Outcome {
                last_activity: ended.then_some(r.last_activity),
                step: r.step,
                step_name: r.step_name.as_deref(),
                value: r.value,
                currency: r.currency.as_deref(),
                payment_method: r.payment_method.as_deref(),
                shipping_method: r.shipping_method.as_deref(),
                coupon: r.coupon.as_deref(),
                account_type: r.account_type.as_deref(),
                error_code: r.error_code.as_deref(),
            }))
        }
    };
    let row = CheckoutRow {
        tenant: &r.tenant,
        customer: &r.customer,
        kind: r.kind,
        started_at,
        transition: r.transition,
        at: r.at,
        channel: &r.channel,
        more,
    };
    ((&r.tenant, &r.customer, r.kind, started_at, r.transition, r.at), json(&row))
}

fn session_row(s: &SessionRecord) -> String {
    let channels: BTreeSet<&CompactString> = s.channels.iter().collect();
    json(&SessionRow {
        tenant: &s.tenant,
        customer: &s.customer,
        start: s.start,
        end: s.end,
        events: s.events,
        channels,
        entry_channel: &s.entry_channel,
        stage_reached: &s.stage_reached,
        path: &s.path,
        path_truncated: s.path_truncated,
        engaged: s.engaged,
        converted: s.converted,
        value: &s.value,
        is_final: s.is_final,
    })
}

fn window_row(w: &WindowRecord) -> String {
    json(&WindowRow {
        tenant: &w.tenant,
        window: &w.window,
        start: w.start,
        end: w.end,
        dimensions: &w.dimensions,
        events: w.events,
        customers: w.customers,
        sessions: w.sessions,
        engaged_sessions: w.engaged_sessions,
        orders: w.orders,
        value: &w.value,
        checkouts_started: w.checkouts_started,
        checkouts_completed: w.checkouts_completed,
        checkouts_abandoned: w.checkouts_abandoned,
        checkouts_recovered: w.checkouts_recovered,
        abandonment: &w.abandonment,
        is_final: w.is_final,
    })
}

/// True if a window says nothing: all figures are 0, those of its cohort among them.
fn is_zero(w: &WindowRecord) -> bool {
    let a = &w.abandonment;
    let counts = [
        w.events,
        w.customers,
        w.sessions,
        w.engaged_sessions,
        w.orders,
        w.checkouts_started,
        w.checkouts_completed,
        w.checkouts_abandoned,
        w.checkouts_recovered,
        a.started,
        a.abandoned,
        a.expired,
        a.undecided,
        a.unique_abandoners,
    ];
    counts.iter().all(|n| *n == 0) && w.value.values().all(|v| *v == 0)
}

/// A row as JSON; plain data with string keys cannot fail.
fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("plain data with string keys")
}

/// Name of a window of `length`, as records carry it.
pub(super) fn window_name(length: Millis) -> CompactString {
    compact_str::format_compact!("{length}")
}

#[cfg(test)]
mod tests;
