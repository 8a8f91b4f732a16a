//! Mapping files: from foreign JSON to touchpoints.
//!
//! A mapping is compiled once and then applied to every record of its source. The order of
//! precedence of a field is the rule's `fields`, the mapping's keys (`customer_id`, …), and
//! `defaults`. A value that the record does not have leaves the field as it is; null and the
//! empty text are no value. Words that are in no table stay as they are, and the
//! taxonomy decides whether it knows them. A record either gives all of its
//! touchpoints or is rejected as a whole.
//!
//! Deliberately not here: joins, look-ups and state of any kind. A mapping sees one record.

mod apply;
mod compile;
mod condition;
mod expression;
mod field;
mod path;
pub mod spec;
mod time;
mod value;

use self::apply::OneRecord;
use self::condition::Condition;
use self::field::Target;
use self::path::{Path, Scope};
use self::spec::MappingSpec;
use self::time::TimeRule;
use self::value::Value;
use crate::ingest::json::{Json, Limits};
use crate::ingest::record::{Outcome, SourceRecord};
use crate::ingest::rules::Rules;
use crate::model::reject::{FilterReason, Reject, RejectReason};
use crate::model::taxonomy::Taxonomy;
use crate::model::time::Millis;
use crate::model::touchpoint::Touchpoint;
use compact_str::CompactString;
use std::fmt;

/// What is wrong with a mapping, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappingError {
    /// Place in the file, such as `rules[1].emit[0].stage`.
    pub at: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

impl std::error::Error for MappingError {}

/// A compiled mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    name: CompactString,
    limits: Limits,
    time: TimeRule,
    id: Id,
    /// Defaults first, then the keys.
    common: Vec<(Target, Value)>,
    email: Option<Value>,
    rules: Vec<Rule>,
    otherwise: Otherwise,
}

#[derive(Clone, Debug, Default)]
struct Id {
    field: Option<(Path, String)>,
    header: Option<String>,
    position: bool,
    fingerprint: Vec<Path>,
}

#[derive(Clone, Debug)]
struct Rule {
    when: Option<Condition>,
    emit: Vec<Emit>,
    filter: bool,
    stop: bool,
}

#[derive(Clone, Debug)]
struct Emit {
    each: Option<(Path, String)>,
    touchpoint: Value,
    action: Value,
    stage: Option<Value>,
    fields: Vec<(Target, Value)>,
    items: Option<Items>,
    shift: Millis,
}

#[derive(Clone, Debug)]
struct Items {
    each: Path,
    name: String,
    sku: Value,
    category: Option<Value>,
    quantity: Option<Value>,
    price: Option<Value>,
}

#[derive(Clone, Debug)]
enum Otherwise {
    Reject,
    Filter,
    Emit(Box<Emit>),
}

impl Mapping {
    /// Checks and compiles a mapping; constants may name the channels and stages of `taxonomy`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn compile(spec: MappingSpec, taxonomy: &Taxonomy) -> Result<Mapping, Vec<MappingError>> {
        compile::compile(&spec, taxonomy)
    }

    /// The same with other bounds for the size and depth of records.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Mapping {
        Mapping { limits, ..self }
    }

    /// Name of the mapping.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Maps one record; appends its touchpoints to `out`, nothing unless the outcome is `Mapped`.
    pub fn map(
        &self,
        record: &SourceRecord<'_>,
        rules: &Rules,
        out: &mut Vec<Touchpoint>,
    ) -> Outcome {
        if record.payload.is_empty() {
            return Outcome::Filtered(FilterReason::Tombstone);
        }
        let before = out.len();
        let outcome = self.try_map(record, rules, out).unwrap_or_else(Outcome::Rejected);
        if !matches!(outcome, Outcome::Mapped(_)) {
            out.truncate(before);
        }
        outcome
    }

    fn try_map(
        &self,
        record: &SourceRecord<'_>,
        rules: &Rules,
        out: &mut Vec<Touchpoint>,
    ) -> Result<Outcome, Reject> {
        let event = Json::parse(record.payload, self.limits)?;
        let scope = Scope { event: &event, item: None, key: record.key, headers: record.headers };
        let mut one =
            OneRecord { mapping: self, record, rules, timed: None, first: out.len(), out };
        let mut filtered = false;
        for rule in &self.rules {
            if !rule.when.as_ref().is_none_or(|when| when.met(&scope)) {
                continue;
            }
            filtered |= rule.filter;
            for emit in &rule.emit {
                one.emit(emit, &scope)?;
            }
            if rule.stop {
                break;
            }
        }
        if one.made() == 0 && !filtered {
            match &self.otherwise {
                Otherwise::Reject => return Err(Reject::whole(RejectReason::Unmapped)),
                Otherwise::Filter => {}
                Otherwise::Emit(emit) => one.emit(emit, &scope)?,
            }
        }
        Ok(match one.made() {
            0 => Outcome::Filtered(FilterReason::Mapping),
            made => Outcome::Mapped(made),
        })
    }
}
