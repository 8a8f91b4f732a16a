//! What is counted: figures, cohorts and links, all signed, so that a correction is a difference.

use super::dimension::Dimensions;
use super::time::{EventTime, Slice};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// Currency of amounts whose source named none (ISO 4217's code for "no currency").
pub const NO_CURRENCY: &str = "XXX";

/// Sums of money in minor units, by currency, sorted by currency, without zeros.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(Vec<(CompactString, i128)>);

impl Money {
    /// No money.
    pub const fn none() -> Money {
        Money(Vec::new())
    }

    /// Adds `minor` units of `currency`; a sum that becomes zero is forgotten.
    pub fn add(&mut self, currency: &str, minor: i128) {
        if minor == 0 {
            return;
        }
        match self.0.binary_search_by(|(c, _)| c.as_str().cmp(currency)) {
            Ok(at) => {
                self.0[at].1 += minor;
                if self.0[at].1 == 0 {
                    self.0.remove(at);
                }
            }
            Err(at) => self.0.insert(at, (currency.into(), minor)),
        }
    }

    /// Adds `sign` times every sum of `other`.
    pub fn add_all(&mut self, other: &Money, sign: i128) {
        for (currency, minor) in &other.0 {
            self.add(currency, minor * sign);
        }
    }

    /// The sums, sorted by currency.
    pub fn sums(&self) -> &[(CompactString, i128)] {
        &self.0
    }

    /// True if there is no sum but zeros.
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// Counts of one series over some stretch of event time. All but `value` are plain counts; all are
/// signed, as corrections subtract.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Touchpoints, those without a usable customer id included.
    pub events: i64,
    /// Sessions, at their first event.
    pub sessions: i64,
    /// Engaged sessions, at the event that made them engaged.
    pub engaged_sessions: i64,
    /// Orders, each once.
    pub orders: i64,
    /// Checkouts, at their start.
    pub checkouts_started: i64,
    /// Completed checkouts (recovered ones are not among them), at the completion.
    pub checkouts_completed: i64,
    /// Abandoned checkouts, at their deadline, in the series of their last activity.
    pub checkouts_abandoned: i64,
    /// Recovered checkouts, at the completion.
    pub checkouts_recovered: i64,
    /// Money of orders (or of every event, by `value_of`), minor units by currency.
    pub value: Money,
}

impl Figures {
    /// Adds `sign` (1 or −1) times `other`.
    pub fn add(&mut self, other: &Figures, sign: i64) {
        self.events += sign * other.events;
        self.sessions += sign * other.sessions;
        self.engaged_sessions += sign * other.engaged_sessions;
        self.orders += sign * other.orders;
        self.checkouts_started += sign * other.checkouts_started;
        self.checkouts_completed += sign * other.checkouts_completed;
        self.checkouts_abandoned += sign * other.checkouts_abandoned;
        self.checkouts_recovered += sign * other.checkouts_recovered;
        self.value.add_all(&other.value, i128::from(sign));
    }

    /// True if every figure is zero.
    pub fn is_zero(&self) -> bool {
        *self == Figures::default()
    }
}

/// The checkouts that *started* in some stretch of event time, and what became of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cohort {
    /// Checkouts started.
    pub started: i64,
    /// Of these, completed in time.
    pub completed: i64,
    /// Of these, abandoned (and not retracted; recovered ones stay).
    pub abandoned: i64,
    /// Of these, expired.
    pub expired: i64,
    /// Of the abandoned, those that are the first of their customer's run (`T_merge`).
    pub unique_abandoners: i64,
    /// Latest slice in which one of them was decided; grows only. A window is final no sooner than
    /// the allowed lateness past its end.
    pub latest_decision: Option<Slice>,
}

impl Cohort {
    /// Adds `other`'s signed counts; the latest decision is the later one.
    pub fn add(&mut self, other: &Cohort) {
        self.started += other.started;
        self.completed += other.completed;
        self.abandoned += other.abandoned;
        self.expired += other.expired;
        self.unique_abandoners += other.unique_abandoners;
        self.latest_decision = self.latest_decision.max(other.latest_decision);
    }

