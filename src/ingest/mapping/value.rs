//! Values of a mapping: a constant, or something of the record made fit.

use super::expression::Expression;
use super::path::{Path, Scope};
use super::spec::Const;
use crate::ingest::decimal::{DecimalError, Rounding, scaled};
use crate::ingest::json::Json;
use crate::model::reject::{Reject, RejectReason};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A single value; numbers keep their text.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Scalar<'r> {
    Bool(bool),
    Number(Cow<'r, str>),
    Text(Cow<'r, str>),
}

impl<'r> Scalar<'r> {
    /// What is there; `None` for null and for an empty text, which CSV has in place of null.
    fn of(json: &'r Json<'r>, field: &str) -> Result<Option<Scalar<'r>>, Reject> {
        match json {
            Json::Null => Ok(None),
            Json::Bool(value) => Ok(Some(Scalar::Bool(*value))),
            Json::Number(text) => Ok(Some(Scalar::Number(Cow::Borrowed(text)))),
            Json::Text(text) if text.is_empty() => Ok(None),
            Json::Text(text) => Ok(Some(Scalar::Text(Cow::Borrowed(text)))),
            Json::Array(_) | Json::Object(_) => Err(Reject::field(RejectReason::WrongType, field)),
        }
    }

    /// As text: numbers as they were written.
    pub(super) fn text(&self) -> &str {
        match self {
            Scalar::Bool(true) => "true",
            Scalar::Bool(false) => "false",
            Scalar::Number(text) | Scalar::Text(text) => text,
        }
    }
}

impl From<&Const> for Scalar<'static> {
    fn from(constant: &Const) -> Scalar<'static> {
        match constant {
            Const::Text(text) => Scalar::Text(text.clone().into()),
            Const::Int(number) => Scalar::Number(number.to_string().into()),
            Const::Float(number) => Scalar::Number(number.to_string().into()),
            Const::Bool(value) => Scalar::Bool(*value),
        }
    }
}

/// A table of `values`.
pub(super) type Table = BTreeMap<String, Scalar<'static>>;

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Const(Scalar<'static>),
    Path(Path),
    Header(String),
    Key,
    Cel(Expression),
}

/// A compiled value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) source: Source,
    pub(super) table: Option<Arc<Table>>,
    pub(super) default: Option<Scalar<'static>>,
    pub(super) scale: Option<i64>,
    pub(super) prefix: Option<String>,
    /// What a reject names: the path in the record, or the touchpoint field.
    pub(super) name: String,
}

impl Value {
    /// The value for this record; `None` if it has none. A word that is not in the table stays as
    /// it is, unless there is a default.
    pub(super) fn get<'r>(&'r self, scope: &Scope<'r>) -> Result<Option<Scalar<'r>>, Reject> {
        match self.raw(scope)? {
            Some(raw) => self.refine(raw),
            None => Ok(self.default.clone()),
        }
    }

    /// The values of an array, or the one value.
    pub(super) fn list<'r>(&'r self, scope: &Scope<'r>) -> Result<Vec<Scalar<'r>>, Reject> {
        if let Source::Path(path) = &self.source
            && let Some(Json::Array(elements)) = path.find(scope)
        {
            let mut list = Vec::with_capacity(elements.len());
            for element in elements {
                if let Some(raw) = Scalar::of(element, &self.name)? {
                    list.extend(self.refine(raw)?);
                }
            }
            return Ok(list);
        }
        Ok(self.get(scope)?.into_iter().collect())
    }

    fn raw<'r>(&'r self, scope: &Scope<'r>) -> Result<Option<Scalar<'r>>, Reject> {
        Ok(match &self.source {
            Source::Const(value) => Some(value.clone()),
            Source::Path(path) => match path.find(scope) {
                Some(json) => Scalar::of(json, &self.name)?,
                None => None,
            },
            Source::Header(name) => scope.header(name).and_then(text),
            Source::Key => scope.key.and_then(|k| std::str::from_utf8(k).ok()).and_then(text),
            Source::Cel(expression) => match expression.evaluate(scope) {
                None | Some(cel::Value::Null) => None,
                Some(cel::Value::Bool(value)) => Some(Scalar::Bool(value)),
                Some(cel::Value::Int(value)) => Some(Scalar::Number(value.to_string().into())),
                Some(cel::Value::UInt(value)) => Some(Scalar::Number(value.to_string().into())),
                Some(cel::Value::Float(value)) => Some(Scalar::Number(value.to_string().into())),
                Some(cel::Value::String(value)) if value.is_empty() => None,
                Some(cel::Value::String(value)) => Some(Scalar::Text(value.to_string().into())),
                Some(_) => return Err(Reject::field(RejectReason::WrongType, &self.name)),
            },
        })
    }

    fn refine<'r>(&'r self, raw: Scalar<'r>) -> Result<Option<Scalar<'r>>, Reject> {
        let mut value = match self.table.as_ref().map(|table| table.get(raw.text())) {
            None => raw,
            Some(Some(ours)) => ours.clone(),
            Some(None) => match &self.default {
                Some(default) => return Ok(Some(default.clone())),
                None => raw,
            },
        };
        if let Some(factor) = self.scale {
            let number = match &value {
                Scalar::Bool(_) => Err(DecimalError::NotANumber),
                other => scaled(other.text(), factor, Rounding::Nearest),
            };
            value = match number {
                Ok(number) => Scalar::Number(number.to_string().into()),
                Err(DecimalError::NotANumber) => {
                    return Err(Reject::field(RejectReason::WrongType, &self.name));
                }
                Err(DecimalError::TooLarge) => {
                    return Err(Reject::field(RejectReason::AmountOutOfBounds, &self.name));
                }
            };
        }
        if let Some(prefix) = &self.prefix {
            value = Scalar::Text(format!("{prefix}{}", value.text()).into());
        }
        Ok(Some(value))
    }
}

fn text(text: &str) -> Option<Scalar<'_>> {
    (!text.is_empty()).then_some(Scalar::Text(Cow::Borrowed(text)))
}
