//! What ingest tasks are made from: rules, compiled mappings, and one entry per source.

use crate::config::{Format, Settings};
use crate::ingest::json::Limits;
use crate::ingest::mapping::Mapping;
use crate::ingest::mapping::spec::{Const, ValueSpec};
use crate::ingest::{Rules, RulesSettings, SourceTask};
use crate::model::time::Millis;
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One source, ready to be read.
#[derive(Clone)]
pub struct SourceParts {
    /// Its name.
    pub name: CompactString,
    /// What its records are.
    pub format: Format,
    /// Its mapping, compiled; there for [`Format::MappedJson`] only.
    pub mapping: Option<Arc<Mapping>>,
    /// Its bound for disorder.
    pub max_out_of_orderness: Millis,
    rules: Arc<Rules>,
}

impl SourceParts {
    /// The task of one partition, before any data.
    pub fn task(&self, partition: i32) -> SourceTask {
        let (rules, mapping) = (self.rules.clone(), self.mapping.clone());
        SourceTask::new(&self.name, partition, self.max_out_of_orderness, rules, mapping)
    }
}

/// All sources by topic.
///
/// # Errors
/// What is wrong in a mapping, as `file:line:column: message`, one a line.
pub fn sources(settings: &Settings) -> Result<BTreeMap<String, SourceParts>, String> {
    let taxonomy = Arc::new(settings.taxonomy.clone());
    let mut problems = Vec::new();
    let mut sources = BTreeMap::new();
    for (name, source) in &settings.sources {
        let rules = Rules::new(rules_settings(settings), taxonomy.clone());
        let mapping = source.mapping.as_ref().and_then(|file| {
            let limits =
                Limits { bytes: settings.limits.record_bytes, depth: settings.limits.json_depth };
            let mut spec = file.spec.clone();
            let tenant = Const::Text(source.tenant.to_string());
            spec.defaults.entry("tenant".to_owned()).or_insert(ValueSpec::Const(tenant));
            match Mapping::compile(spec, &taxonomy) {
                Ok(mapping) => Some(Arc::new(mapping.with_limits(limits))),
                Err(errors) => {
                    problems.extend(
                        errors.iter().map(|e| format!("{}: {}", file.position(&e.at), e.message)),
                    );
                    None
                }
            }
        });
        let parts = SourceParts {
            name: name.clone(),
            format: source.format,
            mapping,
            max_out_of_orderness: source.max_out_of_orderness,
            rules: Arc::new(rules),
        };
        sources.insert(source.topic.clone(), parts);
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems.join("\n")) }
}

fn rules_settings(settings: &Settings) -> RulesSettings {
    RulesSettings {
        max_future_skew: settings.time.max_future_skew,
        max_age: settings.time.max_age,
        degenerate_ids: settings.identity.degenerate_ids.iter().cloned().collect(),
    }
}
