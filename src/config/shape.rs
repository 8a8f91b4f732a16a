//! What a configuration file may hold, as data: one table drives the check, the messages and the
//! JSON Schema.

use super::node::{Entry, Kind, Node, Scalar};
use super::problem::{Problems, accepted, closest};
use super::units;

/// The shape of a value.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Any scalar, as text that is not empty.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both inclusive.
    Integer { min: i64, max: i64 },
    /// A size in bytes that a process can do with, or `none`.
    Budget,
    /// A whole number from one, or `auto`.
    Threads,
    /// A number within bounds, both exclusive.
    Number { above: f64, below: f64 },
    /// A number from 0 to 1, both inclusive.
    Share,
    /// A length of time, in milliseconds at least this.
    Duration { min_ms: i64 },
    /// A length of time, with a `-` in front if it goes back.
    Shift,
    /// A length of time or `forever`.
    Retention,
    /// A size in bytes, at least one.
    Size,
    /// Where to start reading.
    Start,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An `http` or `https` address.
    Url,
    /// `host:port`.
    Address,
    /// Text without a null, or a number or a boolean: whatever stands there.
    Any,
    /// Known keys.
    Object(&'static [Key]),
    /// Keys of the user's own, all values of one shape.
    Table(&'static Shape),
    /// Keys out of these words (a word that ends with `.` allows any word after it).
    Words(&'static [&'static str], &'static Shape),
    /// A list.
    List(&'static Shape),
    /// One value or a list of them.
    OneOrMany(&'static Shape),
    /// A scalar of the first shape, or a map or list of the second.
    Either(&'static Shape, &'static Shape),
    /// Known keys, more of them by the word under the first key.
    Tagged { tag: &'static str, common: &'static [Key], variants: &'static [Variant] },
}

/// A process without customers takes 50 MiB, and some 100 are kept free.
const BUDGET_LEAST: u64 = 256 << 20;

/// A word of a tag and the keys that come with it.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
}

/// A known key.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// True if it must be there.
    pub(super) required: bool,
    /// One sentence for the schema.
    pub(super) about: &'static str,
}

/// A key that must be there (where a default exists, it always is).
pub(super) const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, required: true, about }
}

/// A key that may be absent or null.
pub(super) const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, required: false, about }
}

/// Checks `node` against `shape`; what is wrong is reported and becomes [`Kind::Invalid`].
pub(super) fn check(node: &mut Node, shape: &Shape, path: &str, problems: &mut Problems) {
    match (shape, &mut node.kind) {
        (_, Kind::Invalid) => {}
        (Shape::Either(scalar, _), Kind::Scalar(_)) => check(node, scalar, path, problems),
        (Shape::Either(_, other), _) => check(node, other, path, problems),
        (Shape::OneOrMany(of), Kind::List(items)) => check_items(items, of, path, problems),
        (Shape::OneOrMany(of), _) => check(node, of, path, problems),
        (Shape::List(of), Kind::List(items)) => check_items(items, of, path, problems),
        (Shape::Object(_) | Shape::Tagged { .. }, Kind::Map(_)) => {
            check_object(node, shape, path, problems);
        }
        (Shape::Object(_), Kind::Null) => {
            node.kind = Kind::Map(Vec::new());
            check_object(node, shape, path, problems);
        }
        (Shape::Table(of), Kind::Map(entries)) => check_table(entries, of, path, problems),
        (Shape::Words(words, of), Kind::Map(entries)) => {
            for entry in entries.iter_mut() {
                refuse_unknown_word(entry, words, path, problems);
            }
            check_table(entries, of, path, problems);
        }
        (Shape::Table(_) | Shape::Words(..), Kind::Null) => node.kind = Kind::Map(Vec::new()),
        (Shape::List(_), Kind::Null) => node.kind = Kind::List(Vec::new()),
        (_, Kind::Scalar(scalar)) => {
            if let Some(wrong) = scalar_problem(shape, scalar) {
                problems.add(&node.at, format!("{}{wrong}", prefix(path)));
                node.kind = Kind::Invalid;
            }
        }
        _ => {
            let wanted = wanted(shape);
            problems.add(&node.at, format!("{}expected {wanted}", prefix(path)));
            node.kind = Kind::Invalid;
        }
    }
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`{path}`: ") }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

fn check_items(items: &mut [Node], of: &Shape, path: &str, problems: &mut Problems) {
    for (i, item) in items.iter_mut().enumerate() {
        check(item, of, &format!("{path}[{i}]"), problems);
    }
}

fn check_table(entries: &mut [Entry], of: &Shape, path: &str, problems: &mut Problems) {
    for entry in entries.iter_mut().filter(|e| e.value.kind != Kind::Null) {
        check(&mut entry.value, of, &join(path, &entry.key), problems);
    }
}

fn refuse_unknown_word(entry: &mut Entry, words: &[&str], path: &str, problems: &mut Problems) {
    let known = words
        .iter()
        .any(|word| *word == entry.key || (word.ends_with('.') && entry.key.starts_with(word)));
    if !known {
        let accepted = accepted(&entry.key, words.iter().copied());
        let within = within(path);
        problems.add(&entry.key_at, format!("unknown key `{}`{within}; {accepted}", entry.key));
        entry.value.kind = Kind::Invalid;
    }
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" in `{path}`") }
}

