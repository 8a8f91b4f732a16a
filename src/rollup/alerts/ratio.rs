//! A ratio of a cohort that is above its own trailing baseline: `CheckoutAbandonmentSpike`.
//!
//! Each time a window matures (and whenever one of the last few changes) every series of the rule is
//! tested over the last windows (see `runs`): upper tail of a beta-binomial against the baseline, at
//! least `min_n` decided, at least the minimum effect; one false-discovery pass over all of them.
//! Windows without checkouts are no evidence for anything. It says nothing about falls.
//!
//! What is judged ends at the newest window whose input is complete: a source that holds the
//! watermark back delays the verdict, it does not silence it.
//!
//! If the clock jumps over several ends (an idle source is back with hours of data), each of them is
//! judged at that step, in order: with the windows before it, what has been learned of those that are
//! old enough by then, and the episodes that the ends before have opened. So all have their votes.
//! Ends more than [`KEEP`] before the newest are skipped: no run, vote or start reaches back so far.
//! The life cycle's own times are those of the step, so what comes back within the jump is merged.

mod state;

use super::attribution::{Remainder, Share, Situation, attribute, evidence};
use super::baseline::{Baseline, Expected, Standing, standing};
use super::betabinomial::{upper_tail, wilson_95};
use super::contributors::{Part, contributors};
use super::detector::{Claim, Detect, Episodes, State, Unit, Verdict};
use super::fdr::adjust;
use super::rule::{Rule, covers};
use super::runs::{KEEP, Run, Runs, Seen, Tested, has_left, times};
use super::spike::RatioSpike;
use crate::engine::state::Dirty;
use crate::model::dimension::{Dimension, Dimensions};
use crate::model::record::Contributor;
use crate::model::time::EventTime;
use crate::rollup::step::{StepView, WindowView};
use state::{Kept, block_of};
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
struct Series {
    runs: Runs,
    baseline: Baseline,
}

/// The detector's state for one tenant.
pub(super) struct RatioState {
    settings: RatioSpike,
    scopes: Vec<Vec<Dimension>>,
    min_completeness: f64,
    series: BTreeMap<Dimensions, Series>,
    /// Completeness by end of the windows seen.
    ends: BTreeMap<EventTime, f64>,
    judged: Option<EventTime>,
    /// Ends still to be judged at the present step; empty between steps.
    due: VecDeque<EventTime>,
    dirty: Dirty<Kept>,
}

/// One series under test.
struct Case<'a> {
    series: &'a Dimensions,
    of: &'a Series,
    expected: Expected,
    tested: Option<Tested>,
    q: f64,
    state: State,
    claim: Claim,
    /// Since when it fires, if it does.
    open_since: Option<EventTime>,
}

/// Sums over several series.
#[derive(Default)]
struct Pool {
    k: i64,
    n: i64,
    usual: f64,
}

impl Pool {
    fn add(&mut self, run: &Run, expected: &Expected) {
        self.k += run.k;
        self.n += run.n;
        self.usual += run.n as f64 * expected.rate;
    }

    fn rate(&self, otherwise: f64) -> f64 {
        if self.n > 0 { self.usual / self.n as f64 } else { otherwise }
    }
}

impl RatioState {
    pub(super) fn new(settings: RatioSpike, rule: &Rule) -> RatioState {
        RatioState {
            settings,
            scopes: rule.scopes.clone(),
            min_completeness: rule.min_completeness,
            series: BTreeMap::new(),
            ends: BTreeMap::new(),
            judged: None,
            due: VecDeque::new(),
            dirty: Dirty::default(),
        }
    }

