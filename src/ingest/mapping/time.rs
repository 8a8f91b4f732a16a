//! The event time of a record: candidates in order of precedence, each in its format.
//!
//! A candidate that is absent (missing, null, empty) gives way to the next; none: the broker's
//! timestamp, and without one the time of arrival. A time that is there but cannot be read is a
//! reject: the next candidate would be a guess.

use super::path::{Path, Scope};
use super::spec::{CorrectedSpec, TimeSource, TimeSpec};
use crate::ingest::decimal::{DecimalError, Rounding, scaled};
use crate::ingest::json::Json;
use crate::ingest::rules::in_range;
use crate::model::reject::{Reject, RejectReason};
use crate::model::time::{EventTime, Millis};
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// Largest correction of a clock that is believed where the mapping says nothing.
const MAX_CORRECTION: Millis = Millis::from_hours(24);

/// An event time, where it came from, and what the producer's clock said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timed {
    pub(super) time: EventTime,
    pub(super) source: TimeSource,
    pub(super) original: Option<EventTime>,
}

/// The compiled candidates.
#[derive(Clone, Debug)]
pub(super) struct TimeRule(Vec<Candidate>);

#[derive(Clone, Debug)]
enum Candidate {
    Field { field: Field, source: TimeSource },
    Corrected { given: Box<Corrected>, source: TimeSource },
}

#[derive(Clone, Debug)]
struct Corrected {
    timestamp: Option<Field>,
    received_at: Option<Field>,
    sent_at: Option<Field>,
    original: Option<Field>,
    max: Millis,
}

#[derive(Clone, Debug)]
struct Field {
    path: Path,
    name: String,
    format: Format,
}

#[derive(Clone, Debug)]
enum Format {
    /// A count since the epoch: what makes milliseconds of it.
    Epoch {
        factor: i64,
        divisor: i128,
    },
    Rfc3339 {
        zone: TimeZone,
    },
    Pattern {
        pattern: String,
        ends_with_zone: bool,
        zone: TimeZone,
    },
}

impl TimeRule {
    /// Compiles the candidates; errors are (place, message).
    pub(super) fn compile(specs: &[TimeSpec]) -> Result<TimeRule, Vec<(String, String)>> {
        let mut candidates = Vec::new();
        let mut errors = Vec::new();
        for (i, spec) in specs.iter().enumerate() {
            match candidate(spec) {
                Ok(candidate) => candidates.push(candidate),
                Err((place, message)) => errors.push((format!("time[{i}]{place}"), message)),
            }
        }
        if errors.is_empty() { Ok(TimeRule(candidates)) } else { Err(errors) }
    }

    /// The event time of a record.
    pub(super) fn time(
        &self,
        scope: &Scope<'_>,
        broker_time: Option<i64>,
        arrival: i64,
    ) -> Result<Timed, Reject> {
        for candidate in &self.0 {
            let found = match candidate {
                Candidate::Field { field, source } => {
                    field.read(scope)?.map(|time| Timed { time, source: *source, original: None })
                }
                Candidate::Corrected { given, source } => given.read(scope, arrival, *source)?,
            };
            if let Some(timed) = found {
                return Ok(timed);
            }
        }
        let time = EventTime::from_ms(broker_time.unwrap_or(arrival));
        Ok(Timed { time, source: TimeSource::Broker, original: None })
    }
}

fn candidate(spec: &TimeSpec) -> Result<Candidate, (String, String)> {
    let format = format(spec)?;
    let field = |path: &Option<String>, place: &str| match path {
        None => Ok(None),
        Some(name) => Path::parse(name, false)
            .map(|path| Some(Field { path, name: name.clone(), format: format.clone() }))
            .map_err(|message| (place.to_owned(), message)),
    };
    match (&spec.field, &spec.corrected) {
        (Some(_), None) => {
            let field = field(&spec.field, ".field")?;
            let source = spec.time_source.unwrap_or(TimeSource::True);
            field
                .map(|field| Candidate::Field { field, source })
                .ok_or_else(|| (".field".to_owned(), "no field".to_owned()))
        }
        (None, Some(corrected)) => {
            let CorrectedSpec { timestamp, received_at, sent_at, original, max } = corrected;
            if timestamp.is_none() && original.is_none() {
                let message = "`corrected` needs `timestamp` or `original`".to_owned();
                return Err((".corrected".to_owned(), message));
            }
            let max = max.unwrap_or(MAX_CORRECTION);
            if max < Millis::ZERO {
                return Err((".corrected.max".to_owned(), "must not be negative".to_owned()));
            }
            let given = Box::new(Corrected {
                timestamp: field(timestamp, ".corrected.timestamp")?,
                received_at: field(received_at, ".corrected.received_at")?,
                sent_at: field(sent_at, ".corrected.sent_at")?,
                original: field(original, ".corrected.original")?,
                max,
            });
            let source = spec.time_source.unwrap_or(TimeSource::Corrected);
            Ok(Candidate::Corrected { given, source })
        }
        _ => Err((String::new(), "needs either `field` or `corrected`".to_owned())),
    }
}

