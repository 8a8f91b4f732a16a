//! What the terminal tells: what is injected, what the pipeline notices, and how it ended.

use crate::app::pipeline::Pipeline;
use crate::app::summary::Summary;
use crate::generate::{Label, Plan};
use crate::model::record::{AlertRecord, AlertTransition};
use crate::model::time::EventTime;
use crate::relay::view::View;
use compact_str::CompactString;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

pub(super) struct Story {
    bar: ProgressBar,
    labels: Vec<Label>,
    start: EventTime,
    said: BTreeSet<String>,
    fired: BTreeSet<CompactString>,
    resolved: BTreeSet<CompactString>,
    now: EventTime,
}

impl Story {
    pub(super) fn begin(plan: &Plan, address: Option<SocketAddr>) -> Story {
        let end = plan.until.unwrap_or(plan.start);
        let bar = ProgressBar::new(u64::try_from(end.since(plan.start).as_ms()).unwrap_or(0));
        let style = ProgressStyle::with_template("{bar:30} {msg}");
        let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
        let story = Story {
            bar,
            labels: plan.labels(),
            start: plan.start,
            said: BTreeSet::new(),
            fired: BTreeSet::new(),
            resolved: BTreeSet::new(),
            now: plan.start,
        };
        story
            .say("A shop's touchpoints flow through ingest, journey, rollup and relay, on a clock");
        story.say(
            "that runs 300 times as fast as yours. Broker and topics are inside this process.",
        );
        if let Some(address) = address {
            story.say(&format!("  page     http://{address}/        (open it now: it is live)"));
            story.say(&format!("  metrics  http://{address}/metrics"));
            story.say(&format!("  API      http://{address}/api/v1/alerts?state=all"));
        }
        story.say("For the first hours the detectors learn what is normal.");
        story
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn once(&mut self, what: String, line: &str) {
        if self.said.insert(what) {
            self.say(line);
        }
    }

    /// Tells what is new.
    pub(super) fn look(&mut self, pipeline: &Pipeline, now: Option<EventTime>) {
        self.now = now.unwrap_or(self.now);
        for label in self.labels.clone() {
            let where_ = said(&label.dimensions);
            let key = format!("{}{}", label.kind, label.from);
            if self.now >= label.from {
                let line = format!("{} >> injected: {} {where_}", clock(label.from), label.kind);
                self.once(format!("{key} from"), &line);
            }
            if self.now >= label.to {
                let line = format!("{} >> repaired: {} {where_}", clock(label.to), label.kind);
                self.once(format!("{key} to"), &line);
            }
        }
        for alert in pipeline.view.recent() {
            self.hear(&alert);
        }
        let counted = pipeline.tasks.totals().summary(0.0);
        let (fired, resolved) = (self.fired.len(), self.resolved.len());
        self.bar.set_position(u64::try_from(self.now.since(self.start).as_ms()).unwrap_or(0));
        self.bar.set_message(format!(
            "{} event time | {} touchpoints, {} sessions, {} checkouts, {} abandoned | alerts: \
             {fired} fired, {resolved} resolved",
            clock(self.now),
            counted.events_in,
            counted.sessions,
            counted.checkouts.started,
            counted.checkouts.abandoned,
        ));
    }

    fn hear(&mut self, alert: &AlertRecord) {
        let what = match alert.transition {
            AlertTransition::Firing => {
                self.fired.insert(alert.episode.clone());
                "FIRING"
            }
            AlertTransition::Resolved => {
                if self.fired.contains(&alert.episode) {
                    self.resolved.insert(alert.episode.clone());
                }
                "resolved"
            }
            _ => return,
        };
        let line = format!(
            "{} {what}: {} {} - {}",
            clock(alert.at),
            alert.alert,
            said(&alert.dimensions),
            alert.summary
        );
        self.once(alert.id.to_string(), &line);
    }

    /// True once every fault is over, something fired, and all that fired is resolved.
    pub(super) fn is_resolved(&self) -> bool {
        let over = self.labels.iter().all(|l| self.now >= l.to);
        over && !self.fired.is_empty() && self.fired == self.resolved
    }

    /// The summary, and whether all that was injected was noticed and is over.
    pub(super) fn end(self, summary: &Summary, view: &View) -> (String, Result<(), String>) {
        self.bar.finish_and_clear();
        let expected: Vec<&Label> = self.labels.iter().filter(|l| l.alert.is_some()).collect();
        let verdict = self.verdict(&expected);
        let mut ends: BTreeMap<CompactString, AlertRecord> = BTreeMap::new();
        for record in view.recent() {
            if self.fired.contains(&record.episode) {
                ends.insert(record.episode.clone(), record);
            }
        }
        let episodes: Vec<serde_json::Value> = ends
            .values()
            .map(|record| {
                let truth = expected.iter().find(|l| l.alert.as_ref() == Some(&record.alert));
                json!({
                    "alert": record.alert,
                    "dimensions": record.dimensions,
                    "starts_at": record.starts_at,
                    "ends_at": record.ends_at,
                    "resolved": record.transition == AlertTransition::Resolved,
                    "truth": truth,
                })
            })
            .collect();
        let mut all = serde_json::to_value(summary).unwrap_or_default();
        all["alerts"] = json!({ "fired": self.fired.len(), "resolved": self.resolved.len() });
        all["episodes"] = json!(episodes);
        all["truth"] = json!(self.labels);
        let text = serde_json::to_string_pretty(&all).unwrap_or_default();
        let sum = match summary.adds_up() {
            true => Ok(()),
            false => Err("the sum of what became of the events is wrong".to_owned()),
        };
        (text, sum.and(verdict))
    }

    fn verdict(&self, expected: &[&Label]) -> Result<(), String> {
        if expected.is_empty() && !self.fired.is_empty() {
            return Err("an alert fired although nothing was wrong".to_owned());
        }
        if !expected.is_empty() && self.fired.is_empty() {
            return Err(
                "no alert fired before the demo ended: give it longer with --for".to_owned()
            );
        }
        if self.fired != self.resolved {
            return Err("an alert is still firing: give the demo longer with --for".to_owned());
        }
        Ok(())
    }
}

fn clock(at: EventTime) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

fn said(dimensions: &BTreeMap<CompactString, CompactString>) -> String {
    let words: Vec<String> = dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if words.is_empty() { "everywhere".to_owned() } else { words.join(" ") }
}
