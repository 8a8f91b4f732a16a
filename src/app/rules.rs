//! Alert rules, from the configuration to the engine.

use crate::config::{self, DetectorSettings, RuleSettings, Settings};
use crate::model::record::Severity;
use crate::model::topic::Topic;
use crate::rollup::alerts::{self, Detector, Learning, LifeCycle, RatioSpike, Rule, Silence};

/// Settings of the alert engine.
pub fn settings(settings: &Settings) -> alerts::Settings {
    alerts::Settings {
        app: settings.app.name.clone(),
        canonical_topic: settings.topic(Topic::Canonical).into(),
        slice: settings.time.slice,
        rules: settings.rules.values().map(rule).collect(),
    }
}

fn rule(rule: &RuleSettings) -> Rule {
    let (scopes, detector, life, min_completeness) = match &rule.detector {
        DetectorSettings::RatioSpike(d) => ratio_spike(d),
        DetectorSettings::Silence(d) => silence(d),
    };
    Rule {
        name: rule.name.clone(),
        severity: match rule.severity {
            config::Severity::Critical => Severity::Critical,
            config::Severity::Warning => Severity::Warning,
            config::Severity::Info => Severity::Info,
        },
        owner: rule.owner.clone(),
        runbook: rule.runbook.clone(),
        summary: rule.summary.to_string(),
        scopes,
        detector,
        life,
        min_completeness,
    }
}

type Taken = (Vec<Vec<crate::model::dimension::Dimension>>, Detector, LifeCycle, f64);

fn ratio_spike(d: &config::RatioSpike) -> Taken {
    let detector = RatioSpike {
        ratio: alerts::Ratio::CheckoutAbandonment,
        window: d.window,
        over: d.windows,
        min_n: i64::try_from(d.min_sample).unwrap_or(i64::MAX),
        min_relative: d.min_relative,
        min_points: d.min_effect,
        enter: d.alpha,
        suspicious: d.suspicious_alpha,
        learning: Learning {
            half_life: d.half_life,
            after: d.learn_after,
            min_windows: i64::from(d.learn_min_windows),
            min_decided: i64::try_from(d.learn_min_sample).unwrap_or(i64::MAX),
            relearn_after: d.relearn_after,
        },
    };
    let life = LifeCycle {
        enter_k: d.enter.k,
        enter_n: d.enter.of,
        leave_m: d.leave_after,
        merge_gap: d.merge_gap,
        cool_down: d.cool_down,
    };
    (d.scopes.clone(), Detector::RatioSpike(detector), life, d.min_completeness)
}

fn silence(d: &config::Silence) -> Taken {
    let detector = Silence {
        min_gap: d.min_gap,
        max_gap: d.max_gap,
        chance: d.chance,
        horizon: d.once_in,
        min_history: d.min_history,
    };
    // A gap is one thing: it is there or it is not.
    let life = LifeCycle {
        enter_k: 1,
        enter_n: 1,
        leave_m: 1,
        merge_gap: d.merge_gap,
        cool_down: d.cool_down,
    };
    (vec![vec![d.dimension]], Detector::Silence(detector), life, 0.0)
}
