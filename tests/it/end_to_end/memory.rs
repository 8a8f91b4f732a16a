//! A budget for memory: reading stops below it, nothing is lost, and what is full is told.

use super::support::{App, Running, WIDE};
use super::{compare_with_replay, compare_with_truth, shop};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 256 * MIB;
/// Nobody can tell how long customers are kept: all of them are, for the whole of the test.
const LONG: &str = "gap: 4h";

/// Most resident memory of a process so far, in bytes.
fn peak(running: &Running) -> u64 {
    touchline::kafka::memory::told(&running.id().to_string(), "VmHWM").unwrap()
}

#[test]
fn what_does_not_fit_into_memory_waits_and_is_not_lost() {
    let app = App::new("e2e-memory", &[("shop", super::PARTITIONS)]);
    let sections = format!(
        "time: {{{WIDE}}}\nsessions: {{{LONG}}}\nsources:\n  shop:\n    topic: {}\n    \
         format: canonical_json\n    start: earliest\n    max_out_of_orderness: 2m",
        app.topic("shop")
    );
    let config = app.configure(&sections);
    shop(&app, &config, 23, 130_000);

    let bounded = app.path("bounded.yaml");
    std::fs::write(&bounded, format!("limits: {{memory_budget: {}MiB}}\n", BUDGET / MIB)).unwrap();
    let mut running = Running::start_with(&[&config, &bounded]);
    let full = "touchline_full{role=\"journey\",what=\"memory\"} 1";
    running.wait("/metrics", |status, body| (status == 200 && body.contains(full)).then_some(()));
    // Nothing has ended, and nothing grows.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(running.said().contains("limits.memory_budget is full"), "{}", running.said());
    let peak = peak(&running);
    assert!(peak <= BUDGET, "{} MiB were resident", peak / MIB);
    running.stop();

    app.run_to_end_again(&config);
    compare_with_truth(&app);
    compare_with_replay(&app, &config);
}
