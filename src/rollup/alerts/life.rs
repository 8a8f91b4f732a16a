//! The life of an alert: ok, pending, firing, recovering, resolved. One state per series and rule.
//!
//! | from | on | to | record |
//! | --- | --- | --- | --- |
//! | ok | suspicious, k of n not reached | pending | `pending` |
//! | ok, pending | strong, and k of the last n votes at least suspicious | firing | `firing` |
//! | pending | no suspicious vote among the last n, covered, or none for too long | ok | `suppressed` |
//! | firing | m votes in a row below the leave level | recovering | `recovering` |
//! | recovering | strong again within the merge gap | firing | `amended` |
//! | recovering | merge gap over | ok, cooling down | `resolved` |
//!
//! So `resolved` is written exactly once per episode that fired and is its last record, and
//! `suppressed` is the last of one that never did. With k = 1 there is no `pending`: an episode may
//! begin with `firing`. If it turns out on firing that it began later than the pending episode says,
//! that one is suppressed and a new one begins with `firing`: an episode's start never changes. While it cools down votes are counted, but nothing opens.
//!
//! All times are event times of steps. A verdict is a vote for its slot; a later verdict of the same
//! slot (late data, a cohort decided further) replaces the vote and never counts twice.

use super::detector::{Claim, State, Verdict};
use super::rule::LifeCycle;
use crate::model::record::AlertTransition;
use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One episode: from its first record to its last.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Episode {
    /// Fixed at its first record: part of the episode's name.
    pub(super) starts_at: EventTime,
    /// Known once it recovers.
    pub(super) ends_at: Option<EventTime>,
    /// Sequence number of the next record.
    pub(super) sequence: i64,
    /// The latest verdict that moved it.
    pub(super) last: Verdict,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Phase {
    Pending { lapses_at: EventTime },
    Firing,
    Recovering { resolves_at: EventTime },
}

/// The life of one series under one rule.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Life {
    votes: BTreeMap<EventTime, State>,
    episode: Option<Episode>,
    cool_until: Option<EventTime>,
    /// The next episode begins no sooner: episodes of one series neither overlap nor share a name.
    floor: Option<EventTime>,
}

/// A detector looks back no further than this: then the floor can be forgotten.
const FLOOR_KEPT: Millis = Millis::from_hours(24);

/// Receives each transition with the episode as it is in the record.
pub(super) type Emit<'a> = dyn FnMut(AlertTransition, &Episode) + 'a;

impl Life {
    /// True if nothing would be lost by forgetting this.
    pub(super) fn is_idle(&self, at: EventTime) -> bool {
        self.episode.is_none()
            && !self.has_suspicion()
            && self.cool_until.is_none_or(|until| until <= at)
            && self.floor.is_none_or(|floor| floor.plus(FLOOR_KEPT) <= at)
    }

    /// The time at which something happens without a verdict.
    pub(super) fn next_due(&self) -> Option<EventTime> {
        match &self.episode {
            None => self.cool_until.filter(|_| self.has_suspicion()),
            Some(episode) => match episode.phase {
                Phase::Pending { lapses_at } => Some(lapses_at),
                Phase::Firing => None,
                Phase::Recovering { resolves_at } => Some(resolves_at),
            },
        }
    }

    /// Lets time pass; comes before the step's verdicts.
    pub(super) fn pass(&mut self, cycle: &LifeCycle, at: EventTime, emit: &mut Emit<'_>) {
        match self.episode.as_ref().map(|episode| episode.phase) {
            Some(Phase::Pending { lapses_at }) if lapses_at <= at => {
                self.votes.clear();
                self.close(AlertTransition::Suppressed, emit);
            }
            Some(Phase::Recovering { resolves_at }) if resolves_at <= at => {
                self.votes.clear();
                self.cool_until = Some(at.plus(cycle.cool_down));
                self.close(AlertTransition::Resolved, emit);
            }
            _ => {}
        }
        if self.cool_until.is_some_and(|until| until <= at) {
            self.cool_until = None;
        }
    }

    /// Takes one verdict.
    pub(super) fn judge(
        &mut self,
        cycle: &LifeCycle,
        at: EventTime,
        verdict: &Verdict,
        emit: &mut Emit<'_>,
    ) {
        if verdict.state == State::Learning {
            return;
        }
        self.vote(cycle, verdict);
        match self.episode.as_ref().map(|episode| episode.phase) {
            None => self.open(cycle, at, verdict, emit),
            Some(Phase::Pending { .. }) => self.confirm(cycle, at, verdict, emit),
            Some(Phase::Firing) => self.leave(cycle, at, verdict, emit),
            Some(Phase::Recovering { .. }) if verdict.state == State::Enter => {
                self.update(verdict, Phase::Firing, None);
                self.say(AlertTransition::Amended, emit);
            }
            Some(Phase::Recovering { .. }) => {}
        }
    }