/// The keys that a map of this shape takes, by the word under its tag if it has one.
pub(super) fn keys_of(node: &Node, shape: &Shape) -> Vec<Key> {
    match shape {
        Shape::Object(keys) => keys.to_vec(),
        Shape::Tagged { tag, common, variants } => {
            let word = node.get(tag).and_then(|n| match &n.kind {
                Kind::Scalar(scalar) => Some(scalar.text.as_str()),
                _ => None,
            });
            let more = variants.iter().find(|v| Some(v.name) == word).map_or(&[][..], |v| v.keys);
            common.iter().chain(more).copied().collect()
        }
        _ => Vec::new(),
    }
}

fn check_object(node: &mut Node, shape: &Shape, path: &str, problems: &mut Problems) {
    let keys = keys_of(node, shape);
    let at = node.at.clone();
    let Kind::Map(entries) = &mut node.kind else { return };
    if let Shape::Tagged { tag, common, .. } = shape
        && common.len() == keys.len()
    {
        // Without a valid tag nobody knows which other keys are right: only the tag is reported.
        entries.retain(|e| keys.iter().any(|k| k.name == e.key) || e.key == *tag);
    }
    for entry in entries.iter_mut() {
        let Some(key) = keys.iter().find(|k| k.name == entry.key) else {
            let accepted = accepted(&entry.key, keys.iter().map(|k| k.name));
            let within = within(path);
            problems.add(&entry.key_at, format!("unknown key `{}`{within}; {accepted}", entry.key));
            entry.value.kind = Kind::Invalid;
            continue;
        };
        if entry.value.kind == Kind::Null && !key.required {
            continue;
        }
        check(&mut entry.value, &key.shape, &join(path, key.name), problems);
    }
    // A key that is missing because it was misspelt has been named already.
    let names: Vec<&str> = keys.iter().map(|k| k.name).collect();
    for key in keys.iter().filter(|k| k.required) {
        let present = |e: &Entry| e.key == key.name;
        let misspelt = |e: &Entry| {
            !names.contains(&e.key.as_str()) && closest(&e.key, &names) == Some(key.name)
        };
        if !entries.iter().any(|e| present(e) || misspelt(e)) {
            let wanted = wanted(&key.shape);
            let path = join(path, key.name);
            problems.add(&at, format!("`{path}` is missing: give {wanted}"));
            let value = Node::new(at.clone(), Kind::Invalid);
            entries.push(Entry { key: key.name.into(), key_at: at.clone(), value });
        }
    }
}

