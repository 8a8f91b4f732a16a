//! Read directly, with partitions that fall idle: ticks let time pass, and what `run` published can be
//! replayed from the log and the recorded side inputs.

use super::support::{App, DEADLINE, Produced, Running, WIDE};
use super::{compare_with, replayed, said};
use std::path::Path;
use touchline::clock::{self, Moment};
use touchline::codec::inputs::{SideInput, Taken};
use touchline::codec::recorded::RecordedLine;
use touchline::model::topic::Topic;

/// A customer starts a checkout, so many ms before now, and is not seen again.
fn starts(app: &App, partition: i32, customer: &str, ms_ago: i64) {
    let at = clock::now().as_ms() - ms_ago;
    let value = format!(
        "{{\"id\":\"{customer}\",\"source\":\"shop\",\"event_time\":{at},\
         \"customer_id\":\"{customer}\",\"channel\":\"web\",\"touchpoint\":\"checkout\",\
         \"action\":\"start\",\"checkout_id\":\"of-{customer}\"}}"
    );
    let (partition, value) = (Some(partition), Some(value.into_bytes()));
    app.produce("shop", [Produced { partition, value, ..Produced::default() }]);
}

/// Waits until so many checkouts have been abandoned and so many sessions closed.
fn wait_for(app: &App, count: usize) {
    let since = Moment::now();
    let holds = |line: &RecordedLine, text: &str| {
        String::from_utf8_lossy(line.value.as_deref().unwrap_or_default()).contains(text)
    };
    loop {
        let of = |topic: Topic, text: &str| {
            app.dump(topic).iter().filter(|line| holds(line, text)).count()
        };
        let abandoned = of(Topic::CheckoutLifecycle, "\"transition\":\"abandoned\"");
        let closed = of(Topic::Sessions, "\"revision\":0,");
        if abandoned >= count && closed >= count {
            return;
        }
        assert!(since.elapsed() < DEADLINE, "{abandoned} abandoned, {closed} closed");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}

fn inputs(app: &App) -> Vec<RecordedLine> {
    app.dump_topic(&app.topic("journey.inputs"))
}

fn ticks(lines: &[RecordedLine], partition: i32) -> usize {
    let of = lines.iter().filter(|line| line.partition.get() == partition);
    let is_tick = |line: &&RecordedLine| {
        let input = SideInput::from_json(line.value.as_deref().unwrap()).unwrap();
        matches!(input.taken, Taken::Tick { .. })
    };
    of.filter(is_tick).count()
}

fn configure(app: &App) -> std::path::PathBuf {
    let config = app.configure(&format!(
        "ingest: direct\ndelivery: {{checkpoint_interval: 500ms}}\n\
         time: {{{WIDE}, idle_timeout: 500ms, slice: 1s}}\n\
         sessions: {{gap: 2s}}\ncheckout: {{t_checkout: 3s}}\n\
         figures: {{windows: [{{length: 5s, slide: 1s}}, {{length: 1m, slide: 10s}}, \
         {{length: 5m, slide: 30s}}]}}\n\
         sources:\n  shop:\n    topic: {}\n    format: canonical_json\n    \
         start: earliest\n    max_out_of_orderness: 500ms",
        app.topic("shop")
    ));
    app.apply_topics(&config);
    config
}

fn compare(app: &App, config: &Path) {
    let (shop, inputs) = (app.dump_topic(&app.topic("shop")), inputs(app));
    let flushes = app.dump_topic(&app.topic("rollup.repartition"));
    let whole = replayed(app, config, "whole", [inputs, flushes, shop.clone()]);
    compare_with(app, &whole);
    // Without the side inputs time passes only as far as records say: the last sessions are open.
    let alone = replayed(app, config, "alone", [shop]);
    assert!(said(&alone, Topic::Sessions).len() < said(&whole, Topic::Sessions).len());
}

#[test]
fn what_ran_with_idle_partitions_is_replayed_from_its_side_inputs() {
    let app = App::new("e2e-idle", &[("shop", 2)]);
    let config = configure(&app);
    let running = Running::start(&config);
    starts(&app, 0, "anna", 0);
    starts(&app, 1, "bert", 700);
    wait_for(&app, 2);
    // In the middle of a tick, most likely: one comes four times a second.
    running.kill();
    let before = inputs(&app);
    assert!(ticks(&before, 0) > 3 && ticks(&before, 1) > 3, "{before:?}");
    let running = Running::start(&config);
    starts(&app, 0, "cleo", 0);
    wait_for(&app, 3);
    // Wakes behind the other, for which time has gone on.
    starts(&app, 1, "dora", 2_500);
    wait_for(&app, 4);
    running.stop();
    let all = inputs(&app);
    assert!(before.iter().all(|line| all.contains(line)));
    assert!(ticks(&all, 0) > ticks(&before, 0) && ticks(&all, 1) > ticks(&before, 1));
    compare(&app, &config);
}

#[test]
fn a_log_of_one_partition_needs_no_order_of_flushes_and_seals_are_side_inputs() {
    let app = App::new("e2e-idle-one", &[("shop", 1)]);
    let config = configure(&app);
    starts(&app, 0, "anna", 0);
    app.run_to_end_again(&config);
    let running = Running::start(&config);
    wait_for(&app, 1);
    running.stop();
    starts(&app, 0, "bert", 0);
    app.run_to_end_again(&config);
    let kinds: Vec<Taken> = inputs(&app)
        .iter()
        .map(|line| SideInput::from_json(line.value.as_deref().unwrap()).unwrap().taken)
        .collect();
    assert!(kinds.len() > 3 && kinds.first() == Some(&Taken::Seal), "{kinds:?}");
    assert_eq!(
        (kinds.last(), kinds.iter().filter(|k| **k == Taken::Seal).count()),
        (kinds.first(), 2)
    );
    let (shop, inputs) = (app.dump_topic(&app.topic("shop")), inputs(&app));
    compare_with(&app, &replayed(&app, &config, "whole", [shop, inputs]));
}
