//! `replay`: the same folds over files.
//!
//! What comes in, line by line or from an Avro container:
//!
//! | record | how it is read |
//! | --- | --- |
//! | of `touchpoints.canonical`, recorded | folded at its own partition and offset; with `ingest: direct` without an origin |
//! | of a source (`--source`), recorded or one foreign object a line | through ingest first |
//! | a bare canonical object | read directly: partition by murmur2 of its key over `--partitions`, offset = line |
//!
//! Recordings may hold side inputs and the order of flushes, too (see `recording`): with them and from
//! the beginning of the state on, what comes out is what `run` published, byte for byte. Then nothing is
//! sealed at the end that was not sealed in the run.
//!
//! There are no bounds of arrival for what is not recorded. Out go one JSON lines file per derived
//! topic, with the values that `run` publishes, and `summary.json` (its counts: what was measured is
//! printed, so that two replays of one input are equal to the byte); or, with `--final`, the final form
//! (see [`crate::generate::final_form`]).

use super::ingest_offline::Ingested;
use super::offline::{Offline, Recorded};
use super::parts::Parts;
use super::recording::{Names, Recording, Use, each_record};
use super::summary::Summary;
use crate::clock::Moment;
use crate::codec::canonical::{Decoded, JsonScratch, decode_json};
use crate::codec::derived::{Encoding, Produce, encode};
use crate::codec::inputs::{SideInput, Taken};
use crate::codec::murmur2::partition_of;
use crate::codec::recorded::{Line, RecordedLine, write_line};
use crate::config::{IdentitySettings, IngestMode, Settings};
use crate::engine::{Fact, Tick};
use crate::generate::final_form::{FinalCheckouts, FinalForm, FinalSummary};
use crate::model::ids::{NextOffset, Offset, PartitionId};
use crate::model::reject::{FilterReason, Reject, RejectReason};
use crate::model::topic::Topic;
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// What to replay, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files to read, in this order.
    pub inputs: Vec<PathBuf>,
    /// Directory to write to.
    pub out: PathBuf,
    /// Partitions of the canonical topic for what is not recorded.
    pub partitions: i32,
    /// Write the final form.
    pub final_only: bool,
    /// The source that the input is of.
    pub source: Option<String>,
    /// Move clock and watermark past everything at the end.
    pub close: bool,
}

/// Name under which bare objects are counted.
const BARE: &str = "input";

/// Replays files.
///
/// # Errors
/// If a file cannot be read or written, or its records do not belong together.
pub fn replay(settings: &Settings, options: &Options) -> anyhow::Result<Summary> {
    let since = Moment::now();
    let names = Names::new(settings);
    // What goes through ingest first has no side inputs: those are of another log.
    let recording = match options.source {
        None => Recording::look(&options.inputs, &names)?,
        Some(_) => Recording::default(),
    };
    let direct = options.source.is_none()
        && (!recording.is_recorded || settings.ingest == IngestMode::Direct);
    // Of a recording, those count that nothing came to.
    let partitions = recording.partitions.max(options.partitions);
    let mut parts = Parts::new(settings);
    parts.set_direct(direct);
    let mut run = Replay {
        offline: Offline::new(&parts, partitions),
        out: Out::new(options, settings)?,
        ingest: match &options.source {
            Some(name) => Some(Ingested::new(settings, name)?),
            None => None,
        },
        scratch: JsonScratch::new(),
        max_bytes: settings.limits.record_bytes,
        line: 0,
        names,
        side_inputs: recording.side_inputs,
    };
    if !recording.order.is_empty() {
        run.offline.in_order(recording.order);
    }
    for path in &options.inputs {
        each_record(path, &mut |line| run.take(line))
            .with_context(|| format!("reading {}", path.display()))?;
    }
    run.end(options.close)?;
    let summary = run.offline.summary(since.elapsed_secs());
    if !summary.adds_up() {
        bail!("the sum of what became of the events is wrong: {}", summary.to_json());
    }
    run.out.finish(&summary).with_context(|| format!("writing {}", options.out.display()))?;
    Ok(summary)
}

