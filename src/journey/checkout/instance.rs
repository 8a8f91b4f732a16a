//! One checkout or cart: the state machine that its events drive, in their order.
//!
//! | state | by | becomes |
//! | --- | --- | --- |
//! | open | activity up to the deadline (inclusive) | open, with a later deadline |
//! | open | a completion up to the deadline | completed |
//! | open | (`checkout`, `cancel` / `expire`) | expired, at that event |
//! | open | the deadline passes, value not 0 | abandoned, at the deadline |
//! | open | `max_checkout_age` from the start passes first | expired, at that age |
//! | abandoned | a completion within `max_recovery` of the deadline (inclusive) | recovered |
//! | completed | a start, none before | completed, started at that start |

use super::event::{Face, RichEvent};
use crate::journey::profile::{ProfileId, Profiles};
use crate::journey::settings::Settings;
use crate::model::record::{CheckoutKind, Transition};
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What the machine needs to know besides events.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) settings: &'a Settings,
    pub(super) profiles: &'a Profiles,
}

/// A moment in an instance's life, and the event that it rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) time: EventTime,
    pub(super) profile: ProfileId,
}

/// How an instance stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum State {
    Open,
    Completed(Point),
    Abandoned { deadline: EventTime },
    Recovered { deadline: EventTime, by: Point },
    Expired(EventTime),
}

/// What joined an event to its instance, the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum By {
    CheckoutId,
    OrderId,
    CartId,
    Session,
    Customer,
}

impl By {
    pub(super) const KEYS: [By; 3] = [By::CheckoutId, By::OrderId, By::CartId];

    pub(super) const fn name(self) -> &'static str {
        match self {
            By::CheckoutId => "checkout_id",
            By::OrderId => "order_id",
            By::CartId => "cart_id",
            By::Session => "session",
            By::Customer => "customer",
        }
    }
}

/// A transition: when, and by which event (`None`: by time alone).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) transition: Transition,
    pub(super) at: EventTime,
    pub(super) event: Option<usize>,
}

/// One derived checkout or cart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Instance {
    pub(super) kind: CheckoutKind,
    /// The settled one that it goes on from.
    pub(super) seed: Option<usize>,
    /// Places of its events, in order.
    pub(super) events: SmallVec<[usize; 8]>,
    /// Kinds of ids of all events that its keys reach, as bits.
    pub(super) kinds: u8,
    pub(super) keys: SmallVec<[(usize, u64); 4]>,
    /// Connected keys that it is known by (roots of the closure).
    pub(super) roots: SmallVec<[usize; 4]>,
    pub(super) sessions: SmallVec<[u64; 2]>,
    /// The first start event.
    pub(super) start: Option<Point>,
    /// The activity that opened it.
    pub(super) opened: Option<Point>,
    pub(super) last: Option<Point>,
    pub(super) pending: bool,
    /// Latest known value.
    pub(super) value: Option<i64>,
    pub(super) state: State,
    /// Transitions in order, but `started`.
    pub(super) log: SmallVec<[Entry; 6]>,
    pub(super) by: Option<By>,
    /// What its records said before the events that are kept; `None` for nothing.
    pub(super) face: Option<Box<Face>>,
}

/// When an open instance would be decided, and how, if nothing comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fate {
    pub(super) at: EventTime,
    pub(super) abandoned: bool,
}

impl Instance {
    pub(super) fn new(kind: CheckoutKind) -> Instance {
        Instance {
            kind,
            seed: None,
            events: SmallVec::new(),
            kinds: 0,
            keys: SmallVec::new(),
            roots: SmallVec::new(),
            sessions: SmallVec::new(),
            start: None,
            opened: None,
            last: None,
            pending: false,
            value: None,
            state: State::Open,
            log: SmallVec::new(),
            by: None,
            face: None,
        }
    }

