//! What a running pipeline serves and pushes: metrics, health, alerts.

use super::support::{App, DEADLINE, Produced, Running, get};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use touchline::app::generate::record;
use touchline::clock::Moment;
use touchline::generate::{Fault, FaultKind, Generator, Plan, Scenario};
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

/// An Alertmanager and who it notifies.
struct Alertmanager {
    process: Child,
    url: String,
    /// Bodies of its notifications.
    told: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Alertmanager {
    fn start(app: &App) -> Alertmanager {
        let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = format!(
            "route: {{receiver: test, group_by: ['...'], group_wait: 0s, group_interval: 1s, \
             repeat_interval: 4h}}\nreceivers:\n  - name: test\n    webhook_configs:\n      \
             - {{url: 'http://{}/', send_resolved: true}}\n",
            receiver.local_addr().unwrap()
        );
        let path = app.path("alertmanager.yml");
        std::fs::write(&path, config).unwrap();
        let told: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
        let kept = told.clone();
        std::thread::spawn(move || {
            for stream in receiver.incoming().map_while(Result::ok) {
                if let Some(body) = take(stream) {
                    kept.lock().unwrap().push(body);
                }
            }
        });
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", app.path("alertmanager").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Moment::now();
        while std::net::TcpStream::connect(&address).is_err() || get(&address, "/-/ready").0 != 200
        {
            assert!(since.elapsed() < DEADLINE, "Alertmanager does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Alertmanager { process, url: format!("http://{address}"), told }
    }

    /// All notifications so far: labels and status of their alerts.
    fn told(&self) -> Vec<(String, String)> {
        let told = self.told.lock().unwrap();
        let alerts = told.iter().flat_map(|body| body["alerts"].as_array().unwrap());
        alerts
            .map(|a| (a["labels"].to_string(), a["status"].as_str().unwrap().to_owned()))
            .collect()
    }

    fn wait(&self, what: &str, wanted: impl Fn(&[(String, String)]) -> bool) {
        let since = Moment::now();
        while !wanted(&self.told()) {
            assert!(since.elapsed() < DEADLINE, "{what}: {:?}", self.told());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // Over already if it failed.
        let _over = self.process.kill();
        let _waited = self.process.wait();
    }
}

/// Body of one request, which is answered.
fn take(mut stream: std::net::TcpStream) -> Option<serde_json::Value> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
    serde_json::from_slice(&body).ok()
}

/// Thirty days of a small shop with two spikes in the past and one now: nobody is called for what is
/// over, and once for what is not.
#[test]
fn alertmanager_hears_of_the_present_spike_alone_and_of_its_end() {
    let app = App::new("e2e-alerts", &[("shop", 1)]);
    let alertmanager = Alertmanager::start(&app);
    // A small shop has few checkouts in five minutes. The pipeline is followed at ten hours' distance,
    // so that the end of the spike is over when it is told.
    let config = app.configure(&format!(
        "{}\ntime: {{max_age: 40d, max_drift: 60d}}\n\
         relay: {{alertmanagers: [\"{}\"], max_alert_age: 14h}}\n\
         figures: {{windows: [{{length: 30m, slide: 1m}}]}}\n\
         rules:\n  CheckoutAbandonmentSpike: {{window: 30m, min_sample: 20}}\n  \
         ChannelSilent: {{enabled: false}}",
        source(&app),
        alertmanager.url
    ));
    app.apply_topics(&config);
    let now = now();
    let hours = |n: i64| now.minus(Millis::from_hours(n));
    let mut plan = Plan::new(Scenario::Calm, 3);
    plan.rate = 0.25;
    plan.start = hours(30 * 24);
    let spike = |from, to| {
        let kind = FaultKind::PaymentBroken("web".into());
        Fault { kind, from: hours(from), to: hours(to) }
    };
    plan.faults = vec![spike(20 * 24, 20 * 24 - 5), spike(9 * 24, 9 * 24 - 5), spike(16, 9)];
    plan.until = Some(hours(10));
    produce(&app, plan.clone());
    let mut running = Running::start(&config);
    running.wait("/readyz", |status, _| (status == 200).then_some(()));
    alertmanager.wait("the present spike", |told| !told.is_empty());
    // The same traffic goes on; what has been sent is not sent again.
    let sent = plan.until.unwrap();
    plan.until = Some(now.minus(Millis::from_mins(1)));
    let topic = "shop".into();
    app.produce(
        "shop",
        Generator::new(plan).filter(|e| e.arrival >= sent).map(|emitted| {
            let out = record(&topic, &emitted.payload);
            let key = String::from_utf8(out.key.unwrap_or_default()).unwrap();
            Produced { key, value: out.value, ..Produced::default() }
        }),
    );
    alertmanager.wait("its end", |told| told.iter().any(|(_, status)| status == "resolved"));
    let told = alertmanager.told();
    let alerts: BTreeSet<&String> = told.iter().map(|(labels, _)| labels).collect();
    assert_eq!(alerts.len(), 1, "{told:?}");
    let statuses: Vec<&str> = told.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(statuses, ["firing", "resolved"], "{told:?}");
    running.stop();
}
