//! What the folds see of a configuration, as a text of its own, and how two such texts differ.
//!
//! The text is YAML: the sections that the folds' fingerprint is made from, as they are in effect, and
//! in place of the taxonomy's content a hash of it. Two spellings of one value (`90s`, `1m30s`) are two
//! texts of one fingerprint, which is why the fingerprint is no hash of the text.

use super::node::{Entry, Kind, Node, parse};
use super::problem::{Position, Problems};
use super::show;
use crate::model::taxonomy::Taxonomy;
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::fmt::Debug;
use xxhash_rust::xxh3::xxh3_64;

/// Sections that the folds see as a whole.
const WHOLE: [&str; 10] = [
    "ingest",
    "time",
    "sessions",
    "checkout",
    "deduplication",
    "identity",
    "figures",
    "flush",
    "taxonomy",
    "rules",
];
/// What they see of each source.
const OF_SOURCES: &str = "max_out_of_orderness";
/// Stands for the words of preset and file.
const WORDS: &str = "taxonomy_words";

/// The text of a configuration.
pub(super) fn text(
    root: &Node,
    taxonomy: &Taxonomy,
    register: &BTreeMap<CompactString, impl Debug>,
) -> String {
    let mut seen: Vec<Entry> =
        root.entries().iter().filter(|e| WHOLE.contains(&e.key.as_str())).cloned().collect();
    if let Some(sources) = root.entries().iter().find(|e| e.key == "sources") {
        let bounds = sources.value.entries().iter().map(|source| {
            let bound = source.value.entries().iter().filter(|e| e.key == OF_SOURCES).cloned();
            let value = Node::new(source.value.at.clone(), Kind::Map(bound.collect()));
            Entry { value, ..source.clone() }
        });
        let value = Node::new(sources.value.at.clone(), Kind::Map(bounds.collect()));
        seen.push(Entry { value, ..sources.clone() });
    }
    let words = xxh3_64(format!("{taxonomy:?} {register:?}").as_bytes());
    let at = Position::start_of(WORDS);
    let value = Node::plain(at.clone(), &format!("x{words:016x}"));
    seen.push(Entry { key: WORDS.to_owned(), key_at: at, value });
    show::yaml(&Node::new(root.at.clone(), Kind::Map(seen)))
}

/// What is not the same in two such texts, field by field: `sessions.gap was 30m and is 20m`.
pub fn differences(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (leaves(old), leaves(new));
    let value = |of: Option<&String>| of.map_or("absent".to_owned(), Clone::clone);
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    let differs = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
    differs
        .map(|path| format!("{path} was {} and is {}", value(old.get(path)), value(new.get(path))))
        .collect()
}

fn leaves(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // It was written by us: what cannot be read says nothing.
    if let Some(root) = parse("configuration", text, &mut Problems::default()) {
        collect(&root, "", &mut found);
    }
    found
}

fn collect(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                let dot = if path.is_empty() { "" } else { "." };
                collect(&entry.value, &format!("{path}{dot}{}", entry.key), found);
            }
        }
        _ => {
            found.insert(path.to_owned(), show::flow(node, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn seen(yaml: &str) -> (String, u128) {
        let source = "sources: {shop: {topic: in, format: canonical_json, start: earliest}}\n";
        let yaml = format!("{source}{yaml}");
        let settings = Settings::from_yaml_str("test", &yaml, BTreeMap::new()).unwrap();
        (settings.fold_text().to_owned(), settings.fold_fingerprint())
    }

    #[track_caller]
    fn check(yaml: &str, expected: &[&str]) {
        let ((old, was), (new, is)) = (seen(""), seen(yaml));
        assert_eq!(differences(&old, &new), expected);
        assert_eq!(was == is, expected.is_empty());
    }

    #[test]
    fn what_the_folds_see_differs_by_name_and_the_rest_not_at_all() {
        check("sessions: {gap: 20m}", &["sessions.gap was 30m and is 20m"]);
        check(
            "sessions: {channel_gaps: {web: 5m}}",
            &[
                "sessions.channel_gaps was {} and is absent",
                "sessions.channel_gaps.web was absent and is 5m",
            ],
        );
        check("http: {listen: \"127.0.0.1:1\"}\nworkers: {journey: 7}", &[]);
        check("app: {name: other}\nkafka: {sasl.password: x}", &[]);
    }

    #[test]
    fn bounds_of_sources_and_words_of_the_taxonomy_are_part_of_it() {
        let of = |tail: &str| {
            let text = "sources: {shop: {topic: a, format: canonical_json, start: earliest";
            let yaml = format!("{text}{tail}");
            Settings::from_yaml_str("test", &yaml, BTreeMap::new()).unwrap().fold_text().to_owned()
        };
        let bound = differences(&of("}}"), &of(", max_out_of_orderness: 9s}}"));
        assert_eq!(bound.last().unwrap(), "sources.shop.max_out_of_orderness was absent and is 9s");
        let words = differences(&of("}}"), &of("}}\ntaxonomy: {preset: retail}"));
        assert_eq!(words[0], "taxonomy.preset was ecommerce and is retail");
        assert!(words[1].starts_with("taxonomy_words was x"), "{words:?}");
        assert!(!of("}}").contains("topic: a"));
    }
}
