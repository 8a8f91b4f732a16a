//! Resolution: from a writer's schema to the steps of a plan.

use super::known::{Known, WORDS};
use super::shape::{Shape, ShapeId, Shapes, Unit};
use super::steps::{DecodePlan, Read, Step, Steps};
use crate::codec::slots::{Kind, Needs, Slot};
use crate::model::reject::{Reject, RejectReason};

/// Fields without a default in the contract.
const REQUIRED: [Slot; 6] =
    [Slot::Id, Slot::Source, Slot::EventTime, Slot::Channel, Slot::Touchpoint, Slot::Action];

pub(super) fn incompatible(slot: Slot) -> Reject {
    Reject::field(RejectReason::IncompatibleSchema, slot.name())
}

impl DecodePlan {
    /// Resolves the writer's schema against the slots.
    pub(super) fn compile(shapes: &Shapes, needs: Needs) -> Result<DecodePlan, Reject> {
        let Shape::Record(fields) = shapes.root() else {
            return Err(Reject::whole(RejectReason::IncompatibleSchema));
        };
        let mut plan = DecodePlan {
            steps: Vec::with_capacity(fields.len() + 1),
            nested: Vec::new(),
            reads: Vec::new(),
            known: Known::default(),
        };
        let mut found = 0u64;
        for field in fields {
            let slot = Slot::by_name(&field.name);
            found |= slot.map_or(0, Slot::bit);
            let step = match (slot, &*field.name) {
                (Some(slot), _) => match fast(shapes, field.shape, slot) {
                    Some(step) => passed_over(step, needs),
                    None => plan.read(read(shapes, field.shape, slot)?),
                },
                (None, "campaign") => plan.nested(shapes, field.shape, &Slot::of_campaign)?,
                (None, "origin") if is_origin(shapes, field.shape) => {
                    plan.nested(shapes, field.shape, &Slot::of_origin)?
                }
                (None, _) => plan.skip(shapes, field.shape),
            };
            plan.steps.push((step, 0));
        }
        plan.mark_known();
        plan.steps = count_skippable(std::mem::take(&mut plan.steps), &plan.reads, shapes);
        match REQUIRED.into_iter().find(|slot| found & slot.bit() == 0) {
            Some(slot) => Err(incompatible(slot)),
            None => Ok(plan),
        }
    }

    /// Marks the first fields side by side whose texts are words.
    fn mark_known(&mut self) {
        let is_word = |(step, _): &(Step, u8)| match step {
            Step::Text(slot) | Step::OptText(slot) => WORDS.contains(slot),
            _ => false,
        };
        let Some(first) = self.steps.windows(2).position(|two| two.iter().all(is_word)) else {
            return;
        };
        let count = self.steps[first..].iter().take_while(|step| is_word(step)).count();
        self.steps.insert(first, (Step::Known(count as u8), 0));
    }

    /// A step of its own for what is not one of the common ones.
    fn read(&mut self, read: Read) -> Step {
        self.reads.push(read);
        // A schema has far fewer fields than that.
        Step::Read(self.reads.len() as u32 - 1)
    }

    /// The step that moves over a field.
    fn skip(&mut self, shapes: &Shapes, shape: ShapeId) -> Step {
        let nobody = |_: &str| None;
        if let Some(step) = fast_skip(shapes, shape).or_else(|| self.record(shapes, shape, &nobody))
        {
            return step;
        }
        match shapes.get(shape) {
            Shape::Array(items) => match self.flat(shapes, *items, &nobody) {
                Some(at) => Step::Records(at),
                None => self.read(Read::Skip(shape)),
            },
            _ => self.read(Read::Skip(shape)),
        }
    }

    /// The step that reads some fields of a nested record, which may be one branch of a union.
    fn nested(
        &mut self,
        shapes: &Shapes,
        shape: ShapeId,
        slot_of: &dyn Fn(&str) -> Option<Slot>,
    ) -> Result<Step, Reject> {
        if let Some(step) = self.record(shapes, shape, slot_of) {
            return Ok(step);
        }
        let read = nested(shapes, shape, slot_of)?;
        Ok(self.read(read))
    }

    /// The step of a record, also as `["null", T]`, that holds nothing but common fields.
    fn record(
        &mut self,
        shapes: &Shapes,
        shape: ShapeId,
        slot_of: &dyn Fn(&str) -> Option<Slot>,
    ) -> Option<Step> {
        match second_of_nullable(shapes, shape) {
            Some(inner) => self.flat(shapes, inner, slot_of).map(Step::OptRecord),
            None => self.flat(shapes, shape, slot_of).map(Step::Record),
        }
    }