struct Replay {
    offline: Offline,
    out: Out,
    ingest: Option<Ingested>,
    scratch: JsonScratch,
    max_bytes: usize,
    /// Lines taken so far: the offset of a bare one.
    line: i64,
    names: Names,
    /// Recorded side inputs that have not been applied, by partition.
    side_inputs: BTreeMap<i32, VecDeque<SideInput>>,
}

impl Replay {
    fn take(&mut self, line: Result<Line<'_>, (Reject, &[u8])>) -> anyhow::Result<()> {
        self.line += 1;
        if let Some(ingest) = &mut self.ingest {
            let out = &mut self.out;
            return ingest.take(line, self.line - 1, &mut self.offline, &mut |item| out.item(item));
        }
        match line {
            Ok(Line::Recorded(record)) => {
                if self.names.use_of(&record.topic)? == Use::Fold {
                    self.recorded(&record);
                }
            }
            Ok(Line::Bare(value)) => self.bare(&value),
            Err((reject, value)) => self.dead_letter(&reject, value),
        }
        Ok(())
    }

    /// Applies the recorded side inputs of a partition that were taken before the record at `upto`.
    fn side_inputs(&mut self, partition: i32, upto: NextOffset) {
        let out = &mut self.out;
        let sink = &mut |fact| out.fact(fact);
        let Some(due) = self.side_inputs.get_mut(&partition) else { return };
        while let Some(input) = due.pop_front_if(|input| input.next <= upto) {
            let number = input.number;
            match input.taken {
                Taken::Tick { advance } => {
                    self.offline.tick(partition, Tick { number, advance }, sink);
                }
                Taken::Seal => self.offline.seal(partition, number, sink),
                Taken::Switch { .. } => unreachable!("refused when it was read"),
            }
        }
    }

    /// The files are at their end.
    fn end(&mut self, close: bool) -> anyhow::Result<()> {
        let told = !self.side_inputs.is_empty();
        for partition in 0..self.offline.partitions() {
            self.side_inputs(partition, NextOffset::new(i64::MAX));
        }
        let out = &mut self.out;
        let sink = &mut |fact| out.fact(fact);
        match (close, told) {
            (true, _) => self.offline.close(sink),
            (false, false) => self.offline.flush(sink),
            // Whether and when it was sealed is known.
            (false, true) => {}
        }
        self.offline.end_order(sink).map_err(|(to, (partition, number))| {
            anyhow::anyhow!(
                "flush {number} of journey partition {partition} to {to} is recorded, and does not                  follow from the recorded input under this configuration: give all of the input, and                  the side inputs, if there are any"
            )
        })
    }

    fn bare(&mut self, value: &[u8]) {
        let (offset, partitions) = (self.line - 1, self.offline.partitions());
        if value.len() > self.max_bytes {
            return self.dead_letter(&Reject::whole(RejectReason::TooLarge), value);
        }
        let out = &mut self.out;
        match decode_json(value, &mut self.scratch) {
            Ok(Decoded::Touchpoint { touchpoint, .. }) => {
                let customer = touchpoint.customer_id.or(touchpoint.anonymous_id);
                let key = match customer {
                    Some(customer) => format!("{}|{customer}", touchpoint.tenant),
                    None => touchpoint.id.to_owned(),
                };
                let partition = partition_of(key.as_bytes(), partitions);
                let record = Recorded { partition, offset, key: key.as_bytes(), value };
                self.offline.touchpoint(record, None, &touchpoint, &mut |fact| out.fact(fact));
            }
            // A bare mark belongs to no partition: nothing of it can be used.
            Ok(Decoded::Control(_)) => self.filtered(FilterReason::Mapping),
            Err(reject) => self.dead_letter(&reject, value),
        }
    }

