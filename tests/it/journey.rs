//! The journey fold from outside: events as one line each, what it says as one line each.

mod allocations;
mod busy;
mod words;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use touchline::engine::{Fact, Fold, Output, PART, Tick};
use touchline::journey::{Direct, Input, Journey, Settings};
use touchline::model::control::{Control, Mark};
use touchline::model::dimension::{Dimension, Dimensions};
use touchline::model::figures::{Cohort, Figures, Flush};
use touchline::model::ids::Offset;
use touchline::model::observation::Observation;
use touchline::model::record::{CheckoutKind, CheckoutRecord, SessionRecord, SessionStatus};
use touchline::model::taxonomy::{Pair, Taxonomy};
use touchline::model::time::{EventTime, Millis};
use touchline::model::touchpoint::{OriginRef, Touchpoint};

/// Start of all times below: a multiple of every window.
const BASE_MS: i64 = 1_700_006_400_000;

fn taxonomy() -> Arc<Taxonomy> {
    let stages = ["awareness", "consideration", "purchase", "service"];
    let pair = |touchpoint: &str, action: &str, stage: &str| Pair {
        touchpoint: touchpoint.into(),
        action: action.into(),
        stage: stage.into(),
    };
    Arc::new(Taxonomy::new(
        ["web", "app", "store"].map(Into::into),
        stages.map(|stage| (stage.into(), "phase".into())),
        [
            pair("page", "view", "awareness"),
            pair("product", "view", "consideration"),
            pair("checkout", "start", "purchase"),
            pair("checkout", "step", "purchase"),
            pair("checkout", "complete", "purchase"),
        ],
        [],
    ))
}

fn settings() -> Settings {
    Settings::for_tests(taxonomy())
}

fn disordered(ms: i64) -> Settings {
    Settings { direct: Some(Direct { max_out_of_orderness: Millis::from_ms(ms) }), ..settings() }
}

/// `90` and `90:30` are minutes and seconds after the base, `90:30.5` has half a second.
fn time(text: &str) -> EventTime {
    let (minutes, seconds) = text.split_once(':').unwrap_or((text, "0"));
    let seconds: f64 = seconds.parse().unwrap();
    let minutes: i64 = minutes.parse().unwrap();
    EventTime::from_ms(BASE_MS + minutes * 60_000 + (seconds * 1_000.0) as i64)
}

/// The reverse.
fn minutes(at: EventTime) -> String {
    let ms = at.as_ms() - BASE_MS;
    match (ms / 60_000, ms % 60_000) {
        (m, 0) => format!("{m}"),
        (m, rest) => format!("{m}:{:02}", rest as f64 / 1_000.0),
    }
}

/// `90 checkout.start order=o1 value=500 ch=app c=customer id=e7`.
fn parse(number: usize, line: &str) -> Touchpoint {
    let mut words = line.split_whitespace();
    let at = time(words.next().unwrap());
    let (touchpoint, action) = words.next().unwrap().split_once('.').unwrap();
    let mut event = Touchpoint::new(&format!("e{number}"), "test", at, "web", touchpoint, action);
    event.customer_id = Some("c".into());
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "id" => event.id = value.into(),
            "c" => event.customer_id = Some(value.into()).filter(|_| value != "-"),
            "ch" => event.channel = value.into(),
            "sess" => event.session_id = Some(value.into()),
            "orig" => event.original_event_time = Some(time(value)),
            "checkout" => event.checkout_id = Some(value.into()),
            "order" => event.order_id = Some(value.into()),
            "cart" => event.cart_id = Some(value.into()),
            "value" => event.value = Some(value.parse().unwrap()),
            "cur" => event.currency = Some(value.into()),
            "step" => event.step = value.parse().ok(),
            "error" => event.error_code = Some(value.into()),
            "tenant" => event.tenant = value.into(),
            "bot" => event.is_bot = true,
            "test" => event.is_test = true,
            other => panic!("what is {other}?"),
        }
    }
    event
}

/// Folds `events`, the first of which has the offset `from`.
fn feed(journey: &mut Journey, from: usize, events: &[Touchpoint]) -> Vec<Output> {
    let mut out = Vec::new();
    for (place, event) in events.iter().enumerate() {
        let input = Input::Touchpoint {
            offset: Offset::new((from + place) as i64),
            origin: None,
            touchpoint: &event.view(),
            key: b"key",
            value: b"value",
        };
        journey.fold(input, &mut out);
    }
    out
}

fn fold_all(settings: Settings, events: &[Touchpoint], close: bool) -> Vec<Output> {
    let mut journey = Journey::new(settings);
    let mut out = feed(&mut journey, 0, events);
    if close {
        journey.fold(Input::Close, &mut out);
    }
    out
}

fn fold_lines(settings: Settings, lines: &[&str]) -> Vec<Output> {
    let events: Vec<Touchpoint> = lines.iter().enumerate().map(|(n, l)| parse(n, l)).collect();
    fold_all(settings, &events, true)
}

fn checkouts(out: &[Output]) -> Vec<&CheckoutRecord> {
    out.iter()
        .filter_map(|o| match o {
            Output::Fact(Fact::Checkout(record)) => Some(&**record),
            _ => None,
        })
        .collect()
}

fn sessions(out: &[Output]) -> Vec<&SessionRecord> {
    out.iter()
        .filter_map(|o| match o {
            Output::Fact(Fact::Session(record)) => Some(&**record),
            _ => None,
        })
        .collect()
}

fn flushes(out: &[Output]) -> Vec<&Flush> {
    out.iter()
        .filter_map(|o| match o {
            Output::Fact(Fact::Flush(_, flush)) => Some(&**flush),
            _ => None,
        })
        .collect()
}

/// One line per instance: kind, then its transitions.
fn life_cycle(out: &[Output]) -> Vec<String> {
    let mut order: Vec<&str> = Vec::new();
    let mut lines: BTreeMap<&str, (i64, String)> = BTreeMap::new();
    for record in checkouts(out) {
        let (next, line) = lines.entry(&record.instance).or_insert_with(|| {
            order.push(&record.instance);
            let kind = if record.kind == CheckoutKind::Cart { "cart:" } else { "" };
            (0, kind.to_owned())
        });
        assert_eq!(record.revision, *next, "revisions have no gaps");
        *next += 1;
        let word = serde_json::to_value(record.transition).unwrap();
        let into = if record.merged_into.is_some() { "->" } else { "" };
        *line += &format!(" {}{into}@{}", word.as_str().unwrap(), minutes(record.at));
    }
    order.into_iter().map(|id| lines[id].1.trim().to_owned()).collect()
}

