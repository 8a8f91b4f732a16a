//! The program, its configuration, and what the system says of it.

use super::broker::Broker;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use touchline::kafka::Connection;
use touchline::kafka::memory;
use touchline::kafka::topics::{Cleanup, Wanted, apply, plan};

pub(crate) const SOURCE: &str = "bench.source";
const SOURCE_PARTITIONS: i32 = 12;

/// A broker and a directory for files.
pub(crate) struct Work {
    pub(crate) broker: Broker,
    dir: tempfile::TempDir,
    settings: Vec<String>,
}

impl Work {
    pub(crate) fn new(broker: Broker, settings: &[String]) -> Work {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut wanted = Wanted::ours(SOURCE, SOURCE_PARTITIONS, Some(1), Cleanup::Delete, -1);
        // Records keep the timestamps that they are produced with.
        wanted.configs.remove("message.timestamp.type");
        let changes = plan(&[wanted], &std::collections::BTreeMap::new());
        apply(&broker.connection(), &changes).expect("the source topic");
        Work { broker, dir, settings: settings.to_vec() }
    }

    pub(crate) fn connection(&self) -> Connection {
        self.broker.connection()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Shipped settings but for names; `delivery` are more lines of that section.
    pub(crate) fn configure(&self, instance: &str, delivery: &str) -> PathBuf {
        self.configure_app("touchline", instance, delivery)
    }

    pub(crate) fn configure_app(&self, app: &str, instance: &str, delivery: &str) -> PathBuf {
        let (bootstrap, more) = (self.broker.bootstrap(), self.settings.join("\n"));
        let topics: String = match app {
            "touchline" => String::new(),
            // Topics of its own.
            _ => format!("topics:\n{}", own_topics(app)),
        };
        let delivery = match delivery {
            "" => String::new(),
            lines => format!("delivery:\n{lines}"),
        };
        let text = format!(
            "app: {{name: {app}, instance: {instance}}}\n\
             kafka: {{bootstrap.servers: \"{bootstrap}\"}}\n\
             http: {{listen: \"127.0.0.1:0\"}}\n\
             sources:\n  bench:\n    topic: {SOURCE}\n    format: canonical_json\n    \
             start: earliest\n{topics}\n{delivery}\n{more}\n"
        );
        let path = self.path(&format!("{app}-{instance}.yaml"));
        std::fs::write(&path, text).expect("a writable directory");
        path
    }

    pub(crate) fn apply_topics(&self, config: &Path) {
        let status = command()
            .args(["topics".as_ref(), "apply".as_ref(), "--config".as_ref(), config.as_os_str()])
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("the program is there").success(), "topics apply");
    }
}

fn own_topics(app: &str) -> String {
    touchline::model::topic::Topic::ALL
        .iter()
        .map(|topic| {
            let word = serde_json::to_value(topic).expect("a word");
            let word = word.as_str().unwrap_or_default();
            format!("  {word}: {{name: {app}.{}}}\n", topic.default_name())
        })
        .collect()
}

pub(crate) fn command() -> Command {
    let named = std::env::var_os("TOUCHLINE_PROGRAM");
    let program = named.unwrap_or_else(|| env!("CARGO_BIN_EXE_touchline").into());
    let mut command = Command::new(program);
    command.env("RUST_LOG", "info").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A `run` that goes on.
pub(crate) struct Child {
    process: std::process::Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Child {
    pub(crate) fn start(config: &Path) -> Child {
        let mut command = command();
        command.args([Path::new("run"), Path::new("--config"), config]);
        command.env("XDG_CACHE_HOME", config.with_file_name("cache"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program is there");
        let stderr = BufReader::new(process.stderr.take().expect("piped"));
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.lock().expect("no panic while held").push(line);
            }
        });
        Child { process, log }
    }

    /// Memory that is resident.
    pub(crate) fn resident_mib(&self) -> u64 {
        memory::told(&self.process.id().to_string(), "VmRSS").unwrap_or(0) >> 20
    }

    /// Stops everything if it has ended.
    pub(crate) fn must_run(&mut self) {
        if let Ok(Some(status)) = self.process.try_wait() {
            self.tell_all();
            panic!("the program ended: {status}");
        }
    }

    /// Shows what it said of its restores; everything if `RECOVERY_LOG` is set.
    pub(crate) fn tell(&self) {
        let log = self.log.lock().expect("no panic while held");
        let all = std::env::var_os("RECOVERY_LOG").is_some();
        let wanted = |line: &&String| line.contains("restor") || line.contains(" WARN");
        for line in log.iter().filter(|line| all || wanted(line)) {
            println!("    {line}");
        }
    }

    fn tell_all(&self) {
        let log = self.log.lock().expect("no panic while held");
        let from = log.len().saturating_sub(40);
        log[from..].iter().for_each(|line| println!("    {line}"));
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was started here");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(mut self) {
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill is there").success(), "it runs");
        let status = self.process.wait().expect("it was started here");
        if !status.success() {
            self.tell_all();
            panic!("it ended badly: {status}");
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Over already, unless something failed.
        let _over = self.process.kill();
        let _waited = self.process.wait();
    }
}
