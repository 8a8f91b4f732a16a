//! What a running pipeline serves: metrics and health.

use super::support::{App, Produced, Running};
use std::io::Write;
use std::process::{Command, Stdio};
use touchline::app::generate::record;
use touchline::generate::{Generator, Plan, Scenario};
use touchline::model::time::{EventTime, Millis};

fn produce(app: &App, plan: Plan) {
    let topic = "shop".into();
    app.produce(
        "shop",
        Generator::new(plan).map(|emitted| {
            let out = record(&topic, &emitted.payload);
            let key = String::from_utf8(out.key.unwrap_or_default()).unwrap();
            let timestamp = Some(emitted.arrival.as_ms());
            Produced { key, value: out.value, timestamp, partition: None }
        }),
    );
}

fn source(app: &App) -> String {
    format!(
        "sources:\n  shop: {{topic: {}, format: canonical_json, start: earliest, \
         max_out_of_orderness: 2m}}",
        app.topic("shop")
    )
}

fn now() -> EventTime {
    EventTime::from_ms(touchline::clock::now().as_ms())
}

#[test]
fn metrics_are_well_formed_and_health_becomes_ok() {
    let app = App::new("e2e-served", &[("shop", 2)]);
    let config = app.configure(&source(&app));
    app.apply_topics(&config);
    let mut plan = Plan::new(Scenario::Shop, 5).starting(now().minus(Millis::from_hours(2)));
    plan.until = Some(now().minus(Millis::from_mins(1)));
    produce(&app, plan);
    let mut running = Running::start(&config);
    running.wait("/healthz", |status, _| (status == 200).then_some(()));
    running.wait("/readyz", |status, _| (status == 200).then_some(()));
    let restored = running.wait("/metrics", |status, body| {
        let journey = "touchline_restore_records_left{partition=\"3\",role=\"journey\"}";
        let line = body.lines().find(|line| line.starts_with(journey))?;
        (status == 200).then(|| line.rsplit(' ').next().unwrap_or_default().to_owned())
    });
    assert_eq!(restored, "0", "nothing is left when it is ready");
    let metrics = running.wait("/metrics", |status, body| {
        let counted = body.contains("touchline_touchpoints_total{outcome=\"counted\"}");
        let windows = body.contains("touchline_window_revisions_total{view=");
        (status == 200 && counted && windows).then(|| body.to_owned())
    });
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let said = (String::from_utf8_lossy(&said.stderr), said.status.success());
    assert_eq!(said, ("".into(), true), "{metrics}");
    running.wait("/api/v1/windows", |status, body| {
        (status == 200 && body.contains("\"customers\"")).then_some(())
    });
    running.stop();
}
