//! A copy of the state is kept warm by another process, which takes over from it.

use super::support::{App, Running, WIDE};
use super::{compare_with_replay, compare_with_truth, shop};

/// Partitions of a role that this process has a copy of which is not behind.
fn warm(metrics: &str, role: &str) -> usize {
    let role = format!("role=\"{role}\"}}");
    let copies = metrics.lines().filter(|l| l.starts_with("touchline_standby_records_behind{"));
    copies.filter(|l| l.contains(&role) && l.ends_with(" 0")).count()
}

#[test]
fn another_process_takes_over_from_its_copy_and_nothing_changes() {
    let app = App::new("e2e-standby", &[("shop", super::PARTITIONS)]);
    let config = app.configure(&format!(
        "delivery: {{checkpoint_interval: 500ms, standby_replicas: 1}}\ntime: {{{WIDE}}}\n\
         sources:\n  shop:\n    topic: {}\n    format: canonical_json\n    start: earliest\n    \
         max_out_of_orderness: 2m",
        app.topic("shop")
    ));
    shop(&app, &config, 23, 10_000);
    let instance = |name: &str| {
        let path = app.path(&format!("{name}.yaml"));
        let text = format!("app: {{instance: {name}}}\nkafka: {{session.timeout.ms: \"6000\"}}\n");
        std::fs::write(&path, text).unwrap();
        path
    };
    let [a, b] = ["a", "b"].map(instance);
    let first = Running::start_with(&[&config, &a]);
    let mut second = Running::start_with(&[&config, &b]);
    // Four partitions of journey and one of rollup: what the other owns is followed here.
    let copies = second.wait("/metrics", |_, body| {
        let (journeys, rollups) = (warm(body, "journey"), warm(body, "rollup"));
        (journeys > 0).then_some(journeys + rollups)
    });
    assert!(copies < 6, "what it owns itself needs no copy");
    first.kill();
    second.wait("/metrics", |_, body| {
        let promoted = warm(body, "journey") + warm(body, "rollup") == 0;
        promoted.then_some(())
    });
    second.wait("/readyz", |status, _| (status == 200).then_some(()));
    second.stop();
    app.run_to_end_again(&config);
    compare_with_truth(&app);
    compare_with_replay(&app, &config);
}
