//! What is to be alerted on, as data: configuration fills it, the engine obeys it.
//!
//! A rule names its scopes (dimension sets; each combination of values is a series), a detector, a
//! life cycle and what a person needs: severity, owner, runbook, a summary. Limits: at most
//! [`RULES_MAX`] rules. It does not filter series by value, and it has no calendar.

use super::detector::{Detect, Unit, Verdict};
use super::ratio::RatioState;
use super::silence::{Silence, SilenceState};
use super::spike::RatioSpike;
use super::threshold::{Threshold, ThresholdState};
use crate::model::dimension::{Dimension, Dimensions};
use crate::model::record::Severity;
use crate::model::time::Millis;
use compact_str::CompactString;

/// As many rules as an engine takes.
pub const RULES_MAX: usize = 64;

/// Everything that the alerts need to know from outside.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The application's name, part of every record's id.
    pub app: CompactString,
    /// Topic that the evidence's offsets belong to.
    pub canonical_topic: CompactString,
    /// Length of one slice.
    pub slice: Millis,
    /// The rules, evaluated in this order; names must differ.
    pub rules: Vec<Rule>,
}

/// One alert rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Name of the alert, CamelCase as Prometheus has it.
    pub name: CompactString,
    /// How bad it is.
    pub severity: Severity,
    /// Team that gets it.
    pub owner: CompactString,
    /// Address of what to do about it.
    pub runbook: CompactString,
    /// Text for people; [`Rule::unknown_placeholders`] says what may stand in braces.
    pub summary: String,
    /// Dimension sets; the empty one is the total. From coarse to fine.
    pub scopes: Vec<Vec<Dimension>>,
    /// How it is noticed.
    pub detector: Detector,
    /// When it opens and closes.
    pub life: LifeCycle,
    /// Below this share of complete journey partitions nothing is judged.
    pub min_completeness: f64,
}

/// The detectors; another one is a variant, a line in `Detector::start` and a file.
#[derive(Clone, PartialEq, Debug)]
pub enum Detector {
    /// A ratio of a cohort above its trailing baseline.
    RatioSpike(RatioSpike),
    /// No events for longer than the series' own rate makes likely.
    Silence(Silence),
    /// More or fewer events than a bound.
    Threshold(Threshold),
}

/// When an episode opens, is confirmed, ends, and how soon the next may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LifeCycle {
    /// Fires at `enter_k` of the last `enter_n` evaluations suspicious, the present one strong enough.
    pub enter_k: u32,
    /// See `enter_k`.
    pub enter_n: u32,
    /// Recovers after this many evaluations in a row below the leave level.
    pub leave_m: u32,
    /// Time in recovery before it is resolved; what returns within it belongs to the same episode.
    pub merge_gap: Millis,
    /// Time after the resolution in which no new episode opens.
    pub cool_down: Millis,
}

impl Rule {
    /// Makes the rule for a spike of abandoned checkouts, in total and per channel.
    pub fn checkout_abandonment_spike() -> Rule {
        Rule {
            name: "CheckoutAbandonmentSpike".into(),
            severity: Severity::Critical,
            owner: "checkout".into(),
            runbook: "https://example.invalid/runbooks/checkout-abandonment".into(),
            summary: "Checkout abandonment {value} vs {expected} expected, {channel} \
                      (last {window}, n={n})"
                .into(),
            scopes: vec![Vec::new(), vec![Dimension::Channel]],
            detector: Detector::RatioSpike(RatioSpike::default()),
            life: LifeCycle {
                enter_k: 2,
                enter_n: 3,
                leave_m: 3,
                merge_gap: Millis::from_mins(10),
                cool_down: Millis::from_mins(10),
            },
            min_completeness: 0.95,
        }
    }

    /// Makes the rule for a channel from which nothing comes any more. It holds without complete
    /// input: a source that stalls is what it is there to notice.
    pub fn channel_silent() -> Rule {
        Rule {
            name: "ChannelSilent".into(),
            severity: Severity::Warning,
            owner: "data_platform".into(),
            runbook: "https://example.invalid/runbooks/channel-silent".into(),
            summary:
                "Nothing from {channel} for {value}; gaps above {upper} are not to be expected"
                    .into(),
            scopes: vec![vec![Dimension::Channel]],
            detector: Detector::Silence(Silence::default()),
            life: LifeCycle {
                enter_k: 1,
                enter_n: 1,
                leave_m: 1,
                merge_gap: Millis::from_mins(5),
                cool_down: Millis::from_mins(5),
            },
            min_completeness: 0.0,
        }
    }

    /// Placeholders of the summary that mean nothing; configuration refuses them. Known are the
    /// verdict's figures (`value`, `expected`, `lower`, `upper`, `effect`, `n`, `window`), `alert`,
    /// `severity`, `owner`, `tenant`, `dimensions`, and the name of every dimension.
    pub fn unknown_placeholders(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        expand(&self.summary, |name| {
            if !PLACEHOLDERS.contains(&name) && !Dimension::ALL.iter().any(|d| d.name() == name) {
                unknown.push(name.to_owned());
            }
            None
        });
        unknown
    }

