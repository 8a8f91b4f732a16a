//! What must hold between values; each finding at the value that the user is to change.

use super::DEFAULT_FILE;
use super::problem::{Position, Problems, accepted};
use super::table::{DIMENSIONS, topic_key};
use super::units;
use super::view::View;
use crate::model::taxonomy::Taxonomy;
use crate::model::time::Millis;
use crate::model::topic::Topic;
use crate::rollup::alerts::{PLACEHOLDERS, RULES_MAX, SLICES_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// The place of `first`, unless only `second` was written by the user.
fn blame(first: View<'_>, second: View<'_>) -> Position {
    let at = first.at();
    if &*at.file == DEFAULT_FILE { second.at() } else { at }
}

/// Windows against the slice, slides against their windows.
pub(super) fn windows(root: View<'_>, problems: &mut Problems) {
    let slice = root.get("time").get("slice");
    let view = root.get("figures").get("windows");
    let mut found = Problems::default();
    let mut lengths = BTreeSet::new();
    let items = view.items();
    if items.is_empty() && view.node().is_some() {
        found.add(&view.at(), "`figures.windows` is empty: give at least one window");
    }
    for (i, window) in items.into_iter().enumerate() {
        let path = format!("figures.windows[{i}]");
        let (length, slide) = (window.get("length"), window.get("slide"));
        multiple_of_slice(length, slice, &format!("{path}.length"), &mut found);
        match (length.valid_duration(), slide.valid_duration()) {
            (Some(whole), Some(by)) if !divides(by, whole) => {
                let some = slides(whole, slice.valid_duration());
                let text = format!("{by} does not divide the length {whole}; accepted: {some}");
                found.add(&slide.at(), format!("`{path}.slide`: {text}"));
            }
            _ => multiple_of_slice(slide, slice, &format!("{path}.slide"), &mut found),
        }
        if let Some(value) = length.valid_duration()
            && !lengths.insert(value)
        {
            found.add(&length.at(), format!("`{path}`: a second window of length {value}"));
        }
    }
    let sound = found.is_empty() && !view.has_invalid();
    problems.take(found);
    // Of windows that are to be corrected, nobody knows yet whether the rules fit.
    rules(root, sound.then_some(&lengths), problems);
}

fn multiple_of_slice(view: View<'_>, slice: View<'_>, path: &str, problems: &mut Problems) {
    if let (Some(value), Some(grain)) = (view.valid_duration(), slice.valid_duration())
        && !divides(grain, value)
    {
        let text = format!("`{path}`: {value} is not a multiple of time.slice, {grain}");
        problems.add(&blame(view, slice), text);
    }
}

fn divides(part: Millis, whole: Millis) -> bool {
    part.as_ms() > 0 && whole.as_ms() % part.as_ms() == 0
}

/// A few slides that would do.
fn slides(length: Millis, slice: Option<Millis>) -> String {
    let fits = |by: &Millis| divides(*by, length) && slice.is_none_or(|slice| divides(slice, *by));
    let usual = [5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600];
    let candidates = usual.into_iter().map(Millis::from_secs).filter(|by| *by <= length);
    let some: Vec<String> = candidates.filter(fits).map(|by| by.to_string()).collect();
    if some.is_empty() { format!("a part of {length}") } else { some.join(", ") }
}

/// A rule looks at windows and series that are counted.
fn rules(root: View<'_>, lengths: Option<&BTreeSet<Millis>>, problems: &mut Problems) {
    let figures = root.get("figures");
    let dimensions = figures.get("dimensions");
    let follows = root.get("identity").get("follow_customers");
    let sets: BTreeSet<_> = super::read::figures(root).dimensions.into_iter().collect();
    let enabled = |(_, rule): &(_, View<'_>)| rule.get("enabled").bool();
    for (i, (entry, rule)) in root.get("rules").entries().filter(enabled).enumerate() {
        if i == RULES_MAX {
            problems.add(&entry.key_at, format!("`rules`: more than {RULES_MAX} are enabled"));
        }
        if rule.get("detector").str() == Some("ratio_spike") && follows.str() == Some("false") {
            let text = format!(
                "`identity.follow_customers` is false, and `rules.{}` is about checkouts, which are \
                 of customers: disable the rule",
                entry.key
            );
            problems.add(&follows.at(), text);
        }
        let window = rule.get("window");
        let counts_itself = rule.get("detector").str() == Some("threshold");
        if counts_itself {
            threshold(&entry.key, rule, root.get("time").get("slice"), problems);
        } else if let (Some(length), Some(lengths)) = (window.valid_duration(), lengths)
            && !lengths.contains(&length)
        {
            let known: Vec<String> = lengths.iter().map(Millis::to_string).collect();
            let text = format!(
                "`rules.{}.window`: figures.windows has none of length {length}, only {}: \
                 add it, or change or disable the rule",
                entry.key,
                known.join(", ")
            );
            problems.add(&blame(window, figures.get("windows")), text);
        }
        for scope in rule.get("scopes").items().into_iter().filter(|_| !dimensions.has_invalid()) {
            let set = super::read::dimension_set(scope);
            if !set.is_empty() && !scope.has_invalid() && !sets.contains(&set) {
                let names: Vec<&str> = set.iter().map(|d| d.name()).collect();
                let text = format!(
                    "`rules.{}.scopes`: no set of figures.dimensions is [{}]: add it there",
                    entry.key,
                    names.join(", ")
                );
                problems.add(&blame(scope, dimensions), text);
            }
        }
        let enter = rule.get("enter");
        let number = |name: &str| enter.get(name).str()?.parse::<u32>().ok();
        if let (Some(k), Some(of)) = (number("k"), number("of"))
            && k > of
        {
            let text = format!("`rules.{}.enter`: k, {k}, is above of, {of}", entry.key);
            problems.add(&blame(enter.get("k"), enter.get("of")), text);
        }
        placeholders(&entry.key, rule.get("summary"), problems);
    }
}

/// A threshold has one bound, and counts slices itself.
fn threshold(rule: &str, view: View<'_>, slice: View<'_>, problems: &mut Problems) {
    let is_there = |name: &str| view.get(name).str().is_some();
    if is_there("above") == is_there("below") {
        let text = format!("`rules.{rule}`: either `above` or `below` has to be set");
        problems.add(&view.at(), text);
    }
    let window = view.get("window");
    let path = format!("rules.{rule}.window");
    multiple_of_slice(window, slice, &path, problems);
    if let (Some(length), Some(grain)) = (window.valid_duration(), slice.valid_duration())
        && length.as_ms() / grain.as_ms().max(1) > SLICES_MAX
    {
        let text =
            format!("`{path}`: {length} is more than {SLICES_MAX} times time.slice, {grain}");
        problems.add(&blame(window, slice), text);
    }
}

fn placeholders(rule: &str, summary: View<'_>, problems: &mut Problems) {
    let mut rest = summary.str().unwrap_or_default();
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        if !PLACEHOLDERS.contains(&name) && !DIMENSIONS.contains(&name) {
            let words = PLACEHOLDERS.into_iter().chain(DIMENSIONS);
            let text = format!("unknown name `{{{name}}}`; {}", accepted(name, words));
            problems.add(&summary.at(), format!("`rules.{rule}.summary`: {text}"));
        }
        rest = after;
    }
}

/// Retention against lateness, the times of a checkout against each other.
pub(super) fn times(root: View<'_>, problems: &mut Problems) {
    let time = root.get("time");
    let lateness = time.get("allowed_lateness");
    if let Some(allowed) = lateness.valid_duration() {
        for topic in Topic::ALL {
            let path = format!("topics.{}.retention", topic_key(topic));
            let retention = root.get("topics").get(topic_key(topic)).get("retention");
            let Some(kept) = retention.valid_duration() else { continue };
            if kept <= allowed {
                let text =
                    format!("`{path}`: {kept} is not above time.allowed_lateness, {allowed}");
                problems.add(&blame(retention, lateness), text);
            }
        }
        let age = time.get("max_age");
        if age.valid_duration().is_some_and(|age| age < allowed) {
            let text = format!("`time.max_age` is below time.allowed_lateness, {allowed}");
            problems.add(&blame(age, lateness), text);
        }
    }
    let checkout = root.get("checkout");
    let oldest = checkout.get("max_checkout_age");
    for key in ["t_checkout", "t_pending"] {
        let view = checkout.get(key);
        if let (Some(t), Some(age)) = (view.valid_duration(), oldest.valid_duration())
            && t > age
        {
            let text = format!("`checkout.{key}`: {t} is above checkout.max_checkout_age, {age}");
            problems.add(&blame(view, oldest), text);
        }
    }
}

/// Names of topics: valid for Kafka, none twice.
pub(super) fn topic_names(root: View<'_>, problems: &mut Problems) {
    let direct = root.get("ingest").str() == Some("direct");
    let topics = super::read::topics(root);
    let mut named = Vec::new();
    // Under `direct` the one source may well be the canonical topic.
    for topic in Topic::ALL.into_iter().filter(|t| !(direct && *t == Topic::Canonical)) {
        let view = root.get("topics").get(topic_key(topic));
        let at = match view.get("name").node() {
            Some(name) => name.at.clone(),
            None if topic == Topic::Rollup => root.get("app").get("name").at(),
            None => view.at(),
        };
        if let Some(settings) = topics.get(&topic).filter(|_| !view.invalid("name")) {
            named.push((settings.name.as_str(), format!("topics.{}.name", topic_key(topic)), at));
        }
    }
    for (entry, source) in root.get("sources").entries() {
        let view = source.get("topic");
        if let Some(name) = view.str() {
            named.push((name, format!("sources.{}.topic", entry.key), view.at()));
        }
    }
    // Of two with one name, the one that the user wrote is to change, the later one of two.
    named.sort_by(|(_, _, a), (_, _, b)| {
        let key = |at: &Position| (&*at.file != DEFAULT_FILE, at.clone());
        key(a).cmp(&key(b))
    });
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut owners: BTreeMap<&str, String> = BTreeMap::new();
    for (name, owner, at) in named {
        if name.len() > 249 || !name.chars().all(valid) || matches!(name, "." | "..") {
            let text = "at most 249 letters of a-z, A-Z, 0-9, `.`, `_`, `-`";
            problems.add(&at, format!("`{owner}`: `{name}` is no name of a topic: {text}"));
        } else if let Some(other) = owners.get(name) {
            let text = format!("`{owner}`: topic `{name}` is already that of `{other}`");
            problems.add(&at, format!("{text}: give each its own"));
        } else {
            owners.insert(name, owner);
        }
    }
}

/// Sources: there is one, it has what its format needs, and `direct` has exactly one.
pub(super) fn sources(root: View<'_>, required: bool, problems: &mut Problems) {
    let section = root.get("sources");
    let count = section.entries().count();
    if required && count == 0 && section.node().is_some() && !section.has_invalid() {
        let text = "`sources` is empty: name at least one, with topic, format and start";
        problems.add(&blame(section, root), text);
    }
    let direct = root.get("ingest").str() == Some("direct");
    if direct && count > 1 {
        let at = root.get("ingest").at();
        problems.add(&at, format!("`ingest: direct` takes exactly one source, not {count}"));
    }
    for (entry, source) in section.entries() {
        let path = format!("sources.{}", entry.key);
        let (format, mapping) = (source.get("format"), source.get("mapping"));
        let Some(word) = format.str() else { continue };
        let mapped = word == "mapped_json";
        if mapped && mapping.node().is_none() && !source.invalid("mapping") {
            let text = format!("`{path}.mapping` is missing: mapped_json needs a mapping file");
            problems.add(&format.at(), text);
        }
        if !mapped && mapping.node().is_some() {
            let text = format!("`{path}.mapping` is only for mapped_json, not for {word}");
            problems.add(&mapping.at(), text);
        }
        if mapped && direct {
            let text = "`ingest: direct` takes canonical_avro or canonical_json";
            problems.add(&format.at(), format!("`{path}.format`: {text}"));
        }
        if let Some(tenant) = source.get("tenant").str().filter(|t| t.contains('|')) {
            let text = format!("`{path}.tenant`: `{tenant}` must not hold `|`");
            problems.add(&source.get("tenant").at(), text);
        }
    }
}

/// Channels that are named by key are known.
pub(super) fn channels(root: View<'_>, taxonomy: &Taxonomy, problems: &mut Problems) {
    let sections = [("sessions", "channel_gaps"), ("checkout", "channels")];
    for (section, table) in sections {
        for (entry, _) in root.get(section).get(table).entries() {
            if taxonomy.channel(&entry.key).is_none() {
                let accepted = accepted(&entry.key, taxonomy.channels());
                let text = format!("`{section}.{table}`: unknown channel `{}`", entry.key);
                problems.add(&entry.key_at, format!("{text}; {accepted}"));
            }
        }
    }
}

/// Ids of schemas are numbers; a user has a password.
pub(super) fn registry(root: View<'_>, problems: &mut Problems) {
    for (entry, _) in root.get("registry").get("schemas").entries() {
        if entry.key.parse::<u32>().is_err() {
            let text = format!("`registry.schemas`: `{}` is no id: a whole number", entry.key);
            problems.add(&entry.key_at, text);
        }
    }
    let registry = root.get("registry");
    for (key, other) in [("username", "password"), ("password", "username")] {
        if registry.get(key).node().is_some() && registry.get(other).node().is_none() {
            let text = format!("`registry.{key}` without `registry.{other}`: give both or neither");
            problems.add(&registry.get(key).at(), text);
        }
    }
}

/// Sizes that must fit the machine.
pub(super) fn limits(root: View<'_>, problems: &mut Problems) {
    let view = root.get("limits").get("record_bytes");
    let largest = 1 << 30;
    if view.node().is_some() && view.size() > largest {
        let most = units::size_text(largest);
        problems.add(&view.at(), format!("`limits.record_bytes` is above {most}"));
    }
}
