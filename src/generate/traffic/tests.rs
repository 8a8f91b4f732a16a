//! The traffic's proportions, and that a plan is a stream of bytes.

use super::*;
use crate::generate::encode;
use crate::generate::final_form::FinalForm;
use crate::generate::plan::{Fault, FaultKind, Scenario};
use crate::generate::{Settings, Truth};
use crate::model::taxonomy::Meaning;

fn plan(scenario: Scenario, seed: u64, events: u64) -> Plan {
    Plan { events: Some(events), ..Plan::new(scenario, seed) }
}

fn bytes(plan: Plan) -> Vec<String> {
    Generator::new(plan)
        .map(|e| match &e.payload {
            Payload::Poison(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => encode::line(other.touchpoint().unwrap()),
        })
        .collect()
}

#[test]
fn a_plan_is_a_stream_of_bytes() {
    for scenario in Scenario::ALL {
        assert_eq!(bytes(plan(scenario, 1, 3_000)), bytes(plan(scenario, 1, 3_000)));
    }
    assert_ne!(bytes(plan(Scenario::Shop, 1, 3_000)), bytes(plan(Scenario::Shop, 2, 3_000)));
}

#[test]
fn a_longer_plan_begins_like_a_shorter_one() {
    let long = bytes(plan(Scenario::ShopLate, 3, 5_000));
    let short = bytes(plan(Scenario::ShopLate, 3, 2_000));
    assert_eq!(long[..short.len()], short);
}

#[test]
fn arrivals_never_fall_and_late_means_late() {
    let hour = 3_600_000;
    let (mut last, mut seen) = (EventTime::MIN, [0u64; 6]);
    let mut ids = BTreeSet::new();
    for emitted in Generator::new(plan(Scenario::ShopLate, 5, 120_000)) {
        assert!(emitted.arrival >= last);
        last = emitted.arrival;
        let Some(t) = emitted.payload.touchpoint() else {
            seen[5] += 1;
            continue;
        };
        let behind = emitted.arrival.since(t.event_time).as_ms();
        let again = !ids.insert((t.source.clone(), t.id.clone()));
        match &emitted.payload {
            Payload::TooLate(_) => {
                assert!((2 * hour..=5 * hour).contains(&behind) && !again);
                seen[4] += 1;
            }
            Payload::Duplicate(_) => {
                assert!(again && behind < 11 * 60_000);
                seen[3] += 1;
            }
            _ => {
                assert!((0..=50 * 60_000).contains(&behind) && !again);
                seen[0] += 1;
                seen[1] += u64::from(behind > 0 && behind < 5_000);
                seen[2] += u64::from(behind >= 10_000);
            }
        }
    }
    let share = |n: u64| n as f64 / seen[0] as f64;
    assert!((0.008..0.012).contains(&share(seen[1])), "out of order: {seen:?}");
    assert!((0.004..0.006).contains(&share(seen[2])), "late: {seen:?}");
    assert!((0.002..0.004).contains(&share(seen[3])), "twice: {seen:?}");
    assert!((0.0004..0.002).contains(&share(seen[4])), "too late: {seen:?}");
    assert!((0.0003..0.0008).contains(&share(seen[5])), "poison: {seen:?}");
}

#[test]
fn the_rate_is_met_and_nights_are_quiet() {
    let start = Plan::new(Scenario::Shop, 7).start;
    let until = Some(start.plus(Millis::from_hours(24)));
    let day = Plan { until, ..Plan::new(Scenario::Shop, 7) };
    let mut hours = [0u64; 24];
    for emitted in Generator::new(day) {
        let hour = emitted.arrival.as_ms().rem_euclid(86_400_000) / 3_600_000;
        hours[hour as usize] += 1;
    }
    let rate = hours.iter().sum::<u64>() as f64 / 86_400.0;
    assert!((4.6..5.4).contains(&rate), "{rate} a second: {hours:?}");
    let night = hours[3] as f64 / hours[15] as f64;
    assert!((0.07..0.16).contains(&night), "{hours:?}");
}

#[test]
fn a_customers_events_have_times_of_their_own() {
    let mut times = BTreeSet::new();
    let mut ties = 0;
    for emitted in Generator::new(plan(Scenario::Shop, 9, 100_000)) {
        let Payload::Touchpoint(t) = emitted.payload else { continue };
        if let Some(customer) = t.customer_id.or(t.anonymous_id).filter(|c| c != "guest") {
            ties += u64::from(!times.insert((customer, t.event_time)));
        }
    }
    assert_eq!(ties, 0);
}

/// Abandonment of checkouts started in [from, to) on a channel, as percents of those decided.
fn abandonment(form: &FinalForm, channel: &str, from: EventTime, to: EventTime) -> (i64, i64) {
    let (mut abandoned, mut decided) = (0, 0);
    for w in form.window_records().filter(|w| w.start >= from && w.end <= to) {
        let dimensions: Vec<_> = w.dimensions.iter().collect();
        if matches!(dimensions[..], [(d, v)] if d == "channel" && v == channel) {
            abandoned += w.abandonment.abandoned;
            decided += w.abandonment.started - w.abandonment.expired;
        }
    }
    (100 * abandoned / decided.max(1), decided)
}

#[test]
fn abandonment_is_a_third_and_three_quarters_while_payments_are_broken() {
    for (seed, scenario) in [(1, Scenario::Spike), (2, Scenario::PendingSpike)] {
        let plan = Plan::new(scenario, seed);
        let Fault { kind: FaultKind::PaymentBroken(channel), from, to } = plan.faults[0].clone()
        else {
            panic!("{:?}", plan.faults)
        };
        let (start, until) = (plan.start, Some(to.plus(Millis::from_hours(1))));
        let settings = Settings { windows: vec![Millis::from_mins(5)], ..Settings::default() };
        let mut truth = Truth::new(settings);
        Generator::new(Plan { until, rate: 10.0, ..plan }).for_each(|e| truth.add(&e));
        let (form, _) = truth.finish();
        let (before, n) = abandonment(&form, &channel, start, from);
        assert!((26..37).contains(&before) && n > 300, "{before} % of {n}");
        let (during, n) = abandonment(&form, &channel, from, to);
        assert!((65..83).contains(&during) && n > 60, "{during} % of {n}");
        let other = if channel == "web" { "mobile_app" } else { "web" };
        let (beside, n) = abandonment(&form, other, from, to);
        assert!((22..42).contains(&beside), "{beside} % of {n}");
    }
}

#[test]
fn a_fault_changes_nothing_before_it_and_pending_nothing_but_payments() {
    let take = |scenario| bytes(plan(scenario, 4, 60_000));
    let (calm, spike) = (take(Scenario::Calm), take(Scenario::Spike));
    let same = calm.iter().zip(&spike).take_while(|(a, b)| a == b).count();
    let from = Plan::new(Scenario::Spike, 4).faults[0].from;
    let before = Generator::new(plan(Scenario::Calm, 4, 60_000)).take_while(|e| e.arrival < from);
    assert!(same >= before.count() && same < calm.len());

    let starts = |scenario| {
        Generator::new(plan(scenario, 4, 60_000))
            .filter_map(|e| e.payload.touchpoint().cloned())
            .filter(|t| Meaning::of(&t.touchpoint, &t.action) == Meaning::CheckoutStart)
            .map(|t| (t.id, t.event_time))
            .take(1_000)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(starts(Scenario::Spike), starts(Scenario::PendingSpike));
}

#[test]
fn promotion_brings_more_and_silence_brings_nothing() {
    let within = |scenario: Scenario, of: Scenario, channel: Option<&str>| {
        let fault = Plan::new(of, 6).faults[0].clone();
        let plan = Plan { until: Some(fault.to), rate: 20.0, ..Plan::new(scenario, 6) };
        Generator::new(plan)
            .filter_map(|e| e.payload.touchpoint().cloned())
            .filter(|t| fault.holds(t.event_time) && channel.is_none_or(|c| t.channel == c))
            .count() as f64
    };
    let (calm, promotion) = (Scenario::Calm, Scenario::Promotion);
    let more = within(promotion, promotion, None) / within(calm, promotion, None);
    assert!((1.15..1.25).contains(&more), "{more}");
    assert!(within(calm, Scenario::Silent, Some("email")) > 500.0);
    assert!(within(Scenario::Silent, Scenario::Silent, Some("email")) == 0.0);
}

#[test]
fn poison_is_one_line_that_is_no_touchpoint() {
    let poison: Vec<Vec<u8>> = Generator::new(plan(Scenario::Shop, 8, 50_000))
        .filter_map(|e| if let Payload::Poison(bytes) = e.payload { Some(bytes) } else { None })
        .collect();
    assert!(poison.len() > 10);
    for bytes in poison {
        assert!(!bytes.contains(&b'\n') && !bytes.is_empty());
        assert!(serde_json::from_slice::<Touchpoint>(&bytes).is_err());
    }
}
