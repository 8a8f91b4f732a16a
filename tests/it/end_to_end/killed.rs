//! Killed at any moment, stopped and started again: what readers of committed records see is what an
//! uninterrupted run publishes, record for record.

use super::support::{App, Running, WIDE, touchline};
use super::{compare_with_replay, compare_with_truth, shop};
use std::path::Path;

#[test]
fn kills_and_restarts_change_nothing_in_what_is_published() {
    let app = App::new("e2e-killed", &[("shop", super::PARTITIONS)]);
    let config = app.configure(&format!(
        "delivery: {{checkpoint_interval: 500ms}}\ntime: {{{WIDE}}}\nsources:\n  shop:\n    \
         topic: {}\n    format: canonical_json\n    start: earliest\n    max_out_of_orderness: 2m",
        app.topic("shop")
    ));
    shop(&app, &config, 12, 20_000);
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
        app.wait_for(&topic, records);
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