/// What is wrong with a scalar of this shape, if anything.
fn scalar_problem(shape: &Shape, scalar: &Scalar) -> Option<String> {
    let text = scalar.text.as_str();
    let fits = match shape {
        Shape::Text => !text.is_empty(),
        Shape::Any => true,
        Shape::Bool => matches!(text, "true" | "false"),
        Shape::Integer { min, max } => {
            text.parse::<i64>().is_ok_and(|n| (*min..=*max).contains(&n))
        }
        Shape::Budget => text == "none" || units::size(text).is_some_and(|n| n >= BUDGET_LEAST),
        Shape::Threads => text == "auto" || text.parse::<u8>().is_ok_and(|n| n > 0),
        Shape::Number { above, below } => {
            text.parse::<f64>().is_ok_and(|n| n > *above && n < *below)
        }
        Shape::Share => text.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n)),
        Shape::Shift => units::duration(text.strip_prefix('-').unwrap_or(text)).is_some(),
        Shape::Duration { min_ms } => units::duration(text).is_some_and(|d| d.as_ms() >= *min_ms),
        Shape::Retention => text == "forever" || units::duration(text).is_some(),
        Shape::Size => units::size(text).is_some_and(|n| n > 0),
        Shape::Start => units::start(text).is_some(),
        Shape::Choice(words) => words.contains(&text),
        Shape::Url => ["http://", "https://"]
            .iter()
            .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())),
        Shape::Address => text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
        _ => false,
    };
    if fits {
        return None;
    }
    let text = if scalar.secret { "(a secret)" } else { text };
    Some(match shape {
        Shape::Choice(words) => {
            format!("unknown word `{text}`; {}", accepted(text, words.iter().copied()))
        }
        _ => format!("`{text}` is not accepted: expected {}", wanted(shape)),
    })
}

/// What a shape wants, in words.
pub(super) fn wanted(shape: &Shape) -> String {
    match shape {
        Shape::Text => "a text".into(),
        Shape::Any => "a text or a number".into(),
        Shape::Bool => "`true` or `false`".into(),
        Shape::Budget => {
            format!("`none` or at least {}", units::size_text(BUDGET_LEAST))
        }
        Shape::Threads => format!("`auto` or a whole number from 1 to {}", u8::MAX),
        Shape::Integer { min, max: i64::MAX } => format!("a whole number from {min}"),
        Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Number { above, below } if below.is_infinite() => format!("a number above {above}"),
        Shape::Number { above, below } => format!("a number above {above} and below {below}"),
        Shape::Share => "a number from 0 to 1".into(),
        Shape::Shift => format!("{}, with a `-` in front for back", units::DURATION),
        Shape::Duration { min_ms: ..=0 } => units::DURATION.into(),
        Shape::Duration { .. } => format!("a length of time above zero: {}", units::DURATION),
        Shape::Retention => format!("`forever` or {}", units::DURATION),
        Shape::Size => units::SIZE.into(),
        Shape::Start => units::START.into(),
        Shape::Choice(words) => format!("one of {}", words.join(", ")),
        Shape::Url => "an address such as `http://localhost:8081`".into(),
        Shape::Address => "an address and a port such as `127.0.0.1:9464`".into(),
        Shape::Object(keys) => {
            let names: Vec<&str> = keys.iter().map(|k| k.name).collect();
            format!("a map with the keys {}", names.join(", "))
        }
        Shape::Tagged { tag, .. } => format!("a map with the key {tag}"),
        Shape::Table(_) | Shape::Words(..) => "a map".into(),
        Shape::List(of) => format!("a list of {}", wanted(of)),
        Shape::OneOrMany(of) => format!("{}, or a list of such", wanted(of)),
        Shape::Either(one, other) => format!("{}, or {}", wanted(one), wanted(other)),
    }
}
