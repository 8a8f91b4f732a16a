//! Recordings: files of records, and what they hold besides the records that are folded.
//!
//! | record of | what it is for |
//! | --- | --- |
//! | `<app>.journey.inputs` | side inputs: applied where they were taken |
//! | `<app>.rollup.inputs` | the same of `rollup` |
//! | `<app>.rollup.repartition` | in which order `rollup` took the flushes; their content is folded anew |
//! | anything else | folded |
//!
//! Limits: everything but the records to fold is kept in memory. All of it must be there from the
//! beginning of the state on: a gap is refused, as nobody could tell what is missing.

use super::offline::FlushName;
use super::pipeline::Role;
use crate::codec::flush;
use crate::codec::inputs::{SideInput, Taken};
use crate::codec::recorded::{Line, RecordedLine, parse_line, read_container};
use crate::config::Settings;
use crate::model::reject::Reject;
use crate::model::topic::Topic;
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What a recorded record is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// It is an input of the folds.
    Fold,
    /// It tells a side input of this role.
    SideInput(Role),
    /// It tells when a flush came.
    Turn,
}

/// Tells what records are for, by the name of their topic.
pub(super) struct Names {
    inputs: Vec<(Role, String)>,
    flushes: String,
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Names {
        let roles = [Role::Journey, Role::Rollup];
        Names {
            inputs: roles.map(|role| (role, settings.inputs(role.name()))).to_vec(),
            flushes: settings.topic(Topic::Rollup).to_owned(),
        }
    }

    pub(super) fn use_of(&self, topic: &str) -> anyhow::Result<Use> {
        if topic == self.flushes {
            return Ok(Use::Turn);
        }
        for (role, name) in &self.inputs {
            if topic == name {
                return Ok(Use::SideInput(*role));
            }
            // Ids contain the name of the application: nothing would be as it was.
            if topic.ends_with(&format!(".{}.inputs", role.name())) {
                bail!("{topic} is of another application than {name}: give its configuration");
            }
        }
        if topic.ends_with(".rollup.repartition") {
            let name = &self.flushes;
            bail!("{topic} is of another application than {name}: give its configuration");
        }
        Ok(Use::Fold)
    }
}

/// What a recording holds besides the records that are folded.
#[derive(Default, Debug)]
pub(super) struct Recording {
    /// True if its records have places of their own.
    pub(super) is_recorded: bool,
    /// Partitions of the topic that is folded, as far as records tell.
    pub(super) partitions: i32,
    /// Side inputs of `journey` by partition, in order.
    pub(super) side_inputs: BTreeMap<i32, VecDeque<SideInput>>,
    /// In which order each rollup partition took flushes; empty if that was not recorded.
    pub(super) order: BTreeMap<i32, Vec<FlushName>>,
}

impl Recording {
    /// Looks through files: recorded ones to their end, bare ones only at the first record.
    pub(super) fn look(inputs: &[PathBuf], names: &Names) -> anyhow::Result<Recording> {
        let mut found = Recording { partitions: 1, ..Recording::default() };
        for path in inputs {
            let mut is_bare = false;
            let ended = each_record(path, &mut |line| match line {
                Ok(Line::Recorded(record)) => {
                    found.is_recorded = true;
                    found.take(&record, names)
                }
                Ok(Line::Bare(_)) if found.is_recorded => {
                    bail!("recorded and bare records do not mix")
                }
                Ok(Line::Bare(_)) => {
                    is_bare = true;
                    bail!("nothing more to be seen")
                }
                Err(_) => Ok(()),
            });
            if is_bare {
                return Ok(found);
            }
            ended.with_context(|| format!("reading {}", path.display()))?;
        }
        Ok(found)
    }

    fn take(&mut self, record: &RecordedLine, names: &Names) -> anyhow::Result<()> {
        let partition = record.partition.get();
        let at = || format!("{}/{partition} offset {}", record.topic, record.offset);
        let value = record.value.as_deref().unwrap_or_default();
        match names.use_of(&record.topic)? {
            Use::Fold => self.partitions = self.partitions.max(partition + 1),
            Use::Turn => {
                let flush = flush::decode(value).with_context(at)?;
                let turns = self.order.entry(partition).or_default();
                turns.push((flush.partition, flush.number));
            }
            Use::SideInput(_) => {
                self.partitions = self.partitions.max(partition + 1);
                let input = SideInput::from_json(value).map_err(anyhow::Error::msg);
                let input = input.with_context(at)?;
                if let Taken::Switch { from, to } = &input.taken {
                    bail!(
                        "{}: at offset {} of its input {} was switched from configuration {} \
                         (fold {}) to {} (fold {}), and a replay runs under one: give input that \
                         ends there, or begins after a `state reset`",
                        at(),
                        input.next,
                        record.topic.trim_end_matches(".inputs"),
                        from.configuration,
                        from.fold_version,
                        to.configuration,
                        to.fold_version,
                    );
                }
                let of = self.side_inputs.entry(partition).or_default();
                let (last, from) = of.back().map_or((0, None), |i| (i.number, Some(i.next)));
                if input.number != last + 1 || Some(input.next) < from {
                    bail!(
                        "{}: side input {} follows {last}: give the whole topic, once and in order",
                        at(),
                        input.number
                    );
                }
                of.push_back(input);
            }
        }
        Ok(())
    }
}

pub(super) type Each<'e> =
    &'e mut dyn FnMut(Result<Line<'_>, (Reject, &[u8])>) -> anyhow::Result<()>;

/// First bytes of an Avro container.
const CONTAINER: &[u8] = b"Obj\x01";

/// Calls `each` with every record of a file, or with why it is none.
pub(super) fn each_record(path: &Path, each: Each<'_>) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    if reader.fill_buf()?.starts_with(CONTAINER) {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        for line in read_container(&bytes).map_err(|r| anyhow::anyhow!("no container: {r:?}"))? {
            match line {
                Ok(line) => each(Ok(line))?,
                Err(reject) => each(Err((reject, b"")))?,
            }
        }
        return Ok(());
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        each(parse_line(text).map_err(|reject| (reject, text)))?;
    }
}
