//! The README's section on one's own Kafka, run as it stands against a fresh broker.

use crate::kafka::broker::Broker;
use crate::kafka::read_all;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use touchline::kafka::task::OutRecord;
use touchline::kafka::topics;
use touchline::kafka::topics::{Change, Wanted};
use touchline::kafka::writer::Writer;
use touchline::model::time::Millis;

/// How long the pipeline may take to publish one record.
const PUBLISHED_WITHIN: Millis = Millis::from_secs(60);

/// The blocks of a section, each with its language.
fn blocks(readme: &str, section: &str) -> Vec<(String, String)> {
    let start = readme.find(section).expect("the section is there");
    let rest = &readme[start + section.len()..];
    let rest = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let mut found = Vec::new();
    for part in rest.split("```").skip(1).step_by(2) {
        let (language, text) = part.split_once('\n').expect("a block has lines");
        found.push((language.to_owned(), text.to_owned()));
    }
    found
}

fn block(all: &[(String, String)], language: &str) -> String {
    let found = all.iter().find(|(l, _)| l == language);
    found.unwrap_or_else(|| panic!("no {language} block")).1.clone()
}

#[test]
fn the_section_on_ones_own_kafka_works_as_it_stands() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let all = blocks(&readme, "## On your own Kafka\n");
    let broker = Broker::start();
    let connection = broker.connection();
    let source = Wanted { partitions: Some(2), ..Wanted::source("shop.events") };
    topics::apply(&connection, &[Change::Create(source)]).unwrap();
    let writer = Writer::new(&connection, 1 << 20).unwrap();
    let now = jiff::Timestamp::from_millisecond(touchline::clock::now().as_ms()).unwrap();
    let record = block(&all, "json").replace("2026-11-02T10:15:00Z", &now.to_string());
    let topic: Arc<str> = "shop.events".into();
    writer.send(&OutRecord::new(&topic, b"42".to_vec(), Some(record.into_bytes()))).unwrap();
    writer.flush(Millis::from_secs(10)).unwrap();

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("my.yaml"), block(&all, "yaml")).unwrap();
    let config = dir.path().join("config");
    std::fs::create_dir(&config).unwrap();
    std::os::unix::fs::symlink(format!("{root}/config/mappings"), config.join("mappings")).unwrap();
    let commands = block(&all, "sh");
    let (setup, run) = commands.trim().rsplit_once('\n').expect("several commands");
    let command = |line: &str| {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("touchline"), "{line}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_touchline"));
        command.args(words).current_dir(dir.path()).env("KAFKA", broker.bootstrap());
        // Tests run side by side; nobody looks at this one's page.
        command.env("TOUCHLINE_HTTP__LISTEN", "127.0.0.1:0");
        command
    };
    for line in setup.lines() {
        let output = command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut running = command(run).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let since = touchline::clock::Moment::now();
    while read_all(&connection, "touchpoints.canonical")
        .iter()
        .all(|value| !value.contains("\"customer_id\":\"42\""))
    {
        assert!(since.elapsed() < PUBLISHED_WITHIN, "nothing was published");
        assert_eq!(running.try_wait().unwrap(), None, "`run` ended by itself");
    }
    let stopped = Command::new("kill").arg(running.id().to_string()).status().unwrap();
    assert!(stopped.success());
    let mut summary = String::new();
    running.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    assert!(running.wait().unwrap().success());
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["dead_letter"], 0, "{summary}");
}
