//! Applies a compiled mapping to one record.

use super::field;
use super::path::{Path, Scope};
use super::time::Timed;
use super::value::Value;
use super::{Emit, Id, Items, Mapping};
use crate::ingest::json::Json;
use crate::ingest::record::SourceRecord;
use crate::ingest::rules::{Rules, fingerprint, hashed_email};
use crate::model::dimension::OTHER;
use crate::model::reject::{Reject, RejectReason};
use crate::model::touchpoint::{Item, Touchpoint};
use compact_str::{CompactString, format_compact};

/// One record on its way through a mapping.
pub(super) struct OneRecord<'m, 'o> {
    pub(super) mapping: &'m Mapping,
    pub(super) record: &'m SourceRecord<'m>,
    pub(super) rules: &'m Rules,
    pub(super) timed: Option<Timed>,
    pub(super) first: usize,
    pub(super) out: &'o mut Vec<Touchpoint>,
}

impl OneRecord<'_, '_> {
    pub(super) fn made(&self) -> u64 {
        (self.out.len() - self.first) as u64
    }

    pub(super) fn emit(&mut self, emit: &Emit, scope: &Scope<'_>) -> Result<(), Reject> {
        let Some((each, name)) = &emit.each else { return self.touchpoint(emit, scope) };
        for item in array(each, name, scope)? {
            self.touchpoint(emit, &Scope { item: Some(item), ..*scope })?;
        }
        Ok(())
    }

    fn touchpoint(&mut self, emit: &Emit, scope: &Scope<'_>) -> Result<(), Reject> {
        let timed = match self.timed {
            Some(timed) => timed,
            None => {
                let SourceRecord { broker_time, arrival, .. } = *self.record;
                *self.timed.insert(self.mapping.time.time(scope, broker_time, arrival)?)
            }
        };
        let name = required(&emit.touchpoint, scope)?;
        let action = required(&emit.action, scope)?;
        let at = timed.time.plus(emit.shift);
        let mut touchpoint = Touchpoint::new("", &self.mapping.name, at, "", &name, &action);
        touchpoint.time_source = Some(CompactString::const_new(timed.source.name()));
        touchpoint.original_event_time = timed.original.map(|o| o.plus(emit.shift));
        for (target, value) in self.mapping.common.iter().chain(&emit.fields) {
            target.fill(value, scope, &mut touchpoint)?;
        }
        field::drop_incomplete(&mut touchpoint);
        if let Some(stage) = &emit.stage {
            touchpoint.stage = stage.get(scope)?.map(|s| s.text().into());
        }
        if let Some(items) = &emit.items {
            touchpoint.items = items.read(scope)?;
        }
        if touchpoint.channel.is_empty() {
            touchpoint.channel = OTHER.into();
        }
        self.customer(&mut touchpoint, scope)?;
        touchpoint.id = self.id(&touchpoint, scope)?;
        self.out.push(touchpoint);
        Ok(())
    }

    /// A degenerate customer id gives way to the e-mail address, that to the anonymous id.
    fn customer(&self, touchpoint: &mut Touchpoint, scope: &Scope<'_>) -> Result<(), Reject> {
        let usable = |id: &Option<CompactString>| {
            id.as_deref().is_some_and(|id| !self.rules.is_degenerate(id))
        };
        if let Some(email) = &self.mapping.email
            && !usable(&touchpoint.customer_id)
            && let Some(address) = email.get(scope)?
            && !self.rules.is_degenerate(address.text())
        {
            touchpoint.customer_id = Some(hashed_email(address.text()));
        }
        Ok(())
    }

    fn id(&self, touchpoint: &Touchpoint, scope: &Scope<'_>) -> Result<CompactString, Reject> {
        let Id { field, header, position, fingerprint: paths } = &self.mapping.id;
        let id = match self.given_id(field.as_ref(), header.as_deref(), scope)? {
            Some(id) => id,
            None if *position => {
                format_compact!("{}-{}", self.record.partition, self.record.offset)
            }
            None if !paths.is_empty() => {
                let texts: Vec<Option<&str>> =
                    paths.iter().map(|path| path.find(scope).and_then(id_text)).collect();
                fingerprint(texts.into_iter())
            }
            // Of the touchpoint itself: two of one record differ already.
            None => return Ok(touchpoint_fingerprint(touchpoint)),
        };
        Ok(match self.made() {
            0 => id,
            n => format_compact!("{id}#{}", n + 1),
        })
    }

