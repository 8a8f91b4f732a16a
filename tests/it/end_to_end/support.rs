//! The program itself on the shared broker, with an application and topics of its own.

use crate::kafka::broker::Broker;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use touchline::clock::Moment;
use touchline::codec::recorded::RecordedLine;
use touchline::kafka::client::end_offsets;
use touchline::kafka::reader::{Go, Tail, Tailed};
use touchline::kafka::topics::{Cleanup, Wanted, apply, plan};
use touchline::kafka::writer::Writer;
use touchline::kafka::{Connection, OutRecord, Source, Start};
use touchline::model::ids::PartitionId;
use touchline::model::time::Millis;
use touchline::model::topic::Topic;

/// How long a condition may take to come true on a busy machine.
pub(crate) const DEADLINE: Millis = Millis::from_secs(180);
/// As good as without bounds, for input that is older or newer than now.
pub(crate) const WIDE: &str = "max_age: 10000d, max_future_skew: 10000d";

/// An application of its own.
pub(crate) struct App {
    pub(crate) broker: Arc<Broker>,
    pub(crate) dir: tempfile::TempDir,
    name: &'static str,
}

impl App {
    /// Source topics `<name>.<source>` with so many partitions each; nothing of ours yet.
    pub(crate) fn new(name: &'static str, sources: &[(&str, i32)]) -> App {
        let dir = tempfile::tempdir().unwrap();
        let app = App { broker: Broker::shared(), dir, name };
        app.create_sources(sources);
        app
    }

    /// Creates source topics.
    pub(crate) fn create_sources(&self, sources: &[(&str, i32)]) {
        let wanted = sources.iter().map(|(source, partitions)| {
            let topic = self.topic(source);
            let mut wanted = Wanted::ours(&topic, *partitions, Some(1), Cleanup::Delete, -1);
            // Records keep the timestamps that they are produced with.
            wanted.configs.remove("message.timestamp.type");
            wanted
        });
        let wanted: Vec<Wanted> = wanted.collect();
        apply(&self.connection(), &plan(&wanted, &BTreeMap::new())).unwrap();
    }

    pub(crate) fn connection(&self) -> Connection {
        self.broker.connection()
    }

