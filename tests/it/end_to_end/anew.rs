//! A topic that was deleted and created anew under its name is noticed, and nothing goes on from it.

use super::support::{App, WIDE, fails};
use super::{closing, shop};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use touchline::clock::Moment;
use touchline::kafka::client::end_offsets;

/// Deletes a topic of ours and waits until it is gone.
fn delete(app: &App, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", app.broker.bootstrap()).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let names = [topic];
    let deleted = runtime.block_on(admin.delete_topics(&names, &AdminOptions::new())).unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let since = Moment::now();
    while end_offsets(&app.connection(), topic).is_ok() {
        assert!(since.elapsed() < super::support::DEADLINE, "{topic} is still there");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn an_input_that_was_created_anew_is_refused_though_its_offsets_fit() {
    let app = App::new("e2e-anew", &[("shop", super::PARTITIONS)]);
    let config = app.configure(&format!(
        "ingest: direct\ntime: {{{WIDE}}}\nsources:\n  shop:\n    topic: {}\n    \
         format: canonical_json\n    start: earliest\n    max_out_of_orderness: 2m",
        app.topic("shop")
    ));
    shop(&app, &config, 31, 500);
    app.run_to_end_again(&config);
    let before = end_offsets(&app.connection(), &app.topic("shop")).unwrap();
    delete(&app, &app.topic("shop"));
    app.create_sources(&[("shop", super::PARTITIONS)]);
    // The same once more, and then some: every committed offset is within the new topic.
    shop(&app, &config, 31, 500);
    app.produce(
        "shop",
        (0..super::PARTITIONS).map(|p| {
            closing(p, touchline::model::time::EventTime::from_ms(touchline::clock::now().as_ms()))
        }),
    );
    let after = end_offsets(&app.connection(), &app.topic("shop")).unwrap();
    assert!(after.iter().all(|(partition, end)| *end > before[partition]), "{after:?}");
    let said = fails(&["run", "--stop-at-end"], &config);
    assert!(said.contains("or the input was created anew"), "{said}");
    assert!(said.contains("touchline state reset"), "{said}");
}
