//! Decoding plans: a writer schema compiled once against what `journey` reads.
//!
//! The fields of a record become a flat list of steps. The common ones (text, number, each also as
//! `["null", T]`, read or skipped) are one step each; everything else goes through a small tree.
//! Text is borrowed from the payload, what is not read is skipped, bounds are strict, and bytes
//! after the record are an error.
//!
//! Resolution is Avro's: fields by name (or by an alias that the *writer* declares), int as long,
//! enums as text, bytes as text where they are UTF-8, union branches by type, defaults of the
//! contract for absent fields. Timestamps in micro- or nanoseconds are divided down. Local
//! timestamps, decimals and doubles do not become times or money: that is `IncompatibleSchema`.

use super::cursor::{Cursor, Malformed};
use super::known::Known;
use super::read;
use super::resolve::incompatible;
use super::shape::{Shape, ShapeId, Shapes, Unit};
use crate::codec::canonical::{CANONICAL_SCHEMA, canonical_with_origin_schema};
use crate::codec::fields::{self, Named};
use crate::codec::slots::{Filled, Needs, Slot};
use crate::codec::tree::Tree;
use crate::model::control::Control;
use crate::model::reject::{Reject, RejectReason};
use crate::model::touchpoint::{Origin, Touchpoint};
use std::sync::LazyLock;

/// Full name of the record of control records.
const CONTROL_NAME: &str = "touchline.v1.Control";

/// A compiled writer schema: how to read a touchpoint, a control record or any record at all.
#[derive(Debug)]
pub struct Plan {
    shapes: Shapes,
    reads: Reads,
}

/// A schema of ours, whose records are read field by field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Own {
    /// The contract.
    Touchpoint,
    /// The same with its origin in front.
    WithOrigin,
}

impl Own {
    fn of(shapes: &Shapes) -> Option<Own> {
        static CONTRACT: LazyLock<[Shapes; 2]> = LazyLock::new(|| {
            [CANONICAL_SCHEMA, canonical_with_origin_schema()]
                .map(|avsc| Shapes::parse(avsc).expect("the contract is a schema"))
        });
        let [touchpoint, with_origin] = &*CONTRACT;
        if shapes.is_like(touchpoint) {
            return Some(Own::Touchpoint);
        }
        shapes.is_like(with_origin).then_some(Own::WithOrigin)
    }
}

#[derive(Debug)]
enum Reads {
    /// Of any schema, or of one of ours.
    Touchpoint(DecodePlan, Option<Own>),
    Control,
    /// Readable as a tree, but not as a touchpoint.
    Foreign(Reject),
}

impl Plan {
    /// Compiles `avsc` for a reader that wants these fields; an error means that it is no Avro schema,
    /// or one nested too deep.
    pub fn compile(avsc: &str, needs: Needs) -> Result<Plan, Reject> {
        let shapes = Shapes::parse(avsc)?;
        if shapes.name.as_deref() == Some(CONTROL_NAME) {
            return Ok(Plan { shapes, reads: Reads::Control });
        }
        let own = Own::of(&shapes);
        let mut named = Shapes::parse(avsc)?;
        named.adopt_aliases(Touchpoint::FIELDS);
        match DecodePlan::compile(&named, needs) {
            Ok(plan) => Ok(Plan { shapes: named, reads: Reads::Touchpoint(plan, own) }),
            // A mapping wants the writer's own names.
            Err(reject) => Ok(Plan { shapes, reads: Reads::Foreign(reject) }),
        }
    }

