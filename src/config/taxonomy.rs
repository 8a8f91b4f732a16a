//! Taxonomies: the compiled-in presets, a file laid over one, and what must hold within.

use super::layers;
use super::node::{self, Kind, Node};
use super::problem::{Problems, accepted};
use super::settings::RegisterEntry;
use super::shape::check;
use super::table::TAXONOMY_FILE;
use super::view::View;
use crate::model::dimension::OTHER;
use crate::model::taxonomy::{Pair, Registered, Taxonomy};
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a taxonomy file says of touchpoints besides what the model keeps.
pub(super) type Register = BTreeMap<CompactString, RegisterEntry>;

const BASE: &str = include_str!("../../config/taxonomy/base.yaml");

/// The compiled-in file of a preset; each is laid over the base.
fn preset(name: &str) -> Option<&'static str> {
    match name {
        "ecommerce" => Some(include_str!("../../config/taxonomy/ecommerce.yaml")),
        "services" => Some(include_str!("../../config/taxonomy/services.yaml")),
        "software" => Some(include_str!("../../config/taxonomy/software.yaml")),
        "retail" => Some(include_str!("../../config/taxonomy/retail.yaml")),
        _ => None,
    }
}

/// Reads a preset and the file over it.
pub(super) fn load(
    name: &str,
    file: Option<&Path>,
    problems: &mut Problems,
) -> (Taxonomy, Register) {
    let empty = || Node::new(super::problem::Position::start_of("taxonomy"), Kind::Null);
    let mut root = Node::new(empty().at, Kind::Map(Vec::new()));
    if let Some(text) = preset(name) {
        let base = node::parse("config/taxonomy/base.yaml", BASE, problems);
        root.merge(base.unwrap_or_else(empty));
        let upper = node::parse(&format!("config/taxonomy/{name}.yaml"), text, problems);
        root.merge(upper.unwrap_or_else(empty));
    }
    if let Some(path) = file {
        match layers::read(path, problems) {
            Some(upper) => root.merge(upper),
            None => return (Taxonomy::default(), Register::new()),
        }
    }
    check(&mut root, &TAXONOMY_FILE, "", problems);
    let root = View::of(&root);
    cross(root, problems);
    build(root)
}

/// Words that are used are words that are there.
fn cross(root: View<'_>, problems: &mut Problems) {
    let phases = root.get("phases").texts();
    let departments = root.get("departments").texts();
    let mut stages = BTreeSet::new();
    for stage in root.get("stages").items() {
        known(stage.get("phase"), "phase", &phases, problems);
        if !stages.insert(stage.get("name").text()) {
            let name = stage.get("name");
            problems.add(&name.at(), format!("a second stage `{}`", name.text()));
        }
    }
    let stages: Vec<CompactString> = stages.into_iter().collect();
    for (touchpoint, actions) in root.get("pairs").entries() {
        if root.get("touchpoints").get(&touchpoint.key).node().is_none() {
            let text = format!("touchpoint `{}` has no entry in `touchpoints`", touchpoint.key);
            problems.add(&touchpoint.key_at, text);
        }
        for (_, stage) in actions.entries() {
            known(stage, "stage", &stages, problems);
        }
    }
    for (_, entry) in root.get("touchpoints").entries() {
        known(entry.get("owner"), "department", &departments, problems);
    }
}

fn known(view: View<'_>, kind: &str, words: &[CompactString], problems: &mut Problems) {
    let Some(word) = view.str() else { return };
    if word != OTHER && !words.iter().any(|w| w == word) {
        let accepted = accepted(word, words.iter().map(CompactString::as_str));
        problems.add(&view.at(), format!("unknown {kind} `{word}`; {accepted}"));
    }
}

fn build(root: View<'_>) -> (Taxonomy, Register) {
    let channels = root.get("channels").entries().map(|(e, _)| CompactString::from(&*e.key));
    let stages = root.get("stages").items();
    let stages = stages.into_iter().map(|s| (s.get("name").text(), s.get("phase").text()));
    let mut pairs = Vec::new();
    for (touchpoint, actions) in root.get("pairs").entries() {
        for (action, stage) in actions.entries() {
            pairs.push(Pair {
                touchpoint: touchpoint.key.as_str().into(),
                action: action.key.as_str().into(),
                stage: stage.text(),
            });
        }
    }
    let register: Register = root
        .get("touchpoints")
        .entries()
        .map(|(e, v)| {
            let entry = RegisterEntry {
                title: v.get("title").text(),
                owner: v.get("owner").text(),
                runbook: v.get("runbook").text(),
                expectations: v.get("expectations").texts(),
            };
            (CompactString::from(e.key.as_str()), entry)
        })
        .collect();
    let registered = register.iter().map(|(name, entry)| {
        let (owner, runbook) = (entry.owner.clone(), entry.runbook.clone());
        (name.clone(), Registered { owner, runbook })
    });
    (Taxonomy::new(channels, stages, pairs, registered), register)
}
