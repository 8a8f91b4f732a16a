//! Alerts: rules, detectors and the life cycle, as part of the rollup fold.
//!
//! One step of one tenant, for each rule in order: let time pass for its open episodes; show the step
//! to its detector; take the verdicts series by series into their life cycles (evaluation by
//! evaluation, if a jump of the clock makes several due); write a record for each transition. State is a function of the steps alone, so a replay writes the same bytes.
//!
//! - `rule`: what is to be alerted on, as data; `detector`: what a detector is;
//! - `ratio` (settings: `spike`) with `runs`, `baseline`, `betabinomial`, `fdr`, `attribution`, `contributors`;
//! - `silence` with `seasons`;
//! - `life`: the state machine of an episode.
//!
//! Beyond the end of a closed input nothing opens, is confirmed or comes back: what the end cut off looks
//! like trouble. What fires may still end by what the last data say.
//!
//! Limits: [`rule::RULES_MAX`] rules. It pushes nothing anywhere (the relay does), knows no calendar
//! and no silences set by people, and never looks at a wall clock.

mod attribution;
mod baseline;
pub mod betabinomial;
mod contributors;
pub mod detector;
pub mod fdr;
mod life;
mod ratio;
mod rule;
mod runs;
mod seasons;
mod silence;
mod spike;
mod state;
mod threshold;

pub use baseline::Learning;
pub use contributors::CONTRIBUTORS_MAX;
pub use rule::{Detector, LifeCycle, PLACEHOLDERS, RULES_MAX, Rule, Settings};
pub use silence::Silence;
pub use spike::{Ratio, RatioSpike};
pub use threshold::{Bound, SLICES_MAX, Threshold};

use crate::engine::state::Dirty;
use crate::engine::{Fact, Output};
use crate::model::dimension::Dimensions;
use crate::model::ids::hex;
use crate::model::observation::Observation;
use crate::model::record::{AlertRecord, AlertTransition, Evidence, SCHEMA_VERSION};
use crate::model::time::{EventTime, Millis};
use crate::rollup::step::{AlertEngine, StepView};
use compact_str::CompactString;
use detector::{Detect, Episodes, Span, Verdict};
use life::{Episode, Life};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_128;

/// Closed episodes are remembered this long, so that their windows are not learned.
const SPANS_KEPT: Millis = Millis::from_hours(72);

/// The alert engine of one rollup task.
pub struct Alerts {
    settings: Settings,
    tenants: BTreeMap<CompactString, Vec<RuleState>>,
    /// Restored keys of rules that are no more: the log forgets them, too.
    obsolete: BTreeSet<Vec<u8>>,
}

/// One rule for one tenant.
struct RuleState {
    detector: Box<dyn Detect>,
    lives: BTreeMap<Dimensions, Life>,
    spans: Vec<Span>,
    dirty: Dirty<state::Part>,
}

impl Alerts {
    /// Makes an engine that knows nothing yet.
    ///
    /// # Panics
    /// If there are more than [`RULES_MAX`] rules; configuration checks that first.
    pub fn new(settings: Settings) -> Alerts {
        assert!(settings.rules.len() <= RULES_MAX, "at most {RULES_MAX} rules");
        Alerts { settings, tenants: BTreeMap::new(), obsolete: BTreeSet::new() }
    }
}

impl AlertEngine for Alerts {
    fn step(&mut self, view: &StepView<'_>, out: &mut Vec<Output>) {
        let settings = &self.settings;
        if !self.tenants.contains_key(view.tenant) {
            self.tenants.insert(view.tenant.into(), RuleState::start_all(settings));
        }
        let Some(states) = self.tenants.get_mut(view.tenant) else { return };
        for (rule, state) in settings.rules.iter().zip(states) {
            state.step(&Scene { settings, rule, view }, out);
        }
    }

    fn next_due(&self, tenant: &str) -> Option<EventTime> {
        self.tenants.get(tenant)?.iter().filter_map(RuleState::next_due).min()
    }
}

impl RuleState {
    /// The states of a tenant of which nothing is known yet, in the order of the rules.
    fn start_all(settings: &Settings) -> Vec<RuleState> {
        let start = |rule: &Rule| RuleState {
            detector: rule.detector.start(rule, settings.slice),
            lives: BTreeMap::new(),
            spans: Vec::new(),
            dirty: Dirty::default(),
        };
        settings.rules.iter().map(start).collect()
    }

    fn step(&mut self, scene: &Scene<'_>, out: &mut Vec<Output>) {
        let (rule, at) = (scene.rule, scene.view.step_end);
        let (spans, dirty) = (&mut self.spans, &mut self.dirty);
        for (series, life) in &mut self.lives {
            dirty.touch(state::Part::Life(series.clone()));
            life.pass(&rule.life, at, &mut |to, episode| {
                scene.say(series, to, episode, out);
                note(spans, series, to, episode);
                dirty.touch(state::Part::Spans);
            });
        }
        let mut verdicts = Vec::new();
        let episodes = Episodes { spans: &self.spans };
        let mut tests = self.detector.step(scene.view, episodes, &mut verdicts);
        // Each evaluation knows what the one before has opened and closed.
        loop {
            for verdict in verdicts.drain(..) {
                self.judge(scene, &verdict, out);
            }
            let episodes = Episodes { spans: &self.spans };
            match self.detector.catch_up(scene.view, episodes, &mut verdicts) {
                Some(more) => tests += more,
                None => break,
            }
        }
        if tests > 0 {
            let detector = rule.detector.name();
            out.push(Output::Observation(Observation::Tests { detector, n: tests }));
        }
        self.lives.retain(|_, life| !life.is_idle(at));
        let oldest = at.minus(SPANS_KEPT);
        let known = self.spans.len();
        self.spans.retain(|span| span.ends_at.is_none_or(|ends| ends > oldest));
        if known != self.spans.len() {
            self.dirty.touch(state::Part::Spans);
        }
    }