/// Everything counted for the total of a tenant.
fn totals(out: &[Output]) -> (Figures, Cohort) {
    let (mut figures, mut cohort) = (Figures::default(), Cohort::default());
    for_cells(out, |dimensions, cell| {
        if dimensions.is_total() {
            figures.add(&cell.figures, 1);
            cohort.add(&cell.cohort);
        }
    });
    (figures, cohort)
}

fn for_cells(out: &[Output], mut f: impl FnMut(&Dimensions, &touchline::model::figures::Cell)) {
    for flush in flushes(out) {
        for tenant in &flush.tenants {
            assert!(tenant.series.is_sorted());
            assert!(tenant.cells.is_sorted_by_key(|c| (c.due, c.slice, c.series)));
            for cell in &tenant.cells {
                assert!(cell.due >= cell.slice);
                f(&tenant.series[cell.series as usize], cell);
            }
        }
    }
}

/// started/completed/abandoned/recovered expired/unique orders value
fn summary(out: &[Output]) -> String {
    let (figures, cohort) = totals(out);
    let free = figures.checkouts_completed - cohort.completed;
    assert!(free >= 0);
    assert_eq!(figures.checkouts_started, cohort.started);
    assert_eq!(figures.checkouts_abandoned, cohort.abandoned);
    assert_eq!(cohort.undecided(), 0, "after the end everything is decided");
    let value: Vec<String> = figures
        .value
        .sums()
        .iter()
        .map(|(currency, minor)| format!(" {minor}{currency}"))
        .collect();
    format!(
        "s{} c{} a{} r{} e{} u{} o{}{}",
        figures.checkouts_started,
        figures.checkouts_completed,
        figures.checkouts_abandoned,
        figures.checkouts_recovered,
        cohort.expired,
        cohort.unique_abandoners,
        figures.orders,
        value.concat()
    )
}

#[track_caller]
fn check(lines: &[&str], expected: &[&str], sums: &str) {
    check_with(settings(), lines, expected, sums);
}

#[track_caller]
fn check_with(settings: Settings, lines: &[&str], expected: &[&str], sums: &str) {
    let out = fold_lines(settings, lines);
    assert_eq!(life_cycle(&out), expected);
    assert_eq!(summary(&out), sums);
}

