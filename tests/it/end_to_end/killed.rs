//! Killed at any moment, stopped and started again: what readers of committed records see is what an
//! uninterrupted run publishes, record for record.

use super::support::{App, DEADLINE, Running, WIDE, touchline};
use super::{compare_with_replay, compare_with_truth, shop};
use std::path::Path;
use touchline::app::generate::truth_settings;
use touchline::clock::Moment;
use touchline::generate::{Plan, Scenario, Truth};
use touchline::kafka::client::end_offsets;

/// Offsets in all partitions of a topic, markers included.
fn written(app: &App, topic: &str) -> i64 {
    end_offsets(&app.connection(), topic).unwrap().values().map(|next| next.get()).sum()
}

/// Waits until `topic` has grown by `records` at least, so that something is under way.
pub(super) fn wait_for(app: &App, topic: &str, records: i64) {
    let (since, before) = (Moment::now(), written(app, topic));
    while written(app, topic) < before + records {
        assert!(since.elapsed() < DEADLINE, "{topic} does not grow");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn kills_and_restarts_change_nothing_in_what_is_published() {
    let app = App::new("e2e-killed", &[("shop", super::PARTITIONS)]);
    let config = app.configure(&format!(
        "delivery: {{checkpoint_interval: 500ms}}\ntime: {{{WIDE}}}\nsources:\n  shop:\n    \
         topic: {}\n    format: canonical_json\n    start: earliest\n    max_out_of_orderness: 2m",
        app.topic("shop")
    ));
    app.apply_topics(&config);
    let settings = touchline::config::load(std::slice::from_ref(&config), []).unwrap();
    let mut plan = Plan::new(Scenario::Shop, 12);
    plan.events = Some(20_000);
    shop(&app, plan, Truth::new(truth_settings(&settings)));
    // In the middle of ingest, of journey, of rollup, and right after a start.
    let kills = [
        (app.topic("touchpoints.canonical"), 2_000),
        (app.topic("touchpoints.canonical"), 1),
        (app.topic("journeys.sessions"), 20),
        ("e2e-killed.journey.changelog".to_owned(), 1),
        (app.topic("engagement.channel_stage"), 50),
    ];
    for (topic, records) in kills {
        let running = Running::start(&config);
        wait_for(&app, &topic, records);
        running.kill();
    }
    // A clean stop in the middle, too.
    Running::start(&config).stop();
    // Sealing leaves a checkpoint at every committed offset.
    let state = |what: &[&str]| {
        let words = [&["state"], what, &["--config"]].concat();
        let arguments: Vec<&Path> = words.iter().map(Path::new).collect();
        touchline(&[&arguments, [config.as_path()].as_slice()].concat())
    };
    let shown = state(&["seal"]);
    assert!(shown.lines().count() == 5 && shown.lines().all(|l| l.contains("sealed")), "{shown}");
    assert!(!shown.contains("a transaction is open"), "{shown}");
    let plan = state(&["reset", "--dry-run"]);
    for part in ["rollup.changelog", "journey.inputs", "rollup.inputs", "config"] {
        assert!(plan.contains(&format!("e2e-killed.{part}")), "{part}: {plan}");
    }
    assert!(plan.contains("nothing was changed"));
    assert_eq!(state(&["show"]), shown);
    app.run_to_end_again(&config);
    compare_with_truth(&app);
    compare_with_replay(&app, &config);
}
