//! Detectors and the life cycle of alerts on simulated shops: four weeks of clean traffic fire
//! nothing, and what breaks is found, named, dated and closed.

mod shop;

use crate::offline::{Fed, plan};
use shop::{CHANNELS, Fault, Shop, Summary};

use touchline::clock::Moment;
use touchline::engine::Fact;
use touchline::generate::{Generator, Label, Plan, Scenario};
use touchline::model::record::{AlertRecord, AlertTransition};
use touchline::model::time::Millis;

/// Minutes since the start: one day is 1,440.
const DAY: i64 = 1_440;

#[test]
fn four_weeks_of_clean_traffic_fire_nothing() {
    for seed in 1..=5 {
        let summary = Shop::new(seed).run(28 * DAY);
        assert_eq!(summary.fired(), Vec::<String>::new(), "seed {seed}");
        assert!(summary.tests > 8_000, "seed {seed}: {} tests", summary.tests);
    }
}

#[test]
fn more_traffic_at_the_same_rates_fires_nothing() {
    for (seed, factor) in [(1, 1.2), (2, 1.2), (3, 2.0), (4, 2.0), (5, 0.5)] {
        let mut shop = Shop::new(seed);
        shop.promotion = Some((3 * DAY + 600, 3 * DAY + 1_200, factor));
        let summary = shop.run(5 * DAY);
        assert_eq!(summary.fired(), Vec::<String>::new(), "seed {seed}, {factor}");
    }
}

/// Runs a shop with one fault; it must be found once, within the fault, and be resolved.
fn check_found(seed: u64, shop: Shop, fault: &Fault, dimensions: &str) -> Summary {
    let summary = shop.run(fault.to + 6 * 60);
    let fired = summary.fired();
    assert_eq!(fired, [format!("CheckoutAbandonmentSpike {dimensions}")], "seed {seed}");
    summary.check_contract();
    let firing = summary.of("firing").next().expect("it fired");
    let minute = |at: i64| at / 60_000;
    let (starts, at) = (minute(firing.starts_at.as_ms()), minute(firing.at.as_ms()));
    assert!((fault.from..=fault.to).contains(&starts), "seed {seed}: starts at {starts}");
    // The second or third fully faulty window (5 min), mature after 30 min.
    assert!(at <= fault.from + 20 + 30, "seed {seed}: fault at {}, fired at {at}", fault.from);
    let resolved = summary.of("resolved").next().expect("it was resolved");
    let ends = minute(resolved.ends_at.expect("an end").as_ms());
    assert!((fault.to - 10..=fault.to + 5).contains(&ends), "seed {seed}: ends at {ends}");
    let closed = minute(resolved.at.as_ms());
    assert!(closed <= fault.to + 30 + 45, "seed {seed}: {} resolved at {closed}", fault.to);
    summary
}

#[test]
fn a_spike_in_one_channel_is_that_channels_alert() {
    for seed in 1..=6 {
        let from = DAY + 600 + seed as i64;
        let fault = Fault { channel: Some(0), from, to: from + 45, rate: 0.75 };
        let mut shop = Shop::new(seed);
        shop.faults = vec![fault.clone()];
        let summary = check_found(seed, shop, &fault, "channel=web");
        let firing = summary.of("firing").next().expect("it fired");
        assert_eq!(firing.contributors[0].dimensions["channel"], "web");
        assert!(firing.value > firing.upper.min(firing.lower) && firing.lower > firing.expected);
        assert!(firing.n >= 30 && firing.at_risk["EUR"] > 0, "{firing:?}");
        assert!(firing.summary.contains("channel web"), "{}", firing.summary);
        assert_eq!(firing.evidence[0].topic, "touchpoints.canonical");
    }
}