    /// True if a series of these dimensions is one of the rule's.
    pub fn covers(&self, dimensions: &Dimensions) -> bool {
        covers(&self.scopes, dimensions)
    }

    /// Writes the summary of one verdict.
    pub(super) fn summarize(&self, tenant: &str, verdict: &Verdict) -> String {
        let figure = |x: f64| match verdict.unit {
            Unit::Share => format!("{:.0}%", x * 100.0),
            Unit::Number => format!("{x:.0}"),
            Unit::Seconds => Millis::from_ms((x / 10.0).round() as i64 * 10_000).to_string(),
        };
        expand(&self.summary, |name| {
            Some(match name {
                "value" => figure(verdict.value),
                "expected" => figure(verdict.expected),
                "lower" => figure(verdict.lower),
                "upper" => figure(verdict.upper),
                "effect" => figure(verdict.effect),
                "n" => verdict.n.to_string(),
                "window" => verdict.window.to_string(),
                "alert" => self.name.to_string(),
                "severity" => format!("{:?}", self.severity).to_lowercase(),
                "owner" => self.owner.to_string(),
                "tenant" => tenant.to_owned(),
                "dimensions" if verdict.series.is_total() => "total".to_owned(),
                "dimensions" => verdict.series.to_string(),
                _ => {
                    let known = Dimension::ALL.iter().find(|d| d.name() == name)?;
                    match verdict.series.get(*known) {
                        Some(value) => format!("{name} {value}"),
                        None => format!("every {name}"),
                    }
                }
            })
        })
    }
}

/// What a summary may hold in braces, besides the name of a dimension.
pub const PLACEHOLDERS: [&str; 12] = [
    "value",
    "expected",
    "lower",
    "upper",
    "effect",
    "n",
    "window",
    "alert",
    "severity",
    "owner",
    "tenant",
    "dimensions",
];

impl Detector {
    /// Makes the detector's state for one tenant.
    pub(super) fn start(&self, rule: &Rule, slice: Millis) -> Box<dyn Detect> {
        match self {
            Detector::RatioSpike(settings) => Box::new(RatioState::new(settings.clone(), rule)),
            Detector::Silence(settings) => {
                Box::new(SilenceState::new(settings.clone(), rule, slice))
            }
            Detector::Threshold(settings) => {
                Box::new(ThresholdState::new(settings.clone(), rule, slice))
            }
        }
    }

    /// Name of the detector, for counting its tests.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Detector::RatioSpike(_) => "ratio_spike",
            Detector::Silence(_) => "silence",
            Detector::Threshold(_) => "threshold",
        }
    }
}

/// True if one of `scopes` has exactly these dimensions.
pub(super) fn covers(scopes: &[Vec<Dimension>], dimensions: &Dimensions) -> bool {
    scopes.iter().any(|scope| {
        scope.len() == dimensions.pairs().len()
            && scope.iter().all(|d| dimensions.get(*d).is_some())
    })
}

/// Replaces `{name}` by what `of` says; what it does not know stays as it is.
fn expand(template: &str, mut of: impl FnMut(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let Some(length) = rest[open..].find('}') else { break };
        text.push_str(&rest[..open]);
        let name = &rest[open + 1..open + length];
        match of(name) {
            Some(value) => text.push_str(&value),
            None => text.push_str(&rest[open..=open + length]),
        }
        rest = &rest[open + length + 1..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_keep_what_they_do_not_know() {
        let check = |template: &str, expected: &str| {
            let got = expand(template, |name| (name == "n").then(|| "7".to_owned()));
            assert_eq!(got, expected);
        };
        check("", "");
        check("n={n}", "n=7");
        check("{n}{n} {m}", "77 {m}");
        check("open {n", "open {n");
        check("} {n}", "} 7");
    }

    #[test]
    fn shipped_rules_know_their_placeholders() {
        for rule in [Rule::checkout_abandonment_spike(), Rule::channel_silent()] {
            assert_eq!(rule.unknown_placeholders(), Vec::<String>::new(), "{}", rule.name);
        }
        let mut rule = Rule::channel_silent();
        rule.summary = "{value} {chanel} {stage}".into();
        assert_eq!(rule.unknown_placeholders(), ["chanel"]);
    }

    #[test]
    fn scopes_cover_exactly_their_dimensions() {
        let rule = Rule::checkout_abandonment_spike();
        let channel = (Dimension::Channel, CompactString::from("web"));
        let stage = (Dimension::Stage, CompactString::from("purchase"));
        assert!(rule.covers(&Dimensions::TOTAL));
        assert!(rule.covers(&Dimensions::new([channel.clone()])));
        assert!(!rule.covers(&Dimensions::new([stage.clone()])));
        assert!(!rule.covers(&Dimensions::new([channel, stage])));
        assert!(!Rule::channel_silent().covers(&Dimensions::TOTAL));
    }
}