    /// Checkouts of which nobody knows yet what becomes of them.
    pub fn undecided(&self) -> i64 {
        self.started - self.completed - self.abandoned - self.expired
    }

    /// True if every count is zero (the latest decision may be there).
    pub fn is_zero(&self) -> bool {
        self.started == 0
            && self.completed == 0
            && self.abandoned == 0
            && self.expired == 0
            && self.unique_abandoners == 0
    }
}

/// Signed number of links between visited slices: `n` customers visited the cell's slice p, and the
/// slice before it that they visited is p − `back` (0: none within the longest window).
///
/// For a window of m slices ending with slice e, the number of distinct customers is the number of
/// links with max(p, q + m) ≤ e ≤ p + m − 1, where q = p − `back`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Slices back to the previous visited one; 0 if there is none.
    pub back: u32,
    /// How many, signed.
    pub n: i32,
}

/// One journey task's share of one series in slice `slice`, to be applied at step `due`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Where the counts belong (p).
    pub slice: Slice,
    /// The later of p and the slice of the journey's clock when the count came about (s).
    pub due: Slice,
    /// Index into [`TenantCells::series`].
    pub series: u32,
    /// Signed counts.
    pub figures: Figures,
    /// Signed counts of the checkouts that started in `slice`.
    pub cohort: Cohort,
    /// Signed links, sorted by `back`.
    pub links: Vec<Link>,
}

/// Offsets of the canonical partition that a slice's counts rest on, inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SliceEvidence {
    /// The slice of event time.
    pub slice: Slice,
    /// Step at which this becomes known.
    pub due: Slice,
    /// First offset.
    pub from: i64,
    /// Last offset.
    pub to: i64,
}

/// All cells of one tenant in one flush.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantCells {
    /// The tenant.
    pub tenant: CompactString,
    /// The series that the cells name, sorted.
    pub series: Vec<Dimensions>,
    /// The cells, sorted by (due, slice, series).
    pub cells: Vec<Cell>,
    /// What the cells rest on, sorted by (due, slice).
    pub evidence: Vec<SliceEvidence>,
}

/// What one journey partition sends to one rollup partition per flush, also when it is empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flush {
    /// Identity of the journey partition's log and state: a foreign one is refused.
    pub generation: u64,
    /// Number of this flush, from 1, without gaps.
    pub number: u64,
    /// The journey partition.
    pub partition: i32,
    /// How many journey partitions there are: `rollup` waits until each has reported.
    pub partitions: i32,
    /// The journey task's clock; `None` if it never had any.
    pub clock: Option<EventTime>,
    /// The journey task's watermark; `None` if it never had data.
    pub watermark: Option<EventTime>,
    /// True if all of its source partitions are idle.
    pub idle: bool,
    /// True if the input has been closed (offline): silence from here on means nothing.
    pub closed: bool,
    /// Cells by tenant, sorted by tenant.
    pub tenants: Vec<TenantCells>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_adds_up_by_currency_and_forgets_zeros() {
        let mut money = Money::none();
        money.add("EUR", 5);
        money.add("CHF", 7);
        money.add("EUR", -5);
        assert_eq!(money.sums(), &[("CHF".into(), 7)]);
        let other = money.clone();
        money.add_all(&other, -1);
        assert!(money.is_zero());
    }

    #[test]
    fn a_cohort_knows_its_undecided() {
        let mut cohort = Cohort { started: 5, completed: 2, abandoned: 1, ..Cohort::default() };
        let decided = Some(Slice::from_number(7));
        cohort.add(&Cohort { expired: 1, latest_decision: decided, ..Cohort::default() });
        assert_eq!((cohort.undecided(), cohort.latest_decision), (1, decided));
    }
}