fn format(spec: &TimeSpec) -> Result<Format, (String, String)> {
    let zone = match spec.zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name)
            .map_err(|_| (".zone".to_owned(), format!("unknown time zone `{name}`")))?,
    };
    Ok(match spec.format.as_deref().unwrap_or("rfc3339") {
        "rfc3339" => Format::Rfc3339 { zone },
        "epoch_s" => Format::Epoch { factor: 1_000, divisor: 1 },
        "epoch_ms" => Format::Epoch { factor: 1, divisor: 1 },
        "epoch_us" => Format::Epoch { factor: 1, divisor: 1_000 },
        pattern if pattern.contains('%') => {
            let (pattern, ends_with_zone) = match pattern.strip_suffix("%Z") {
                Some(before) => (before.trim_end(), true),
                None => (pattern, false),
            };
            // A pattern that cannot be used for writing cannot be used for reading either.
            let probe = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
            if pattern.contains("%Z") || strtime::format(pattern, &probe).is_err() {
                let message = format!("`{pattern}` is no time pattern that can be read");
                return Err((".format".to_owned(), message));
            }
            Format::Pattern { pattern: pattern.to_owned(), ends_with_zone, zone }
        }
        other => {
            let message = format!(
                "`{other}` is none of rfc3339, epoch_ms, epoch_s, epoch_us or a pattern with %"
            );
            return Err((".format".to_owned(), message));
        }
    })
}

impl Corrected {
    fn read(
        &self,
        scope: &Scope<'_>,
        arrival: i64,
        source: TimeSource,
    ) -> Result<Option<Timed>, Reject> {
        let get = |field: &Option<Field>| match field {
            Some(field) => field.read(scope),
            None => Ok(None),
        };
        let original = get(&self.original)?;
        let corrected = match get(&self.timestamp)? {
            Some(timestamp) => Some(timestamp),
            None => match (get(&self.sent_at)?, original) {
                (Some(sent), Some(original)) => {
                    let received = get(&self.received_at)?;
                    let received = received.unwrap_or(EventTime::from_ms(arrival));
                    Some(EventTime::from_ms(received.as_ms() - sent.since(original).as_ms()))
                }
                _ => None,
            },
        };
        Ok(match (corrected, original) {
            (None, None) => None,
            (None, Some(time)) => {
                Some(Timed { time, source: TimeSource::Original, original: None })
            }
            (Some(time), None) => Some(Timed { time, source, original: None }),
            (Some(time), Some(original)) => {
                let by = time.since(original).as_ms().abs();
                Some(if by <= self.max.as_ms() {
                    Timed { time, source, original: Some(original) }
                } else {
                    Timed { time: original, source: TimeSource::Original, original: None }
                })
            }
        })
    }
}

impl Field {
    fn read(&self, scope: &Scope<'_>) -> Result<Option<EventTime>, Reject> {
        let wrong = |reason| Reject::field(reason, &self.name);
        let text = match self.path.find(scope) {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::Text(text)) if text.is_empty() => return Ok(None),
            Some(Json::Text(text)) => text.as_ref(),
            Some(Json::Number(text)) => text,
            Some(_) => return Err(wrong(RejectReason::WrongType)),
        };
        let ms = self.format.read(text).map_err(wrong)?;
        let ms = i64::try_from(ms).map_err(|_| wrong(RejectReason::AbsurdTime))?;
        if in_range(ms) {
            Ok(Some(EventTime::from_ms(ms)))
        } else {
            Err(wrong(RejectReason::AbsurdTime))
        }
    }
}

impl Format {
    fn read(&self, text: &str) -> Result<i128, RejectReason> {
        match self {
            Format::Epoch { factor, divisor } => match scaled(text, *factor, Rounding::Floor) {
                Ok(number) => Ok(number.div_euclid(*divisor)),
                Err(DecimalError::TooLarge) => Err(RejectReason::AbsurdTime),
                Err(DecimalError::NotANumber) => Err(RejectReason::WrongType),
            },
            Format::Rfc3339 { zone } => match text.parse::<jiff::Timestamp>() {
                Ok(at) => Ok(ms(at)),
                Err(_) => local(text.parse::<DateTime>().ok(), zone),
            },
            Format::Pattern { pattern, ends_with_zone, zone } => {
                let (text, named) = match text.rsplit_once(' ') {
                    Some((before, name)) if *ends_with_zone => (before.trim_end(), Some(name)),
                    _ if *ends_with_zone => return Err(RejectReason::WrongType),
                    _ => (text, None),
                };
                let named = match named {
                    None => None,
                    Some("UTC" | "GMT" | "Z") => Some(TimeZone::UTC),
                    Some(name) => Some(TimeZone::get(name).map_err(|_| RejectReason::WrongType)?),
                };
                let parsed = strtime::parse(pattern, text).map_err(|_| RejectReason::WrongType)?;
                if named.is_none()
                    && let Ok(at) = parsed.to_timestamp()
                {
                    return Ok(ms(at));
                }
                let zone = named.as_ref().unwrap_or(zone);
                let date = parsed.to_date().map_err(|_| RejectReason::WrongType)?;
                let time = parsed.to_time().unwrap_or_default();
                local(Some(date.to_datetime(time)), zone)
            }
        }
    }
}

fn local(time: Option<DateTime>, zone: &TimeZone) -> Result<i128, RejectReason> {
    let time = time.ok_or(RejectReason::WrongType)?;
    let zoned = time.to_zoned(zone.clone()).map_err(|_| RejectReason::AbsurdTime)?;
    Ok(ms(zoned.timestamp()))
}

fn ms(at: jiff::Timestamp) -> i128 {
    at.as_nanosecond().div_euclid(1_000_000)
}