    /// Reads an unframed body as a touchpoint, into `filled`, or as the control record that it returns.
    #[inline]
    pub fn decode<'a>(
        &'a self,
        body: &'a [u8],
        filled: &mut Filled<'a>,
    ) -> Result<Option<Control>, Reject> {
        match &self.reads {
            Reads::Touchpoint(plan, _) => plan.decode(&self.shapes, body, filled).map(|()| None),
            Reads::Control => fields::control(&self.tree(body)?).map(Some),
            Reads::Foreign(reject) => Err(reject.clone()),
        }
    }

    /// Reads an unframed body as a whole touchpoint, and the origin that stands before it.
    pub fn whole(&self, body: &[u8]) -> Result<(Option<Origin>, Touchpoint), Reject> {
        match &self.reads {
            Reads::Touchpoint(_, Some(Own::Touchpoint)) => Ok((None, read::whole(body)?)),
            Reads::Touchpoint(_, Some(Own::WithOrigin)) => {
                let fields::WithOrigin { origin, touchpoint } = read::whole(body)?;
                Ok((Some(origin), touchpoint))
            }
            Reads::Touchpoint(_, None) | Reads::Control => fields::touchpoint(&self.tree(body)?),
            Reads::Foreign(reject) => Err(reject.clone()),
        }
    }

    /// Reads an unframed body as it is.
    pub fn tree<'a>(&'a self, body: &'a [u8]) -> Result<Tree<'a>, Reject> {
        self.shapes.read(body)
    }

    /// True if the schema is that of control records.
    pub fn is_control(&self) -> bool {
        matches!(self.reads, Reads::Control)
    }
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    SkipText,
    SkipOptText,
    SkipLong,
    SkipOptLong,
    /// An id that nobody reads: its length is bounded all the same.
    Unread(Slot),
    OptUnread(Slot),
    Text(Slot),
    OptText(Slot),
    Long(Slot),
    OptLong(Slot),
    Bool(Slot),
    /// Place in [`DecodePlan::reads`].
    Read(u32),
    /// The next so many steps read texts that may be known together.
    Known(u8),
}

/// What a step that is not one of the common ones does.
#[derive(Debug)]
pub(super) enum Read {
    Skip(ShapeId),
    Null,
    Text(Slot),
    Symbol(Slot, ShapeId),
    Int(Slot),
    Long(Slot, Unit),
    Bool(Slot),
    Union(Box<[Read]>),
    Record(Box<[Read]>),
    /// A branch of a type that the slot does not take.
    Wrong(Slot),
}

/// The steps for one writer schema.
#[derive(Debug)]
pub(crate) struct DecodePlan {
    /// Each with the number of steps from it on for which a zero byte says "nothing here".
    pub(super) steps: Vec<(Step, u8)>,
    pub(super) reads: Vec<Read>,
    pub(super) known: Known,
}

impl DecodePlan {
    #[inline]
    fn decode<'a>(
        &'a self,
        shapes: &'a Shapes,
        body: &'a [u8],
        filled: &mut Filled<'a>,
    ) -> Result<(), Reject> {
        let mut cursor = Cursor::new(body);
        // No text is longer than what it stands in.
        filled.longest = body.len();
        let mut at = 0;
        while let Some((step, skippable)) = self.steps.get(at) {
            // Most fields of most records are absent: a run of them is one step.
            if *skippable > 0 {
                let absent = cursor.zeros().min(usize::from(*skippable));
                if absent > 0 {
                    cursor.advance(absent);
                    at += absent;
                    continue;
                }
            }
            at += 1;
            match *step {
                Step::SkipText => {
                    cursor.bytes()?;
                }
                Step::SkipOptText => {
                    if present(&mut cursor)? {
                        cursor.bytes()?;
                    }
                }
                Step::SkipLong => {
                    cursor.long()?;
                }
                Step::SkipOptLong => {
                    if present(&mut cursor)? {
                        cursor.long()?;
                    }
                }
                Step::Unread(slot) => filled.unread(slot, cursor.bytes()?)?,
                Step::OptUnread(slot) => {
                    if present(&mut cursor)? {
                        filled.unread(slot, cursor.bytes()?)?;
                    }
                }
                Step::Text(slot) => filled.text(slot, text(&mut cursor, slot)?),
                Step::OptText(slot) => {
                    if present(&mut cursor)? {
                        filled.text(slot, text(&mut cursor, slot)?);
                    }
                }
                Step::Long(slot) => filled.number(slot, cursor.long()?)?,
                Step::OptLong(slot) => {
                    if present(&mut cursor)? {
                        filled.number(slot, cursor.long()?)?;
                    }
                }
                Step::Bool(slot) => filled.boolean(slot, cursor.boolean()?),
                Step::Read(at) => {
                    self.reads[at as usize].run(shapes, &mut cursor, filled)?;
                }
                Step::Known(count) => {
                    let steps = &self.steps[at..at + usize::from(count)];
                    if let Some(bytes) = span(&cursor, steps)
                        && let Some(texts) = self.known.texts(bytes, || texts(bytes, steps))
                    {
                        for (slot, text) in texts {
                            filled.text(*slot, text);
                        }
                        cursor.advance(bytes.len());
                        at += steps.len();
                    }
                }
            }
        }
        cursor.finish()?;
        filled.finish()
    }
}