    /// Start of the instance: its first start event, else the activity that opened it.
    pub(super) fn started(&self) -> Option<Point> {
        self.start.or(self.opened)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Deadline of an abandoned instance, recovered or not.
    pub(super) fn abandoned_at(&self) -> Option<EventTime> {
        match self.state {
            State::Abandoned { deadline } | State::Recovered { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// When it was decided.
    pub(super) fn decided_at(&self) -> Option<EventTime> {
        match self.state {
            State::Open => None,
            State::Completed(by) | State::Recovered { by, .. } => Some(by.time),
            State::Abandoned { deadline } => Some(deadline),
            State::Expired(at) => Some(at),
        }
    }

    /// The end of the pause that its last activity allows.
    pub(super) fn deadline(&self, rules: Rules<'_>) -> Option<EventTime> {
        let last = self.last?;
        let pause = match self.kind {
            CheckoutKind::Cart => rules.settings.t_cart,
            CheckoutKind::Checkout if self.pending => rules.settings.t_pending,
            CheckoutKind::Checkout => rules.profiles.get(last.profile).t_checkout,
        };
        Some(last.time.plus(pause))
    }

    /// What becomes of it if nothing comes; `deadline` is the one that counts, `None` for never.
    /// Abandonment wins a tie.
    pub(super) fn fate(&self, deadline: Option<EventTime>, rules: Rules<'_>) -> Option<Fate> {
        let start = self.started().filter(|_| self.is_open())?;
        let age = start.time.plus(rules.settings.max_checkout_age);
        let deadline = deadline.filter(|at| *at <= age && self.value != Some(0));
        Some(match deadline {
            Some(at) => Fate { at, abandoned: true },
            None => Fate { at: age, abandoned: false },
        })
    }

    /// Lets time pass up to `to`: a due time that has passed (strictly) decides.
    pub(super) fn advance(&mut self, to: EventTime, deadline: Option<EventTime>, rules: Rules<'_>) {
        let Some(fate) = self.fate(deadline, rules).filter(|fate| fate.at < to) else { return };
        let transition = if fate.abandoned {
            self.state = State::Abandoned { deadline: fate.at };
            Transition::Abandoned
        } else {
            self.state = State::Expired(fate.at);
            Transition::Expired
        };
        self.log.push(Entry { transition, at: fate.at, event: None });
    }

    /// True while a completion at `at` would recover it.
    pub(super) fn recoverable(&self, at: EventTime, rules: Rules<'_>) -> bool {
        matches!(self.state, State::Abandoned { deadline }
            if at <= deadline.plus(rules.settings.max_recovery))
    }

    /// True if it is over: nothing that comes at `at` can change its outcome.
    pub(super) fn is_over(&self, at: EventTime, rules: Rules<'_>) -> bool {
        !self.is_open() && !self.recoverable(at, rules)
    }

    /// Takes in its next event; time has been let pass before.
    pub(super) fn apply(&mut self, place: usize, event: &RichEvent) {
        let point = Point { time: event.time(), profile: event.profile() };
        self.events.push(place);
        for key in event.own_keys() {
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
        if !self.sessions.contains(&event.session) {
            self.sessions.push(event.session);
        }
        match event.meaning {
            Meaning::CheckoutComplete => self.complete(place, point),
            Meaning::CheckoutExpire if self.is_open() => {
                self.state = State::Expired(point.time);
                self.note(Transition::Expired, point.time, place);
            }
            Meaning::CheckoutExpire => {}
            meaning => self.activity(place, point, meaning, event),
        }
    }

    fn activity(&mut self, place: usize, point: Point, meaning: Meaning, event: &RichEvent) {
        let start = meaning == Meaning::CheckoutStart;
        if !self.is_open() {
            if start && matches!(self.state, State::Completed(_)) {
                self.start.get_or_insert(point);
            }
            return;
        }
        if start {
            self.start.get_or_insert(point);
        }
        self.opened.get_or_insert(point);
        self.last = Some(point);
        self.pending = meaning == Meaning::PaymentPending;
        self.value = event.value.or(self.value);
        match meaning {
            Meaning::CheckoutStep | Meaning::PaymentInfo | Meaning::PaymentPending => {
                self.note(Transition::Step, point.time, place);
            }
            Meaning::PaymentFailed => self.note(Transition::PaymentFailed, point.time, place),
            _ => {}
        }
    }

    /// Takes in a completion. A cart takes in that of a checkout's order.
    pub(super) fn complete(&mut self, place: usize, by: Point) {
        match self.state {
            State::Open => {
                self.state = State::Completed(by);
                self.note(Transition::Completed, by.time, place);
            }
            // Only where a settled one goes on: in order, the deadline has not passed yet.
            State::Abandoned { deadline } if by.time <= deadline => {
                self.state = State::Completed(by);
                self.note(Transition::Completed, by.time, place);
            }
            State::Abandoned { deadline } => {
                self.state = State::Recovered { deadline, by };
                self.note(Transition::Recovered, by.time, place);
            }
            State::Completed(_) | State::Recovered { .. } | State::Expired(_) => {}
        }
    }

    fn note(&mut self, transition: Transition, at: EventTime, place: usize) {
        self.log.push(Entry { transition, at, event: Some(place) });
    }

    /// The same with `started` in its place: before what rests on the same or a later event.
    pub(super) fn transitions(&self) -> SmallVec<[Entry; 6]> {
        let mut log = self.log.clone();
        if let Some(start) = self.started() {
            let place = log.iter().position(|e| e.at >= start.time).unwrap_or(log.len());
            let entry = Entry { transition: Transition::Started, at: start.time, event: None };
            log.insert(place, entry);
        }
        log
    }

    /// Latest time that it rests on.
    pub(super) fn latest(&self, events: &[RichEvent]) -> EventTime {
        let last = self.events.last().map_or(EventTime::MIN, |at| events[*at].time());
        last.max(self.decided_at().unwrap_or(EventTime::MIN))
    }

    /// When it was open: used by carts, whose deadline a checkout may hold back. One that was
    /// abandoned is not open, although it can be recovered.
    pub(super) fn span(&self) -> Option<(EventTime, Option<EventTime>)> {
        Some((self.opened?.time, self.abandoned_at().or(self.decided_at())))
    }
}