#[test]
fn alerts_that_are_written_down_and_made_again_say_the_same() {
    let run = |torn_every| {
        let mut shop = Shop::new(7);
        shop.faults = vec![Fault { channel: Some(0), from: DAY + 600, to: DAY + 645, rate: 0.75 }];
        shop.silence = Some((1, 3 * DAY + 600, 3 * DAY + 700));
        shop.torn_every = torn_every;
        shop.run(4 * DAY)
    };
    let whole = run(None);
    assert_eq!(whole.fired().len(), 2, "{:?}", whole.fired());
    for every in [1_001, 7_003] {
        let torn = run(Some(every));
        assert_eq!(torn.records, whole.records);
        assert_eq!(torn.tests, whole.tests);
    }
}

#[test]
fn a_spike_everywhere_is_one_alert_for_the_total() {
    for seed in 1..=6 {
        let from = DAY + 600 + seed as i64;
        let fault = Fault { channel: None, from, to: from + 45, rate: 0.75 };
        let mut shop = Shop::new(seed);
        shop.faults = vec![fault.clone()];
        check_found(seed, shop, &fault, "");
    }
}

#[test]
fn payments_that_stay_pending_do_not_blind_it() {
    for seed in 1..=4 {
        let from = 2 * DAY + 600;
        let fault = Fault { channel: Some(0), from, to: from + 45, rate: 0.75 };
        let fires = |pending: f64| {
            let mut shop = Shop::new(seed);
            shop.faults = vec![fault.clone()];
            shop.pending = pending;
            let summary = shop.run(fault.to + 6 * 60);
            assert_eq!(summary.fired(), ["CheckoutAbandonmentSpike channel=web"], "seed {seed}");
            summary.check_contract();
            summary.of("firing").next().expect("it fired").at.as_ms() / 60_000
        };
        let (without, with) = (fires(0.0), fires(0.03));
        assert!((with - without).abs() <= 5, "seed {seed}: {without} without, {with} with");
    }
}

#[test]
fn cohorts_that_are_shown_only_when_mature_are_enough() {
    let from = 2 * DAY + 600;
    for seed in 1..=4 {
        let mut shop = Shop::new(seed);
        shop.faults = vec![Fault { channel: None, from, to: from + 60, rate: 0.9 }];
        (shop.pending, shop.only_mature) = (0.03, true);
        let summary = shop.run(from + 7 * 60);
        assert_eq!(summary.fired(), ["CheckoutAbandonmentSpike "], "seed {seed}");
        summary.check_contract();
    }
}

/// Runs a shop with a fault through a jump of the clock.
fn through_a_jump(seed: u64, fault: &Fault, jump: Option<(i64, i64)>) -> Summary {
    let mut shop = Shop::new(seed);
    (shop.faults, shop.jump) = (vec![fault.clone()], jump);
    let summary = shop.run(fault.to + 9 * 60);
    assert_eq!(summary.fired(), ["CheckoutAbandonmentSpike channel=web"], "seed {seed}, {jump:?}");
    summary.check_contract();
    summary
}

#[test]
fn a_jump_of_the_clock_takes_no_votes_away() {
    for seed in 1..=4 {
        let from = 2 * DAY + 600;
        let fault = Fault { channel: Some(0), from, to: from + 60, rate: 0.75 };
        let usual = through_a_jump(seed, &fault, None);
        let [firing, resolved] = ["firing", "resolved"].map(|to| usual.of(to).next().unwrap());
        // After it fired: it is over by the step after the jump, and ends when it did.
        let late = through_a_jump(seed, &fault, Some((from + 70, from + 300)));
        assert_eq!(late.of("firing").next(), Some(firing));
        let at = |record: &AlertRecord| record.at.as_ms() / 60_000;
        let recovering = late.of("recovering").next().unwrap();
        assert_eq!((at(recovering), recovering.ends_at), (from + 300, resolved.ends_at));
        // All of it: found and over in one step, and dated as usual.
        let whole = through_a_jump(seed, &fault, Some((from - 60, from + 300)));
        for to in ["firing", "recovering"] {
            let (late, usual) = (whole.of(to).next().unwrap(), usual.of(to).next().unwrap());
            assert_eq!(at(late), from + 300, "{to}, seed {seed}");
            assert_eq!((late.starts_at, late.ends_at), (usual.starts_at, usual.ends_at));
        }
    }
}

