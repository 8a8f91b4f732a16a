//! Mapping files: read with places, words checked against the taxonomy.
//!
//! What the expressions and paths in it mean is `ingest`'s to say: it compiles what has passed
//! here, and what it refuses by its path in the file (`rules[1].emit[0].stage`) is reported by line
//! and column, too.

use super::node::{self, Kind, Node};
use super::problem::{Position, Problems, accepted};
use super::shape::check;
use super::table::MAPPING_FILE;
use super::view::View;
use crate::ingest::mapping::Mapping;
use crate::ingest::mapping::spec::MappingSpec;
use crate::model::dimension::OTHER;
use crate::model::taxonomy::Taxonomy;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mapping file whose words are known.
#[derive(Clone, PartialEq, Debug)]
pub struct MappingFile {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub spec: MappingSpec,
    root: Arc<Node>,
}

impl MappingFile {
    /// Where the value at `path` stands: `rules[1].emit[0].stage`; of what is not there, the
    /// nearest thing around it.
    pub fn position(&self, path: &str) -> Position {
        let mut node = &*self.root;
        let mut rest = path;
        while !rest.is_empty() {
            let next = match &node.kind {
                Kind::Map(entries) => {
                    // Keys may hold dots (`campaign.name`): the longest that fits is meant.
                    let fits = |key: &str| {
                        let after = rest.strip_prefix(key)?;
                        (after.is_empty() || after.starts_with(['.', '['])).then_some(after)
                    };
                    let found = entries.iter().filter_map(|e| Some((&e.value, fits(&e.key)?)));
                    found.min_by_key(|(_, after)| after.len())
                }
                Kind::List(items) => rest.strip_prefix('[').and_then(|inner| {
                    let (index, after) = inner.split_once(']')?;
                    Some((items.get(index.parse::<usize>().ok()?)?, after))
                }),
                // A single entry may stand for a list of one.
                _ => None,
            };
            let next = next.or_else(|| Some((node, rest.strip_prefix("[0]")?)));
            let Some((inner, after)) = next else { break };
            node = inner;
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        node.at.clone()
    }
}

/// Reads and checks a mapping file; `None` if it could not be read at all.
pub(super) fn load(
    path: &Path,
    taxonomy: &Taxonomy,
    problems: &mut Problems,
) -> Option<MappingFile> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let at = Position::start_of(&path.display().to_string());
            problems.add(&at, format!("cannot be read: {error}"));
            return None;
        }
    };
    parse(path, &text, taxonomy, problems)
}

/// Checks the text of a mapping file.
pub(super) fn parse(
    path: &Path,
    text: &str,
    taxonomy: &Taxonomy,
    problems: &mut Problems,
) -> Option<MappingFile> {
    let name = path.display().to_string();
    let mut found = Problems::default();
    let mut root = node::parse(&name, text, &mut found);
    if let Some(root) = &mut root {
        check(root, &MAPPING_FILE, "", &mut found);
        Words { taxonomy, root: View::of(root) }.file(&mut found);
    }
    let clean = found.is_empty();
    problems.take(found);
    let root = Arc::new(root.filter(|_| clean)?);
    let spec = match serde_saphyr::from_str::<MappingSpec>(text) {
        Ok(spec) => spec,
        Err(error) => {
            let mut at = Position::start_of(&name);
            if let Some(place) = error.location() {
                at.line = usize::try_from(place.line()).unwrap_or(1);
                at.column = usize::try_from(place.column()).unwrap_or(1);
            }
            problems.add(&at, error.without_snippet().to_string());
            return None;
        }
    };
    let file = MappingFile { path: path.to_owned(), spec, root };
    if let Err(errors) = Mapping::compile(file.spec.clone(), taxonomy) {
        for error in errors {
            problems.add(&file.position(&error.at), format!("`{}`: {}", error.at, error.message));
        }
    }
    Some(file)
}

/// Checks the words of one file.
struct Words<'a> {
    taxonomy: &'a Taxonomy,
    root: View<'a>,
}

