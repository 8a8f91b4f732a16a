//! Another configuration: taken where nothing has to be folded again, refused elsewhere, and recorded.

use super::support::{App, DEADLINE, Running, WIDE, fails, touchline};
use super::{replayed_fails, shop};
use std::path::{Path, PathBuf};
use touchline::clock::Moment;
use touchline::codec::inputs::{SideInput, Taken};
use touchline::model::topic::Topic;

fn configure(app: &App, gap: &str) -> PathBuf {
    app.configure(&format!(
        "delivery: {{checkpoint_interval: 1h}}\ntime: {{{WIDE}}}\nsessions: {{gap: {gap}}}\n\
         sources:\n  shop:\n    topic: {}\n    format: canonical_json\n    \
         start: earliest\n    max_out_of_orderness: 2m",
        app.topic("shop")
    ))
}

fn state(what: &str, config: &Path) -> String {
    touchline(&["state".as_ref(), what.as_ref(), "--config".as_ref(), config])
}

#[test]
fn another_configuration_is_refused_by_field_and_recorded_where_it_is_taken() {
    let app = App::new("e2e-switched", &[("shop", super::PARTITIONS)]);
    let config = configure(&app, "30m");
    shop(&app, &config, 41, 5_000);
    // The only checkpoint is the first one, and much is published behind it.
    let running = Running::start(&config);
    let since = Moment::now();
    while app.dump(Topic::Sessions).len() < 50 {
        assert!(since.elapsed() < DEADLINE, "no sessions");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    running.kill();
    let config = configure(&app, "20m");
    let differs = "sessions.gap was 30m and is 20m";
    let said = fails(&["run", "--stop-at-end"], &config);
    assert!(said.contains("have to be folded again as before"), "{said}");
    assert!(said.contains(&format!("what differs: {differs}")), "{said}");
    assert!(said.contains("touchline state seal"), "{said}");
    let shown = state("show", &config);
    assert!(shown.contains(&format!("of another configuration: {differs}")), "{shown}");
    // What the message says helps.
    let config = configure(&app, "30m");
    let sealed = state("seal", &config);
    assert!(sealed.lines().all(|line| line.contains("  sealed")), "{sealed}");
    let config = configure(&app, "20m");
    app.run_to_end_again(&config);
    assert!(!state("show", &config).contains("another configuration"));
    let texts = app.dump_topic(&app.topic("config"));
    let mut keys: Vec<_> = texts.iter().map(|line| line.key.clone().unwrap()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 2);
    for (role, partitions) in [("journey", 4), ("rollup", 1)] {
        let inputs = app.dump_topic(&app.topic(&format!("{role}.inputs")));
        let switches = inputs.iter().filter(|line| {
            let input = SideInput::from_json(line.value.as_deref().unwrap()).unwrap();
            let Taken::Switch { from, to } = input.taken else { return false };
            assert!(from.configuration != to.configuration);
            [from, to].iter().all(|c| keys.contains(&c.configuration.as_bytes().to_vec()))
        });
        // A partition of which nothing had been folded takes every configuration that comes by.
        let count = switches.count();
        assert!(count >= partitions && (count - partitions) % 2 == 0, "{role}: {inputs:?}");
        let said = replayed_fails(&app, &config, [app.dump(Topic::Canonical), inputs]);
        assert!(said.contains("was switched from configuration"), "{said}");
        assert!(said.contains("at offset "), "{said}");
    }
}
