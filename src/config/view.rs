//! Reading a checked tree: whatever is absent, null or already reported reads as `None`.

use super::node::{Entry, Kind, Node};
use super::problem::Position;
use super::units;
use crate::model::time::Millis;
use compact_str::CompactString;

/// A node that may not be there.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    node: Option<&'a Node>,
}

impl<'a> View<'a> {
    pub(super) fn of(node: &'a Node) -> View<'a> {
        View { node: Some(node) }
    }

    pub(super) fn get(self, key: &str) -> View<'a> {
        View { node: self.node.and_then(|n| n.get(key)) }
    }

    /// The value and its place, unless it is absent, null or reported.
    pub(super) fn node(self) -> Option<&'a Node> {
        self.node.filter(|n| !matches!(n.kind, Kind::Null | Kind::Invalid))
    }

    /// True if something stands under `key` that has been reported.
    pub(super) fn invalid(self, key: &str) -> bool {
        self.get(key).node.is_some_and(|n| n.kind == Kind::Invalid)
    }

    /// True if anything in it has been reported.
    pub(super) fn has_invalid(self) -> bool {
        fn invalid(node: &Node) -> bool {
            match &node.kind {
                Kind::Invalid => true,
                Kind::List(items) => items.iter().any(invalid),
                Kind::Map(entries) => entries.iter().any(|e| invalid(&e.value)),
                Kind::Null | Kind::Scalar(_) => false,
            }
        }
        self.node.is_some_and(invalid)
    }

    /// Where it stands; a place that no file has, if it does not.
    pub(super) fn at(self) -> Position {
        self.node.map_or_else(|| Position::start_of("configuration"), |n| n.at.clone())
    }

    /// The pairs of a map whose values are neither null nor reported.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a Entry, View<'a>)> {
        let entries = self.node.map_or(&[][..], Node::entries);
        entries.iter().map(|e| (e, View::of(&e.value))).filter(|(_, value)| value.node().is_some())
    }

    /// The items of a list; a single value reads as a list of one.
    pub(super) fn items(self) -> Vec<View<'a>> {
        match self.node().map(|n| &n.kind) {
            Some(Kind::List(items)) => {
                items.iter().map(View::of).filter(|item| item.node().is_some()).collect()
            }
            Some(_) => vec![self],
            None => Vec::new(),
        }
    }

    pub(super) fn is_map(self) -> bool {
        matches!(self.node().map(|n| &n.kind), Some(Kind::Map(_)))
    }

    pub(super) fn str(self) -> Option<&'a str> {
        match self.node().map(|n| &n.kind) {
            Some(Kind::Scalar(scalar)) => Some(&scalar.text),
            _ => None,
        }
    }

    pub(super) fn text(self) -> CompactString {
        self.str().unwrap_or_default().into()
    }

    pub(super) fn optional_text(self) -> Option<CompactString> {
        self.str().map(CompactString::from)
    }

    pub(super) fn texts(self) -> Vec<CompactString> {
        self.items().into_iter().map(View::text).collect()
    }

    pub(super) fn valid_duration(self) -> Option<Millis> {
        self.str().and_then(units::duration)
    }

    pub(super) fn duration(self) -> Millis {
        self.valid_duration().unwrap_or_default()
    }

    pub(super) fn size(self) -> u64 {
        self.str().and_then(units::size).unwrap_or_default()
    }

    pub(super) fn number(self) -> f64 {
        self.str().and_then(|s| s.parse().ok()).unwrap_or_default()
    }

    pub(super) fn integer<T: std::str::FromStr + Default>(self) -> T {
        self.str().and_then(|s| s.parse().ok()).unwrap_or_default()
    }

    /// `None` where a word stands.
    pub(super) fn count<T: std::str::FromStr>(self) -> Option<T> {
        self.str().and_then(|s| s.parse().ok())
    }

    pub(super) fn bool(self) -> bool {
        self.str() == Some("true")
    }
}