#[test]
fn a_source_that_lags_delays_the_verdict_and_does_not_silence_it() {
    let from = 2 * DAY + 600;
    let fired_at = |lag: i64| {
        let mut shop = Shop::new(3);
        shop.faults = vec![Fault { channel: None, from, to: from + 60, rate: 0.9 }];
        shop.lag = lag;
        let summary = shop.run(from + 9 * 60);
        assert_eq!(summary.fired(), ["CheckoutAbandonmentSpike "], "lag {lag}");
        summary.check_contract();
        summary.of("firing").next().expect("it fired").at.as_ms() / 60_000
    };
    let usual = fired_at(0);
    assert_eq!(fired_at(20), usual);
    // Windows are 30 min old when they mature; the watermark is an hour behind.
    assert_eq!(fired_at(60), usual + 30);
}

#[test]
fn empty_cohorts_neither_enter_nor_leave() {
    let from = 2 * DAY + 600;
    let mut shop = Shop::new(5);
    shop.faults = vec![Fault { channel: None, from, to: from + 30, rate: 0.95 }];
    // Nobody starts a checkout after the fault.
    shop.promotion = Some((from + 30, from + 600, 0.0));
    let summary = shop.run(from + 600);
    let words: Vec<String> =
        summary.records.iter().map(|r| format!("{} {:?}", r.alert, r.transition)).collect();
    let last = words.iter().rfind(|word| word.contains("Checkout")).expect("it fired");
    assert_eq!(last, "CheckoutAbandonmentSpike Firing", "{words:?}");
}

#[test]
fn a_young_or_tiny_shop_says_nothing() {
    // Three hours of history are not enough; neither is a checkout a minute at 20 windows.
    let mut young = Shop::new(1);
    young.faults = vec![Fault { channel: None, from: 60, to: 100, rate: 1.0 }];
    young.start = 600;
    assert_eq!(young.run(150).fired(), Vec::<String>::new());
    let mut tiny = Shop::new(2);
    tiny.scale = 0.02;
    tiny.faults = vec![Fault { channel: None, from: 2 * DAY + 600, to: 2 * DAY + 660, rate: 1.0 }];
    assert_eq!(tiny.run(3 * DAY).fired(), Vec::<String>::new());
}

#[test]
fn a_busy_channel_that_stops_is_noticed_within_minutes() {
    for seed in 1..=4 {
        let from = 3 * DAY + 720 + seed as i64;
        let mut shop = Shop::new(seed);
        shop.silence = Some((1, from, from + 60));
        let summary = shop.run(from + 180);
        let name = format!("ChannelSilent channel={}", CHANNELS[1]);
        assert_eq!(summary.fired(), [name], "seed {seed}");
        summary.check_contract();
        let firing = summary.of("firing").next().expect("it fired");
        let delay = firing.at.as_ms() / 60_000 - from;
        assert!((2..=12).contains(&delay), "seed {seed}: {delay} min");
        let resolved = summary.of("resolved").next().expect("it was resolved");
        let ends = resolved.ends_at.expect("an end").as_ms() / 60_000;
        assert!((from + 59..=from + 62).contains(&ends), "seed {seed}: {from} {ends}");
    }
}

#[test]
fn the_end_of_the_input_is_no_silence() {
    let mut shop = Shop::new(1);
    shop.closed_after = Some(3 * DAY + 720);
    let summary = shop.run(3 * DAY + 1_200);
    assert_eq!(summary.fired(), Vec::<String>::new());
}