    fn open(&mut self, cycle: &LifeCycle, at: EventTime, verdict: &Verdict, emit: &mut Emit<'_>) {
        let wrong = verdict.state.is_suspicion();
        if !wrong || verdict.claim != Claim::Own || self.cool_until.is_some() {
            return;
        }
        let fires = self.fires(cycle, verdict);
        self.episode = Some(Episode {
            starts_at: self.floor.map_or(verdict.starts_at, |floor| floor.max(verdict.starts_at)),
            ends_at: None,
            sequence: 0,
            last: verdict.clone(),
            phase: if fires { Phase::Firing } else { pending(cycle, at, verdict) },
        });
        self.say(if fires { AlertTransition::Firing } else { AlertTransition::Pending }, emit);
    }

    fn confirm(
        &mut self,
        cycle: &LifeCycle,
        at: EventTime,
        verdict: &Verdict,
        emit: &mut Emit<'_>,
    ) {
        if verdict.claim == Claim::Covered || !self.has_suspicion() {
            self.close(AlertTransition::Suppressed, emit);
        } else if verdict.claim == Claim::Own && self.fires(cycle, verdict) {
            let pending_since = self.episode.as_ref().map(|episode| episode.starts_at);
            if pending_since.is_some_and(|since| since < verdict.starts_at) {
                self.close(AlertTransition::Suppressed, emit);
                return self.open(cycle, at, verdict, emit);
            }
            self.update(verdict, Phase::Firing, None);
            self.say(AlertTransition::Firing, emit);
        } else if verdict.state.is_suspicion() {
            self.update(verdict, pending(cycle, at, verdict), None);
        }
    }

    fn leave(&mut self, cycle: &LifeCycle, at: EventTime, verdict: &Verdict, emit: &mut Emit<'_>) {
        let row = cycle.leave_m as usize;
        let left = self.votes.len() >= row
            && self.votes.values().rev().take(row).all(|vote| *vote == State::Leave);
        if left {
            let resolves_at = at.plus(cycle.merge_gap);
            let starts_at = self.episode.as_ref().map_or(verdict.ends_at, |e| e.starts_at);
            let ends_at = verdict.ends_at.max(starts_at);
            self.update(verdict, Phase::Recovering { resolves_at }, Some(ends_at));
            self.say(AlertTransition::Recovering, emit);
        }
    }

    /// Writes the vote down and forgets those that can count no more.
    fn vote(&mut self, cycle: &LifeCycle, verdict: &Verdict) {
        self.votes.insert(verdict.slot, verdict.state);
        let keep = cycle.enter_n.max(cycle.leave_m) as usize;
        while self.votes.len() > keep {
            self.votes.pop_first();
        }
        let Some((&newest, _)) = self.votes.last_key_value() else { return };
        if verdict.every > Millis::ZERO {
            let reach = Millis::from_ms(verdict.every.as_ms() * keep as i64);
            let oldest = newest.minus(reach);
            self.votes.retain(|slot, _| *slot > oldest);
        }
    }

    fn fires(&self, cycle: &LifeCycle, verdict: &Verdict) -> bool {
        let last = self.votes.values().rev().take(cycle.enter_n as usize);
        let suspicious = last.filter(|vote| vote.is_suspicion()).count();
        verdict.state == State::Enter && suspicious >= cycle.enter_k as usize
    }

    fn has_suspicion(&self) -> bool {
        self.votes.values().any(|vote| vote.is_suspicion())
    }

    fn update(&mut self, verdict: &Verdict, phase: Phase, ends_at: Option<EventTime>) {
        if let Some(episode) = &mut self.episode {
            episode.last = verdict.clone();
            episode.phase = phase;
            episode.ends_at = ends_at;
        }
    }

    fn say(&mut self, transition: AlertTransition, emit: &mut Emit<'_>) {
        if let Some(episode) = &mut self.episode {
            emit(transition, episode);
            episode.sequence += 1;
        }
    }

    fn close(&mut self, transition: AlertTransition, emit: &mut Emit<'_>) {
        self.say(transition, emit);
        if let Some(episode) = self.episode.take() {
            let end = episode.ends_at.unwrap_or(episode.starts_at).max(episode.starts_at);
            self.floor = Some(end.plus(Millis::from_ms(1)));
        }
    }
}

fn pending(cycle: &LifeCycle, at: EventTime, verdict: &Verdict) -> Phase {
    let votes = Millis::from_ms(verdict.every.as_ms() * i64::from(cycle.enter_n));
    Phase::Pending { lapses_at: at.plus(votes.max(cycle.merge_gap)) }
}

#[cfg(test)]
mod tests;