    fn given_id(
        &self,
        field: Option<&(Path, String)>,
        header: Option<&str>,
        scope: &Scope<'_>,
    ) -> Result<Option<CompactString>, Reject> {
        if let Some((path, name)) = field {
            match path.find(scope) {
                None | Some(Json::Null) => {}
                Some(json) => match id_text(json) {
                    Some("") => {}
                    Some(text) => return Ok(Some(text.into())),
                    None => return Err(Reject::field(RejectReason::WrongType, name)),
                },
            }
        }
        let given = header.and_then(|name| scope.header(name)).filter(|id| !id.is_empty());
        Ok(given.map(CompactString::from))
    }
}

/// Numbers as ids become text.
fn id_text<'r>(json: &'r Json<'r>) -> Option<&'r str> {
    match json {
        Json::Number(text) => Some(text),
        Json::Text(text) => Some(text),
        _ => None,
    }
}

/// Event, customer, time and key properties: what makes an event without an id the same event.
fn touchpoint_fingerprint(t: &Touchpoint) -> CompactString {
    let time = t.event_time.as_ms().to_string();
    let value = t.value.map(|v| v.to_string());
    let step = t.step.map(|s| s.to_string());
    fingerprint(
        [
            Some(t.touchpoint.as_str()),
            Some(t.action.as_str()),
            t.customer_id.as_deref(),
            t.anonymous_id.as_deref(),
            Some(time.as_str()),
            t.session_id.as_deref(),
            t.checkout_id.as_deref(),
            t.order_id.as_deref(),
            t.cart_id.as_deref(),
            t.conversation_id.as_deref(),
            t.ticket_id.as_deref(),
            t.message_id.as_deref(),
            step.as_deref(),
            value.as_deref(),
            t.items.first().map(|i| i.sku.as_str()),
        ]
        .into_iter(),
    )
}

fn required<'r>(value: &'r Value, scope: &Scope<'r>) -> Result<CompactString, Reject> {
    match value.get(scope)? {
        Some(scalar) => Ok(scalar.text().into()),
        None => Err(Reject::field(RejectReason::MissingField, &value.name)),
    }
}

/// The elements of an array; none if it is absent.
fn array<'r>(path: &Path, name: &str, scope: &Scope<'r>) -> Result<&'r [Json<'r>], Reject> {
    match path.find(scope) {
        None | Some(Json::Null) => Ok(&[]),
        Some(Json::Array(elements)) => Ok(elements),
        Some(_) => Err(Reject::field(RejectReason::WrongType, name)),
    }
}

impl Items {
    fn read(&self, scope: &Scope<'_>) -> Result<Vec<Item>, Reject> {
        let mut items = Vec::new();
        for element in array(&self.each, &self.name, scope)? {
            let scope = Scope { item: Some(element), ..*scope };
            let Some(sku) = self.sku.get(&scope)? else { continue };
            let category = match &self.category {
                Some(value) => value.get(&scope)?.map(|s| s.text().into()),
                None => None,
            };
            let quantity = whole(self.quantity.as_ref(), &scope, RejectReason::WrongType)?;
            let price = whole(self.price.as_ref(), &scope, RejectReason::AmountOutOfBounds)?;
            let quantity = i32::try_from(quantity.unwrap_or(1)).map_err(|_| {
                let name = self.quantity.as_ref().map_or("quantity", |v| v.name.as_str());
                Reject::field(RejectReason::WrongType, name)
            })?;
            items.push(Item { sku: sku.text().into(), category, quantity, price });
        }
        Ok(items)
    }
}

/// A whole number that fits 64 bits; `beyond` says why a larger one is refused.
fn whole(
    value: Option<&Value>,
    scope: &Scope<'_>,
    beyond: RejectReason,
) -> Result<Option<i64>, Reject> {
    let Some(value) = value else { return Ok(None) };
    let Some(scalar) = value.get(scope)? else { return Ok(None) };
    field::whole(&scalar)
        .and_then(|number| i64::try_from(number).map_err(|_| beyond))
        .map(Some)
        .map_err(|reason| Reject::field(reason, &value.name))
}