    /// Full name of a topic.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration: names of our own, and `more` (YAML sections).
    pub(crate) fn configure(&self, more: &str) -> PathBuf {
        let topics: Vec<String> = Topic::ALL
            .iter()
            .map(|topic| {
                let word = serde_json::to_value(topic).unwrap();
                let word = word.as_str().unwrap();
                let partitions = match topic {
                    Topic::Canonical => ", partitions: 4",
                    Topic::Sessions | Topic::CheckoutLifecycle => ", partitions: 2",
                    _ => "",
                };
                format!("  {word}: {{name: {}{partitions}}}", self.topic(topic.default_name()))
            })
            .collect();
        let text = format!(
            "app: {{name: {}}}\nkafka: {{bootstrap.servers: \"{}\"}}\ntopics:\n{}\n\
             http: {{listen: \"127.0.0.1:0\"}}\n{more}\n",
            self.name,
            self.broker.bootstrap(),
            topics.join("\n")
        );
        let path = self.path("touchline.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Creates our topics by the command for it.
    pub(crate) fn apply_topics(&self, config: &Path) {
        touchline(&["topics".as_ref(), "apply".as_ref(), "--config".as_ref(), config]);
    }

    /// Reads all that is there to its end; the summary.
    pub(crate) fn run_to_end(&self, config: &Path) -> serde_json::Value {
        let summary = self.path("summary.json");
        let run = ["run", "--stop-at-end", "--summary"].map(Path::new);
        touchline(&[&run, [summary.as_path(), Path::new("--config"), config].as_slice()].concat());
        let text = std::fs::read_to_string(summary).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        let n = |name: &str| summary[name].as_u64().unwrap();
        let ends = ["counted", "duplicate", "late", "dead_letter", "filtered"].map(n);
        assert_eq!(n("events_in"), ends.iter().sum::<u64>(), "{text}");
        summary
    }

    /// Goes on from where an earlier run left off, to the end of what is there.
    pub(crate) fn run_to_end_again(&self, config: &Path) {
        touchline(
            &["run", "--stop-at-end", "--config"]
                .map(Path::new)
                .iter()
                .copied()
                .chain([config])
                .collect::<Vec<_>>(),
        );
    }

    /// Produces records to a source topic.
    pub(crate) fn produce(&self, source: &str, records: impl IntoIterator<Item = Produced>) {
        let writer = Writer::new(&self.connection(), 1 << 20).unwrap();
        let topic: Arc<str> = self.topic(source).into();
        for record in records {
            let mut out = OutRecord::new(&topic, record.key.into_bytes(), record.value);
            out.partition = record.partition.map(PartitionId::new);
            out.timestamp = record.timestamp;
            writer.send(&out).unwrap();
        }
        writer.flush(DEADLINE).unwrap();
    }

    /// Offsets in all partitions of a topic, markers included.
    fn written(&self, topic: &str) -> i64 {
        end_offsets(&self.connection(), topic).unwrap().values().map(|next| next.get()).sum()
    }

    /// Waits until `topic` has grown by `records` at least, so that something is under way.
    pub(crate) fn wait_for(&self, topic: &str, records: i64) {
        let (since, before) = (Moment::now(), self.written(topic));
        while self.written(topic) < before + records {
            assert!(since.elapsed() < DEADLINE, "{topic} does not grow");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything in a topic of ours, partition by partition.
    pub(crate) fn dump(&self, topic: Topic) -> Vec<RecordedLine> {
        self.dump_topic(&self.topic(topic.default_name()))
    }

    /// The same of any topic.
    pub(crate) fn dump_topic(&self, topic: &str) -> Vec<RecordedLine> {
        let connection = self.connection();
        let partitions = end_offsets(&connection, topic).unwrap().len();
        let records: Arc<Mutex<BTreeMap<i32, Vec<RecordedLine>>>> = Arc::default();
        let (kept, mut ended) = (records.clone(), std::collections::BTreeSet::new());
        let sources = [Source::new(topic, Start::Earliest)];
        let tail = Tail::start("dump", &connection, &sources, move |tailed| match tailed {
            Tailed::Record(record) => {
                let headers = record.headers.iter();
                let line = RecordedLine {
                    topic: record.topic.to_owned(),
                    partition: record.partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    headers: headers
                        .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                        .collect(),
                    value: record.value.map(<[u8]>::to_vec),
                };
                kept.lock().unwrap().entry(line.partition.get()).or_default().push(line);
                Go::On
            }
            Tailed::End { partition, .. } => {
                ended.insert(partition);
                if ended.len() == partitions { Go::Stop } else { Go::On }
            }
        });
        tail.unwrap().join().unwrap();
        let mut records = records.lock().unwrap();
        std::mem::take(&mut *records).into_values().flatten().collect()
    }
}

/// A record to produce.
#[derive(Default)]
pub(crate) struct Produced {
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
}

/// Runs the program and expects it to end well; its standard output.
pub(crate) fn touchline(arguments: &[&Path]) -> String {
    let output = command().args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}", tail_of(&errors));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program and expects it to fail; what it says.
pub(crate) fn fails(arguments: &[&str], config: &Path) -> String {
    let output = command().args(arguments).arg("--config").arg(config).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} went well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_touchline"));
    command.env("RUST_LOG", "info").env("NO_COLOR", "1").stdin(Stdio::null());
    // Copies of states, those of earlier runs of the tests among them.
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command
}

fn tail_of(text: &str) -> &str {
    let from = text.len().saturating_sub(3_000);
    (from..text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}

/// A `run` that goes on until it is told to stop.
pub(crate) struct Running {
    child: Child,
    /// Where HTTP listens.
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

impl Running {
    pub(crate) fn start(config: &Path) -> Running {
        Running::start_with(&[config])
    }

    /// With several files of configuration.
    pub(crate) fn start_with(configs: &[&Path]) -> Running {
        let mut command = command();
        command.args(["run", "--config"]).args(configs);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log: Arc<Mutex<String>> = Arc::default();
        let kept = log.clone();
        let (tell, told) = sync_channel(1);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("metrics at http://") {
                    let _first = tell.try_send(address.trim_end_matches('/').to_owned());
                }
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = told.recv_timeout(Duration::from_secs(60));
        let address = address.unwrap_or_else(|_| panic!("{}", tail_of(&log.lock().unwrap())));
        Running { child, address, log }
    }

    /// Status and body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&self.address, path)
    }

    /// Asks until `wanted` finds what it looks for.
    pub(crate) fn wait<T>(&mut self, path: &str, wanted: impl Fn(u16, &str) -> Option<T>) -> T {
        let since = Moment::now();
        loop {
            let (status, body) = self.get(path);
            if let Some(found) = wanted(status, &body) {
                return found;
            }
            let log = self.log.lock().unwrap();
            let ended = self.child.try_wait().unwrap();
            let late = since.elapsed() > DEADLINE || ended.is_some();
            assert!(!late, "{path} says {status} {body}\n{}", tail_of(&log));
            drop(log);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Kills it: nothing of it runs on.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", tail_of(&self.log.lock().unwrap()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Over already after `stop`.
        let _over = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Status and body of a GET.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { unchunk(body) } else { body.to_owned() })
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || size > rest.len() {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
