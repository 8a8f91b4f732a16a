//! Thirty days through `run` to a real Alertmanager: nobody is called for what is over, and once for
//! what is not.

use super::support::{App, DEADLINE, Produced, Running, get};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use touchline::clock::Moment;
use touchline::codec::canonical::Schemas;
use touchline::codec::derived::decode_alert;
use touchline::model::record::{AlertRecord, AlertTransition};
use touchline::model::time::{EventTime, Millis};
use touchline::model::topic::Topic;

/// A small shop has few checkouts in five minutes, so the rule looks at half an hour.
const CONFIG: &str = "time: {max_age: 40d}\n\
    figures: {windows: [{length: 30m, slide: 10m}], dimensions: [[channel]]}\n\
    rules:\n  CheckoutAbandonmentSpike: {window: 30m}\n  ChannelSilent: {enabled: false}";
const WINDOW_MS: i64 = 30 * 60_000;
const HOUR_MS: i64 = 3_600_000;
/// Checkouts in an hour, three of four on the web.
const CHECKOUTS: i64 = 60;
const SPIKE_HOURS: i64 = 2;
/// Hours before the present at which web payments break: twice long ago, once just now.
const SPIKES: [i64; 3] = [20 * 24, 9 * 24, 5];
/// So long after the start of the present spike the first part of the traffic ends: it fires by then,
/// and its windows are not over. By the present it is resolved.
const FIRST_PART_MS: i64 = 5 * WINDOW_MS;

/// The shop's touchpoints up to the present (a multiple of the window, so that windows are always cut
/// the same way), in order of time.
struct Shop {
    present: i64,
    touchpoints: Vec<(i64, Produced)>,
}

impl Shop {
    fn new() -> Shop {
        let now = touchline::clock::now().as_ms();
        let present = now - now.rem_euclid(WINDOW_MS);
        let mut shop = Shop { present, touchpoints: Vec::new() };
        for number in 0..30 * 24 * CHECKOUTS {
            shop.checkout(number);
        }
        shop.touchpoints.sort_by_key(|(at, _)| *at);
        shop
    }

    fn checkout(&mut self, number: i64) {
        let spread = splitmix(number as u64) % 60_000;
        let begun = self.present - 30 * 24 * HOUR_MS + number * HOUR_MS / CHECKOUTS;
        let begun = begun + spread as i64;
        let channel = if number % 4 == 0 { "mobile_app" } else { "web" };
        let age = self.present - begun;
        let broken = SPIKES.iter().any(|from| {
            let since = from * HOUR_MS - age;
            channel == "web" && (0..SPIKE_HOURS * HOUR_MS).contains(&since)
        });
        let abandoned = if broken { 90 } else { 30 };
        self.say(number, begun, channel, "start");
        if splitmix(splitmix(number as u64)) % 100 >= abandoned {
            self.say(number, begun + 4 * 60_000, channel, "complete");
        }
    }

    fn say(&mut self, number: i64, at: i64, channel: &str, action: &str) {
        let value = format!(
            "{{\"id\":\"{action}-{number}\",\"source\":\"shop\",\"tenant\":\"default\",\
             \"event_time\":{at},\"customer_id\":\"c-{number}\",\"checkout_id\":\"k-{number}\",\
             \"channel\":\"{channel}\",\"touchpoint\":\"checkout\",\"action\":\"{action}\",\
             \"value\":4990,\"currency\":\"EUR\"}}"
        );
        let (key, value) = (format!("c-{number}"), Some(value.into_bytes()));
        if at < self.present {
            let timestamp = Some(at);
            self.touchpoints.push((at, Produced { key, value, timestamp, partition: None }));
        }
    }

    /// Produces what is before `until` and has not been produced.
    fn produce(&mut self, app: &App, until: i64) {
        let rest =
            self.touchpoints.split_off(self.touchpoints.partition_point(|(at, _)| *at < until));
        let now = std::mem::replace(&mut self.touchpoints, rest);
        app.produce("shop", now.into_iter().map(|(_, produced)| produced));
    }
}

/// One step of SplitMix64.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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
        while TcpStream::connect(&address).is_err() || get(&address, "/-/ready").0 != 200 {
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
fn take(mut stream: TcpStream) -> Option<serde_json::Value> {
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

/// Everything said about alerts that fired, oldest first.
fn recorded(app: &App) -> Vec<AlertRecord> {
    let schemas = Schemas::new();
    let lines = app.dump(Topic::AlertEvents).into_iter().filter_map(|line| line.value);
    let records = lines.map(|value| decode_alert(&schemas, &value).unwrap());
    records
        .filter(|r| matches!(r.transition, AlertTransition::Firing | AlertTransition::Resolved))
        .collect()
}

#[test]
fn alertmanager_hears_of_the_present_spike_alone_and_of_its_end() {
    let app = App::new("e2e-alerts", &[("shop", 1)]);
    let alertmanager = Alertmanager::start(&app);
    let config = app.configure(&format!(
        "sources:\n  shop: {{topic: {}, format: canonical_json, start: earliest}}\n{CONFIG}\n\
         relay: {{alertmanagers: [\"{}\"], max_alert_age: 4h}}",
        app.topic("shop"),
        alertmanager.url
    ));
    app.apply_topics(&config);
    let mut shop = Shop::new();
    let began = SPIKES.map(|hours| EventTime::from_ms(shop.present - hours * HOUR_MS));
    shop.produce(&app, began[2].as_ms() + FIRST_PART_MS);
    let mut running = Running::start(&config);
    running.wait("/readyz", |status, _| (status == 200).then_some(()));
    alertmanager.wait("the present spike", |told| !told.is_empty());
    // The source was idle. A little of it first, so that every canonical partition hears that it is back:
    // what an idle partition still has to come does not hold the others' clock.
    shop.produce(&app, began[2].as_ms() + FIRST_PART_MS + WINDOW_MS / 2);
    std::thread::sleep(Duration::from_millis(2_500));
    shop.produce(&app, shop.present);
    alertmanager.wait("its end", |told| told.iter().any(|(_, status)| status == "resolved"));
    running.stop();

    let told = alertmanager.told();
    let statuses: Vec<&str> = told.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(statuses, ["firing", "resolved"], "{told:?}");
    let labels: serde_json::Value = serde_json::from_str(&told[0].0).unwrap();
    assert_eq!(told[0].0, told[1].0);
    assert_eq!([&labels["alertname"], &labels["channel"]], ["CheckoutAbandonmentSpike", "web"]);
    // All three are on record.
    let records = recorded(&app);
    let words: Vec<_> = records.iter().map(|r| r.transition).collect();
    let once = [AlertTransition::Firing, AlertTransition::Resolved];
    assert_eq!(words, once.repeat(SPIKES.len()));
    for (pair, began) in records.chunks(2).zip(began) {
        let over = began.plus(Millis::from_hours(SPIKE_HOURS));
        assert!(began <= pair[0].starts_at && pair[0].starts_at < over, "{:?}", pair[0]);
        assert!(pair[1].ends_at.is_some_and(|ends| pair[0].starts_at < ends), "{:?}", pair[1]);
    }
}