    /// Takes one window in; says whether that changes anything.
    fn see(&mut self, view: &WindowView<'_>) -> bool {
        if view.window != self.settings.window || !covers(&self.scopes, view.dimensions) {
            return false;
        }
        let newest = self.ends.last_key_value().map_or(view.end, |(end, _)| *end);
        if view.end <= newest.minus(KEEP) {
            return false;
        }
        self.dirty.touch(Kept::Head);
        self.dirty.touch(Kept::Ends(block_of(view.end)));
        self.ends.insert(view.end, view.completeness);
        let counts = self.settings.ratio.counts(view);
        let known = self.series.get(view.dimensions);
        let known = known.and_then(|series| series.runs.windows.get(&view.start));
        if known.is_none() && counts.started == 0 {
            return false;
        }
        let seen = Seen {
            counts,
            completeness: view.completeness,
            orders: view.figures.orders,
            value: view.figures.value.clone(),
            is_final: view.is_final,
            learned: known.is_some_and(|known| known.learned),
        };
        let changed = known.is_none_or(|known| known.counts != counts);
        if !self.series.contains_key(view.dimensions) {
            self.dirty.touch(Kept::Baseline(view.dimensions.clone()));
            self.series.insert(view.dimensions.clone(), Series::default());
        }
        self.dirty.touch(Kept::Windows(view.dimensions.clone(), block_of(view.start)));
        if let Some(series) = self.series.get_mut(view.dimensions) {
            series.runs.windows.insert(view.start, seen);
        }
        changed
    }

    /// The ends whose input is complete, newest first.
    fn judgeable(&self, watermark: EventTime) -> impl Iterator<Item = EventTime> {
        let complete = move |(end, completeness): (&EventTime, &f64)| {
            (*end <= watermark || *completeness >= self.min_completeness).then_some(*end)
        };
        self.ends.iter().rev().filter_map(complete)
    }

    /// Learns the windows that are old enough, or final with `finals`.
    fn learn(&mut self, watermark: EventTime, finals: bool, episodes: Episodes<'_>) {
        let settings = &self.settings;
        let learning = &settings.learning;
        for (dimensions, series) in &mut self.series {
            for (&start, seen) in &mut series.runs.windows {
                let end = start.plus(settings.window);
                let due = (finals && seen.is_final) || end.plus(learning.after) <= watermark;
                if seen.learned || !due {
                    continue;
                }
                seen.learned = true;
                self.dirty.touch(Kept::Windows(dimensions.clone(), block_of(start)));
                let expected = series.baseline.expected(learning);
                let anomalous = expected.is_some_and(|e| Runs::is_anomalous(settings, &e, seen));
                match standing(learning, episodes, dimensions, (start, end)) {
                    Standing::Episode => continue,
                    Standing::Clear if anomalous => continue,
                    Standing::Clear | Standing::Settled => {}
                }
                self.dirty.touch(Kept::Baseline(dimensions.clone()));
                series.baseline.learn_orders(learning, end, seen.orders, &seen.value);
                series.baseline.learn(learning, end, seen.counts.k, seen.counts.n);
            }
        }
    }

    fn forget(&mut self) {
        let Some((&newest, _)) = self.ends.last_key_value() else { return };
        let oldest = newest.minus(KEEP);
        while let Some(gone) = self.ends.first_entry().filter(|end| *end.key() <= oldest) {
            self.dirty.touch(Kept::Ends(block_of(*gone.key())));
            gone.remove();
        }
        let oldest = oldest.minus(self.settings.window);
        for (dimensions, series) in &mut self.series {
            let windows = &mut series.runs.windows;
            while let Some(gone) = windows.first_entry().filter(|start| *start.key() <= oldest) {
                let block = block_of(*gone.key());
                self.dirty.touch(Kept::Windows(dimensions.clone(), block));
                gone.remove();
            }
        }
    }

