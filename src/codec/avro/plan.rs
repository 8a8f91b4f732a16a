//! Decoding plans: a writer schema compiled once against what `journey` reads.
//!
//! The fields of a record become a flat list of steps. The common ones (text, number, each also as
//! `["null", T]`, read or skipped) are one step each; everything else goes through a small tree.
//! Text is borrowed from the payload, what is not read is skipped, bounds are strict, and bytes after
//! the record are an error.
//!
//! Resolution is Avro's: fields by name (or by an alias that the *writer* declares), int as long,
//! enums as text, bytes as text where they are UTF-8, union branches by type, defaults of the
//! contract for absent fields. Timestamps in micro- or nanoseconds are divided down. Local
//! timestamps, decimals and doubles do not become times or money: that is `IncompatibleSchema`.

use super::cursor::Cursor;
use super::shape::{Field, Shape, ShapeId, Shapes, Unit};
use crate::codec::slots::{Decoded, Filled, Kind, Slot};
use crate::codec::tree::Tree;
use crate::model::reject::{Reject, RejectReason};

/// Full name of the record of control records.
const CONTROL_NAME: &str = "touchline.v1.Control";

/// A compiled writer schema: how to read a touchpoint, a control record or any record at all.
#[derive(Debug)]
pub struct Plan {
    shapes: Shapes,
    reads: Reads,
}

#[derive(Debug)]
enum Reads {
    Touchpoint(DecodePlan),
    Control,
    /// Readable as a tree, but not as a touchpoint.
    Foreign(Reject),
}

impl Plan {
    /// Compiles `avsc`; an error means that it is no Avro schema, or one nested too deep.
    pub fn compile(avsc: &str) -> Result<Plan, Reject> {
        let shapes = Shapes::parse(avsc)?;
        let reads = if shapes.name.as_deref() == Some(CONTROL_NAME) {
            Reads::Control
        } else {
            match DecodePlan::compile(&shapes) {
                Ok(plan) => Reads::Touchpoint(plan),
                Err(reject) => Reads::Foreign(reject),
            }
        };
        Ok(Plan { shapes, reads })
    }

    /// Reads an unframed body as a touchpoint or control record.
    pub fn decode<'a>(&'a self, body: &'a [u8]) -> Result<Decoded<'a>, Reject> {
        match &self.reads {
            Reads::Touchpoint(plan) => plan.decode(&self.shapes, body),
            Reads::Control => {
                super::super::fields::control(&self.tree(body)?).map(Decoded::Control)
            }
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

    /// Why no touchpoint can be read with this schema; `None` if one can.
    pub fn unfit(&self) -> Option<&Reject> {
        match &self.reads {
            Reads::Foreign(reject) => Some(reject),
            _ => None,
        }
    }
}

/// One step.
#[derive(Clone, Copy, Debug)]
enum Step {
    SkipText,
    SkipOptText,
    SkipLong,
    SkipOptLong,
    Text(Slot),
    OptText(Slot),
    Long(Slot),
    OptLong(Slot),
    Bool(Slot),
    /// Place in [`DecodePlan::reads`].
    Read(u32),
}

/// What a step that is not one of the common ones does.
#[derive(Debug)]
enum Read {
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
    steps: Vec<Step>,
    reads: Vec<Read>,
}

/// Fields without a default in the contract.
const REQUIRED: [Slot; 6] =
    [Slot::Id, Slot::Source, Slot::EventTime, Slot::Channel, Slot::Touchpoint, Slot::Action];

fn incompatible(slot: Slot) -> Reject {
    Reject::field(RejectReason::IncompatibleSchema, slot.name())
}

impl DecodePlan {
    fn compile(shapes: &Shapes) -> Result<DecodePlan, Reject> {
        let Shape::Record(fields) = shapes.root() else {
            return Err(Reject::whole(RejectReason::IncompatibleSchema));
        };
        let mut plan = DecodePlan { steps: Vec::with_capacity(fields.len()), reads: Vec::new() };
        let mut found = 0u64;
        for field in fields {
            let slot = slot_of(field, fields);
            found |= slot.map_or(0, Slot::bit);
            let step = match slot {
                Some(slot) => fast(shapes, field.shape, slot),
                None => fast_skip(shapes, field.shape),
            };
            let step = match step {
                Some(step) => step,
                None => {
                    let read = match (slot, &*field.name) {
                        (Some(slot), _) => read(shapes, field.shape, slot)?,
                        (None, "campaign") => nested(shapes, field.shape, &Slot::of_campaign)?,
                        (None, "origin") if is_origin(shapes, field.shape) => {
                            nested(shapes, field.shape, &Slot::of_origin)?
                        }
                        (None, _) => Read::Skip(field.shape),
                    };
                    plan.reads.push(read);
                    // A schema has far fewer fields than that.
                    Step::Read(plan.reads.len() as u32 - 1)
                }
            };
            plan.steps.push(step);
        }
        match REQUIRED.into_iter().find(|slot| found & slot.bit() == 0) {
            Some(slot) => Err(incompatible(slot)),
            None => Ok(plan),
        }
    }

    fn decode<'a>(&self, shapes: &'a Shapes, body: &'a [u8]) -> Result<Decoded<'a>, Reject> {
        let mut cursor = Cursor::new(body);
        let mut filled = Filled::new();
        for step in &self.steps {
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
                    self.reads[at as usize].run(shapes, &mut cursor, &mut filled)?;
                }
            }
        }
        cursor.finish()?;
        filled.finish()
    }
}