#[test]
fn deadlines_are_inclusive_and_move_with_activity() {
    check(
        &["0 checkout.start", "10 checkout.step step=1", "40 checkout.complete value=700 cur=EUR"],
        &["started@0 step@10 completed@40"],
        "s1 c1 a0 r0 e0 u0 o1 700EUR",
    );
    check(
        &["0 checkout.start checkout=k", "10 checkout.step checkout=k", "41 page.view"],
        &["started@0 step@10 abandoned@40"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    // A millisecond later it is a recovery.
    check(
        &["0 checkout.start checkout=k", "30:00.001 checkout.complete checkout=k order=o"],
        &["started@0 abandoned@30 recovered@30:0.001"],
        "s1 c0 a1 r1 e0 u1 o1",
    );
    // Failed payment and payment info are activity.
    check(
        &["0 checkout.start", "20 payment.fail error=declined", "40 payment.info", "70 page.view"],
        &["started@0 payment_failed@20 step@40 abandoned@70"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
}

#[test]
fn a_channel_may_have_its_own_pause() {
    let mut settings = settings();
    settings.channel_t_checkout.insert("app".into(), Millis::from_mins(5));
    check_with(
        settings,
        &["0 checkout.start ch=app"],
        &["started@0 abandoned@5"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
}

#[test]
fn what_is_not_to_be_published_is_counted_all_the_same() {
    use touchline::model::record::Transition::{Abandoned, Completed};
    let lines = [
        "0 checkout.start checkout=k",
        "10 checkout.step checkout=k",
        "50 checkout.start checkout=l",
        "55 checkout.complete checkout=l value=700 cur=EUR",
    ];
    let sums = "s2 c1 a1 r0 e0 u1 o1 700EUR";
    check(&lines, &["started@0 step@10 abandoned@40", "started@50 completed@55"], sums);
    let some = Settings { transitions: [Abandoned].into(), ..settings() };
    check_with(some, &lines, &["abandoned@40"], sums);
    let some = Settings { transitions: [Completed, Abandoned].into(), ..settings() };
    check_with(some, &lines, &["abandoned@40", "completed@55"], sums);
    check_with(Settings { transitions: [].into(), ..settings() }, &lines, &[], sums);
    // What was observed does not depend on it either.
    let observed = |settings| {
        let out = fold_lines(settings, &lines);
        let told = out.into_iter().filter(|o| matches!(o, Output::Observation(_)));
        told.collect::<Vec<_>>()
    };
    let none = Settings { transitions: [].into(), ..settings() };
    assert_eq!(observed(none), observed(settings()));
}

#[test]
fn a_path_is_as_long_as_asked_for() {
    let lines = ["0 page.view", "1 product.view", "2 checkout.start"];
    for (path_max, expected) in [(0, 0), (2, 2), (3, 3), (64, 3)] {
        let out = fold_lines(Settings { path_max, ..settings() }, &lines);
        let said = sessions(&out);
        assert!(!said.is_empty());
        for session in said {
            assert_eq!((session.path.len(), session.events), (expected, 3));
            assert_eq!(session.path_truncated, expected < 3);
        }
    }
}

#[test]
fn value_zero_is_not_abandonable() {
    check(&["0 checkout.start value=0"], &["started@0 expired@2880"], "s1 c0 a0 r0 e1 u0 o0");
    // The latest known value decides; null is unknown.
    check(
        &["0 checkout.start value=0", "5 checkout.step value=10"],
        &["started@0 step@5 abandoned@35"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    check(
        &["0 checkout.start value=10", "5 checkout.step value=0", "6 checkout.step"],
        &["started@0 step@5 step@6 expired@2880"],
        "s1 c0 a0 r0 e1 u0 o0",
    );
    check(
        &["0 checkout.start value=0 checkout=k", "300 checkout.complete checkout=k value=0"],
        &["started@0 completed@300"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
}

#[test]
fn a_pending_payment_waits_for_a_day() {
    check(
        &["0 checkout.start", "5 payment.pending"],
        &["started@0 step@5 abandoned@1445"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    // ... or until the checkout's next event.
    check(
        &["0 checkout.start", "5 payment.pending", "10 payment.fail"],
        &["started@0 step@5 payment_failed@10 abandoned@40"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    check(
        &["0 checkout.start", "5 payment.pending", "1445 checkout.complete"],
        &["started@0 step@5 completed@1445"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
}

#[test]
fn a_checkout_ends_at_its_age() {
    // Pending again and again: 48 h from the start end it.
    let lines = ["0 checkout.start", "1000 payment.pending", "2000 payment.pending"];
    check(&lines[..1], &["started@0 abandoned@30"], "s1 c0 a1 r0 e0 u1 o0");
    let pending = ["0 payment.pending", "1000 payment.pending", "2000 payment.pending"];
    check(&pending, &["started@0 step@0 step@1000 step@2000 expired@2880"], "s1 c0 a0 r0 e1 u0 o0");
    // Abandonment wins a tie.
    let tie = ["0 payment.pending", "1440 payment.pending"];
    check(&tie, &["started@0 step@0 step@1440 abandoned@2880"], "s1 c0 a1 r0 e0 u1 o0");
    // After expiry a completion is a checkout of its own.
    check(
        &["0 checkout.start value=0 checkout=k", "2881 checkout.complete checkout=k"],
        &["started@0 expired@2880", "completed@2881"],
        "s1 c1 a0 r0 e1 u0 o1",
    );
    check(
        &["0 checkout.start value=0 checkout=k", "2880 checkout.complete checkout=k"],
        &["started@0 completed@2880"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
}

#[test]
fn a_cancellation_expires_at_its_time() {
    check(
        &["0 checkout.start", "7 checkout.cancel"],
        &["started@0 expired@7"],
        "s1 c0 a0 r0 e1 u0 o0",
    );
    check(&["7 checkout.expire"], &[], "s0 c0 a0 r0 e0 u0 o0");
    // After abandonment it changes nothing, and neither does other activity.
    check(
        &[
            "0 checkout.start checkout=k",
            "31 checkout.cancel checkout=k",
            "32 checkout.step checkout=k",
        ],
        &["started@0 abandoned@30"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
}

#[test]
fn recovery_has_an_end() {
    // Seven days after the deadline, inclusive.
    let week = 30 + 7 * 24 * 60;
    let complete = |at: String| format!("{at} checkout.complete checkout=k order=o");
    check(
        &["0 checkout.start checkout=k", &complete(week.to_string())],
        &["started@0 abandoned@30 recovered@10110"],
        "s1 c0 a1 r1 e0 u1 o1",
    );
    check(
        &["0 checkout.start checkout=k", &complete(format!("{week}:00.001"))],
        &["started@0 abandoned@30", "completed@10110:0.001"],
        "s1 c1 a1 r0 e0 u1 o1",
    );
    // Without a key the customer will do.
    check(
        &["0 checkout.start", "500 checkout.complete order=o"],
        &["started@0 abandoned@30 recovered@500"],
        "s1 c0 a1 r1 e0 u1 o1",
    );
}

#[test]
fn a_late_completion_retracts() {
    // The clock has passed 30 when the completion of 29 comes.
    check(
        &["0 checkout.start checkout=k", "40 page.view c=x", "29 checkout.complete checkout=k"],
        &["started@0 abandoned@30 retracted@29 completed@29"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // Also where it was recovered in the meantime.
    check(
        &[
            "0 checkout.start checkout=k",
            "35 checkout.complete checkout=k order=o",
            "40 page.view c=x",
            "29 checkout.complete checkout=k order=o",
        ],
        &["started@0 abandoned@30 recovered@35 retracted@29 completed@29"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // Activity that comes late moves the deadline, and takes the abandonment back.
    check(
        &["0 checkout.start checkout=k", "40 page.view c=x", "20 checkout.step checkout=k"],
        &["started@0 abandoned@30 retracted@20 step@20 abandoned@50"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    // Too late: published, and counted nowhere.
    check(
        &["0 checkout.start checkout=k", "120 page.view c=x", "29 checkout.complete checkout=k"],
        &["started@0 abandoned@30 retracted@29 completed@29"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
}

#[test]
fn keys_close_over_the_set() {
    // The trap of Segment's names: the start has the order id alone, steps the checkout id alone.
    check(
        &[
            "0 checkout.start order=o",
            "5 checkout.step checkout=k",
            "20 payment.info order=o checkout=k",
            "45 checkout.complete order=o",
        ],
        &["started@0 step@5 step@20 completed@45"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // Even where nothing but the session joins them.
    check(
        &["0 checkout.start order=o", "5 checkout.step checkout=k", "31 checkout.complete order=o"],
        &["started@0 step@5 completed@31"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // Two checkouts of one session with ids of the same kind stay two.
    check(
        &[
            "0 checkout.start checkout=a",
            "1 checkout.start checkout=b",
            "2 checkout.complete checkout=a",
        ],
        &["started@0 completed@2", "started@1 abandoned@31"],
        "s2 c1 a1 r0 e0 u1 o1",
    );
    // Without keys the latest activity is taken.
    check(
        &[
            "0 checkout.start checkout=a",
            "1 checkout.start checkout=b",
            "2 checkout.step checkout=a",
            "3 checkout.complete",
        ],
        &["started@0 step@2 completed@3", "started@1 abandoned@31"],
        "s2 c1 a1 r0 e0 u1 o1",
    );
}

#[test]
fn starts_without_keys() {
    check(
        &["0 checkout.start", "10 checkout.start", "45 page.view"],
        &["started@0 abandoned@40"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    // After abandonment one opens a new checkout, in the same session or not.
    check(
        &["0 checkout.start", "29 page.view", "35 checkout.start"],
        &["started@0 abandoned@30", "started@35 abandoned@65"],
        "s2 c0 a2 r0 e0 u1 o0",
    );
    // In another session, one that does not begin with a start joins what is open.
    check(
        &["0 checkout.start", "1 payment.pending", "100 checkout.step", "101 checkout.complete"],
        &["started@0 step@1 step@100 completed@101"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    check(
        &["0 checkout.start", "1 payment.pending", "100 checkout.start", "101 checkout.complete"],
        &["started@0 step@1 abandoned@1441", "started@100 completed@101"],
        "s2 c1 a1 r0 e0 u1 o1",
    );
}

#[test]
fn a_cart_id_outlives_its_checkout() {
    check(
        &[
            "0 checkout.start cart=c checkout=a",
            "5 checkout.complete cart=c checkout=a order=o1",
            "10 checkout.start cart=c checkout=b",
            "12 checkout.step checkout=b",
            "50 page.view",
        ],
        &["started@0 completed@5", "started@10 step@12 abandoned@42"],
        "s2 c1 a1 r0 e0 u1 o1",
    );
    // A start that shares more is the completed one's.
    check(
        &[
            "0 checkout.start checkout=a",
            "5 checkout.complete checkout=a",
            "6 checkout.start checkout=a",
        ],
        &["started@0 completed@5"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
}

#[test]
fn completions_without_a_start() {
    check(&["0 checkout.complete value=5"], &["completed@0"], "s0 c1 a0 r0 e0 u0 o1 5XXX");
    // A start later than its completion counts, at its time.
    check(
        &["0 checkout.complete order=o", "1 checkout.start order=o"],
        &["completed@0 started@1"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // A step without a start opens it.
    check(
        &["0 checkout.step", "10 checkout.complete"],
        &["started@0 step@0 completed@10"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // The start is the first start event, even after other activity.
    check(
        &[
            "0 checkout.step checkout=k",
            "0:01 checkout.start checkout=k",
            "10 checkout.complete checkout=k",
        ],
        &["started@0 step@0 started@0:01 completed@10"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
}

#[test]
fn repeated_abandonments_are_one_unique_abandoner() {
    // 24 h from the first of the run, inclusive: deadlines at 30 and 30 + 1440.
    check(
        &[
            "0 checkout.start checkout=a",
            "1440 checkout.start checkout=b",
            "1441 checkout.start checkout=c",
        ],
        &["started@0 abandoned@30", "started@1440 abandoned@1470", "started@1441 abandoned@1471"],
        "s3 c0 a3 r0 e0 u2 o0",
    );
    check(
        &["0 checkout.start checkout=a", "0 checkout.start checkout=b c=y"],
        &["started@0 abandoned@30", "started@0 abandoned@30"],
        "s2 c0 a2 r0 e0 u2 o0",
    );
}

#[test]
fn carts() {
    check(&["0 cart.add cart=a"], &["cart: started@0 abandoned@60"], "s0 c0 a0 r0 e0 u0 o0");
    check(
        &["0 cart.add cart=a value=0"],
        &["cart: started@0 expired@2880"],
        "s0 c0 a0 r0 e0 u0 o0",
    );
    // The order completes it; cart activity does not prolong the checkout.
    check(
        &["0 cart.add cart=a", "1 checkout.start cart=a", "20 checkout.complete cart=a"],
        &["cart: started@0 completed@20", "started@1 completed@20"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    check(
        &["0 checkout.start cart=a", "20 cart.add cart=a"],
        &["started@0 abandoned@30", "cart: started@20 abandoned@80"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    // Not abandoned while a checkout of its session is open, here by a pending payment.
    check(
        &["0 cart.add", "10 checkout.start", "11 payment.pending"],
        &["cart: started@0 abandoned@1451", "started@10 step@11 abandoned@1451"],
        "s1 c0 a1 r0 e0 u1 o0",
    );
    // Recovered with the order.
    check(
        &["0 cart.add cart=a", "100 checkout.start cart=a", "101 checkout.complete cart=a"],
        &["cart: started@0 abandoned@60 recovered@101", "started@100 completed@101"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // With the order of the checkout that has its id, although the order does not say it.
    check(
        &[
            "0 cart.add cart=a",
            "1 checkout.start checkout=k cart=a",
            "200 cart.add",
            "201 checkout.complete",
        ],
        &[
            "cart: started@0 abandoned@60 recovered@201",
            "started@1 abandoned@31 recovered@201",
            "cart: started@200 abandoned@260",
        ],
        "s1 c0 a1 r1 e0 u1 o1",
    );
}

#[test]
fn orders_count_once() {
    // Pixel and webhook.
    check(
        &[
            "0 checkout.start checkout=k",
            "5 checkout.complete checkout=k order=o value=100 cur=EUR",
            "6 checkout.complete order=o value=100 cur=EUR",
        ],
        &["started@0 completed@5"],
        "s1 c1 a0 r0 e0 u0 o1 100EUR",
    );
    // Also days later, when all but the order's id is forgotten.
    check(
        &[
            "0 checkout.start checkout=k",
            "5 checkout.complete checkout=k order=o value=100",
            "3000 page.view",
            "6000 checkout.complete order=o value=100",
        ],
        &["started@0 completed@5"],
        "s1 c1 a0 r0 e0 u0 o1 100XXX",
    );
    // Without an order id once per checkout; null is 0; a purchase in a store is an order.
    check(
        &[
            "0 checkout.start checkout=k",
            "5 checkout.complete checkout=k",
            "6 checkout.complete checkout=k value=3",
            "7 store_purchase.complete value=11 ch=store",
        ],
        &["started@0 completed@5"],
        "s1 c1 a0 r0 e0 u0 o2 11XXX",
    );
    // Nobody's orders are orders all the same.
    let out = fold_lines(settings(), &["0 checkout.complete c=- value=4"]);
    let (figures, _) = totals(&out);
    assert_eq!((figures.orders, figures.sessions, figures.checkouts_completed), (1, 0, 0));
    assert!(sessions(&out).is_empty());
}

#[test]
fn order_within_one_moment() {
    // Start before completion, whatever the order of arrival.
    check(
        &[
            "5 checkout.complete checkout=k",
            "5 checkout.step checkout=k",
            "5 checkout.start checkout=k",
        ],
        &["started@5 step@5 completed@5"],
        "s1 c1 a0 r0 e0 u0 o1",
    );
    // The original time comes before the life cycle: this completion had no start before it.
    check(
        &["5 checkout.complete checkout=k orig=3", "5 checkout.cancel checkout=k orig=2"],
        &["completed@5"],
        "s0 c1 a0 r0 e0 u0 o1",
    );
}

/// `start-end events revision status`, then `!` if final, `+` if engaged, `$` if converted. The
/// final record that repeats the one before it is left out.
fn session_lines(out: &[Output]) -> Vec<String> {
    let line = |s: &SessionRecord| {
        let status = match s.status {
            SessionStatus::Closed => "closed",
            SessionStatus::Amended => "amended",
            SessionStatus::Merged => "merged",
        };
        let mark = |set: bool, mark: &'static str| if set { mark } else { "" };
        format!(
            "{}-{} {} {} {status}{}{}{}",
            minutes(s.start),
            minutes(s.end),
            s.events,
            s.revision,
            mark(s.is_final, "!"),
            mark(s.engaged, "+"),
            mark(s.converted, "$"),
        )
    };
    let repeats = |s: &&SessionRecord| s.is_final && s.status != SessionStatus::Merged;
    sessions(out).into_iter().filter(|s| !repeats(s)).map(line).collect()
}

#[track_caller]
fn check_sessions(settings: Settings, lines: &[&str], expected: &[&str]) {
    let out = fold_lines(settings, lines);
    assert_eq!(session_lines(&out), expected);
    let (figures, _) = totals(&out);
    let last = last_of_each(&out);
    assert!(last.iter().all(|s| s.is_final));
    let kept = || last.iter().filter(|s| s.status != SessionStatus::Merged);
    assert_eq!(figures.sessions, kept().count() as i64, "as many as are not merged");
    assert_eq!(figures.engaged_sessions, kept().filter(|s| s.engaged).count() as i64);
    assert_eq!(figures.events, kept().map(|s| s.events).sum::<i64>());
}

#[test]
fn a_pause_of_exactly_the_gap_is_none() {
    check_sessions(
        settings(),
        &["0 page.view", "30 search.submit", "60:00.001 page.view"],
        &["0-30 2 0 closed+", "60:0.001-60:0.001 1 0 closed"],
    );
    let mut own = settings();
    own.channel_gaps.insert("app".into(), Millis::from_mins(1));
    // The gap is that of the earlier event's channel.
    check_sessions(
        own,
        &["0 page.view", "5 page.view ch=app", "6 page.view", "6 search.submit ch=app", "7:01 x.y"],
        &["0-6 4 0 closed+", "7:01-7:01 1 0 closed"],
    );
}

#[test]
fn what_makes_a_session_engaged() {
    let none = |lines: &[&str]| check_sessions(settings(), lines, &["0-0:9.999 2 0 closed"]);
    none(&["0 page.view", "0:09.999 search.submit"]);
    check_sessions(settings(), &["0 search.submit", "0:10 search.submit"], &["0-0:10 2 0 closed+"]);
    check_sessions(settings(), &["0 page.view", "0 page.view"], &["0-0 2 0 closed+"]);
    check_sessions(settings(), &["0 store_purchase.complete"], &["0-0 1 0 closed+$"]);
}

#[test]
fn late_events_amend_and_merge_sessions() {
    check_sessions(
        settings(),
        &["0 page.view", "40 x.y c=x", "20 page.view"],
        &["0-0 1 0 closed", "0-20 2 1 amended+", "40-40 1 0 closed"],
    );
    // Two published sessions become one; the older survives.
    check_sessions(
        settings(),
        &["0 page.view", "40 page.view", "75 x.y c=x", "20 page.view"],
        &[
            "0-0 1 0 closed",
            "40-40 1 0 closed",
            "40-40 1 1 merged!",
            "0-40 3 1 amended+",
            "75-75 1 0 closed",
        ],
    );
    // An event before a published session makes an older one, into which that is merged.
    check_sessions(
        settings(),
        &["30 page.view", "65 x.y c=x", "10 page.view"],
        &["30-30 1 0 closed", "30-30 1 1 merged!", "10-30 2 0 closed+", "65-65 1 0 closed"],
    );
}

#[test]
fn sessions_by_the_sources_id() {
    let settings = Settings { sessions_by_source: true, ..settings() };
    check_sessions(
        settings,
        &["0 x.y sess=a", "1 x.y sess=b", "25 x.y sess=a", "26 x.y", "50 x.y sess=a"],
        &["1-1 1 0 closed", "26-26 1 0 closed", "0-50 3 0 closed+"],
    );
}

fn sum_of(out: &[Output], of: impl Fn(&Observation) -> u64) -> u64 {
    let each = |o: &Output| match o {
        Output::Observation(observation) => of(observation),
        Output::Fact(_) => 0,
    };
    out.iter().map(each).sum()
}

#[derive(PartialEq, Eq, Debug)]
struct Tally {
    all: u64,
    duplicate: u64,
    late: u64,
    filtered: u64,
    counted: u64,
}

fn tally(out: &[Output]) -> Tally {
    let tally = Tally {
        all: sum_of(out, |o| if let Observation::EventsIn(n) = o { *n } else { 0 }),
        duplicate: sum_of(out, |o| if let Observation::Duplicate(n) = o { *n } else { 0 }),
        late: sum_of(out, |o| if let Observation::Late(n) = o { *n } else { 0 }),
        filtered: sum_of(out, |o| if let Observation::Filtered { n, .. } = o { *n } else { 0 }),
        counted: sum_of(out, |o| if let Observation::Events { n, .. } = o { *n } else { 0 }),
    };
    assert_eq!(tally.all, tally.duplicate + tally.late + tally.filtered + tally.counted);
    assert_eq!(totals(out).0.events, tally.counted as i64, "the cells hold what was counted");
    tally
}

#[test]
fn nothing_disappears() {
    let out = fold_lines(
        settings(),
        &[
            "0 page.view id=a",
            "0 page.view id=a",
            "59 page.view id=a",
            "60:00.001 page.view id=a",
            "61 page.view bot",
            "62 page.view test",
            "63 experiment.expose",
            "64 page.view c=-",
            "64 page.view c=-",
            // The floor is at 4: what lies at it is not too late.
            "4 page.view",
            "3:59.999 page.view",
            // Ids are remembered for an hour of event time.
            "0 page.view id=a",
        ],
    );
    let expected = Tally { all: 12, duplicate: 2, late: 2, filtered: 3, counted: 5 };
    assert_eq!(tally(&out), expected);
    let late: Vec<i64> = out
        .iter()
        .filter_map(|o| match o {
            Output::Fact(Fact::Late(late)) => Some(late.late_by_ms),
            _ => None,
        })
        .collect();
    assert_eq!(late, [60 * 60_000 + 1, 64 * 60_000]);
}

#[test]
fn a_customer_is_forgotten() {
    let mut lines = vec!["0 checkout.start c=a", "0 cart.add c=b", "1 page.view c=d"];
    let far: Vec<String> = (1..=20).map(|day| format!("{} x.y c=z", day * 1_440)).collect();
    lines.extend(far.iter().map(String::as_str));
    let mut journey = Journey::new(settings());
    let mut out = Vec::new();
    let mut left = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let event = parse(n, line);
        let touchpoint = &event.view();
        let offset = Offset::new(n as i64);
        let input = Input::Touchpoint { offset, origin: None, touchpoint, key: b"", value: b"" };
        journey.fold(input, &mut out);
        left.push(journey.customers());
    }
    // The one without a checkout goes after window and lateness, the others after the recovery.
    assert_eq!(left[..5], [1, 2, 3, 4, 3]);
    assert_eq!(left.last(), Some(&1));
}

fn mark(partition: i32, clock: Option<&str>, idle: bool) -> Control {
    Control::Mark(Mark {
        source: "shop".into(),
        partition,
        watermark: clock.map(time),
        clock: clock.map(time),
        idle,
        of: 2,
    })
}

#[test]
fn the_clock_waits_for_every_source_partition() {
    let mut journey = Journey::new(Settings { direct: None, ..settings() });
    let mut out = Vec::new();
    let mut offset = 0;
    let mut at = |journey: &mut Journey, partition: i32, source: i64, line: &str, mark: &str| {
        let event = parse(offset as usize, line);
        let origin = OriginRef { source: "shop", partition, offset: source, watermark: time(mark) };
        let input = Input::Touchpoint {
            offset: Offset::new(offset),
            origin: Some(origin),
            touchpoint: &event.view(),
            key: b"",
            value: b"",
        };
        journey.fold(input, &mut out);
        offset += 1;
    };
    let mut ignored = Vec::new();
    let control = &mark(1, None, false);
    journey.fold(Input::Control { offset: Offset::new(0), control }, &mut ignored);
    at(&mut journey, 0, 10, "5 page.view", "4");
    assert_eq!(journey.clock(), None);
    let control = &mark(1, None, true);
    journey.fold(Input::Control { offset: Offset::new(1), control }, &mut ignored);
    assert_eq!(journey.clock(), Some(time("4")));
    at(&mut journey, 1, 7, "3 page.view", "3");
    at(&mut journey, 0, 11, "50 page.view", "49");
    assert_eq!(journey.holding_back(), Some(("shop".into(), 1)));
    assert_eq!(journey.clock(), Some(time("4")), "it never falls");
    // A repeat by ingest, known by its source offset alone.
    at(&mut journey, 0, 10, "51 page.view", "49");
    let control = &mark(1, Some("80"), true);
    journey.fold(Input::Control { offset: Offset::new(9), control }, &mut ignored);
    assert_eq!(journey.clock(), Some(time("49")));
    journey.fold(Input::Close, &mut out);
    out.extend(ignored);
    assert_eq!(tally(&out).duplicate, 1);
}

#[test]
fn ticks_fire_timers() {
    let mut journey = Journey::new(settings());
    let mut out = Vec::new();
    let event = parse(0, "0 checkout.start");
    let touchpoint = &event.view();
    let offset = Offset::new(0);
    let input = Input::Touchpoint { offset, origin: None, touchpoint, key: b"", value: b"" };
    journey.fold(input, &mut out);
    assert_eq!(journey.next_timer(), Some(time("0")));
    let tick = |number, ms| Input::Tick(Tick { number, advance: Millis::from_ms(ms) });
    journey.fold(tick(1, 30 * 60_000), &mut out);
    assert_eq!(life_cycle(&out), ["started@0"]);
    journey.fold(tick(2, 1), &mut out);
    assert_eq!(life_cycle(&out), ["started@0 abandoned@30"]);
    // Data alone moves the watermark, but for the tolerance: nothing is final or too late yet.
    assert_eq!(journey.watermark(), Some(time("0")));
    assert!(flushes(&out).last().unwrap().idle);
    let ids: BTreeSet<&str> = checkouts(&out).into_iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids.len(), 2);
}

/// Folds a touchpoint; behind `ingest` it is of the one source partition.
fn fold_event(journey: &mut Journey, direct: Option<Direct>, line: &str, out: &mut Vec<Output>) {
    let event = parse(0, line);
    let (touchpoint, offset) = (&event.view(), Offset::new(0));
    let watermark = event.event_time.minus(Millis::from_secs(5));
    let origin = Some(OriginRef { source: "s", partition: 0, offset: 7, watermark });
    let origin = origin.filter(|_| direct.is_none());
    journey.fold(Input::Touchpoint { offset, origin, touchpoint, key: b"", value: b"" }, out);
}

#[test]
fn a_seal_flushes_what_is_unsaid_and_lets_no_time_pass() {
    for direct in [settings().direct, None] {
        let mut journey = Journey::new(Settings { direct, ..settings() });
        let mut out = Vec::new();
        let seal = |journey: &mut Journey, number, out: &mut Vec<Output>| {
            journey.fold(Input::Seal { number }, out);
        };
        // Nothing came: there is nothing to say.
        seal(&mut journey, 1, &mut out);
        assert!(out.is_empty(), "{out:?}");
        fold_event(&mut journey, direct, "0 checkout.start", &mut out);
        let times = (journey.clock(), journey.watermark(), journey.next_timer());
        let before = flushes(&out).len();
        seal(&mut journey, 2, &mut out);
        let last = flushes(&out)[before..].to_vec();
        let events: Vec<i64> = last
            .iter()
            .flat_map(|f| &f.tenants)
            .flat_map(|t| t.cells.iter().filter(|c| t.series[c.series as usize].is_total()))
            .map(|cell| cell.figures.events)
            .collect();
        assert_eq!((last.len(), events), (1, vec![1]), "{direct:?}");
        assert!(out.contains(&Output::Observation(Observation::EventsIn(1))));
        assert!(!last[0].idle && !last[0].closed);
        // All is said.
        seal(&mut journey, 3, &mut out);
        assert_eq!(flushes(&out).len(), before + 1);
        assert_eq!(times, (journey.clock(), journey.watermark(), journey.next_timer()));
        assert_eq!(journey.last_side_input(), 3);
    }
}

#[test]
fn a_tick_behind_ingest_is_no_source_partition() {
    let mut journey = Journey::new(Settings { direct: None, ..settings() });
    let mut out = Vec::new();
    let tick = |number| Input::Tick(Tick { number, advance: Millis::from_hours(1) });
    journey.fold(tick(1), &mut out);
    fold_event(&mut journey, None, "0 page.view", &mut out);
    let clock = journey.clock();
    assert_eq!(clock, Some(time("0").minus(Millis::from_secs(5))));
    journey.fold(tick(2), &mut out);
    // Nobody is idle, and no time has passed.
    assert_eq!((journey.clock(), journey.watermark()), (clock, clock));
    assert!(flushes(&out).iter().all(|flush| !flush.idle));
}

#[test]
fn flushes_go_to_every_rollup_partition_at_every_slice_end() {
    let settings = Settings { rollup_partitions: 3, flush_records: 2, ..settings() };
    let lines = ["0 x.y", "0:05 x.y", "0:09 x.y tenant=other", "0:30 x.y", "0:30 x.y"];
    let out = fold_lines(settings, &lines);
    let flushes = flushes(&out);
    let numbers: Vec<u64> = flushes.iter().map(|f| f.number).collect();
    // At the first clock, after two records, at the end of the slice, at the close.
    let each: Vec<u64> = (1..=4).flat_map(|number| [number; 3]).collect();
    assert_eq!(numbers, each);
    assert_eq!(flushes.last().map(|f| f.closed), Some(true));
    let filled: Vec<(u64, &str)> = flushes
        .iter()
        .flat_map(|f| f.tenants.iter().map(|t| (f.number, t.tenant.as_str())))
        .collect();
    assert_eq!(filled, [(2, "default"), (2, "other"), (4, "default")]);
    let evidence = flushes.iter().flat_map(|f| &f.tenants).flat_map(|t| &t.evidence);
    let ranges: Vec<(i64, i64)> = evidence.map(|e| (e.from, e.to)).collect();
    assert_eq!(ranges, [(0, 1), (2, 2), (3, 4)]);
}

#[test]
fn dimensions_have_a_cap() {
    let settings = Settings {
        dimension_cap: 2,
        dimension_sets: vec![vec![Dimension::Touchpoint], vec![Dimension::Channel]],
        ..settings()
    };
    let out = fold_lines(settings, &["0 a.x", "1 b.x", "2 c.x", "3 a.x ch=nowhere", "4 d.x"]);
    let mut events: BTreeMap<String, i64> = BTreeMap::new();
    for_cells(&out, |dimensions, cell| {
        *events.entry(dimensions.to_string()).or_default() += cell.figures.events;
    });
    let expected = [
        ("", 5),
        ("channel=other", 1),
        ("channel=web", 4),
        ("touchpoint=a", 2),
        ("touchpoint=b", 1),
        ("touchpoint=other", 2),
    ];
    let expected = expected.map(|(name, n)| (name.to_owned(), n));
    assert_eq!(events, BTreeMap::from(expected));
    let overflow = |o: &Observation| if let Observation::Overflow { n, .. } = o { *n } else { 0 };
    assert_eq!(sum_of(&out, overflow), 2);
}

/// What a run says in the end, without what depends on when it was said.
#[derive(PartialEq, Eq, Debug)]
struct Facts {
    sessions: BTreeSet<String>,
    checkouts: BTreeMap<String, Vec<String>>,
    /// By series and slice.
    figures: BTreeMap<(String, i64), (Figures, String)>,
}

fn facts(out: &[Output], last_only: bool) -> Facts {
    let mut last: BTreeMap<String, SessionRecord> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for record in sessions(out) {
        let mut record = record.clone();
        record.id = "".into();
        all.insert(format!("{record:?}"));
        (record.revision, record.status) = (0, SessionStatus::Closed);
        last.insert(record.session_id.to_string(), record);
    }
    let merged: BTreeSet<&str> = sessions(out)
        .into_iter()
        .filter(|s| s.status == SessionStatus::Merged)
        .map(|s| s.session_id.as_str())
        .collect();
    let finals = last.iter().filter(|(id, _)| !merged.contains(id.as_str()));
    let finals: BTreeSet<String> = finals.map(|(_, record)| format!("{record:?}")).collect();
    let mut instances: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in checkouts(out) {
        let mut record = record.clone();
        record.id = "".into();
        record.decided_at = record.at;
        instances.entry(record.instance.to_string()).or_default().push(format!("{record:?}"));
    }
    let mut figures: BTreeMap<(String, i64), (Figures, Cohort)> = BTreeMap::new();
    for_cells(out, |dimensions, cell| {
        let sums = figures.entry((dimensions.to_string(), cell.slice.number())).or_default();
        sums.0.add(&cell.figures, 1);
        sums.1.add(&cell.cohort);
    });
    figures.retain(|_, (figures, cohort)| !(figures.is_zero() && cohort.is_zero()));
    let figures = figures.into_iter().map(|(at, (figures, mut cohort))| {
        cohort.latest_decision = None;
        (at, (figures, format!("{cohort:?}")))
    });
    Facts {
        sessions: if last_only { finals } else { all },
        checkouts: if last_only { BTreeMap::new() } else { instances },
        figures: figures.collect(),
    }
}

/// Time since the event before, what, keys, delay as a share of the bound.
fn steps() -> impl Strategy<Value = Vec<(i64, u8, u8, u8, u32)>> {
    let pause = prop_oneof![
        4 => 0..120_000i64,
        3 => 60_000..2_400_000i64,
        2 => 1_790_000..1_810_000i64,
        1 => 3_600_000..12_000_000i64,
        1 => 80_000_000..120_000_000i64,
    ];
    prop::collection::vec((pause, 0..16u8, 0..8u8, 0..6u8, 0..1_000u32), 1..40)
}

/// Events in event time order with the delay of each.
fn events_of(steps: &[(i64, u8, u8, u8, u32)], bound: i64) -> Vec<(i64, Touchpoint)> {
    let kinds = [
        "page.view",
        "page.view",
        "search.submit",
        "cart.add",
        "cart.add",
        "checkout.start",
        "checkout.start",
        "checkout.start",
        "checkout.step",
        "checkout.step",
        "payment.info",
        "payment.fail",
        "payment.pending",
        "checkout.complete",
        "checkout.complete",
        "checkout.cancel",
    ];
    let mut at = 0;
    let mut events = Vec::new();
    for (number, (pause, kind, keys, who, delay)) in steps.iter().enumerate() {
        at += pause;
        let mut event = parse(number, &format!("0 {}", kinds[usize::from(*kind)]));
        event.event_time = EventTime::from_ms(BASE_MS + at);
        event.customer_id = Some(["c", "c", "c", "d"][usize::from(who % 4)].into());
        event.channel = ["web", "app"][usize::from(who % 2)].into();
        // Keys that link events further apart than the session gap may come after one has settled.
        let epoch = at / 1_800_000;
        let id = |name: &str, bit: u8| (keys & bit != 0).then(|| format!("{name}{epoch}").into());
        event.checkout_id = id("k", 1);
        event.order_id = id("o", 2);
        event.cart_id = id("cart", 4);
        event.value = Some(i64::from(*who) * 100);
        events.push((at + bound * i64::from(*delay) / 1_000, event));
    }
    events
}

fn arrived(mut events: Vec<(i64, Touchpoint)>) -> Vec<Touchpoint> {
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arrival_within_the_bound_changes_nothing(steps in steps()) {
        let bound = 1_200_000;
        let sorted = events_of(&steps, 0).into_iter().map(|(_, e)| e).collect::<Vec<_>>();
        let first = fold_all(disordered(bound), &sorted, true);
        let arrived = arrived(events_of(&steps, bound));
        let second = fold_all(disordered(bound), &arrived, true);
        let (one, other) = (facts(&first, false), facts(&second, false));
        prop_assert_eq!(one.sessions, other.sessions);
        prop_assert_eq!(one.checkouts, other.checkouts);
        prop_assert_eq!(one.figures, other.figures);
        prop_assert_eq!(tally(&first).late, 0);
        prop_assert_eq!(&second, &fold_all(disordered(bound), &arrived, true), "twice the same");
    }

    #[test]
    fn late_events_correct_everything(steps in steps()) {
        let sorted = events_of(&steps, 0).into_iter().map(|(_, e)| e).collect::<Vec<_>>();
        let first = fold_all(settings(), &sorted, true);
        let arrived = arrived(events_of(&steps, 3_600_000));
        let second = fold_all(settings(), &arrived, true);
        prop_assert_eq!(tally(&second).late, 0);
        let (one, other) = (facts(&first, true), facts(&second, true));
        prop_assert_eq!(one.sessions, other.sessions);
        prop_assert_eq!(one.figures, other.figures);
        let (_, cohort) = totals(&second);
        prop_assert_eq!(cohort.undecided(), 0);
        for records in last_of_each(&second) {
            prop_assert!(records.is_final, "the last record of a session is final");
        }
    }

    #[test]
    fn links_count_customers_as_sets_do(
        visits in prop::collection::vec((0..4_000i64, 0..4u8, 0..3u8, 0..1_000u32), 1..60),
        bound in 0..2u8,
    ) {
        let lateness = Millis::from_ms(200_000);
        let settings = Settings {
            longest_window: Millis::from_ms(900_000),
            allowed_lateness: lateness,
            dedup_window: Millis::ZERO,
            ..disordered(i64::from(bound) * 50_000)
        };
        // Twice what is not too late, so that some are.
        let mut events = Vec::new();
        for (number, (at, who, channel, delay)) in visits.iter().enumerate() {
            let (at, delay) = (at * 1_000, i64::from(*delay) * 400);
            let mut event = parse(number, "0 page.view");
            event.event_time = EventTime::from_ms(BASE_MS + at);
            event.customer_id = Some(format!("c{who}").into());
            event.channel = ["web", "app", "store"][usize::from(*channel)].into();
            events.push((at + delay, event));
        }
        let events = arrived(events);
        let out = fold_all(settings.clone(), &events, true);
        let mut sets: BTreeMap<(String, i64), BTreeSet<String>> = BTreeMap::new();
        let mut highest = i64::MIN;
        let base = BASE_MS / 10_000;
        for event in &events {
            let at = event.event_time.as_ms();
            highest = highest.max(at);
            let floor = highest - i64::from(bound) * 50_000 - lateness.as_ms();
            if at < floor {
                continue;
            }
            for series in [String::new(), format!("channel={}", event.channel)] {
                let customer = event.customer_id.clone().unwrap().to_string();
                sets.entry((series, at.div_euclid(10_000) - base)).or_default().insert(customer);
            }
        }
        let mut links: BTreeMap<String, Vec<(i64, i64, i64)>> = BTreeMap::new();
        for_cells(&out, |dimensions, cell| {
            for link in &cell.links {
                let to = (cell.slice.number() - base, i64::from(link.back), i64::from(link.n));
                links.entry(dimensions.to_string()).or_default().push(to);
            }
        });
        for series in ["", "channel=web", "channel=app", "channel=store"] {
            let links = links.get(series).cloned().unwrap_or_default();
            for m in [1i64, 3, 30, 90] {
                for end in (0..500).step_by(7) {
                    let slices = (end - m + 1)..=end;
                    let naive: BTreeSet<&String> = sets
                        .range((series.to_owned(), *slices.start())..=(series.to_owned(), end))
                        .flat_map(|(_, customers)| customers)
                        .collect();
                    let count: i64 = links
                        .iter()
                        .filter(|(p, back, _)| {
                            let since = if *back == 0 { *p } else { (*p).max(p - back + m) };
                            since <= end && end < p + m
                        })
                        .map(|(_, _, n)| n)
                        .sum();
                    prop_assert_eq!(count, naive.len() as i64, "{} m {} end {}", series, m, end);
                }
            }
        }
    }
}

/// The last record of each session.
fn last_of_each(out: &[Output]) -> Vec<SessionRecord> {
    let mut last: BTreeMap<String, SessionRecord> = BTreeMap::new();
    for record in sessions(out) {
        let before = last.insert(record.session_id.to_string(), record.clone());
        let revision = before.as_ref().map_or(-1, |before| before.revision);
        assert_eq!(record.revision, revision + 1, "revisions have no gaps");
        assert!(!before.is_some_and(|before| before.is_final), "nothing after the final record");
    }
    last.into_values().collect()
}

#[test]
fn a_jump_of_time_comes_in_parts_that_are_the_whole() {
    let lines = (0..6_000).map(|n| format!("{}:{} page.view c=c{n}", n / 600, n % 600 / 10));
    let events: Vec<Touchpoint> = lines.enumerate().map(|(n, l)| parse(n, &l)).collect();
    let late = parse(6_000, "600 page.view c=c6000");
    type Feed = Box<dyn FnMut(&mut Journey, Input<'_>, &mut Vec<Output>)>;
    let folded = |mut fold: Feed| {
        let (mut journey, mut out) = (Journey::new(settings()), Vec::new());
        for (offset, event) in events.iter().chain([&late]).enumerate() {
            let (offset, touchpoint) = (Offset::new(offset as i64), &event.view());
            let input =
                Input::Touchpoint { offset, origin: None, touchpoint, key: b"", value: b"" };
            fold(&mut journey, input, &mut out);
        }
        fold(&mut journey, Input::Close, &mut out);
        out
    };
    let whole = folded(Box::new(|journey, input, out| journey.fold(input, out)));
    let longest = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = longest.clone();
    let parts = folded(Box::new(move |journey, input, out| {
        loop {
            let mut part = Vec::new();
            let more = journey.fold_part(input, &mut part);
            seen.set(part.len().max(seen.get()));
            out.append(&mut part);
            if !more {
                break;
            }
        }
    }));
    assert!(whole == parts, "cutting changes what comes out");
    assert!(whole.len() > 12_000 && longest.get() < PART + 100, "{}", longest.get());
}