impl Words<'_> {
    fn file(&self, problems: &mut Problems) {
        self.fields(self.root.get("defaults"), problems);
        for key in ["customer_id", "email", "anonymous_id"] {
            self.value(self.root.get(key), key, problems);
        }
        for rule in self.root.get("rules").items() {
            self.rule(rule, problems);
        }
        let otherwise = self.root.get("otherwise");
        if otherwise.is_map() {
            self.emit(otherwise, problems);
        }
    }

    fn rule(&self, rule: View<'_>, problems: &mut Problems) {
        let emits = rule.get("emit").items();
        let filter = rule.get("filter").bool();
        if filter && !emits.is_empty() {
            let text = "a rule with `filter: true` emits nothing: leave out one of the two";
            problems.add(&rule.get("filter").at(), text);
        }
        if !filter && emits.is_empty() && !rule.invalid("emit") && !rule.invalid("filter") {
            problems.add(&rule.at(), "a rule needs `emit` or `filter: true`");
        }
        cel(rule.get("when"), problems);
        for emit in emits {
            self.emit(emit, problems);
        }
    }

    fn emit(&self, emit: View<'_>, problems: &mut Problems) {
        for key in ["touchpoint", "action", "stage"] {
            self.value(emit.get(key), key, problems);
        }
        self.fields(emit.get("fields"), problems);
        for key in ["sku", "category", "quantity", "price"] {
            self.value(emit.get("items").get(key), key, problems);
        }
        self.pair(emit, problems);
    }

    /// An action that the touchpoint does not have, with no stage given, is a slip.
    fn pair(&self, emit: View<'_>, problems: &mut Problems) {
        let (Some(touchpoint), Some(action)) =
            (emit.get("touchpoint").str(), emit.get("action").str())
        else {
            return;
        };
        let given = [emit.get("stage"), emit.get("fields").get("stage")];
        let default = self.root.get("defaults").get("stage");
        let staged = given.iter().any(|v| v.node().is_some()) || default.node().is_some();
        let unknown = self.taxonomy.stage_of(touchpoint, action).is_none();
        let reported = emit.invalid("stage") || emit.get("fields").invalid("stage");
        if unknown && !staged && !reported && self.taxonomy.knows_touchpoint(touchpoint) {
            let text =
                format!("touchpoint `{touchpoint}` has no action `{action}` in the taxonomy");
            let advice = "correct it, or give a `stage`";
            problems.add(&emit.get("action").at(), format!("{text}: {advice}"));
        }
    }

    fn fields(&self, fields: View<'_>, problems: &mut Problems) {
        for (entry, value) in fields.entries() {
            self.value(value, &entry.key, problems);
        }
    }

    /// Checks one value: the words it can take if it is a stage, channel or touchpoint.
    fn value(&self, value: View<'_>, field: &str, problems: &mut Problems) {
        if !value.is_map() {
            self.word(value, field, problems);
            return;
        }
        let given = ["field", "header", "key", "cel"];
        let count = given.iter().filter(|key| value.get(key).node().is_some()).count();
        let reported = given.iter().any(|key| value.invalid(key));
        if count != 1 && !reported {
            let text = format!("`{field}` needs exactly one of {}", given.join(", "));
            problems.add(&value.at(), text);
        }
        cel(value.get("cel"), problems);
        self.word(value.get("default"), field, problems);
        let Some(name) = value.get("table").str() else { return };
        let tables = self.root.get("values");
        let table = tables.get(name);
        if table.node().is_none() {
            let names: Vec<&str> = tables.entries().map(|(e, _)| e.key.as_str()).collect();
            let accepted = accepted(name, names);
            problems.add(&value.get("table").at(), format!("unknown table `{name}`; {accepted}"));
        }
        for (_, word) in table.entries() {
            self.word(word, field, problems);
        }
    }

    fn word(&self, view: View<'_>, field: &str, problems: &mut Problems) {
        let Some(word) = view.str().filter(|word| *word != OTHER) else { return };
        let taxonomy = self.taxonomy;
        let (known, accepted) = match field {
            "stage" => (taxonomy.stage(word).is_some(), accepted(word, taxonomy.stages())),
            "channel" => (taxonomy.channel(word).is_some(), accepted(word, taxonomy.channels())),
            "touchpoint" => {
                (taxonomy.knows_touchpoint(word), accepted(word, taxonomy.touchpoints()))
            }
            _ => return,
        };
        if !known {
            problems.add(&view.at(), format!("unknown {field} `{word}`; {accepted}"));
        }
    }
}

/// An expression is one.
fn cel(view: View<'_>, problems: &mut Problems) {
    if let Some(text) = view.str()
        && let Err(error) = cel::Program::compile(text)
    {
        problems.add(&view.at(), format!("`{text}` is no CEL expression: {error}"));
    }
}