    /// Tests every series that has a baseline, in one pass.
    fn cases(&self, to: EventTime, episodes: Episodes<'_>) -> Vec<Case<'_>> {
        let settings = &self.settings;
        let mut cases: Vec<Case<'_>> = self
            .series
            .iter()
            .filter_map(|(series, of)| {
                let expected = of.baseline.expected(&settings.learning)?;
                let tested = of.runs.test(settings, &expected, to);
                let open_since = episodes.open_since(series);
                let (q, state, claim) = (1.0, State::Ok, Claim::Own);
                Some(Case { series, of, expected, tested, q, state, claim, open_since })
            })
            .collect();
        let p: Vec<f64> = cases.iter().filter_map(|c| c.tested.map(|t| t.p)).collect();
        let tested = cases.iter_mut().filter_map(|case| case.tested.map(|t| (t, case)));
        for (q, (tested, case)) in adjust(&p).into_iter().zip(tested) {
            case.q = q;
            if tested.run.is_large(settings, &case.expected) && q <= settings.suspicious {
                case.state = if q <= settings.enter { State::Enter } else { State::Suspicious };
            }
        }
        cases
    }

    /// Decides which of the series that are up may have an alert.
    fn claim(&self, cases: &mut [Case<'_>], to: EventTime) {
        let is_up = |case: &Case<'_>| matches!(case.state, State::Enter | State::Suspicious);
        let is_part = |case: &Case<'_>| {
            let parts = self.scopes.iter().find(|scope| !scope.is_empty());
            parts.is_some_and(|scope| covers(std::slice::from_ref(scope), case.series))
        };
        let Some(total) = cases.iter().find(|case| case.series.is_total()) else { return };
        if !is_up(total) && total.open_since.is_none() {
            return;
        }
        let Some(whole) = total.tested else { return };
        let length = (whole.run.to.since(whole.run.from)).as_ms() / self.settings.window.as_ms();
        let (mut up, mut rest) = (Pool::default(), Pool::default());
        let (mut parts_up, mut any_part_open) = (0, false);
        for case in cases.iter().filter(|case| is_part(case)) {
            let run = case.of.runs.last(&self.settings, to, length as u32);
            if is_up(case) || case.open_since.is_some() {
                up.add(&run, &case.expected);
                parts_up += 1;
                any_part_open |= case.open_since.is_some();
            } else {
                rest.add(&run, &case.expected);
            }
        }
        // What the parts without a baseline have is in the total alone.
        let (k, n) = ((whole.run.k - up.k).max(0), (whole.run.n - up.n).max(0));
        let rest = Share { k: k.min(n), n, expected: rest.rate(total.expected.rate) };
        let rho = total.expected.rho;
        let p = upper_tail(rest.n, rest.k, rest.expected, rho);
        let is_eligible = rest.n >= self.settings.min_n;
        let large = rest.k as f64 >= self.settings.enter_rate(rest.expected) * rest.n as f64;
        let enters = is_eligible && large && p <= self.settings.enter;
        let up = Share { k: up.k, n: up.n, expected: up.rate(total.expected.rate) };
        let remainder = Remainder { evidence: evidence(up, rest, rho), enters, is_eligible };
        let total_open = total.open_since.is_some();
        let situation = Situation { total_open, any_part_open, parts_up, remainder };
        let (of_total, of_parts) = attribute(&situation);
        for case in cases.iter_mut().filter(|case| case.open_since.is_none()) {
            if case.series.is_total() {
                case.claim = of_total;
            } else if is_part(case) {
                case.claim = of_parts;
            }
        }
    }

    fn verdict(&self, case: &Case<'_>, to: EventTime, complete: bool) -> Option<Verdict> {
        let settings = &self.settings;
        let runs = &case.of.runs;
        let mut state = case.state;
        let mut run = case.tested.map(|tested| tested.run);
        let mut ends_at = to;
        if let Some(since) = case.open_since {
            ends_at = runs.ends_at(settings, &case.expected, since, to);
            let after = runs.since(settings, ends_at, to);
            // The windows since then decide, whatever longer runs still carry of it.
            if let Some(after) = after.filter(|run| has_left(settings, &case.expected, run)) {
                state = State::Leave;
                run = Some(after);
            }
        }
        let run = run?;
        let (lower, upper) = wilson_95(run.k, run.n);
        let starts_at = runs.starts_at(settings, &case.expected, to);
        let is_up = state != State::Ok;
        Some(Verdict {
            series: case.series.clone(),
            state,
            claim: case.claim,
            slot: to,
            every: settings.window,
            starts_at,
            ends_at,
            window: run.to.since(run.from),
            value: run.rate(),
            expected: case.expected.rate,
            lower,
            upper,
            n: run.n,
            effect: run.rate() - case.expected.rate,
            p_value: case.q,
            maturity: run.maturity(),
            completeness: if complete { 1.0 } else { run.completeness },
            contributors: if is_up { self.contributors(&run) } else { Vec::new() },
            at_risk: case.of.baseline.at_risk(excess_per_hour(&run, &case.expected)),
            evidence: (run.from, run.to),
            unit: Unit::Share,
        })
    }

    /// Judges every series as of `to`; the number of tests.
    fn evaluate(
        &self,
        to: EventTime,
        view: &StepView<'_>,
        episodes: Episodes<'_>,
        out: &mut Vec<Verdict>,
    ) -> u64 {
        let mut cases = self.cases(to, episodes);
        self.claim(&mut cases, to);
        let complete = to <= view.watermark;
        out.extend(cases.iter().filter_map(|case| self.verdict(case, to, complete)));
        out.extend(self.learners(to));
        cases.iter().filter(|case| case.tested.is_some()).count() as u64
    }

    /// Says of every series without a baseline that it is learning.
    fn learners(&self, to: EventTime) -> impl Iterator<Item = Verdict> {
        let learning = &self.settings.learning;
        let learners =
            self.series.iter().filter(|(_, of)| of.baseline.expected(learning).is_none());
        learners.map(move |(series, _)| Verdict::learning(series, to, self.settings.window))
    }

    /// The parts of the total that its change comes from, over the windows of `run`.
    fn contributors(&self, run: &Run) -> Vec<Contributor> {
        let Some(scope) = self.scopes.iter().find(|scope| !scope.is_empty()) else {
            return Vec::new();
        };
        let scope = std::slice::from_ref(scope);
        let length = run.to.since(run.from).as_ms() / self.settings.window.as_ms();
        let parts: Vec<Part<'_>> = self
            .series
            .iter()
            .filter(|(series, _)| covers(scope, series))
            .filter_map(|(series, of)| {
                let expected = of.baseline.expected(&self.settings.learning)?;
                let run = of.runs.last(&self.settings, run.to, length as u32);
                let (rate, weight) = (expected.rate, expected.weight);
                Some(Part { series, k: run.k, n: run.n, rate, weight })
            })
            .collect();
        contributors(&parts)
    }
}

/// Abandoned beyond what is expected, in an hour at this pace.
fn excess_per_hour(run: &Run, expected: &Expected) -> f64 {
    let hours = run.to.since(run.from).as_secs_f64() / 3_600.0;
    (run.rate() - expected.rate) * run.n as f64 / hours
}

impl Detect for RatioState {
    fn step(&mut self, view: &StepView<'_>, episodes: Episodes<'_>, out: &mut Vec<Verdict>) -> u64 {
        let mut newest_change = EventTime::MIN;
        for window in view.matured.iter().chain(view.revised).chain(view.finals) {
            if self.see(window) {
                newest_change = newest_change.max(window.end);
            }
        }
        let Some(to) = self.judgeable(view.watermark).next() else { return 0 };
        let judged = self.judged;
        if judged.is_none_or(|judged| judged < to) {
            let oldest = judged.unwrap_or(EventTime::MIN).max(to.minus(KEEP));
            let ends = self.judgeable(view.watermark).take_while(|end| *end > oldest);
            let ends: Vec<EventTime> = ends.collect();
            self.due.extend(ends.into_iter().rev());
            return self.catch_up(view, episodes, out).unwrap_or(0);
        }
        // Only a change within the longest run is worth another look at the same evaluation.
        let run = times(self.settings.window, 2 * self.settings.over);
        if newest_change <= to.minus(run) {
            return 0;
        }
        self.evaluate(to, view, episodes, out)
    }

    fn catch_up(
        &mut self,
        view: &StepView<'_>,
        episodes: Episodes<'_>,
        out: &mut Vec<Verdict>,
    ) -> Option<u64> {
        let to = self.due.pop_front()?;
        let tests = self.evaluate(to, view, episodes, out);
        self.dirty.touch(Kept::Head);
        self.judged = Some(to);
        if self.due.is_empty() {
            self.learn(view.watermark, true, episodes);
            self.forget();
        } else {
            // What is final by now was not when this end was the newest.
            self.learn(to, false, episodes);
        }
        Some(tests)
    }

    fn next_due(&self) -> Option<EventTime> {
        None
    }
}
