//! A writer schema compiled for reading: every reference resolved, every logical type reduced to
//! what it means here. Skips values and reads them into a [`Tree`].

use super::cursor::{Cursor, Malformed};
use crate::codec::tree::Tree;
use crate::model::reject::{Reject, RejectReason};
use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How deep records, arrays, maps and unions may nest, in a schema and in a payload.
pub(crate) const MAX_DEPTH: u32 = 32;

/// Place of a shape in its arena.
pub(crate) type ShapeId = usize;

/// What a `long` counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// A plain number.
    Plain,
    /// `timestamp-millis`.
    Millis,
    /// `timestamp-micros`.
    Micros,
    /// `timestamp-nanos`.
    Nanos,
    /// A local timestamp or time of day: a number that is no moment.
    Local,
}

impl Unit {
    /// Milliseconds, where the unit is that of a timestamp.
    pub(crate) fn scale(self, raw: i64) -> i64 {
        match self {
            Unit::Plain | Unit::Millis | Unit::Local => raw,
            Unit::Micros => raw.div_euclid(1_000),
            Unit::Nanos => raw.div_euclid(1_000_000),
        }
    }
}

/// One type of the writer.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Null,
    Boolean,
    Int,
    Long(Unit),
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    Array(ShapeId),
    Map(ShapeId),
    Union(Box<[ShapeId]>),
    Record(Box<[Field]>),
}

/// One field of a record.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) aliases: Box<[Box<str>]>,
    pub(crate) shape: ShapeId,
}

/// A compiled writer schema.
#[derive(Debug)]
pub(crate) struct Shapes {
    arena: Vec<Shape>,
    root: ShapeId,
    /// Full name of the root, if it is a record.
    pub(crate) name: Option<String>,
}

/// Why a value cannot be moved over. As small as can be, so that results stay in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unskippable {
    Malformed,
    TooDeep,
}

impl From<Malformed> for Unskippable {
    fn from(_: Malformed) -> Unskippable {
        Unskippable::Malformed
    }
}

impl From<Unskippable> for Reject {
    #[cold]
    fn from(why: Unskippable) -> Reject {
        match why {
            Unskippable::Malformed => Malformed.into(),
            Unskippable::TooDeep => too_deep(),
        }
    }
}

fn incompatible() -> Reject {
    Reject::whole(RejectReason::IncompatibleSchema)
}

fn too_deep() -> Reject {
    Reject::whole(RejectReason::TooDeep)
}

impl Shapes {
    /// Compiles `avsc`.
    pub(crate) fn parse(avsc: &str) -> Result<Shapes, Reject> {
        let schema = Schema::parse_str(avsc).map_err(|_| incompatible())?;
        let mut builder = Builder { arena: Vec::new(), named: BTreeMap::new() };
        let root = builder.add(&schema, 0)?;
        let name = match &schema {
            Schema::Record(record) => Some(record.name.fullname(None)),
            _ => None,
        };
        Ok(Shapes { arena: builder.arena, root, name })
    }

    /// True if both lay out their records alike, and name all fields alike.
    pub(crate) fn is_like(&self, other: &Shapes) -> bool {
        self.root == other.root && self.arena == other.arena
    }

    /// Gives a field of the root the first of its aliases that is among `names`, unless its own
    /// name is, or another field has that name.
    pub(crate) fn adopt_aliases(&mut self, names: &[&str]) {
        let Shape::Record(fields) = &mut self.arena[self.root] else {
            return;
        };
        for at in 0..fields.len() {
            if names.contains(&&*fields[at].name) {
                continue;
            }
            let is_free = |alias: &str| fields.iter().all(|field| &*field.name != alias);
            let mut aliases = fields[at].aliases.iter();
            let alias = aliases.find(|alias| names.contains(&&***alias) && is_free(alias));
            if let Some(alias) = alias.cloned() {
                fields[at].name = alias;
            }
        }
    }

    pub(crate) fn get(&self, id: ShapeId) -> &Shape {
        &self.arena[id]
    }

    pub(crate) fn root(&self) -> &Shape {
        &self.arena[self.root]
    }

    /// Reads a whole payload.
    pub(crate) fn read<'a>(&'a self, payload: &'a [u8]) -> Result<Tree<'a>, Reject> {
        let mut cursor = Cursor::new(payload);
        let tree = self.tree(self.root, &mut cursor, 0)?;
        cursor.finish()?;
        Ok(tree)
    }