    fn recorded(&mut self, record: &RecordedLine) {
        self.side_inputs(record.partition.get(), NextOffset::new(record.offset.get()));
        let Some(value) = &record.value else {
            return self.filtered(FilterReason::Tombstone);
        };
        let (partition, offset) = (record.partition.get(), record.offset.get());
        let key = record.key.as_deref().unwrap_or_default();
        let out = &mut self.out;
        match decode_json(value, &mut self.scratch) {
            Ok(Decoded::Touchpoint { origin, touchpoint }) => {
                let recorded = Recorded { partition, offset, key, value };
                let sink = &mut |fact| out.fact(fact);
                self.offline.touchpoint(recorded, origin, &touchpoint, sink);
            }
            Ok(Decoded::Control(control)) => {
                self.offline.control(partition, offset, &control, &mut |fact| out.fact(fact));
            }
            Err(reject) => self.dead_letter(&reject, value),
        }
    }

    fn filtered(&mut self, reason: FilterReason) {
        let counts = self.offline.totals_mut().sources.entry(BARE.to_owned()).or_default();
        counts.records_in += 1;
        *counts.filtered.entry(reason).or_default() += 1;
    }

    fn dead_letter(&mut self, reject: &Reject, value: &[u8]) {
        let counts = self.offline.totals_mut().sources.entry(BARE.to_owned()).or_default();
        counts.records_in += 1;
        *counts.dead_letter.entry(reject.reason).or_default() += 1;
        self.out.rejected(reject, BARE, PartitionId::new(0), self.line - 1, value);
    }
}

/// What a replay says besides counts.
pub(super) enum Item<'a> {
    /// A fact of a fold.
    Fact(Fact),
    /// A record that cannot be used.
    Rejected {
        reject: &'a Reject,
        source: &'a str,
        partition: PartitionId,
        offset: i64,
        value: &'a [u8],
    },
}

/// Where a replay writes to.
enum Out {
    /// One file per topic, as it comes.
    Lines {
        dir: PathBuf,
        files: BTreeMap<Topic, BufWriter<File>>,
        app: String,
        scratch: Vec<Produce>,
        error: Option<std::io::Error>,
    },
    /// The final form, and which customer ids name somebody.
    Final { dir: PathBuf, form: FinalForm, identity: IdentitySettings },
}

impl Out {
    fn new(options: &Options, settings: &Settings) -> anyhow::Result<Out> {
        let dir = options.out.clone();
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        if options.final_only {
            let identity = settings.identity.clone();
            return Ok(Out::Final { dir, form: FinalForm::new(), identity });
        }
        let mut files = BTreeMap::new();
        for topic in Topic::ALL {
            if matches!(topic, Topic::Canonical | Topic::Rollup) {
                continue;
            }
            let path = dir.join(format!("{}.jsonl", topic.default_name()));
            let file =
                File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            files.insert(topic, BufWriter::new(file));
        }
        let app = "touchline".to_owned();
        Ok(Out::Lines { dir, files, app, scratch: Vec::new(), error: None })
    }

    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Fact(fact) => self.fact(fact),
            Item::Rejected { reject, source, partition, offset, value } => {
                self.rejected(reject, source, partition, offset, value);
            }
        }
    }

    fn fact(&mut self, fact: Fact) {
        match self {
            Out::Lines { files, app, scratch, error, .. } => {
                encode(&fact, &Encoding::Json, app, scratch);
                for produce in scratch.drain(..) {
                    let line = line_of(&produce);
                    if let Some(file) = files.get_mut(&produce.topic)
                        && let Err(e) = file.write_all(&line)
                    {
                        error.get_or_insert(e);
                    }
                }
            }
            Out::Final { form, identity, .. } => final_fact(form, identity, &fact),
        }
    }

    fn rejected(
        &mut self,
        reject: &Reject,
        source: &str,
        partition: PartitionId,
        offset: i64,
        value: &[u8],
    ) {
        let Out::Lines { files, error, .. } = self else { return };
        let Some(file) = files.get_mut(&Topic::Rejected) else { return };
        let say = |name: &str, text: String| (name.to_owned(), Some(text.into_bytes()));
        let record = RecordedLine {
            topic: Topic::Rejected.default_name().to_owned(),
            partition,
            offset: Offset::new(offset),
            timestamp: 0,
            key: None,
            headers: vec![
                say("dlq.reason", reject.reason.name().to_owned()),
                say("dlq.field", reject.field.clone().unwrap_or_default()),
                say("dlq.topic", source.to_owned()),
                say("dlq.partition", partition.to_string()),
                say("dlq.offset", offset.to_string()),
            ],
            value: Some(value.to_vec()),
        };
        let mut line = Vec::new();
        write_line(&record, &mut line);
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if let Err(e) = file.write_all(&line) {
            error.get_or_insert(e);
        }
    }

    fn finish(self, summary: &Summary) -> anyhow::Result<()> {
        match self {
            Out::Lines { dir, files, error, .. } => {
                if let Some(error) = error {
                    return Err(error.into());
                }
                for (_, mut file) in files {
                    file.flush()?;
                }
                std::fs::write(dir.join("summary.json"), summary.counts_json() + "\n")?;
            }
            Out::Final { dir, form, .. } => form.write(&dir, &final_summary(summary))?,
        }
        Ok(())
    }
}

