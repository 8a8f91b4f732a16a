use super::super::detector::Unit;
use super::*;
use crate::model::dimension::Dimensions;

const CYCLE: LifeCycle = LifeCycle {
    enter_k: 2,
    enter_n: 3,
    leave_m: 2,
    merge_gap: Millis::from_mins(10),
    cool_down: Millis::from_mins(20),
};

fn minute(n: i64) -> EventTime {
    EventTime::from_ms(n * 60_000)
}

fn verdict(at: i64, state: State, claim: Claim) -> Verdict {
    Verdict {
        series: Dimensions::TOTAL,
        state,
        claim,
        slot: minute(at),
        every: Millis::from_mins(5),
        starts_at: minute(7),
        ends_at: minute(at),
        window: Millis::from_mins(5),
        value: 0.5,
        expected: 0.3,
        lower: 0.4,
        upper: 0.6,
        n: 100,
        effect: 0.2,
        p_value: 1e-9,
        maturity: 1.0,
        completeness: 1.0,
        contributors: Vec::new(),
        at_risk: crate::model::record::Value::new(),
        evidence: (minute(0), minute(at)),
        unit: Unit::Share,
    }
}

/// Runs a script of words `minute:what` (`.` time only, `l`earning, `o`k, `s`uspicious, `e`nter,
/// `v` leave, `h`eld enter, `c`overed enter, `E` enter that says it began at 12 min); the records as
/// `sequence:transition@minute`.
fn run(cycle: &LifeCycle, script: &str) -> String {
    let mut life = Life::default();
    let mut said = Vec::new();
    for word in script.split_whitespace() {
        let (at, what) = word.split_once(':').expect("minute:what");
        let at: i64 = at.parse().expect("a minute");
        let mut emit = |to: AlertTransition, episode: &Episode| {
            said.push(format!("{}:{to:?}@{at}", episode.sequence));
        };
        life.pass(cycle, minute(at), &mut emit);
        let own = |state| Some(verdict(at, state, Claim::Own));
        let verdict = match what {
            "." => None,
            "l" => own(State::Learning),
            "o" => own(State::Ok),
            "s" => own(State::Suspicious),
            "e" => own(State::Enter),
            "v" => own(State::Leave),
            "h" => Some(verdict(at, State::Enter, Claim::Held)),
            "c" => Some(verdict(at, State::Enter, Claim::Covered)),
            "E" => own(State::Enter).map(|v| Verdict { starts_at: minute(12), ..v }),
            other => panic!("{other}"),
        };
        if let Some(verdict) = verdict {
            life.judge(cycle, minute(at), &verdict, &mut emit);
        }
    }
    said.join(" ")
}

fn check(script: &str, expected: &str) {
    assert_eq!(run(&CYCLE, script), expected, "{script}");
}

#[test]
fn it_fires_at_k_of_n() {
    check("10:o 15:v 20:l", "");
    check("10:e", "0:Pending@10");
    check("10:e 15:e", "0:Pending@10 1:Firing@15");
    check("10:s 15:e", "0:Pending@10 1:Firing@15");
    check("10:s 15:s 20:s", "0:Pending@10");
    check("10:e 15:o 20:e", "0:Pending@10 1:Firing@20");
    check("10:e 15:o 20:o 25:e", "0:Pending@10 1:Suppressed@25 0:Pending@25");
    check("10:e 15:l 20:e", "0:Pending@10 1:Firing@20");
}

#[test]
fn a_slot_votes_once() {
    let mut life = Life::default();
    let mut said = 0;
    for _ in 0..3 {
        life.judge(&CYCLE, minute(11), &verdict(10, State::Enter, Claim::Own), &mut |_, _| {
            said += 1;
        });
    }
    assert_eq!(said, 1);
}

#[test]
fn a_pending_episode_that_never_fires_ends_suppressed() {
    check("10:e 15:o 20:o 25:o", "0:Pending@10 1:Suppressed@25");
    check("10:e 24:.", "0:Pending@10");
    check("10:e 25:.", "0:Pending@10 1:Suppressed@25");
    check("10:e 15:c 20:o", "0:Pending@10 1:Suppressed@15");
}

#[test]
fn claims_decide_what_may_open() {
    check("10:h 15:h", "");
    check("10:c 15:c", "");
    check("10:h 15:e", "0:Firing@15");
    check("10:c 15:e", "0:Firing@15");
    check("10:e 15:h 20:e", "0:Pending@10 1:Firing@20");
}