#[test]
fn beyond_the_end_of_the_input_nothing_opens_and_what_fires_may_end() {
    let from = 2 * DAY + 600;
    let said = |closed_after: Option<i64>| {
        let mut shop = Shop::new(3);
        shop.faults = vec![Fault { channel: None, from, to: from + 20, rate: 0.95 }];
        shop.closed_after = closed_after;
        let summary = shop.run(from + 4 * 60);
        let all = summary.records.iter().filter(|r| r.alert == "CheckoutAbandonmentSpike");
        all.map(|r| format!("{:?}", r.transition)).collect::<Vec<_>>()
    };
    let usual = said(None);
    assert!(usual.contains(&"Firing".to_owned()) && usual.contains(&"Resolved".to_owned()));
    // No window of the fault is mature before the end.
    assert_eq!(said(Some(from + 20)), Vec::<String>::new());
    // All of them are: the same happens as without an end.
    assert_eq!(said(Some(from + 56)), usual);
}

#[test]
fn the_same_steps_give_the_same_records() {
    let run = || {
        let mut shop = Shop::new(7);
        shop.faults = vec![Fault { channel: None, from: 2_040, to: 2_085, rate: 0.75 }];
        shop.run(2 * DAY).records
    };
    let (first, second) = (run(), run());
    assert!(!first.is_empty());
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

/// What is said about alerts while a plan's traffic goes through all folds. What a close would say is
/// left out: the generator ends in the midst of visits, whose checkouts are then all abandoned.
fn alerts_of(plan: &Plan) -> Vec<AlertRecord> {
    let since = Moment::now();
    let mut records = Vec::new();
    let mut take = |fact: Fact| {
        if let Fact::Alert(record) = fact {
            records.push(*record);
        }
    };
    let mut fed = Fed::new(4);
    let mut read = 0;
    for emitted in Generator::new(plan.clone()) {
        fed.emitted(&emitted, &mut take);
        read += 1;
    }
    println!("{read} records in {:.1} s", since.elapsed_secs());
    records
}

#[test]
fn four_weeks_of_generated_traffic_fire_nothing() {
    // 363,000 touchpoints: some 3 checkouts in 5 minutes.
    let weeks = Plan { events: None, ..plan(Scenario::Shop, 1, 0, 0.15) };
    let until = weeks.start.plus(Millis::from_hours(28 * 24));
    let records = alerts_of(&Plan { until: Some(until), ..weeks });
    let said: Vec<_> = records.iter().map(|r| (&r.alert, &r.dimensions, r.transition)).collect();
    assert!(said.iter().all(|(.., t)| *t == AlertTransition::Pending), "{said:?}");
}

/// The one firing record of the spike's alert, checked against what was injected.
fn fired_once(plan: &Plan) -> AlertRecord {
    let records = alerts_of(plan);
    let fired: Vec<_> =
        records.iter().filter(|r| r.transition == AlertTransition::Firing).cloned().collect();
    let [firing] =
        <[AlertRecord; 1]>::try_from(fired).unwrap_or_else(|all| panic!("one alert, not {all:?}"));
    let Label { dimensions, from, to, .. } = plan.labels().remove(0);
    assert_eq!(firing.alert, "CheckoutAbandonmentSpike");
    assert_eq!(firing.dimensions, dimensions);
    assert!(from <= firing.starts_at && firing.starts_at < to, "{firing:?}");
    let resolved = records.iter().find(|r| r.transition == AlertTransition::Resolved);
    let ends = resolved.and_then(|r| r.ends_at).expect("it was resolved");
    assert!(firing.starts_at < ends, "{resolved:?}");
    firing
}

#[test]
fn pending_payments_delay_the_alert_by_5_minutes_at_most() {
    // Some 40 checkouts of the broken channel in 5 minutes, and some 17.
    for (events, rate) in [(315_000, 12.0), (140_000, 5.0)] {
        let at = |scenario| fired_once(&plan(scenario, 1, events, rate)).at;
        let (without, with) = (at(Scenario::Spike), at(Scenario::PendingSpike));
        let apart = with.since(without).as_ms().abs();
        assert!(apart <= 5 * 60_000, "{rate}/s: {without} without, {with} with");
    }
}
