use super::super::view::Update;
use super::*;
use crate::model::record::{LiveRecord, Severity};

const MIN: i64 = 60_000;

pub(crate) fn alert(transition: AlertTransition, sequence: i64, at: i64) -> AlertRecord {
    AlertRecord {
        schema_version: 1,
        id: "id".into(),
        fingerprint: "f".into(),
        episode: "f:1".into(),
        sequence,
        alert: "CheckoutAbandonmentSpike".into(),
        transition,
        severity: Severity::Critical,
        owner: "checkout".into(),
        tenant: "default".into(),
        dimensions: [("channel".into(), "web".into())].into(),
        at: EventTime::from_ms(at),
        starts_at: EventTime::from_ms(MIN),
        ends_at: (transition == AlertTransition::Resolved).then_some(EventTime::from_ms(at)),
        value: 0.46,
        expected: 0.31,
        lower: 0.39,
        upper: 0.53,
        n: 214,
        effect: 0.15,
        p_value: 1e-9,
        window: "5m".into(),
        maturity: 1.0,
        completeness: 1.0,
        contributors: Vec::new(),
        at_risk: [("EUR".into(), 312_000)].into(),
        evidence: Vec::new(),
        summary: "abandonment is up".to_owned(),
        runbook: "".into(),
    }
}

fn live(end: i64) -> Update {
    Update::Live(Box::new(LiveRecord {
        schema_version: 1,
        id: "id".into(),
        tenant: "default".into(),
        window: "1m".into(),
        start: EventTime::from_ms(end - MIN),
        end: EventTime::from_ms(end),
        dimensions: BTreeMap::new(),
        events: 1,
        customers: 1,
        sessions: 1,
        engaged_sessions: 0,
        orders: 0,
        value: BTreeMap::new(),
        checkouts_started: 0,
        checkouts_completed: 0,
        checkouts_abandoned: 0,
        checkouts_recovered: 0,
        completeness: 1.0,
    }))
}

fn fire(view: &View, record: AlertRecord) {
    view.apply(Update::Alert(Box::new(record.clone())));
    let gone = record.transition == AlertTransition::Resolved;
    view.apply(Update::Active("f".into(), (!gone).then(|| Box::new(record))));
}

fn pusher() -> Pusher {
    Pusher::new(Settings {
        resend_interval: Millis::from_mins(1),
        max_alert_age: Millis::from_mins(15),
        external_url: "http://here/".to_owned(),
    })
}

#[track_caller]
fn check(pusher: &mut Pusher, view: &View, now: i64, expected: &[(i64, i64)]) {
    let planned = pusher.plan(view, ProcessingTime::from_ms(now));
    let text = |ms: i64| EventTime::from_ms(ms).to_string();
    let expected: Vec<_> = expected.iter().map(|(s, e)| (text(*s), text(*e))).collect();
    let got: Vec<_> = planned.into_iter().map(|p| (p.starts_at, p.ends_at)).collect();
    assert_eq!(got, expected);
}

#[test]
fn firing_is_sent_again_and_resolved_for_five_minutes() {
    let (view, mut pusher) = (View::default(), pusher());
    view.set_caught_up(true);
    view.apply(live(100 * MIN));
    fire(&view, alert(AlertTransition::Firing, 1, 100 * MIN));
    check(&mut pusher, &view, 100 * MIN, &[(MIN, 104 * MIN)]);
    check(&mut pusher, &view, 100 * MIN + 59_999, &[]);
    check(&mut pusher, &view, 101 * MIN, &[(MIN, 105 * MIN)]);
    // An amendment goes out at once.
    fire(&view, alert(AlertTransition::Amended, 2, 101 * MIN));
    check(&mut pusher, &view, 101 * MIN + 1, &[(MIN, 105 * MIN + 1)]);
    fire(&view, alert(AlertTransition::Resolved, 3, 101 * MIN));
    for minute in 102..=107 {
        check(&mut pusher, &view, minute * MIN, &[(MIN, 101 * MIN)]);
    }
    check(&mut pusher, &view, 108 * MIN, &[]);
}

#[test]
fn a_backfill_pages_nobody_but_what_still_fires_afterwards_does() {
    let (view, mut pusher) = (View::default(), pusher());
    view.set_caught_up(true);
    view.apply(live(100 * MIN));
    fire(&view, alert(AlertTransition::Firing, 1, 100 * MIN));
    check(&mut pusher, &view, 200 * MIN, &[]);
    view.apply(live(185 * MIN));
    check(&mut pusher, &view, 200 * MIN, &[(MIN, 204 * MIN)]);

    let (view, mut pusher) = (View::default(), self::pusher());
    view.set_caught_up(true);
    fire(&view, alert(AlertTransition::Firing, 1, 100 * MIN));
    fire(&view, alert(AlertTransition::Resolved, 2, 110 * MIN));
    view.apply(live(199 * MIN));
    check(&mut pusher, &view, 200 * MIN, &[]);
}

#[test]
fn nothing_is_pushed_before_the_topics_are_read_to_the_end() {
    let (view, mut pusher) = (View::default(), pusher());
    view.apply(live(100 * MIN));
    fire(&view, alert(AlertTransition::Firing, 1, 100 * MIN));
    check(&mut pusher, &view, 100 * MIN, &[]);
    // Resolved while we were out: a resolve that is young is sent although we pushed nothing.
    fire(&view, alert(AlertTransition::Resolved, 2, 100 * MIN));
    view.set_caught_up(true);
    check(&mut pusher, &view, 100 * MIN, &[(MIN, 100 * MIN)]);
}

#[test]
fn labels_are_identity_only() {
    let planned = pusher().postable(&alert(AlertTransition::Firing, 1, 0), EventTime::from_ms(0));
    let names: Vec<&str> = planned.labels.keys().map(String::as_str).collect();
    assert_eq!(names, ["alertname", "channel", "service", "severity", "team", "tenant"]);
    assert_eq!(planned.annotations["revenue_at_risk"], "EUR 312000 minor units/h");
    assert_eq!(planned.generator_url, "http://here/?alert=f");
}