#[test]
fn a_later_start_found_on_firing_is_a_new_episode() {
    check("10:s 15:E", "0:Pending@10 1:Suppressed@15 0:Firing@15");
}

#[test]
fn it_recovers_after_m_in_a_row_and_resolves_after_the_merge_gap() {
    let fired = "0:Pending@10 1:Firing@15";
    check("10:e 15:e 20:v 25:o 30:v 35:s 40:v", fired);
    let recovering = format!("{fired} 2:Recovering@25");
    check("10:e 15:e 20:v 25:v 30:v 34:.", &recovering);
    check("10:e 15:e 20:v 25:v 30:v 35:.", &format!("{recovering} 3:Resolved@35"));
    check("10:e 15:e 20:v 25:v 35:e", &format!("{recovering} 3:Resolved@35"));
    check("10:e 15:e 20:v 25:v 99:. 150:.", &format!("{recovering} 3:Resolved@99"));
}

#[test]
fn what_returns_within_the_merge_gap_is_the_same_episode() {
    let amended = "0:Pending@10 1:Firing@15 2:Recovering@25 3:Amended@30";
    check("10:e 15:e 20:v 25:v 30:e", amended);
    check("10:e 15:e 20:v 25:v 30:e 35:.", amended);
    let again = format!("{amended} 4:Recovering@40 5:Resolved@50");
    check("10:e 15:e 20:v 25:v 30:e 35:v 40:v 50:.", &again);
    check(
        "10:e 15:e 20:v 25:v 30:s 35:.",
        "0:Pending@10 1:Firing@15 2:Recovering@25 3:Resolved@35",
    );
}

#[test]
fn nothing_opens_while_it_cools_down() {
    let first = "0:Pending@10 1:Firing@15 2:Recovering@25 3:Resolved@35";
    check("10:e 15:e 20:v 25:v 35:. 40:e 45:e 50:e 54:e", first);
    check("10:e 15:e 20:v 25:v 35:. 45:e 50:e 55:e", &format!("{first} 0:Firing@55"));
}

#[test]
fn with_k_of_one_there_is_no_pending() {
    let cycle = LifeCycle { enter_k: 1, enter_n: 1, leave_m: 1, ..CYCLE };
    let got = run(&cycle, "10:e 15:v 25:.");
    assert_eq!(got, "0:Firing@10 1:Recovering@15 2:Resolved@25");
}

#[test]
fn due_times_are_known() {
    let mut life = Life::default();
    let mut due = |at: i64, state| {
        life.judge(&CYCLE, minute(at), &verdict(at, state, Claim::Own), &mut |_, _| {});
        life.next_due()
    };
    assert_eq!(due(10, State::Enter), Some(minute(25)));
    assert_eq!(due(15, State::Enter), None);
    assert_eq!(due(20, State::Leave), None);
    assert_eq!(due(25, State::Leave), Some(minute(35)));
    life.pass(&CYCLE, minute(35), &mut |_, _| {});
    assert_eq!((life.next_due(), life.is_idle(minute(36))), (None, false));
    assert!(!life.is_idle(minute(55)));
    assert!(life.is_idle(minute(25 + 24 * 60 + 1)));
}

#[test]
fn episodes_of_one_series_neither_overlap_nor_share_a_start() {
    let mut life = Life::default();
    let mut starts = Vec::new();
    for (at, state) in [
        (10, State::Enter),
        (11, State::Ok),
        (30, State::Enter),
        (35, State::Enter),
        (40, State::Leave),
        (45, State::Leave),
        (80, State::Ok),
        (101, State::Enter),
    ] {
        let mut emit = |to: AlertTransition, episode: &Episode| {
            if episode.sequence == 0 {
                starts.push((to, episode.starts_at.as_ms() - minute(7).as_ms()));
            }
        };
        life.pass(&CYCLE, minute(at), &mut emit);
        life.judge(&CYCLE, minute(at), &verdict(at, state, Claim::Own), &mut emit);
    }
    let after_the_end = 38 * 60_000 + 1;
    use AlertTransition::Pending;
    assert_eq!(starts, [(Pending, 0), (Pending, 1), (Pending, after_the_end)]);
}