/// Branch of a `["null", T]`.
#[inline]
fn present(cursor: &mut Cursor<'_>) -> Result<bool, Reject> {
    match cursor.byte()? {
        0 => Ok(false),
        2 => Ok(true),
        _ => Err(Reject::whole(RejectReason::MalformedAvro)),
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
                    filled.text(*slot, &symbols[cursor.index(symbols.len())?]);
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

/// The slot of a field: by its name; by an alias only if no other field has that name.
fn slot_of(field: &Field, all: &[Field]) -> Option<Slot> {
    Slot::by_name(&field.name).or_else(|| {
        let mut aliases = field.aliases.iter();
        aliases.find(|alias| all.iter().all(|f| f.name != **alias)).and_then(|a| Slot::by_name(a))
    })
}

/// True for a type that fits the slot in one step.
fn fits(shape: &Shape, slot: Slot) -> Option<Step> {
    match (shape, slot.kind()) {
        (Shape::Text | Shape::Bytes, Kind::Text) => Some(Step::Text(slot)),
        (Shape::Long(Unit::Plain | Unit::Millis), Kind::Time) => Some(Step::Long(slot)),
        (Shape::Long(Unit::Plain), Kind::Long) => Some(Step::Long(slot)),
        (Shape::Boolean, Kind::Bool) => Some(Step::Bool(slot)),
        _ => None,
    }
}

/// The second branch of a `["null", T]`.
fn nullable(shapes: &Shapes, shape: ShapeId) -> Option<&Shape> {
    match shapes.get(shape) {
        Shape::Union(branches) => match **branches {
            [null, other] if matches!(shapes.get(null), Shape::Null) => Some(shapes.get(other)),
            _ => None,
        },
        _ => None,
    }
}

fn fast(shapes: &Shapes, shape: ShapeId, slot: Slot) -> Option<Step> {
    match nullable(shapes, shape) {
        None => fits(shapes.get(shape), slot),
        Some(inner) => match fits(inner, slot)? {
            Step::Text(slot) => Some(Step::OptText(slot)),
            Step::Long(slot) => Some(Step::OptLong(slot)),
            _ => None,
        },
    }
}

fn fast_skip(shapes: &Shapes, shape: ShapeId) -> Option<Step> {
    match shapes.get(shape) {
        Shape::Text | Shape::Bytes => Some(Step::SkipText),
        Shape::Long(_) => Some(Step::SkipLong),
        _ => match nullable(shapes, shape)? {
            Shape::Text | Shape::Bytes => Some(Step::SkipOptText),
            Shape::Long(_) => Some(Step::SkipOptLong),
            _ => None,
        },
    }
}

/// Reads `shape` into `slot`. A union may have branches that do not fit, as long as one does.
fn read(shapes: &Shapes, shape: ShapeId, slot: Slot) -> Result<Read, Reject> {
    Ok(match (shapes.get(shape), slot.kind()) {
        (Shape::Null, _) => Read::Null,
        (Shape::Text | Shape::Bytes, Kind::Text) => Read::Text(slot),
        (Shape::Enum(_), Kind::Text) => Read::Symbol(slot, shape),
        (Shape::Int, Kind::Int | Kind::Long | Kind::Time) => Read::Int(slot),
        (Shape::Long(Unit::Plain), Kind::Long) => Read::Long(slot, Unit::Plain),
        (Shape::Long(unit), Kind::Time) if *unit != Unit::Local => Read::Long(slot, *unit),
        (Shape::Boolean, Kind::Bool) => Read::Bool(slot),
        (Shape::Union(branches), _) => {
            let reads: Vec<Read> = branches
                .iter()
                .map(|branch| read(shapes, *branch, slot).unwrap_or(Read::Wrong(slot)))
                .collect();
            if !reads.iter().any(|r| !matches!(r, Read::Wrong(_) | Read::Null)) {
                return Err(incompatible(slot));
            }
            Read::Union(reads.into())
        }
        _ => return Err(incompatible(slot)),
    })
}

/// Reads some fields of a nested record, which may be one branch of a union.
fn nested(
    shapes: &Shapes,
    shape: ShapeId,
    slot_of: &dyn Fn(&str) -> Option<Slot>,
) -> Result<Read, Reject> {
    Ok(match shapes.get(shape) {
        Shape::Record(fields) => {
            let reads: Result<Box<[Read]>, Reject> = fields
                .iter()
                .map(|field| match slot_of(&field.name) {
                    Some(slot) => read(shapes, field.shape, slot),
                    None => Ok(Read::Skip(field.shape)),
                })
                .collect();
            Read::Record(reads?)
        }
        Shape::Union(branches) => {
            let reads: Result<Box<[Read]>, Reject> = branches
                .iter()
                .map(|branch| match shapes.get(*branch) {
                    Shape::Record(_) => nested(shapes, *branch, slot_of),
                    _ => Ok(Read::Skip(*branch)),
                })
                .collect();
            Read::Union(reads?)
        }
        _ => Read::Skip(shape),
    })
}

/// True if the field is what `ingest` writes, and not a word of some other producer's.
fn is_origin(shapes: &Shapes, shape: ShapeId) -> bool {
    let record = match shapes.get(shape) {
        Shape::Union(_) => nullable(shapes, shape),
        other => Some(other),
    };
    let Some(Shape::Record(fields)) = record else {
        return false;
    };
    ["source", "partition", "offset", "watermark"]
        .iter()
        .all(|name| fields.iter().any(|field| *field.name == **name))
}