/// The bytes that texts take, if each is there as it usually is: its length is one byte.
#[inline]
fn span<'a>(cursor: &Cursor<'a>, steps: &[(Step, u8)]) -> Option<&'a [u8]> {
    let rest = cursor.rest();
    let mut end = 0;
    for (step, _) in steps {
        if matches!(step, Step::OptText(_)) {
            end += 1;
            match *rest.get(end - 1)? {
                0 => continue,
                2 => {}
                _ => return None,
            }
        }
        let length = *rest.get(end)?;
        // Neither longer nor negative.
        if length & 0x81 != 0 {
            return None;
        }
        end += 1 + usize::from(length >> 1);
    }
    rest.get(..end)
}

/// The texts that are there in a span of bytes; `None` if they are none.
#[cold]
fn texts(bytes: &[u8], steps: &[(Step, u8)]) -> Option<Vec<(Slot, Box<str>)>> {
    let mut cursor = Cursor::new(bytes);
    let mut texts = Vec::with_capacity(steps.len());
    for (step, _) in steps {
        match *step {
            Step::OptText(_) if !present(&mut cursor).ok()? => {}
            Step::Text(slot) | Step::OptText(slot) => {
                texts.push((slot, text(&mut cursor, slot).ok()?.into()));
            }
            _ => return None,
        }
    }
    Some(texts)
}

/// Branch of a `["null", T]`.
#[inline]
fn present(cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
    match cursor.byte()? {
        0 => Ok(false),
        2 => Ok(true),
        _ => Err(Malformed),
    }
}

#[inline]
fn text<'a>(cursor: &mut Cursor<'a>, slot: Slot) -> Result<&'a str, Reject> {
    std::str::from_utf8(cursor.bytes()?)
        .map_err(|_| Reject::field(RejectReason::InvalidUtf8, slot.name()))
}

impl Read {
    fn run<'a>(
        &self,
        shapes: &'a Shapes,
        cursor: &mut Cursor<'a>,
        filled: &mut Filled<'a>,
    ) -> Result<(), Reject> {
        match self {
            Read::Skip(shape) => shapes.skip(*shape, cursor, 1),
            Read::Null => Ok(()),
            Read::Text(slot) => {
                filled.text(*slot, text(cursor, *slot)?);
                Ok(())
            }
            Read::Symbol(slot, shape) => {
                if let Shape::Enum(symbols) = shapes.get(*shape) {
                    let symbol: &str = &symbols[cursor.index(symbols.len())?];
                    filled.longest = filled.longest.max(symbol.len());
                    filled.text(*slot, symbol);
                }
                Ok(())
            }
            Read::Int(slot) => filled.number(*slot, i64::from(cursor.int()?)),
            Read::Long(slot, unit) => filled.number(*slot, unit.scale(cursor.long()?)),
            Read::Bool(slot) => {
                filled.boolean(*slot, cursor.boolean()?);
                Ok(())
            }
            Read::Union(branches) => {
                let branch = cursor.index(branches.len())?;
                branches[branch].run(shapes, cursor, filled)
            }
            Read::Record(fields) => {
                fields.iter().try_for_each(|field| field.run(shapes, cursor, filled))
            }
            Read::Wrong(slot) => Err(incompatible(*slot)),
        }
    }
}
