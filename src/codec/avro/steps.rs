//! The steps of a plan: a writer's record, field by field.
//!
//! The common fields (text, number, each also as `["null", T]`, read or skipped) are one step each, and
//! so are records that hold nothing else; everything else goes through a small tree. Most fields are
//! absent, and most of the others are short: these are told, and measured, by the next eight bytes of the
//! record at once. What is not as usual is read value by value.

use super::cursor::{Cursor, Malformed};
use super::known::{Known, Text, WORDS};
use super::resolve::incompatible;
use super::shape::{Shape, ShapeId, Shapes, Unit};
use crate::codec::slots::{Filled, Slot};
use crate::model::reject::{Reject, RejectReason};
use crate::model::touchpoint::WordsHint;

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    SkipText,
    SkipOptText,
    SkipInt,
    SkipLong,
    SkipOptLong,
    /// An id that nobody reads: its length is bounded all the same.
    Unread(Slot),
    OptUnread(Slot),
    Text(Slot),
    OptText(Slot),
    Int(Slot),
    OptInt(Slot),
    Long(Slot),
    OptLong(Slot),
    Bool(Slot),
    /// Place in [`DecodePlan::nested`].
    Record(u32),
    OptRecord(u32),
    /// An array of such records.
    Records(u32),
    /// Place in [`DecodePlan::reads`].
    Read(u32),
    /// The next so many steps read texts that may be known together.
    Known(u8),
}

/// Steps in order, each with the number of steps from it on for which a zero byte says "nothing here".
pub(super) type Steps = Vec<(Step, u8)>;

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
pub(super) struct DecodePlan {
    pub(super) steps: Steps,
    /// Of nested records that hold nothing nested themselves.
    pub(super) nested: Vec<Steps>,
    pub(super) reads: Vec<Read>,
    pub(super) known: Known,
}