/// Values as they are; where the key or the headers say something that the value does not (late
/// records, tombstones of `alerts.active`), an object with all three.
fn line_of(produce: &Produce) -> Vec<u8> {
    let whole = matches!(produce.topic, Topic::Late | Topic::AlertsActive);
    let mut line = match (&produce.value, whole) {
        (Some(value), false) => value.clone(),
        _ => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers: BTreeMap<&str, String> = produce
                .headers
                .iter()
                .map(|(name, value)| (&**name, text(value.as_deref().unwrap_or_default())))
                .collect();
            let value = produce.value.as_deref();
            let value = value.and_then(|v| serde_json::from_slice::<serde_json::Value>(v).ok());
            let all = serde_json::json!({
                "key": text(&produce.key), "headers": headers, "value": value,
            });
            all.to_string().into_bytes()
        }
    };
    line.push(b'\n');
    line
}

fn final_fact(form: &mut FinalForm, identity: &IdentitySettings, fact: &Fact) {
    match fact {
        Fact::Session(record) => form.add_session(record),
        Fact::Checkout(record) => form.add_checkout(record),
        Fact::Window(record) => form.add_window(record),
        Fact::Late(record) => {
            let mut scratch = JsonScratch::new();
            // It was decoded once before it was found late.
            if let Ok(Decoded::Touchpoint { touchpoint: t, .. }) =
                decode_json(&record.value, &mut scratch)
            {
                let is_somebody = |id: &&str| {
                    let nobody = identity.degenerate_ids.iter().any(|n| n == id);
                    identity.follow_customers && !id.is_empty() && !nobody
                };
                let customer = t.customer_id.or(t.anonymous_id).filter(is_somebody);
                form.add_late(t.tenant, customer, t.id, record.event_time);
            }
        }
        Fact::Flush(..) | Fact::Live(_) | Fact::Alert(_) => {}
    }
}

fn final_summary(summary: &Summary) -> FinalSummary {
    FinalSummary {
        events_in: summary.events_in,
        counted: summary.counted,
        duplicate: summary.duplicate,
        late: summary.late,
        dead_letter: summary.dead_letter,
        filtered: summary.filtered,
        sessions: summary.sessions,
        checkouts: FinalCheckouts {
            started: summary.checkouts.started,
            completed: summary.checkouts.completed,
            abandoned: summary.checkouts.abandoned,
            recovered: summary.checkouts.recovered,
        },
    }
}
