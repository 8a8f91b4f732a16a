//! `demo`: the whole pipeline with an embedded broker and generated shop traffic on a fast clock.
//!
//! Nothing in it is a stand-in: the same roles, topics and configuration as `run`. Only the broker is
//! librdkafka's mock cluster, which keeps 5 MiB a partition and drops older records silently; so the
//! generator is paced by the positions of everyone who reads.

mod pace;
mod record;
mod story;

use super::pipeline::{Pipeline, Role};
use super::run::{Surroundings, finish};
use crate::clock::Moment;
use crate::config::Settings;
use crate::generate::{Generator, Plan, Scenario};
use crate::kafka::embedded::Embedded;
use crate::kafka::writer::Writer;
use crate::model::time::{EventTime, Millis};
use crate::model::topic::Topic;
use anyhow::{Context as _, bail};
use pace::Pace;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use story::Story;

/// What to show, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long it runs at most.
    pub run_for: Millis,
    /// Ends once the injected fault has been noticed and is over.
    pub until_resolved: bool,
    /// Name of the scenario.
    pub scenario: String,
    /// Seed of the traffic.
    pub seed: u64,
    /// Directory to record topics to.
    pub record: Option<PathBuf>,
    /// Address of page and metrics.
    pub listen: String,
}

/// Topic of the generated traffic.
const SOURCE_TOPIC: &str = "shop.touchpoints";
/// Partitions of the source and the canonical topic.
const PARTITIONS: i32 = 4;
/// Touchpoints per second of event time.
const RATE: f64 = 16.0;
/// How much faster than the wall clock event time passes.
const SPEED: f64 = 300.0;
/// Event time that the traffic covers.
const SPAN: Millis = Millis::from_hours(9);
/// Bytes of traffic on their way to the broker.
const IN_FLIGHT_BYTES: usize = 1 << 20;
/// How often the terminal is told.
const TELL_EVERY: Millis = Millis::from_ms(500);

fn configuration(bootstrap: &str) -> String {
    format!(
        "app: {{name: demo}}\n\
         kafka: {{bootstrap.servers: \"{bootstrap}\"}}\n\
         # The embedded broker has no transactions.\n\
         delivery: {{mode: at_least_once}}\n\
         sources: {{shop: {{topic: {SOURCE_TOPIC}, format: canonical_json, start: earliest}}}}\n\
         # The traffic is of a fixed day, so that a seed always shows the same.\n\
         time: {{max_age: 36500d}}\n"
    )
}

/// Runs the demo; answers its summary as JSON, and whether it ended as it should.
///
/// # Errors
/// If it cannot run at all.
pub fn demo(options: &Options) -> anyhow::Result<(String, Result<(), String>)> {
    let Some(scenario) = Scenario::by_name(&options.scenario) else {
        bail!("there is no scenario {}: try spike, calm or promotion", options.scenario);
    };
    let mut plan = Plan::new(scenario, options.seed);
    plan.rate = RATE;
    plan.until = Some(plan.start.plus(SPAN));
    let settings = Settings::from_yaml_str("demo", &configuration("starting"), [])
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let mut topics: Vec<(&str, i32)> = vec![(SOURCE_TOPIC, PARTITIONS)];
    for topic in Topic::ALL {
        let partitions = if topic == Topic::Canonical { PARTITIONS } else { 1 };
        topics.push((settings.topic(topic), partitions));
    }
    let broker = Embedded::start(topics).context("starting the embedded broker")?;
    let connection = broker.connection();
    let settings = Settings::from_yaml_str("demo", &configuration(connection.bootstrap()), [])
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let since = Moment::now();
    let recording = match &options.record {
        Some(dir) => Some(record::Recording::start(&settings, &connection, SOURCE_TOPIC, dir)?),
        None => None,
    };
    let pipeline = Arc::new(Mutex::new(Pipeline::start(&settings, &connection, &Role::ALL)?));
    let stopped = Arc::new(AtomicBool::new(false));
    let surroundings = Surroundings::start(&settings, &pipeline, &stopped, &options.listen)?;
    let mut story = Story::begin(&plan, surroundings.address);
    let writer = Writer::new(&connection, IN_FLIGHT_BYTES)?;
    let pace = Pace::new(&settings, &connection, SOURCE_TOPIC);
    let mut traffic = Traffic { plan, writer, pace, sent: 0, now: None };
    let ended = traffic.run(&pipeline, options, &stopped, &mut story, since)?;
    traffic.writer.flush(Millis::from_secs(30))?;
    if !ended.early {
        lock(&pipeline).expect_sources(&settings)?;
        finish(&pipeline, &stopped)?;
        story.look(&lock(&pipeline), traffic.now);
    }
    surroundings.end();
    let pipeline = Arc::into_inner(pipeline).context("something still uses the pipeline")?;
    let pipeline = pipeline.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (tasks, view) = (pipeline.tasks.clone(), pipeline.view.clone());
    pipeline.stop()?;
    if let Some(recording) = recording {
        recording.end()?;
    }
    let summary = tasks.totals().summary(since.elapsed_secs());
    let (text, verdict) = story.end(&summary, &view);
    let lost = traffic.lost(&tasks, ended.early);
    drop(broker);
    Ok((text, lost.and(verdict)))
}

/// Whether the traffic was cut short.
struct Ended {
    early: bool,
}

struct Traffic {
    plan: Plan,
    writer: Writer,
    pace: Pace,
    sent: u64,
    /// Arrival of the last record, on the clock of event time.
    now: Option<EventTime>,
}

impl Traffic {
    fn run(
        &mut self,
        pipeline: &Arc<Mutex<Pipeline>>,
        options: &Options,
        stopped: &AtomicBool,
        story: &mut Story,
        since: Moment,
    ) -> anyhow::Result<Ended> {
        let topic: Arc<str> = SOURCE_TOPIC.into();
        let begun = Moment::now();
        let mut told = Moment::now();
        for emitted in Generator::new(self.plan.clone()) {
            let due = emitted.arrival.since(self.plan.start).as_ms() as f64 / SPEED;
            let ahead = due - begun.elapsed().as_ms() as f64;
            if ahead > 5.0 {
                std::thread::sleep(Duration::from_millis(ahead as u64));
            }
            self.writer.send(&super::generate::record(&topic, &emitted.payload))?;
            self.sent += 1;
            self.now = Some(emitted.arrival);
            if self.sent.is_multiple_of(64) {
                self.pace.wait(pipeline, stopped)?;
            }
            if told.elapsed() >= TELL_EVERY {
                told = Moment::now();
                let locked = lock(pipeline);
                if let Some(reason) = locked.failure() {
                    bail!("{reason}");
                }
                story.look(&locked, self.now);
                let enough = options.until_resolved && story.is_resolved();
                let over = since.elapsed() >= options.run_for;
                if enough || over || stopped.load(Ordering::SeqCst) {
                    return Ok(Ended { early: true });
                }
            }
        }
        Ok(Ended { early: false })
    }

    /// Every record that was sent has been read, if there was time for that.
    fn lost(&self, tasks: &super::tasks::context::Context, early: bool) -> Result<(), String> {
        let totals = tasks.totals();
        let read: u64 = totals.sources.values().map(|s| s.records_in).sum();
        let sums = totals.sources.values().all(super::summary::SourceCounts::adds_up);
        if !sums || (!early && read != self.sent) {
            return Err(format!("{} records were sent, {read} were read", self.sent));
        }
        Ok(())
    }
}

fn lock(pipeline: &Mutex<Pipeline>) -> std::sync::MutexGuard<'_, Pipeline> {
    pipeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
