//! Generated traffic through the folds without Kafka: what the tests of the whole pipeline share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use touchline::app::generate::truth_settings;
use touchline::app::offline::{Offline, Recorded};
use touchline::app::parts::Parts;
use touchline::app::replay::{Options, replay};
use touchline::app::summary::Summary;
use touchline::config::Settings;
use touchline::engine::Fact;
use touchline::generate::{self, Emitted, Plan, Scenario, write_files};
use touchline::model::touchpoint::Touchpoint;

/// The defaults, with one source of canonical JSON.
pub(crate) fn settings() -> Settings {
    settings_with("")
}

/// The same with more configuration.
pub(crate) fn settings_with(more: &str) -> Settings {
    let yaml = "sources: {shop: {topic: shop, format: canonical_json, start: earliest}}\n";
    Settings::from_yaml_str("test", &format!("{yaml}{more}"), BTreeMap::new()).unwrap()
}

/// A plan of so many touchpoints, `rate` of them a second.
pub(crate) fn plan(scenario: Scenario, seed: u64, events: u64, rate: f64) -> Plan {
    Plan { events: Some(events), rate, ..Plan::new(scenario, seed) }
}

/// Writes traffic and truth.
pub(crate) fn generated(dir: &Path, plan: &Plan) -> (PathBuf, generate::Summary) {
    generated_under(&settings(), dir, plan)
}

/// The same, the truth under this configuration.
pub(crate) fn generated_under(
    settings: &Settings,
    dir: &Path,
    plan: &Plan,
) -> (PathBuf, generate::Summary) {
    let out = dir.join(format!("{}-{}", plan.scenario.name(), plan.seed));
    let summary = write_files(plan, truth_settings(settings), &out, |_| {}).unwrap();
    (out, summary)
}

/// Replays one file into `out`.
pub(crate) fn replayed(input: &Path, out: &Path, partitions: i32, final_only: bool) -> Summary {
    replayed_as(None, input, out, partitions, final_only)
}

/// The same, through the ingest of a source.
pub(crate) fn replayed_as(
    source: Option<&str>,
    input: &Path,
    out: &Path,
    partitions: i32,
    final_only: bool,
) -> Summary {
    let options = Options { source: source.map(str::to_owned), final_only, ..options(input, out) };
    replay(&settings(), &Options { partitions, ..options }).unwrap()
}

/// Replays one file into its final form under a configuration.
pub(crate) fn replayed_under(settings: &Settings, input: &Path, out: &Path) -> Summary {
    replay(settings, &options(input, out)).unwrap()
}

fn options(input: &Path, out: &Path) -> Options {
    Options {
        inputs: vec![input.to_owned()],
        out: out.to_owned(),
        partitions: 3,
        final_only: true,
        source: None,
        close: true,
    }
}

/// Fails with the first line that is not the same in both directories.
#[track_caller]
pub(crate) fn assert_same(a: &Path, b: &Path) {
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(a), names(b), "files of {} and {}", a.display(), b.display());
    for name in names(a) {
        let (one, two) = (lines(&a.join(&name)), lines(&b.join(&name)));
        for (number, (one, two)) in one.iter().zip(&two).enumerate() {
            assert_eq!(one, two, "line {} of {} and {}", number + 1, a.display(), b.display());
        }
        assert_eq!(one.len(), two.len(), "lines of {name:?}");
    }
}

/// The lines of a file.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// The folds, fed one touchpoint after the other; every event moves the watermark.
pub(crate) struct Fed {
    offline: Offline,
    offset: i64,
}

impl Fed {
    pub(crate) fn new(partitions: i32) -> Fed {
        let mut parts = Parts::new(&settings());
        parts.set_direct(true);
        Fed { offline: Offline::new(&parts, partitions), offset: 0 }
    }

    pub(crate) fn touchpoint(&mut self, t: &Touchpoint, sink: &mut dyn FnMut(Fact)) {
        let customer = t.customer_id.as_ref().or(t.anonymous_id.as_ref());
        let key = customer.map_or(t.id.to_string(), |c| format!("{}|{c}", t.tenant));
        let partitions = self.offline.partitions();
        let partition = touchline::codec::murmur2::partition_of(key.as_bytes(), partitions);
        let record = Recorded { partition, offset: self.offset, key: key.as_bytes(), value: b"{}" };
        self.offset += 1;
        self.offline.touchpoint(record, None, &t.view(), sink);
    }

    /// Poison does not get this far.
    pub(crate) fn emitted(&mut self, emitted: &Emitted, sink: &mut dyn FnMut(Fact)) {
        if let Some(touchpoint) = emitted.payload.touchpoint() {
            self.touchpoint(touchpoint, sink);
        }
    }

    pub(crate) fn close(&mut self, sink: &mut dyn FnMut(Fact)) -> Summary {
        self.offline.close(sink);
        let summary = self.offline.summary(0.0);
        assert!(summary.adds_up(), "{summary:?}");
        summary
    }
}
