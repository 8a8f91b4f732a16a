//! YAML as a tree in which every key and value knows its place.
//!
//! serde's first error would hide the others, and merging deserialized values loses places; so
//! files become such trees, which are merged and checked by hand. Bounds against hostile files:
//! depth and number of nodes, aliases counted as often as they are used. Tags and merge keys are
//! not interpreted.

use super::problem::{Position, Problems};
use granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Deepest nesting that a file may have.
const MAX_DEPTH: usize = 32;
/// Most nodes that a file may have.
const MAX_NODES: usize = 100_000;

/// A value and its place.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

/// What a node holds.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kind {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that has been reported already; nothing more is to be said of it.
    Invalid,
}

/// A scalar's text.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// True if it stood in quotes: then it is text, whatever it looks like.
    pub(super) quoted: bool,
    /// True if it came from a file of secrets: it is never shown.
    pub(super) secret: bool,
}

/// One pair of a map.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn new(at: Position, kind: Kind) -> Node {
        Node { at, kind }
    }

    /// An unquoted scalar, or null if that is how YAML reads it.
    pub(super) fn plain(at: Position, text: &str) -> Node {
        let kind = match text {
            "" | "~" | "null" => Kind::Null,
            _ => Kind::Scalar(Scalar { text: text.into(), quoted: false, secret: false }),
        };
        Node { at, kind }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// Lays `upper` over this node: maps are merged key by key, all else is replaced. A section
    /// with nothing under it changes nothing; an entry further down that is null is taken away.
    pub(super) fn merge(&mut self, mut upper: Node) {
        if let (Kind::Map(_), Kind::Map(sections)) = (&self.kind, &mut upper.kind) {
            sections.retain(|s| s.value.kind != Kind::Null || self.get(&s.key).is_none());
        }
        self.lay(upper);
    }

    fn lay(&mut self, upper: Node) {
        match (&mut self.kind, upper.kind) {
            (Kind::Map(lower), Kind::Map(entries)) => {
                self.at = upper.at;
                for entry in entries {
                    match lower.iter_mut().find(|e| e.key == entry.key) {
                        Some(known) => {
                            known.key_at = entry.key_at;
                            known.value.lay(entry.value);
                        }
                        None => lower.push(entry),
                    }
                }
            }
            (_, kind) => *self = Node { at: upper.at, kind },
        }
    }
}

/// Parses one file; on a problem that is worse than one value, `None`.
pub(super) fn parse(file: &str, text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder {
        file: file.into(),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
        root: None,
        problems,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(next) => next,
            Err(error) => {
                let at = builder.position(error.marker().line(), error.marker().col());
                builder.problems.add(&at, format!("this is not YAML: {}", error.info()));
                return None;
            }
        };
        builder.event(event, &span)?;
    }
    let start = Position::start_of(file);
    Some(builder.root.unwrap_or(Node::new(start, Kind::Map(Vec::new()))))
}

struct Builder<'p> {
    file: Arc<str>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    problems: &'p mut Problems,
}

/// A list or map whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    kind: Kind,
    key: Option<(String, Position)>,
}

impl Builder<'_> {
    fn position(&self, line: usize, column_from_0: usize) -> Position {
        Position { file: self.file.clone(), line: line.max(1), column: column_from_0 + 1 }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Option<()> {
        let at = self.position(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let node = if style == ScalarStyle::Plain {
                    Node::plain(at, &text)
                } else {
                    let text = text.into_owned();
                    Node::new(at, Kind::Scalar(Scalar { text, quoted: true, secret: false }))
                };
                self.close(node, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.start(at, anchor, Kind::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.start(at, anchor, Kind::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop()?;
                self.close(Node::new(open.at, open.kind), open.anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(mut node) => {
                    self.nodes += count(&node);
                    node.at = at;
                    self.close(node, 0)
                }
                None => {
                    self.problems.add(&at, "this alias stands within its own anchor");
                    None
                }
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                self.problems.add(&at, "a second document: write one per file");
                None
            }
            _ => Some(()),
        }
    }

    fn start(&mut self, at: Position, anchor: usize, kind: Kind) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            self.problems.add(&at, format!("nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        self.open.push(Open { at, anchor, kind, key: None });
        Some(())
    }

    /// Puts a finished node where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.problems.add(&node.at, format!("more than {MAX_NODES} values"));
            return None;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut parent.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(entries) => match parent.key.take() {
                Some((key, key_at)) => {
                    if entries.iter().any(|e| e.key == key) {
                        self.problems.add(&key_at, format!("key `{key}` stands here twice"));
                    } else {
                        entries.push(Entry { key, key_at, value: node });
                    }
                }
                None => match node.kind {
                    Kind::Scalar(scalar) => parent.key = Some((scalar.text, node.at)),
                    Kind::Null => parent.key = Some(("null".into(), node.at)),
                    _ => {
                        self.problems.add(&node.at, "a key must be a word");
                        return None;
                    }
                },
            },
            _ => {}
        }
        Some(())
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|e| count(&e.value)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<Node>, Vec<String>) {
        let mut problems = Problems::default();
        let node = parse("f", text, &mut problems);
        (node, problems.sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let (node, problems) = parsed("a:\n  b: [1, 'x']\n");
        assert_eq!(problems, Vec::<String>::new());
        let node = node.expect("parsed");
        let b = &node.entries()[0].value.entries()[0];
        assert_eq!(b.key_at.to_string(), "f:2:3");
        assert_eq!(b.value.at.to_string(), "f:2:6");
        let Kind::List(items) = &b.value.kind else { panic!("{b:?}") };
        assert_eq!(items[1].at.to_string(), "f:2:10");
    }

    #[test]
    fn hostile_and_broken_files_are_refused() {
        let check = |text: &str, expected: &str| {
            let (_, problems) = parsed(text);
            assert!(problems[0].starts_with(expected), "{text}: {problems:?}");
        };
        check("a: [1, 2\nb: 3", "f:2:");
        check("a: 1\na: 2", "f:2:1: key `a` stands here twice");
        check("? [x]\n: 1", "f:1:3: a key must be a word");
        check("a: 1\n---\nb: 2\n", "f:2:1: a second document");
        check(&format!("{}{}", "[".repeat(40), "]".repeat(40)), "f:1:33: nested deeper");
        let mut bomb = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
        for n in 1..8 {
            let before = format!("*a{},", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        check(&bomb, "f:5:");
    }

    #[test]
    fn layers_merge_by_key_and_keep_their_places() {
        let mut problems = Problems::default();
        let mut lower = parse("low", "a: {x: 1, y: 2, w: 0}\nl: [1, 2]\nn: {v: 1}", &mut problems)
            .expect("low");
        let upper = "a: {y: 3, z: 4, x: ~}\nl: [5]\nn:\n";
        let upper = parse("up", upper, &mut problems).expect("up");
        lower.merge(upper);
        let at = |key: &str| lower.get("a").and_then(|a| a.get(key)).map(|n| n.at.to_string());
        assert_eq!(at("w").as_deref(), Some("low:1:20"));
        assert_eq!(lower.get("a").and_then(|a| a.get("x")).map(|n| &n.kind), Some(&Kind::Null));
        assert!(lower.get("n").and_then(|n| n.get("v")).is_some());
        assert_eq!(at("y").as_deref(), Some("up:1:8"));
        assert_eq!(at("z").as_deref(), Some("up:1:14"));
        assert!(matches!(&lower.get("l").expect("l").kind, Kind::List(items) if items.len() == 1));
    }
}
