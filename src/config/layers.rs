//! Layers: the compiled-in default, files, the environment; and what `${…}` stands for.

use super::node::{self, Entry, Kind, Node, Scalar};
use super::problem::{Position, Problems, accepted};
use super::shape::{Shape, keys_of};
use std::collections::BTreeMap;
use std::path::Path;

/// Environment variables that begin so are configuration.
const PREFIX: &str = "TOUCHLINE_";

/// The environment as it was given.
pub(super) type Environment = BTreeMap<String, String>;

/// Reads and parses a file; `None` after a problem that leaves nothing to check.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Option<Node> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => node::parse(&name, &text, problems),
        Err(error) => {
            problems.add(&Position::start_of(&name), format!("cannot be read: {error}"));
            None
        }
    }
}

/// Fills in `${NAME}` and `${file:/path}`; `$${` stands for `${`.
pub(super) fn interpolate(node: &mut Node, env: &Environment, problems: &mut Problems) {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|n| interpolate(n, env, problems)),
        Kind::Map(entries) => {
            entries.iter_mut().for_each(|e| interpolate(&mut e.value, env, problems));
        }
        Kind::Scalar(scalar) if scalar.text.contains("${") => match filled(scalar, env) {
            Ok(text) => scalar.text = text,
            Err(message) => {
                problems.add(&node.at, message);
                node.kind = Kind::Invalid;
            }
        },
        _ => {}
    }
}

fn filled(scalar: &mut Scalar, env: &Environment) -> Result<String, String> {
    let mut rest = scalar.text.as_str();
    let mut text = String::new();
    let mut secret = false;
    while let Some(at) = rest.find("${") {
        text.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        if let Some(before) = text.strip_suffix('$') {
            text.truncate(before.len());
            text.push_str("${");
            rest = inner;
            continue;
        }
        let (name, after) = inner.split_once('}').ok_or_else(|| {
            "`${` without `}`: write `${NAME}` or `${file:/path}`, or `$${` for the text itself"
                .to_owned()
        })?;
        if let Some(path) = name.strip_prefix("file:") {
            let content = std::fs::read_to_string(path)
                .map_err(|error| format!("`{path}` cannot be read: {error}"))?;
            text.push_str(content.trim_end_matches(['\n', '\r']));
            secret = true;
        } else {
            let value = env
                .get(name)
                .ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
            text.push_str(value);
        }
        rest = after;
    }
    text.push_str(rest);
    scalar.secret |= secret;
    Ok(text)
}

/// Lays environment variables over `root`. A variable without `__` that names no section is not
/// meant for us (orchestrators set `TOUCHLINE_SERVICE_HOST` and the like).
pub(super) fn environment(
    root: &mut Node,
    shape: &Shape,
    env: &Environment,
    problems: &mut Problems,
) {
    for (name, value) in env {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let mut words = path.split("__");
        let first = words.next().unwrap_or_default().to_lowercase();
        let rest: Vec<&str> = words.collect();
        if rest.is_empty() && !keys_of(root, shape).iter().any(|k| k.name == first) {
            continue;
        }
        let at = Position::start_of(name);
        let mut path = vec![first];
        path.extend(rest.into_iter().map(str::to_owned));
        let Some(place) = place(root, shape, &mut path) else {
            let sections = keys_of(root, shape);
            let accepted = accepted(&path[0], sections.iter().map(|k| k.name));
            problems.add(&at, format!("unknown section `{}`; {accepted}", path[0]));
            continue;
        };
        let Some(value) = parsed(value, &at, &place, problems) else { continue };
        let mut layer = value;
        for key in path.into_iter().rev() {
            let entry = Entry { key, key_at: at.clone(), value: layer };
            layer = Node::new(at.clone(), Kind::Map(vec![entry]));
        }
        root.merge(layer);
    }
}

/// Finds the shape of the place that `path` names, and spells its words as the file does.
fn place(root: &Node, shape: &Shape, path: &mut [String]) -> Option<Option<Shape>> {
    let mut shape = Some(*shape);
    let mut node = Some(root);
    let nothing = Node::new(root.at.clone(), Kind::Null);
    for depth in 0..path.len() {
        let in_kafka = depth == 1 && path[0] == "kafka";
        let here = node.unwrap_or(&nothing);
        let keys = shape.as_ref().map(|s| keys_of(here, s)).unwrap_or_default();
        let word = &mut path[depth];
        if in_kafka && !word.contains('.') {
            *word = word.to_lowercase().replace('_', ".");
        } else if let Some(key) = keys.iter().find(|k| k.name.eq_ignore_ascii_case(word)) {
            *word = key.name.to_owned();
        } else if let Some(e) = here.entries().iter().find(|e| e.key.eq_ignore_ascii_case(word)) {
            e.key.clone_into(word);
        } else {
            *word = word.to_lowercase();
        }
        shape = match shape {
            Some(Shape::Table(of) | Shape::Words(_, of)) => Some(*of),
            _ => keys.iter().find(|k| k.name == word).map(|k| k.shape),
        };
        if depth == 0 && shape.is_none() {
            return None;
        }
        node = node.and_then(|n| n.get(word));
    }
    Some(shape)
}

/// The value of a variable: a scalar is taken as it is (a password may hold what YAML would read as
/// a comment), anything else is YAML.
fn parsed(
    value: &str,
    at: &Position,
    place: &Option<Shape>,
    problems: &mut Problems,
) -> Option<Node> {
    match place {
        _ if value.is_empty() => Some(Node::new(at.clone(), Kind::Null)),
        Some(Shape::Object(_) | Shape::Table(_) | Shape::List(_) | Shape::Tagged { .. }) => {
            node::parse(&at.file, value, problems)
        }
        _ => {
            let scalar = Scalar { text: value.to_owned(), quoted: true, secret: false };
            Some(Node::new(at.clone(), Kind::Scalar(scalar)))
        }
    }
}
