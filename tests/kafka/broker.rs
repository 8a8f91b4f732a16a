//! A real Apache Kafka for tests: one process, its own directory and ports, gone with the value.
//!
//! The jars (and nothing else) come from the directory that `TOUCHLINE_KAFKA_LIBS` names, which
//! `tests/run` provides; without it the tests that need a broker fail, they are never skipped.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use touchline::kafka::{Connection, client};

/// Runs the broker and ends it when standard input closes, which also happens when the test process
/// is killed: no broker is ever left behind.
const SUPERVISOR: &str = r#""$@" > "$LOG" 2>&1 < /dev/null & pid=$!
read -r _; kill -9 $pid; wait $pid"#;

/// A running broker.
pub(crate) struct Broker {
    port: u16,
    dir: tempfile::TempDir,
    process: Child,
}

impl Broker {
    /// The broker that the tests running now share; started if there is none.
    pub(crate) fn shared() -> Arc<Broker> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Broker::start());
            *shared = Arc::downgrade(&broker);
            broker
        })
    }

    /// Starts a broker of one's own and waits until it answers.
    pub(crate) fn start() -> Broker {
        Broker::start_behind(|port| port)
    }

    /// The same with something before it: `front` is told the broker's port and tells the one that
    /// clients, and the broker itself, get to know.
    pub(crate) fn start_behind(front: impl FnOnce(u16) -> u16) -> Broker {
        let libs = libs();
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Held until all are known, so that they differ.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [own, controller] = free.each_ref().map(|l| l.local_addr().expect("bound").port());
        let port = front(own);
        drop(free);
        let properties = dir.path().join("server.properties");
        fs::write(&properties, settings(own, port, controller, dir.path())).expect("writable");
        format(&libs, &properties);
        let process = supervise(&libs, &properties, &dir.path().join("broker.log"));
        let broker = Broker { port, dir, process };
        // The client waits for the broker to come up, and the answer names no such topic; a busy machine
        // takes longer than one question waits.
        let ask = || client::partitions(&broker.connection(), "is-anybody-there");
        let missing = touchline::kafka::Error::MissingTopic("is-anybody-there".to_owned());
        let mut answer = ask();
        for _ in 0..3 {
            if answer.as_ref() != Err(&missing) {
                answer = ask();
            }
        }
        assert_eq!(answer, Err(missing), "see the log:\n{}", broker.log());
        broker
    }

    /// How to reach it.
    pub(crate) fn connection(&self) -> Connection {
        Connection::to(&format!("127.0.0.1:{}", self.port))
    }

    /// Its host and port.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("broker.log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().expect("the supervisor ends");
    }
}

fn libs() -> PathBuf {
    let libs = std::env::var_os("TOUCHLINE_KAFKA_LIBS");
    PathBuf::from(libs.expect("TOUCHLINE_KAFKA_LIBS names the directory of Kafka's jars"))
}

fn java(libs: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(libs.join("*"));
    command
}

fn format(libs: &Path, properties: &Path) {
    let done = java(libs)
        .args(["kafka.tools.StorageTool", "format", "--standalone"])
        .args(["-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c"])
        .arg(properties)
        .output()
        .expect("java is there");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn supervise(libs: &Path, properties: &Path, log: &Path) -> Child {
    Command::new("sh")
        .args(["-c", SUPERVISOR, "sh", "java"])
        .args(["-Xmx512m", "-XX:+UseSerialGC"])
        // Up sooner, and slower ever after: a benchmark has the broker as it is shipped.
        .args(cfg!(test).then_some("-XX:TieredStopAtLevel=1"))
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("-cp")
        .arg(libs.join("*"))
        .arg("kafka.Kafka")
        .arg(properties)
        .env("LOG", log)
        .stderr(Stdio::null())
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh is there")
}

fn settings(own: u16, port: u16, controller: u16, dir: &Path) -> String {
    let data = dir.join("data");
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{own},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
auto.create.topics.enable=false
log.retention.hours=100000
"
    )
}