    /// Moves `cursor` over one value.
    pub(crate) fn skip(
        &self,
        id: ShapeId,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Unskippable> {
        if depth > MAX_DEPTH {
            return Err(Unskippable::TooDeep);
        }
        match &self.arena[id] {
            Shape::Null => {}
            Shape::Boolean => drop(cursor.boolean()?),
            Shape::Int => drop(cursor.int()?),
            Shape::Long(_) => drop(cursor.long()?),
            Shape::Float => drop(cursor.take(4)?),
            Shape::Double => drop(cursor.take(8)?),
            Shape::Bytes | Shape::Text => drop(cursor.bytes()?),
            Shape::Fixed(size) => drop(cursor.take(*size)?),
            Shape::Enum(symbols) => drop(cursor.index(symbols.len())?),
            Shape::Array(items) => cursor.blocks(|c| self.skip(*items, c, depth + 1))?,
            Shape::Map(values) => {
                let of_texts = matches!(self.arena[*values], Shape::Text | Shape::Bytes);
                let short = of_texts && depth < MAX_DEPTH;
                match short.then(|| cursor.short_texts()).flatten() {
                    Some(length) => cursor.advance(length),
                    None => cursor.blocks(|c| {
                        c.bytes()?;
                        self.skip(*values, c, depth + 1)
                    })?,
                }
            }
            Shape::Union(branches) => {
                let branch = cursor.index(branches.len())?;
                self.skip(branches[branch], cursor, depth + 1)?;
            }
            Shape::Record(fields) => {
                fields.iter().try_for_each(|f| self.skip(f.shape, cursor, depth + 1))?;
            }
        }
        Ok(())
    }

    fn tree<'a>(
        &'a self,
        id: ShapeId,
        cursor: &mut Cursor<'a>,
        depth: u32,
    ) -> Result<Tree<'a>, Reject> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(match &self.arena[id] {
            Shape::Null => Tree::Null,
            Shape::Boolean => Tree::Bool(cursor.boolean()?),
            Shape::Int => Tree::Int(i64::from(cursor.int()?)),
            Shape::Long(unit) => Tree::Int(unit.scale(cursor.long()?)),
            Shape::Float => Tree::Double(f64::from(cursor.float()?)),
            Shape::Double => Tree::Double(cursor.double()?),
            Shape::Bytes => Tree::Bytes(cursor.bytes()?),
            Shape::Text => Tree::Text(Cow::Borrowed(text(cursor.bytes()?)?)),
            Shape::Fixed(size) => Tree::Bytes(cursor.take(*size)?),
            Shape::Enum(symbols) => {
                let symbol = cursor.index(symbols.len())?;
                Tree::Text(Cow::Borrowed(&symbols[symbol]))
            }
            Shape::Array(items) => {
                let mut list = Vec::new();
                cursor.blocks(|c| {
                    list.push(self.tree(*items, c, depth + 1)?);
                    Ok::<(), Reject>(())
                })?;
                Tree::List(list)
            }
            Shape::Map(values) => {
                let mut map = Vec::new();
                cursor.blocks(|c| {
                    let key = Cow::Borrowed(text(c.bytes()?)?);
                    map.push((key, self.tree(*values, c, depth + 1)?));
                    Ok::<(), Reject>(())
                })?;
                Tree::Map(map)
            }
            Shape::Union(branches) => {
                let branch = cursor.index(branches.len())?;
                self.tree(branches[branch], cursor, depth + 1)?
            }
            Shape::Record(fields) => {
                let mut map = Vec::with_capacity(fields.len());
                for field in fields {
                    let value = self.tree(field.shape, cursor, depth + 1)?;
                    map.push((Cow::Borrowed(&*field.name), value));
                }
                Tree::Map(map)
            }
        })
    }
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, Reject> {
    std::str::from_utf8(bytes).map_err(|_| Reject::whole(RejectReason::InvalidUtf8))
}

struct Builder {
    arena: Vec<Shape>,
    named: BTreeMap<String, ShapeId>,
}

impl Builder {
    fn push(&mut self, shape: Shape) -> ShapeId {
        self.arena.push(shape);
        self.arena.len() - 1
    }

    /// The shape of `schema`, made anew unless it is a reference.
    fn add(&mut self, schema: &Schema, depth: u32) -> Result<ShapeId, Reject> {
        if depth > MAX_DEPTH {
            return Err(incompatible());
        }
        let shape = match schema {
            Schema::Null => Shape::Null,
            Schema::Boolean => Shape::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Shape::Int,
            Schema::Long => Shape::Long(Unit::Plain),
            Schema::TimestampMillis => Shape::Long(Unit::Millis),
            Schema::TimestampMicros => Shape::Long(Unit::Micros),
            Schema::TimestampNanos => Shape::Long(Unit::Nanos),
            Schema::TimeMicros
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Shape::Long(Unit::Local),
            Schema::Float => Shape::Float,
            Schema::Double => Shape::Double,
            Schema::String | Schema::Uuid(UuidSchema::String) => Shape::Text,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Shape::Bytes,
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Shape::Bytes,
                InnerDecimalSchema::Fixed(fixed) => return Ok(self.fixed(fixed)),
            },
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed)) => return Ok(self.fixed(fixed)),
            Schema::Enum(symbols) => {
                let shape =
                    Shape::Enum(symbols.symbols.iter().map(|s| s.as_str().into()).collect());
                let id = self.push(shape);
                self.named.insert(symbols.name.fullname(None), id);
                return Ok(id);
            }
            Schema::Array(array) => Shape::Array(self.add(&array.items, depth + 1)?),
            Schema::Map(map) => Shape::Map(self.add(&map.types, depth + 1)?),
            Schema::Union(union) => {
                let branches: Result<Box<[ShapeId]>, Reject> =
                    union.variants().iter().map(|branch| self.add(branch, depth + 1)).collect();
                Shape::Union(branches?)
            }
            Schema::Record(record) => return self.record(record, depth),
            Schema::Ref { name } => {
                return self.named.get(&name.fullname(None)).copied().ok_or_else(incompatible);
            }
        };
        Ok(self.push(shape))
    }

    fn fixed(&mut self, fixed: &apache_avro::schema::FixedSchema) -> ShapeId {
        let id = self.push(Shape::Fixed(fixed.size));
        self.named.insert(fixed.name.fullname(None), id);
        id
    }

    fn record(
        &mut self,
        record: &apache_avro::schema::RecordSchema,
        depth: u32,
    ) -> Result<ShapeId, Reject> {
        // Named before its fields are looked at: they may refer to it.
        let id = self.push(Shape::Null);
        self.named.insert(record.name.fullname(None), id);
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            fields.push(Field {
                name: field.name.as_str().into(),
                aliases: field.aliases.iter().map(|a| a.as_str().into()).collect(),
                shape: self.add(&field.schema, depth + 1)?,
            });
        }
        self.arena[id] = Shape::Record(fields.into());
        Ok(id)
    }
}
