//! Canonical JSON as `journey` reads it: slot by slot, text borrowed from the payload, or from the
//! scratch where it has escapes.

use super::{Parser, Peek, Span, integer, rfc3339_ms};
use crate::codec::fields;
use crate::codec::slots::{Decoded, Filled, Kind, Slot};
use crate::model::reject::{Reject, RejectReason};

/// Longest JSON record that is read, unless the scratch says otherwise.
pub const MAX_JSON_BYTES: usize = 1 << 20;

/// Memory that decoding reuses from record to record.
#[derive(Debug)]
pub struct JsonScratch {
    /// Texts that had escapes, one after the other.
    text: String,
    /// Which slot each of them belongs to.
    spans: Vec<(Slot, usize, usize)>,
    max_bytes: usize,
}

impl Default for JsonScratch {
    fn default() -> JsonScratch {
        JsonScratch::with_limit(MAX_JSON_BYTES)
    }
}

impl JsonScratch {
    /// A scratch for records of at most [`MAX_JSON_BYTES`].
    pub fn new() -> JsonScratch {
        JsonScratch::default()
    }

    /// A scratch for records of at most `max_bytes`.
    pub fn with_limit(max_bytes: usize) -> JsonScratch {
        JsonScratch { text: String::new(), spans: Vec::new(), max_bytes }
    }
}

/// Decodes a canonical record in JSON: a touchpoint, or `{"control": …}`.
///
/// Fields that are not the contract's are ignored; null is absent; times are RFC 3339 or epoch
/// milliseconds. A field of the contract that comes twice is `MalformedJson`.
pub fn decode_json<'a>(
    payload: &'a [u8],
    scratch: &'a mut JsonScratch,
) -> Result<Decoded<'a>, Reject> {
    scratch.text.clear();
    scratch.spans.clear();
    let parser = Parser::new(payload, scratch.max_bytes)?;
    let mut reader = Reader {
        parser,
        filled: Filled::new(),
        keys: 0,
        is_control: false,
        scratch: &mut *scratch,
    };
    reader.top()?;
    let Reader { mut filled, is_control, .. } = reader;
    if is_control {
        // Rare, so read again the slow way.
        let tree = super::tree(payload, scratch.max_bytes)?;
        return fields::control(&tree).map(Decoded::Control);
    }
    let scratch: &'a JsonScratch = scratch;
    for (slot, from, to) in &scratch.spans {
        filled.text(*slot, &scratch.text[*from..*to]);
    }
    filled.finish()?;
    Ok(filled.decoded())
}

struct Reader<'a, 's> {
    parser: Parser<'a>,
    filled: Filled<'a>,
    /// Slots whose key has been seen.
    keys: u64,
    is_control: bool,
    scratch: &'s mut JsonScratch,
}

/// What a member's name stands for.
enum Member {
    Slot(Slot),
    Campaign,
    Origin,
    Control,
    Unknown,
}

impl<'a> Reader<'a, '_> {
    fn top(&mut self) -> Result<(), Reject> {
        if self.parser.peek()? != Peek::Object {
            // What it is instead must be well formed, or that is what is wrong.
            self.parser.skip(&mut self.scratch.text, 0)?;
            self.parser.finish()?;
            return Err(Reject::whole(RejectReason::WrongType));
        }
        self.object(&|name| match name {
            "campaign" => Member::Campaign,
            "origin" => Member::Origin,
            "control" => Member::Control,
            _ => Slot::by_name(name).map_or(Member::Unknown, Member::Slot),
        })?;
        self.parser.finish()
    }

    fn object(&mut self, member_of: &dyn Fn(&str) -> Member) -> Result<(), Reject> {
        let mut more = self.parser.open(b'{', b'}')?;
        while more {
            let before = self.scratch.text.len();
            let member = match self.parser.string(&mut self.scratch.text)? {
                Span::Borrowed(name) => member_of(name),
                Span::Scratch(range) => member_of(&self.scratch.text[range]),
            };
            self.scratch.text.truncate(before);
            self.parser.colon()?;
            self.member(&member)?;
            more = self.parser.more(b'}')?;
        }
        Ok(())
    }

    fn member(&mut self, member: &Member) -> Result<(), Reject> {
        let is_object = self.parser.peek()? == Peek::Object;
        match member {
            Member::Slot(slot) => self.slot(*slot),
            Member::Campaign if is_object => {
                self.object(&|name| Slot::of_campaign(name).map_or(Member::Unknown, Member::Slot))
            }
            Member::Campaign if self.parser.peek()? != Peek::Null => {
                Err(Reject::field(RejectReason::WrongType, "campaign"))
            }
            Member::Origin if is_object => {
                self.object(&|name| Slot::of_origin(name).map_or(Member::Unknown, Member::Slot))
            }
            Member::Control => {
                self.is_control |= self.parser.peek()? == Peek::String;
                self.skip()
            }
            Member::Campaign | Member::Origin | Member::Unknown => self.skip(),
        }
    }

    fn skip(&mut self) -> Result<(), Reject> {
        self.parser.skip(&mut self.scratch.text, 1)
    }

    fn slot(&mut self, slot: Slot) -> Result<(), Reject> {
        if self.keys & slot.bit() != 0 {
            return Err(Reject::field(RejectReason::MalformedJson, slot.name()));
        }
        self.keys |= slot.bit();
        match (self.parser.peek()?, slot.kind()) {
            (Peek::Null, _) => self.parser.null(),
            (Peek::String, Kind::Text) => {
                match self.parser.string(&mut self.scratch.text)? {
                    Span::Borrowed(text) => self.filled.text(slot, text),
                    Span::Scratch(range) => {
                        self.scratch.spans.push((slot, range.start, range.end));
                    }
                }
                Ok(())
            }
            (Peek::String, Kind::Time) => {
                let before = self.scratch.text.len();
                let ms = match self.parser.string(&mut self.scratch.text)? {
                    Span::Borrowed(text) => rfc3339_ms(text),
                    Span::Scratch(range) => rfc3339_ms(&self.scratch.text[range]),
                };
                self.scratch.text.truncate(before);
                self.filled.number(slot, ms.ok_or_else(|| wrong(slot))?)
            }
            (Peek::Number, Kind::Int | Kind::Long | Kind::Time) => {
                match integer(self.parser.number()?) {
                    Ok(number) => self.filled.number(slot, number),
                    Err(true) if slot == Slot::Value => {
                        Err(Reject::field(RejectReason::AmountOutOfBounds, slot.name()))
                    }
                    Err(_) => Err(wrong(slot)),
                }
            }
            (Peek::True | Peek::False, Kind::Bool) => {
                let value = self.parser.boolean()?;
                self.filled.boolean(slot, value);
                Ok(())
            }
            _ => {
                self.skip()?;
                Err(wrong(slot))
            }
        }
    }
}

fn wrong(slot: Slot) -> Reject {
    Reject::field(RejectReason::WrongType, slot.name())
}