    fn judge(&mut self, scene: &Scene<'_>, verdict: &Verdict, out: &mut Vec<Output>) {
        // Business alerts rest while the pipeline itself is unwell.
        if verdict.completeness < scene.rule.min_completeness {
            return;
        }
        // Beyond the end of the input visits are cut off, not abandoned.
        if scene.view.closed && verdict.state.is_suspicion() {
            return;
        }
        let known = self.lives.contains_key(&verdict.series);
        if !known && !verdict.state.is_suspicion() {
            return;
        }
        self.dirty.touch(state::Part::Life(verdict.series.clone()));
        let life = self.lives.entry(verdict.series.clone()).or_default();
        let at = scene.view.step_end;
        let (spans, dirty) = (&mut self.spans, &mut self.dirty);
        life.judge(&scene.rule.life, at, verdict, &mut |to, episode| {
            scene.say(&verdict.series, to, episode, out);
            note(spans, &verdict.series, to, episode);
            dirty.touch(state::Part::Spans);
        });
    }

    fn next_due(&self) -> Option<EventTime> {
        let lives = self.lives.values().filter_map(Life::next_due).min();
        lives.into_iter().chain(self.detector.next_due()).min()
    }
}

/// Keeps the spans of episodes that fired: open from `firing` to `resolved`.
fn note(spans: &mut Vec<Span>, series: &Dimensions, to: AlertTransition, episode: &Episode) {
    let starts_at = episode.starts_at;
    let of_this = |span: &&mut Span| span.series == *series && span.starts_at == starts_at;
    match to {
        AlertTransition::Firing => {
            spans.push(Span { series: series.clone(), starts_at, ends_at: None });
        }
        AlertTransition::Resolved => {
            if let Some(span) = spans.iter_mut().find(of_this) {
                span.ends_at = episode.ends_at.or(Some(starts_at));
            }
        }
        _ => {}
    }
}

/// What a record needs beside its episode.
struct Scene<'a> {
    settings: &'a Settings,
    rule: &'a Rule,
    view: &'a StepView<'a>,
}

impl Scene<'_> {
    fn say(
        &self,
        series: &Dimensions,
        to: AlertTransition,
        episode: &Episode,
        out: &mut Vec<Output>,
    ) {
        let alert = self.rule.name.clone();
        let record = self.record(series, to, episode);
        let delay_ms = self.view.step_end.since(episode.starts_at).as_ms();
        out.push(Output::Fact(Fact::Alert(Box::new(record))));
        out.push(Output::Observation(Observation::Alert { alert, to, delay_ms }));
    }

    fn record(
        &self,
        series: &Dimensions,
        transition: AlertTransition,
        episode: &Episode,
    ) -> AlertRecord {
        let Scene { settings, rule, view } = *self;
        let verdict = &episode.last;
        let fingerprint = fingerprint(view.tenant, &rule.name, series);
        let starts_at = episode.starts_at.as_ms();
        let name = format!("{fingerprint}\0{starts_at}");
        let id = format!("{}\0{name}\0{}", settings.app, episode.sequence);
        let (from, to) = verdict.evidence;
        let topic = &settings.canonical_topic;
        let evidence = (view.evidence)(from, to)
            .into_iter()
            .map(|(partition, from, to)| Evidence { topic: topic.clone(), partition, from, to });
        AlertRecord {
            schema_version: SCHEMA_VERSION,
            id: named(&id),
            episode: named(&name),
            fingerprint,
            sequence: episode.sequence,
            alert: rule.name.clone(),
            transition,
            severity: rule.severity,
            owner: rule.owner.clone(),
            tenant: view.tenant.into(),
            dimensions: series.to_map(),
            at: view.step_end,
            starts_at: episode.starts_at,
            ends_at: episode.ends_at,
            value: verdict.value,
            expected: verdict.expected,
            lower: verdict.lower,
            upper: verdict.upper,
            n: verdict.n,
            effect: verdict.effect,
            p_value: verdict.p_value,
            window: CompactString::from(verdict.window.to_string()),
            maturity: verdict.maturity,
            completeness: verdict.completeness,
            contributors: verdict.contributors.clone(),
            at_risk: verdict.at_risk.clone(),
            evidence: evidence.collect(),
            summary: rule.summarize(view.tenant, verdict),
            runbook: rule.runbook.clone(),
        }
    }
}

/// Names an alert's identity: tenant, alert, sorted dimensions.
fn fingerprint(tenant: &str, alert: &str, series: &Dimensions) -> CompactString {
    named(&format!("{tenant}\0{alert}\0{series}"))
}

fn named(content: &str) -> CompactString {
    hex(xxh3_128(content.as_bytes()))
}
