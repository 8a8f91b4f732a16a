use super::*;
use crate::engine::{Fact, Output};
use crate::model::record::{AlertRecord, Severity};
use crate::rollup::alerts::{Alerts, Detector, LifeCycle, Settings};
use crate::rollup::step::AlertEngine as _;

const SLICE: Millis = Millis::from_secs(10);

fn settings(bound: Bound, (enter_k, enter_n, leave_m): (u32, u32, u32)) -> Settings {
    let rule = Rule {
        name: "Calls".into(),
        severity: Severity::Info,
        owner: "support".into(),
        runbook: "".into(),
        summary: "{value} calls in {window}, {expected} is the bound, {channel}".into(),
        scopes: vec![vec![Dimension::Channel]],
        detector: Detector::Threshold(Threshold { bound, window: Millis::from_secs(30) }),
        life: LifeCycle {
            enter_k,
            enter_n,
            leave_m,
            merge_gap: Millis::ZERO,
            cool_down: Millis::ZERO,
        },
        min_completeness: 0.0,
    };
    Settings { app: "a".into(), canonical_topic: "c".into(), slice: SLICE, rules: vec![rule] }
}

/// Steps at the ends of slices 1, 2, …; each with the events of some slices.
fn run(alerts: &mut Alerts, first: i64, steps: &[&[(i64, i64)]]) -> Vec<AlertRecord> {
    let grid = SliceGrid::new(SLICE);
    let phone = Dimensions::new([(Dimension::Channel, "phone".into())]);
    let mut out = Vec::new();
    for (at, events) in (first..).zip(steps) {
        let here = |(slice, n): &(i64, i64)| (&phone, Slice::from_number(*slice), *n);
        let mut events: Vec<_> = events.iter().map(here).collect();
        // Other series are not the rule's.
        let total = Dimensions::TOTAL;
        events.insert(0, (&total, Slice::from_number(at), 1_000));
        let step_end = grid.end(Slice::from_number(at));
        let view = StepView {
            tenant: "t",
            step_end,
            watermark: step_end,
            completeness: 1.0,
            closed: false,
            matured: &[],
            revised: &[],
            finals: &[],
            events: &events,
            evidence: &|_, _| Vec::new(),
        };
        alerts.step(&view, &mut out);
    }
    let record = |output| match output {
        Output::Fact(Fact::Alert(record)) => Some(*record),
        _ => None,
    };
    out.into_iter().filter_map(record).collect()
}

/// `transition at value since`, times in slices.
fn shown(records: &[AlertRecord]) -> Vec<String> {
    let slices = |at: EventTime| at.as_ms() / SLICE.as_ms();
    let line = |r: &AlertRecord| {
        let to = format!("{:?}", r.transition).to_lowercase();
        format!("{to} {} {} {}", slices(r.at), r.value, slices(r.starts_at))
    };
    records.iter().map(line).collect()
}

fn check(bound: Bound, life: (u32, u32, u32), steps: &[&[(i64, i64)]], expected: &[&str]) {
    let records = run(&mut Alerts::new(settings(bound, life)), 1, steps);
    assert_eq!(shown(&records), expected);
}

#[test]
fn more_than_the_bound_fires_until_there_are_no_more() {
    let steps: [&[(i64, i64)]; 7] = [&[(1, 5)], &[(2, 5)], &[(3, 1)], &[], &[], &[], &[]];
    // 5, 10, 11, 6, 1, 0: the bound itself is not crossed.
    check(
        Bound::Above(9),
        (1, 1, 1),
        &steps,
        &["firing 3 10 2", "recovering 5 6 2", "resolved 6 6 2"],
    );
    check(Bound::Above(11), (1, 1, 1), &steps, &[]);
    // Twice in a row before it fires; two below before it ends.
    check(
        Bound::Above(9),
        (2, 2, 2),
        &steps,
        &["pending 3 10 2", "firing 4 11 2", "recovering 6 1 2", "resolved 7 1 2"],
    );
}

#[test]
fn fewer_than_the_bound_fires_also_if_nothing_comes_at_all() {
    let steps: [&[(i64, i64)]; 8] = [&[(1, 9)], &[], &[], &[], &[], &[], &[(7, 3)], &[]];
    check(
        Bound::Below(3),
        (1, 1, 1),
        &steps,
        &["firing 5 0 4", "recovering 8 3 4", "resolved 9 3 4"],
    );
}

#[test]
fn a_series_that_begins_lacks_nothing() {
    let steps: [&[(i64, i64)]; 5] = [&[(1, 1)], &[(2, 1)], &[(3, 1)], &[(4, 1)], &[]];
    check(Bound::Below(3), (1, 1, 1), &steps, &["firing 6 2 5"]);
    check(Bound::Above(0), (1, 1, 1), &steps, &["firing 2 1 1"]);
}

#[test]
fn late_events_count_within_the_window() {
    let steps: [&[(i64, i64)]; 4] = [&[(1, 5)], &[(2, 1)], &[(1, 5)], &[(1, 50)]];
    check(Bound::Above(9), (1, 1, 1), &steps, &["firing 4 11 3", "recovering 5 1 3"]);
}

#[test]
fn a_record_says_what_it_is_about() {
    let mut alerts = Alerts::new(settings(Bound::Above(9), (1, 1, 1)));
    let records = run(&mut alerts, 1, &[&[(1, 12)]]);
    let [firing] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(firing.summary, "12 calls in 30s, 9 is the bound, channel phone");
    assert_eq!((firing.expected, firing.lower, firing.upper), (9.0, 0.0, 9.0));
    assert_eq!((firing.n, firing.effect, firing.p_value), (12, 3.0, 1.0));
}

#[test]
fn nobody_asks_for_steps_after_which_nothing_follows() {
    let mut alerts = Alerts::new(settings(Bound::Below(3), (1, 2, 1)));
    assert_eq!(alerts.next_due("t"), None);
    run(&mut alerts, 1, &[&[(1, 9)]]);
    let due = |alerts: &Alerts| alerts.next_due("t").map(|at| at.as_ms() / SLICE.as_ms());
    assert_eq!(due(&alerts), Some(3));
    run(&mut alerts, 2, &[&[], &[], &[], &[], &[]]);
    assert_eq!(due(&alerts), None);
    run(&mut alerts, 9, &[&[(9, 1)]]);
    assert_eq!(due(&alerts), Some(11));
}

#[test]
fn what_was_written_down_goes_on_alike() {
    let steps: [&[(i64, i64)]; 9] =
        [&[(1, 5)], &[(2, 5)], &[(2, 3)], &[(4, 1)], &[], &[(5, 20)], &[], &[], &[]];
    for bound in [Bound::Above(9), Bound::Below(9)] {
        let whole = run(&mut Alerts::new(settings(bound, (2, 3, 2))), 1, &steps);
        for cut in 1..steps.len() {
            let mut first = Alerts::new(settings(bound, (2, 3, 2)));
            let mut said = run(&mut first, 1, &steps[..cut]);
            let mut entries = Vec::new();
            first.take_dirty(&mut entries);
            let mut second = Alerts::new(settings(bound, (2, 3, 2)));
            for Entry { key, value } in &entries {
                second.restore(key, value.as_deref()).unwrap();
            }
            second.restored().unwrap();
            said.extend(run(&mut second, 1 + cut as i64, &steps[cut..]));
            assert_eq!(said, whole, "{bound:?}, cut at {cut}");
        }
    }
}