impl DecodePlan {
    /// Reads a record with these shapes into `filled`, and checks it.
    #[inline]
    pub(super) fn decode<'a>(
        &'a self,
        shapes: &'a Shapes,
        body: &'a [u8],
        filled: &mut Filled<'a>,
    ) -> Result<(), Reject> {
        // No text is longer than what it stands in.
        filled.longest = body.len();
        self.run(&self.steps, shapes, Cursor::new(body), filled)?.finish()?;
        filled.finish()
    }

    /// Does `steps`. The cursor goes by value, not by reference: so it stays in registers.
    fn run<'a>(
        &'a self,
        steps: &'a [(Step, u8)],
        shapes: &'a Shapes,
        mut cursor: Cursor<'a>,
        filled: &mut Filled<'a>,
    ) -> Result<Cursor<'a>, Reject> {
        let mut at = 0;
        while let Some((step, skippable)) = steps.get(at) {
            let word = cursor.word();
            // Most fields of most records are absent: a run of them is one step.
            let absent = word.absent().min(usize::from(*skippable));
            if absent > 0 {
                cursor.advance(absent);
                at += absent;
                continue;
            }
            at += 1;
            match *step {
                Step::SkipText if word.is_short_text() => {
                    cursor.take(word.text_end())?;
                }
                Step::SkipOptText | Step::OptUnread(_) if word.is_short_opt_text() => {
                    cursor.take(word.opt_text_end())?;
                }
                Step::Unread(slot) if word.is_short_text() => {
                    if !cursor.take(word.text_end())?[1..].is_empty() {
                        filled.is_there(slot);
                    }
                }
                Step::Text(slot) if word.is_short_text() => {
                    filled.text(slot, text(&cursor.take(word.text_end())?[1..], slot)?);
                }
                Step::OptText(slot) if word.is_short_opt_text() => {
                    filled.text(slot, text(&cursor.take(word.opt_text_end())?[2..], slot)?);
                }
                Step::SkipInt if let Some((_, length)) = word.short_int() => {
                    cursor.advance(length);
                }
                Step::Int(slot) if let Some((number, length)) = word.short_int() => {
                    cursor.advance(length);
                    filled.number(slot, number)?;
                }
                Step::Long(slot) if let Some((number, length)) = word.varint() => {
                    cursor.advance(length);
                    filled.number(slot, number)?;
                }
                Step::SkipOptLong if let Some((_, length)) = word.opt_varint() => {
                    cursor.advance(1 + length);
                }
                Step::OptLong(slot) if let Some((number, length)) = word.opt_varint() => {
                    cursor.advance(1 + length);
                    filled.number(slot, number)?;
                }
                Step::Known(count) => {
                    let steps = &steps[at..at + usize::from(count)];
                    if let Some(bytes) = span(&cursor, steps)
                        && let Some(known) = self.known.find(bytes, || texts(bytes, steps))
                    {
                        for (slot, text) in &known.texts {
                            filled.text(*slot, text);
                        }
                        filled.touchpoint.words = known.hint;
                        cursor.advance(bytes.len());
                        at += steps.len();
                    }
                }
                _ => cursor = self.one(step, shapes, cursor, filled)?,
            }
        }
        Ok(cursor)
    }

    /// Does one step, whatever its value is like.
    fn one<'a>(
        &'a self,
        step: &Step,
        shapes: &'a Shapes,
        mut cursor: Cursor<'a>,
        filled: &mut Filled<'a>,
    ) -> Result<Cursor<'a>, Reject> {
        match *step {
            Step::SkipText => {
                cursor.bytes()?;
            }
            Step::SkipOptText => {
                if present(&mut cursor)? {
                    cursor.bytes()?;
                }
            }
            Step::SkipInt => {
                cursor.int()?;
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
            Step::Text(slot) => filled.text(slot, read_text(&mut cursor, slot)?),
            Step::OptText(slot) => {
                if present(&mut cursor)? {
                    filled.text(slot, read_text(&mut cursor, slot)?);
                }
            }
            Step::Int(slot) => filled.number(slot, i64::from(cursor.int()?))?,
            Step::OptInt(slot) => {
                if present(&mut cursor)? {
                    filled.number(slot, i64::from(cursor.int()?))?;
                }
            }
            Step::Long(slot) => filled.number(slot, cursor.long()?)?,
            Step::OptLong(slot) => {
                if present(&mut cursor)? {
                    filled.number(slot, cursor.long()?)?;
                }
            }
            Step::Bool(slot) => filled.boolean(slot, cursor.boolean()?),
            Step::Record(at) => return self.run(&self.nested[at as usize], shapes, cursor, filled),
            Step::OptRecord(at) => {
                if present(&mut cursor)? {
                    return self.run(&self.nested[at as usize], shapes, cursor, filled);
                }
            }
            Step::Records(at) => {
                let steps = &self.nested[at as usize];
                cursor.blocks(|cursor| {
                    *cursor = self.run(steps, shapes, *cursor, filled)?;
                    Ok::<(), Reject>(())
                })?;
            }
            Step::Read(at) => self.reads[at as usize].run(shapes, &mut cursor, filled)?,
            // The texts are read one by one, by the steps behind.
            Step::Known(_) => {}
        }
        Ok(cursor)
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

/// The texts that are there in a span of bytes, with a number if these are all words; `None` if they are
/// no texts.
#[cold]
fn texts(bytes: &[u8], steps: &[(Step, u8)]) -> Option<(Vec<Text>, WordsHint)> {
    let mut cursor = Cursor::new(bytes);
    let mut texts = Vec::with_capacity(steps.len());
    for (step, _) in steps {
        match *step {
            Step::OptText(_) if !present(&mut cursor).ok()? => {}
            Step::Text(slot) | Step::OptText(slot) => {
                texts.push((slot, read_text(&mut cursor, slot).ok()?.into()));
            }
            _ => return None,
        }
    }
    // Each step is of a word, and of another one.
    let is_all = steps.len() == WORDS.len();
    Some((texts, if is_all { WordsHint::unique() } else { WordsHint::NONE }))
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

fn read_text<'a>(cursor: &mut Cursor<'a>, slot: Slot) -> Result<&'a str, Reject> {
    text(cursor.bytes()?, slot)
}

#[inline]
fn text(bytes: &[u8], slot: Slot) -> Result<&str, Reject> {
    std::str::from_utf8(bytes).map_err(|_| Reject::field(RejectReason::InvalidUtf8, slot.name()))
}

impl Read {
    fn run<'a>(
        &self,
        shapes: &'a Shapes,
        cursor: &mut Cursor<'a>,
        filled: &mut Filled<'a>,
    ) -> Result<(), Reject> {
        match self {
            Read::Skip(shape) => Ok(shapes.skip(*shape, cursor, 1)?),
            Read::Null => Ok(()),
            Read::Text(slot) => {
                filled.text(*slot, read_text(cursor, *slot)?);
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
