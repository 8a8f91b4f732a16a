//! Decoding plans: a writer schema compiled once against what `journey` reads.
//!
//! The fields of a record become a flat list of [steps](super::steps). Text is borrowed from the
//! payload, what is not read is skipped, bounds are strict, and bytes after the record are an error.
//!
//! Resolution is Avro's: fields by name (or by an alias that the *writer* declares), int as long,
//! enums as text, bytes as text where they are UTF-8, union branches by type, defaults of the
//! contract for absent fields. Timestamps in micro- or nanoseconds are divided down. Local
//! timestamps, decimals and doubles do not become times or money: that is `IncompatibleSchema`.

use super::read;
use super::shape::Shapes;
use super::steps::DecodePlan;
use crate::codec::canonical::{CANONICAL_SCHEMA, canonical_with_origin_schema};
use crate::codec::fields::{self, Named};
use crate::codec::slots::{Filled, Needs};
use crate::codec::tree::Tree;
use crate::model::control::Control;
use crate::model::reject::Reject;
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
