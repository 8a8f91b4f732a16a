//! What to tell an Alertmanager now: a pure plan from the view and the wall clock.
//!
//! | rule | why |
//! | --- | --- |
//! | nothing is pushed unless the topics have been read to their ends | one paused relay must not revive a resolved alert |
//! | nothing firing is pushed while the pipeline is more than `max_alert_age` behind the wall clock | a backfill pages nobody; what is still firing when it is done is pushed then |
//! | firing alerts are sent again every `resend_interval` with `endsAt` = now + 4 × the interval | forgetting to is a false "resolved" after five minutes |
//! | a resolved alert is sent for [`RESOLVED_FOR`] | Alertmanager may have been out when it was first sent |
//! | a resolve is sent only for what was pushed, or if it is younger than `max_alert_age` (we may have started in between) | others never heard of it |
//! | labels are identity only, values are annotations | a label that changes makes another alert |

use super::view::{View, severity_name};
use crate::model::record::{AlertRecord, AlertTransition};
use crate::model::time::{EventTime, Millis, ProcessingTime};
use compact_str::CompactString;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How long a resolved alert is sent again.
pub const RESOLVED_FOR: Millis = Millis::from_mins(5);

/// How long after a push that somebody did not take it is tried again.
pub const RETRY_AFTER: Millis = Millis::from_secs(5);

/// When and how alerts are pushed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between two pushes of one firing alert.
    pub resend_interval: Millis,
    /// Older alerts are recorded, not pushed.
    pub max_alert_age: Millis,
    /// Where people find this instance: the start of `generatorURL`.
    pub external_url: String,
}

/// One alert as `POST /api/v2/alerts` takes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Postable {
    /// Identity: what Alertmanager deduplicates by.
    pub labels: BTreeMap<String, String>,
    /// Everything else.
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339.
    pub starts_at: String,
    /// RFC 3339.
    pub ends_at: String,
    /// Link back.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
}

struct Pushed {
    record: AlertRecord,
    sent_at: ProcessingTime,
    resolved_at: Option<ProcessingTime>,
}

/// Remembers what has been pushed.
pub struct Pusher {
    settings: Settings,
    pushed: BTreeMap<CompactString, Pushed>,
    resolves_seen: BTreeSet<CompactString>,
}

impl Pusher {
    /// Nothing has been pushed yet.
    pub fn new(settings: Settings) -> Pusher {
        Pusher { settings, pushed: BTreeMap::new(), resolves_seen: BTreeSet::new() }
    }

    /// Somebody did not take the push of `now`: everything is due again after [`RETRY_AFTER`].
    pub fn again(&mut self, now: ProcessingTime) {
        let interval = self.settings.resend_interval.as_ms();
        let sent_at = now.as_ms() - (interval - RETRY_AFTER.as_ms()).max(0);
        for pushed in self.pushed.values_mut() {
            pushed.sent_at = pushed.sent_at.min(ProcessingTime::from_ms(sent_at));
        }
    }

    /// What is to be sent at `now`, sorted by fingerprint; to every Alertmanager alike.
    pub fn plan(&mut self, view: &View, now: ProcessingTime) -> Vec<Postable> {
        if !view.is_caught_up() {
            return Vec::new();
        }
        let mut out = Vec::new();
        let active = view.active();
        let firing: BTreeSet<&CompactString> = active.iter().map(|a| &a.episode).collect();
        self.plan_resolved(view, &firing, now, &mut out);
        if !self.is_old(view.newest(), now) {
            for alert in &active {
                self.plan_firing(alert, now, &mut out);
            }
        }
        out
    }

    fn plan_firing(&mut self, alert: &AlertRecord, now: ProcessingTime, out: &mut Vec<Postable>) {
        let due = match self.pushed.get(&alert.episode) {
            None => true,
            Some(before) => {
                now.as_ms() - before.sent_at.as_ms() >= self.settings.resend_interval.as_ms()
                    || before.record.sequence != alert.sequence
            }
        };
        if due {
            let until = now.as_ms() + 4 * self.settings.resend_interval.as_ms();
            out.push(self.postable(alert, EventTime::from_ms(until)));
            let pushed = Pushed { record: alert.clone(), sent_at: now, resolved_at: None };
            self.pushed.insert(alert.episode.clone(), pushed);
        }
    }

