//! Writes a plan's traffic and its truth to files.

use super::encode;
use super::final_form::{FinalForm, FinalSummary};
use super::naive::{Naive, Settings};
use super::plan::{Label, Plan};
use super::traffic::{Emitted, Generator, Payload};
use crate::model::time::EventTime;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// Lines of the file: touchpoints, repeats and poison.
    pub records: u64,
    /// First arrival.
    pub from: EventTime,
    /// Last arrival.
    pub to: EventTime,
    /// What was injected before the last arrival.
    pub labels: Vec<Label>,
    /// The truth's counts.
    pub truth: FinalSummary,
    /// Directory of the truth, in final form.
    pub truth_dir: PathBuf,
    /// File of the labels.
    pub labels_file: PathBuf,
}

/// Takes what arrives and computes the truth of it in the end: for generators that write elsewhere.
pub struct Truth(Naive);

impl Truth {
    /// Nothing arrived yet.
    pub fn new(settings: Settings) -> Truth {
        Truth(Naive::new(settings))
    }

    /// Takes one emission.
    pub fn add(&mut self, emitted: &Emitted) {
        match &emitted.payload {
            Payload::Touchpoint(t) | Payload::Duplicate(t) => self.0.add(t, false),
            Payload::TooLate(t) => self.0.add(t, true),
            Payload::Poison(_) => self.0.add_poison(),
        }
    }

    /// Computes everything.
    pub fn finish(self) -> (FinalForm, FinalSummary) {
        self.0.finish()
    }
}

/// Writes the records of `plan` to `out`, one JSON object a line in the order of arrival, the truth
/// to the directory `out` + `.truth` and the labels to `out` + `.labels.jsonl`.
///
/// `progress` is told the number of records every 10,000 of them.
///
/// # Errors
/// If a file cannot be written, or the plan has no end.
pub fn write_files(
    plan: &Plan,
    settings: Settings,
    out: &Path,
    mut progress: impl FnMut(u64),
) -> io::Result<Summary> {
    if plan.events.is_none() && plan.until.is_none() {
        let problem = "say how many events to generate: endless traffic does not fit into a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let mut truth = Truth::new(settings);
    let mut file = BufWriter::new(File::create(out)?);
    let (mut records, mut from, mut to) = (0, plan.start, plan.start);
    for emitted in Generator::new(plan.clone()) {
        match &emitted.payload {
            Payload::Poison(bytes) => file.write_all(bytes)?,
            Payload::Touchpoint(t) | Payload::Duplicate(t) | Payload::TooLate(t) => {
                file.write_all(encode::line(t).as_bytes())?;
            }
        }
        file.write_all(b"\n")?;
        truth.add(&emitted);
        if records == 0 {
            from = emitted.arrival;
        }
        to = emitted.arrival;
        records += 1;
        if records % 10_000 == 0 {
            progress(records);
        }
    }
    file.flush()?;
    progress(records);
    let (form, counts) = truth.finish();
    let truth_dir = beside(out, ".truth");
    form.write(&truth_dir, &counts)?;
    let labels: Vec<Label> = plan.labels().into_iter().filter(|l| l.from <= to).collect();
    let labels_file = beside(out, ".labels.jsonl");
    let lines: io::Result<Vec<String>> =
        labels.iter().map(|l| Ok(serde_json::to_string(l)? + "\n")).collect();
    fs::write(&labels_file, lines?.concat())?;
    Ok(Summary { records, from, to, labels, truth: counts, truth_dir, labels_file })
}

/// `out` with `suffix` behind its name.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