    /// The steps of a record that holds nothing but common fields, if it is one.
    fn flat(
        &mut self,
        shapes: &Shapes,
        shape: ShapeId,
        slot_of: &dyn Fn(&str) -> Option<Slot>,
    ) -> Option<u32> {
        let Shape::Record(fields) = shapes.get(shape) else { return None };
        let steps: Option<Steps> = fields
            .iter()
            .map(|field| {
                let step = match slot_of(&field.name) {
                    Some(slot) => fast(shapes, field.shape, slot),
                    None => fast_skip(shapes, field.shape),
                };
                Some((step?, 0))
            })
            .collect();
        self.nested.push(count_skippable(steps?, &[], shapes));
        Some(self.nested.len() as u32 - 1)
    }
}

/// Sets, for each step, how many steps from it on take one zero byte and leave everything as a
/// record without that field has it: null, false, an empty array; and what is skipped anyway.
fn count_skippable(mut steps: Steps, reads: &[Read], shapes: &Shapes) -> Steps {
    let mut run = 0u8;
    for (step, skippable) in steps.iter_mut().rev() {
        let is_skippable = match *step {
            Step::Text(_)
            | Step::Unread(_)
            | Step::Int(_)
            | Step::Long(_)
            | Step::Record(_)
            | Step::Known(_) => false,
            Step::Read(at) => match &reads[at as usize] {
                Read::Skip(shape) => is_one_zero(shapes, *shape),
                Read::Union(branches) => match branches.first() {
                    Some(Read::Null) => true,
                    Some(Read::Skip(shape)) => matches!(shapes.get(*shape), Shape::Null),
                    _ => false,
                },
                _ => false,
            },
            _ => true,
        };
        run = if is_skippable { run.saturating_add(1) } else { 0 };
        *skippable = run;
    }
    steps
}

/// True for a type of which a zero byte is a whole value.
fn is_one_zero(shapes: &Shapes, shape: ShapeId) -> bool {
    match shapes.get(shape) {
        Shape::Boolean | Shape::Int | Shape::Long(_) | Shape::Bytes | Shape::Text => true,
        Shape::Enum(symbols) => !symbols.is_empty(),
        Shape::Array(_) | Shape::Map(_) => true,
        Shape::Union(branches) => {
            branches.first().is_some_and(|branch| matches!(shapes.get(*branch), Shape::Null))
        }
        Shape::Null | Shape::Float | Shape::Double | Shape::Fixed(_) | Shape::Record(_) => false,
    }
}

/// True for a type that fits the slot in one step.
fn fits(shape: &Shape, slot: Slot) -> Option<Step> {
    match (shape, slot.kind()) {
        (Shape::Text | Shape::Bytes, Kind::Text) => Some(Step::Text(slot)),
        (Shape::Long(Unit::Plain | Unit::Millis), Kind::Time) => Some(Step::Long(slot)),
        (Shape::Long(Unit::Plain), Kind::Long) => Some(Step::Long(slot)),
        (Shape::Int, Kind::Int | Kind::Long | Kind::Time) => Some(Step::Int(slot)),
        (Shape::Boolean, Kind::Bool) => Some(Step::Bool(slot)),
        _ => None,
    }
}

/// The second branch of a `["null", T]`.
fn nullable(shapes: &Shapes, shape: ShapeId) -> Option<&Shape> {
    second_of_nullable(shapes, shape).map(|other| shapes.get(other))
}

fn second_of_nullable(shapes: &Shapes, shape: ShapeId) -> Option<ShapeId> {
    match shapes.get(shape) {
        Shape::Union(branches) => match **branches {
            [null, other] if matches!(shapes.get(null), Shape::Null) => Some(other),
            _ => None,
        },
        _ => None,
    }
}

/// The step for a value that goes into a slot, if it is one of the common ones.
fn fast(shapes: &Shapes, shape: ShapeId, slot: Slot) -> Option<Step> {
    match nullable(shapes, shape) {
        None => fits(shapes.get(shape), slot),
        Some(inner) => match fits(inner, slot)? {
            Step::Text(slot) => Some(Step::OptText(slot)),
            Step::Int(slot) => Some(Step::OptInt(slot)),
            Step::Long(slot) => Some(Step::OptLong(slot)),
            _ => None,
        },
    }
}

/// The step for a text that may be one that nobody reads.
fn passed_over(step: Step, needs: Needs) -> Step {
    match step {
        Step::Text(slot) if !needs.has(slot) && slot.is_id() => Step::Unread(slot),
        Step::OptText(slot) if !needs.has(slot) && slot.is_id() => Step::OptUnread(slot),
        Step::OptText(slot) if !needs.has(slot) => Step::SkipOptText,
        step => step,
    }
}

/// The step for a value that is moved over, if it is one of the common ones.
fn fast_skip(shapes: &Shapes, shape: ShapeId) -> Option<Step> {
    match shapes.get(shape) {
        Shape::Text | Shape::Bytes => Some(Step::SkipText),
        Shape::Int => Some(Step::SkipInt),
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