    fn plan_resolved(
        &mut self,
        view: &View,
        firing: &BTreeSet<&CompactString>,
        now: ProcessingTime,
        out: &mut Vec<Postable>,
    ) {
        for record in view.recent() {
            let resolved = record.transition == AlertTransition::Resolved;
            if !resolved || !self.resolves_seen.insert(record.episode.clone()) {
                continue;
            }
            let known = self.pushed.contains_key(&record.episode);
            if known || !self.is_old(Some(record.at), now) {
                let sent_at = ProcessingTime::from_ms(i64::MIN / 4);
                let pushed = Pushed { record: record.clone(), sent_at, resolved_at: Some(now) };
                self.pushed.insert(record.episode.clone(), pushed);
            }
        }
        let interval = self.settings.resend_interval.as_ms();
        let mut due = Vec::new();
        self.pushed.retain(|episode, pushed| {
            let Some(resolved_at) = pushed.resolved_at else { return true };
            if now.as_ms() - pushed.sent_at.as_ms() >= interval {
                pushed.sent_at = now;
                due.push(episode.clone());
            }
            now.as_ms() - resolved_at.as_ms() <= RESOLVED_FOR.as_ms() && !firing.contains(episode)
        });
        for episode in due {
            if let Some(pushed) = self.pushed.get(&episode) {
                let ends_at = pushed.record.ends_at.unwrap_or(pushed.record.at);
                out.push(self.postable(&pushed.record, ends_at));
            }
        }
        self.forget_old_resolves(view);
    }

    fn forget_old_resolves(&mut self, view: &View) {
        if self.resolves_seen.len() > 2 * super::view::RECENT_ALERTS_MAX {
            let there: BTreeSet<CompactString> =
                view.recent().into_iter().map(|r| r.episode).collect();
            self.resolves_seen.retain(|episode| there.contains(episode));
        }
    }

    fn is_old(&self, at: Option<EventTime>, now: ProcessingTime) -> bool {
        at.is_none_or(|at| now.as_ms() - at.as_ms() > self.settings.max_alert_age.as_ms())
    }

    fn postable(&self, alert: &AlertRecord, ends_at: EventTime) -> Postable {
        let mut labels: BTreeMap<String, String> =
            alert.dimensions.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let severity = severity_name(alert).to_owned();
        for (name, value) in [
            ("alertname", alert.alert.to_string()),
            ("severity", severity),
            ("team", alert.owner.to_string()),
            ("service", "touchline".to_owned()),
            ("tenant", alert.tenant.to_string()),
        ] {
            labels.insert(name.to_owned(), value);
        }
        labels.retain(|_, value| !value.is_empty());
        let base = self.settings.external_url.trim_end_matches('/');
        Postable {
            labels,
            annotations: annotations(alert),
            starts_at: alert.starts_at.to_string(),
            ends_at: ends_at.to_string(),
            generator_url: format!("{base}/?alert={}", alert.fingerprint),
        }
    }
}

fn annotations(alert: &AlertRecord) -> BTreeMap<String, String> {
    let join = |parts: Vec<String>| parts.join("; ");
    let contributors = alert.contributors.iter().map(|c| {
        let names: Vec<String> = c.dimensions.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!("{} ({:+.3}, n={})", names.join(" "), c.effect, c.n)
    });
    let at_risk = alert.at_risk.iter().map(|(c, minor)| format!("{c} {minor} minor units/h"));
    let evidence =
        alert.evidence.iter().map(|e| format!("{} p{}:{}-{}", e.topic, e.partition, e.from, e.to));
    let description = format!(
        "value {:.4}, expected {:.4}, 95% interval {:.4}-{:.4}, n={}, effect {:+.4}, p={:.3e}, \
         window {}, completeness {:.2}",
        alert.value,
        alert.expected,
        alert.lower,
        alert.upper,
        alert.n,
        alert.effect,
        alert.p_value,
        alert.window,
        alert.completeness,
    );
    let all = [
        ("summary", alert.summary.clone()),
        ("description", description),
        ("contributors", join(contributors.collect())),
        ("revenue_at_risk", join(at_risk.collect())),
        ("evidence", join(evidence.collect())),
        ("runbook_url", alert.runbook.to_string()),
    ];
    let named = all.into_iter().map(|(name, text)| (name.to_owned(), text));
    named.filter(|(_, text)| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests;
