//! Properties of the whole pipeline without Kafka. That no result of the rollup fold depends on how
//! journey partitions interleave or when they flush stands with its own tests.

use crate::offline::{Fed, assert_same, plan};
use proptest::prelude::*;
use std::path::Path;
use tempfile::TempDir;
use touchline::engine::Fact;
use touchline::generate::final_form::{FinalForm, FinalSummary};
use touchline::generate::{Generator, Payload, Scenario};
use touchline::model::time::Millis;
use touchline::model::touchpoint::Touchpoint;

/// Touchpoints of a shop, each once, in the order of their times.
fn traffic(seed: u64) -> Vec<Touchpoint> {
    let generator = Generator::new(plan(Scenario::Pending, seed, 1_500, 0.4));
    let mut all: Vec<Touchpoint> = generator
        .filter_map(|e| if let Payload::Touchpoint(t) = e.payload { Some(*t) } else { None })
        .collect();
    all.sort_by(|a, b| (a.event_time, &a.id).cmp(&(b.event_time, &b.id)));
    all
}

/// Writes the final form of what comes out when touchpoints arrive in this order.
fn final_form(arrivals: &[Touchpoint], partitions: i32, out: &Path) {
    let mut form = FinalForm::new();
    let mut take = |fact: Fact| match fact {
        Fact::Session(record) => form.add_session(&record),
        Fact::Checkout(record) => form.add_checkout(&record),
        Fact::Window(record) => form.add_window(&record),
        Fact::Late(record) => panic!("nothing is too late, but {record:?}"),
        Fact::Flush(..) | Fact::Live(_) | Fact::Alert(_) => {}
    };
    let mut fed = Fed::new(partitions);
    for touchpoint in arrivals {
        fed.touchpoint(touchpoint, &mut take);
    }
    let summary = fed.close(&mut take);
    assert_eq!(summary.duplicate, 0);
    form.write(out, &FinalSummary::default()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Sessions, checkouts and windows, within the bound for disorder and within that for lateness.
    #[test]
    fn any_order_of_arrival_gives_the_same_final_results(
        seed in 1_u64..1_000,
        delays in proptest::collection::vec((0_i64..100, 0_i64..3_000_000), 64),
        late_percent in prop_oneof![Just(0_i64), Just(5), Just(100)],
        partitions in prop_oneof![Just(1), Just(8)],
    ) {
        let dir = TempDir::new().unwrap();
        let (sorted, mixed) = (dir.path().join("sorted"), dir.path().join("mixed"));
        let in_order = traffic(seed);
        final_form(&in_order, 1, &sorted);
        let mut arrivals: Vec<(_, Touchpoint)> = in_order
            .into_iter()
            .enumerate()
            .map(|(n, t)| {
                // Neither the touchpoint nor its neighbours tell how late it comes.
                let (chance, late) = delays[(n * 31 + n / 64) % delays.len()];
                let delay = if chance < late_percent { late } else { late % 5_000 };
                (t.event_time.plus(Millis::from_ms(delay)), t)
            })
            .collect();
        arrivals.sort_by_key(|(arrival, _)| *arrival);
        let arrivals: Vec<Touchpoint> = arrivals.into_iter().map(|(_, t)| t).collect();
        final_form(&arrivals, partitions, &mixed);
        assert_same(&sorted, &mixed);
    }
}
