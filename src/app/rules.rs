//! Alert rules, from the configuration to the engine.

use crate::config::{self, DetectorSettings, RuleSettings, Settings};
use crate::model::time::Millis;
use crate::model::topic::Topic;
use crate::rollup::alerts::{
    self, Detector, Learning, LifeCycle, RatioSpike, Rule, Silence, Threshold,
};

/// Settings of the alert engine.
pub fn settings(settings: &Settings) -> alerts::Settings {
    // A cohort is known when it is mature, and cannot change once nothing late is accepted any more.
    let (mature, late) = (settings.checkout.t_checkout, settings.time.allowed_lateness);
    let learn_after = Millis::from_ms(mature.as_ms() + late.as_ms());
    alerts::Settings {
        app: settings.app.name.clone(),
        canonical_topic: settings.topic(Topic::Canonical).into(),
        slice: settings.time.slice,
        rules: settings.rules.values().map(|r| rule(r, learn_after)).collect(),
    }
}

fn rule(rule: &RuleSettings, learn_after: Millis) -> Rule {
    Rule {
        name: rule.name.clone(),
        severity: rule.severity,
        owner: rule.owner.clone(),
        runbook: rule.runbook.clone(),
        summary: rule.summary.clone(),
        scopes: rule.scopes.clone(),
        detector: detector(&rule.detector, learn_after),
        life: LifeCycle {
            enter_k: rule.enter_k,
            enter_n: rule.enter_of,
            leave_m: rule.leave,
            merge_gap: rule.merge_gap,
            cool_down: rule.cool_down,
        },
        min_completeness: rule.min_completeness,
    }
}

fn detector(detector: &DetectorSettings, learn_after: Millis) -> Detector {
    match detector {
        DetectorSettings::RatioSpike(d) => Detector::RatioSpike(RatioSpike {
            ratio: match d.ratio {
                config::Ratio::CheckoutAbandonment => alerts::Ratio::CheckoutAbandonment,
            },
            window: d.window,
            over: d.over,
            min_n: d.min_sample,
            min_relative: d.min_relative,
            min_points: d.min_effect,
            enter: d.alpha,
            suspicious: d.alpha_suspicious,
            learning: Learning {
                half_life: d.learning.half_life,
                after: learn_after,
                min_windows: d.learning.min_windows,
                min_decided: d.learning.min_decided,
                relearn_after: d.learning.relearn_after,
            },
        }),
        DetectorSettings::Silence(d) => Detector::Silence(Silence {
            min_gap: d.min_gap,
            max_gap: d.max_gap,
            chance: d.chance,
            horizon: d.horizon,
            min_history: d.min_history,
        }),
        DetectorSettings::Threshold(d) => {
            Detector::Threshold(Threshold { bound: d.bound, window: d.window })
        }
    }
}
