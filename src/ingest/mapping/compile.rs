//! From the plain mapping file to the compiled mapping: every check that needs no record.

use super::condition::Condition;
use super::expression::Expression;
use super::field::Target;
use super::path::Path;
use super::spec::{EmitSpec, FromSpec, ItemsSpec, MappingSpec, RuleSpec, ValueSpec};
use super::time::TimeRule;
use super::value::{Scalar, Source, Table, Value};
use super::{Emit, Id, Items, Mapping, MappingError, Otherwise, Rule, spec};
use crate::ingest::json::Limits;
use crate::model::dimension::OTHER;
use crate::model::taxonomy::Taxonomy;
use crate::model::time::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The words of one dimension: constants and tables that fill it may name no others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Words {
    Any,
    Channels,
    Stages,
}

struct Compiler<'t> {
    taxonomy: &'t Taxonomy,
    tables: BTreeMap<String, Arc<Table>>,
    errors: Vec<MappingError>,
}

pub(super) fn compile(
    spec: &MappingSpec,
    taxonomy: &Taxonomy,
) -> Result<Mapping, Vec<MappingError>> {
    let tables = spec.values.iter().map(|(name, words)| {
        let words = words.iter().map(|(theirs, ours)| (theirs.clone(), Scalar::from(ours)));
        (name.clone(), Arc::new(words.collect()))
    });
    let mut compiler = Compiler { taxonomy, tables: tables.collect(), errors: Vec::new() };
    if spec.mapping.is_empty() {
        compiler.error("mapping", "needs a name");
    }
    let time = TimeRule::compile(&spec.time).map_err(|errors| {
        for (at, message) in errors {
            compiler.error(&at, message);
        }
    });
    let id = compiler.id(spec);
    let common = compiler.common(spec);
    let email = spec.email.as_ref().map(|v| compiler.value(v, "email", "email", false, Words::Any));
    let rules: Vec<Option<Rule>> =
        spec.rules.iter().enumerate().map(|(i, rule)| compiler.rule(rule, i)).collect();
    let otherwise = match &spec.otherwise {
        spec::Otherwise::Reject => Some(Otherwise::Reject),
        spec::Otherwise::Filter => Some(Otherwise::Filter),
        spec::Otherwise::Emit(emit) => {
            compiler.emit(emit, "otherwise").map(|emit| Otherwise::Emit(Box::new(emit)))
        }
    };
    // Each part that is missing has left an error.
    let parts = (time.ok(), id, common, email, rules.into_iter().collect(), otherwise);
    match parts {
        (Some(time), Some(id), Some(common), email, Some(rules), Some(otherwise))
            if compiler.errors.is_empty() =>
        {
            Ok(Mapping {
                name: spec.mapping.as_str().into(),
                limits: Limits::default(),
                time,
                id,
                common,
                email: email.flatten(),
                rules,
                otherwise,
            })
        }
        _ => Err(compiler.errors),
    }
}

impl Compiler<'_> {
    fn error(&mut self, at: &str, message: impl Into<String>) {
        self.errors.push(MappingError { at: at.to_owned(), message: message.into() });
    }

    fn keep<T>(&mut self, at: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.error(at, message)).ok()
    }

    fn path(&mut self, text: &str, at: &str, in_each: bool) -> Option<Path> {
        self.keep(at, Path::parse(text, in_each))
    }

    fn id(&mut self, spec: &MappingSpec) -> Option<Id> {
        let Some(id) = &spec.id else { return Some(Id::default()) };
        if id.position && !id.fingerprint.is_empty() {
            self.error("id", "either `position` or `fingerprint`");
        }
        let field = match &id.field {
            Some(field) => Some((self.path(field, "id.field", false)?, field.clone())),
            None => None,
        };
        let mut fingerprint = Vec::with_capacity(id.fingerprint.len());
        for (i, field) in id.fingerprint.iter().enumerate() {
            fingerprint.push(self.path(field, &format!("id.fingerprint[{i}]"), false)?);
        }
        Some(Id { field, header: id.header.clone(), position: id.position, fingerprint })
    }

    fn common(&mut self, spec: &MappingSpec) -> Option<Vec<(Target, Value)>> {
        let mut common = self.fields(&spec.defaults, "defaults", false)?;
        for (name, value) in
            [("customer_id", &spec.customer_id), ("anonymous_id", &spec.anonymous_id)]
        {
            if let Some(value) = value {
                let value = self.value(value, name, name, false, Words::Any)?;
                common.push((Target::of(name)?, value));
            }
        }
        Some(common)
    }

    fn rule(&mut self, rule: &RuleSpec, number: usize) -> Option<Rule> {
        let at = format!("rules[{number}]");
        if rule.filter != rule.emit.is_empty() {
            self.error(&at, "needs either `emit` or `filter: true`");
        }
        let when = match &rule.when {
            Some(when) => Some(self.keep(&format!("{at}.when"), Condition::compile(when, false))?),
            None => None,
        };
        let emit: Vec<Option<Emit>> = rule
            .emit
            .iter()
            .enumerate()
            .map(|(i, emit)| self.emit(emit, &format!("{at}.emit[{i}]")))
            .collect();
        let emit = emit.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Rule { when, emit, filter: rule.filter, stop: rule.stop })
    }

    fn emit(&mut self, emit: &EmitSpec, at: &str) -> Option<Emit> {
        let each = match &emit.each {
            Some(each) => Some((self.path(each, &format!("{at}.each"), false)?, each.clone())),
            None => None,
        };
        let in_each = each.is_some();
        let mut value = |spec: &ValueSpec, name: &str, words| {
            self.value(spec, name, &format!("{at}.{name}"), in_each, words)
        };
        let touchpoint = value(&emit.touchpoint, "touchpoint", Words::Any);
        let action = value(&emit.action, "action", Words::Any);
        let stage = emit.stage.as_ref().map(|stage| value(stage, "stage", Words::Stages));
        let fields = self.fields(&emit.fields, &format!("{at}.fields"), in_each);
        let items = match &emit.items {
            Some(items) => Some(self.items(items, &format!("{at}.items"))?),
            None => None,
        };
        let stage = match stage {
            Some(stage) => Some(stage?),
            None => None,
        };
        Some(Emit {
            each,
            touchpoint: touchpoint?,
            action: action?,
            stage,
            fields: fields?,
            items,
            shift: emit.shift.unwrap_or(Millis::ZERO),
        })
    }

    fn items(&mut self, items: &ItemsSpec, at: &str) -> Option<Items> {
        let each = self.path(&items.each, &format!("{at}.each"), false)?;
        let mut value = |spec: &ValueSpec, name: &str| {
            self.value(spec, name, &format!("{at}.{name}"), true, Words::Any)
        };
        let sku = value(&items.sku, "sku");
        let mut optional = |spec: &Option<ValueSpec>, name: &str| match spec {
            Some(spec) => value(spec, name).map(Some),
            None => Some(None),
        };
        let category = optional(&items.category, "category");
        let quantity = optional(&items.quantity, "quantity");
        let price = optional(&items.price, "price");
        Some(Items {
            each,
            name: items.each.clone(),
            sku: sku?,
            category: category?,
            quantity: quantity?,
            price: price?,
        })
    }

    fn fields(
        &mut self,
        fields: &BTreeMap<String, ValueSpec>,
        at: &str,
        in_each: bool,
    ) -> Option<Vec<(Target, Value)>> {
        let mut compiled = Vec::with_capacity(fields.len());
        let mut complete = true;
        for (name, spec) in fields {
            let at = format!("{at}.{name}");
            let words = if name == "channel" { Words::Channels } else { Words::Any };
            let target = Target::of(name);
            if target.is_none() {
                self.error(&at, format!("a mapping can fill no touchpoint field `{name}`"));
            }
            match (target, self.value(spec, name, &at, in_each, words)) {
                (Some(target), Some(value)) => compiled.push((target, value)),
                _ => complete = false,
            }
        }
        complete.then_some(compiled)
    }

    /// Compiles one value; `name` is the touchpoint field that it fills.
    fn value(
        &mut self,
        spec: &ValueSpec,
        name: &str,
        at: &str,
        in_each: bool,
        words: Words,
    ) -> Option<Value> {
        let from = match spec {
            ValueSpec::Const(constant) => {
                let constant = Scalar::from(constant);
                self.known(&constant, words, at);
                return Some(Value {
                    source: Source::Const(constant),
                    table: None,
                    default: None,
                    scale: None,
                    prefix: None,
                    name: name.to_owned(),
                });
            }
            ValueSpec::From(from) => from,
        };
        let source = self.source(from, at, in_each)?;
        let table = match &from.table {
            None => None,
            Some(table) => match self.tables.get(table) {
                Some(table) => Some(Arc::clone(table)),
                None => {
                    self.error(&format!("{at}.table"), format!("no table `{table}` in `values`"));
                    return None;
                }
            },
        };
        for word in table.iter().flat_map(|table| table.values()) {
            self.known(word, words, &format!("{at}.table"));
        }
        let default = from.default.as_ref().map(Scalar::from);
        if let Some(default) = &default {
            self.known(default, words, &format!("{at}.default"));
        }
        if from.scale.is_some_and(|scale| !(1..=1_000_000_000).contains(&scale)) {
            self.error(&format!("{at}.scale"), "must be from 1 to 1000000000");
        }
        let name = from.field.clone().unwrap_or_else(|| name.to_owned());
        let (scale, prefix) = (from.scale, from.prefix.clone());
        Some(Value { source, table, default, scale, prefix, name })
    }

    fn source(&mut self, from: &FromSpec, at: &str, in_each: bool) -> Option<Source> {
        match (&from.field, &from.header, from.key, &from.cel) {
            (Some(field), None, false, None) => {
                self.path(field, &format!("{at}.field"), in_each).map(Source::Path)
            }
            (None, Some(header), false, None) => Some(Source::Header(header.clone())),
            (None, None, true, None) => Some(Source::Key),
            (None, None, false, Some(cel)) => {
                self.keep(&format!("{at}.cel"), Expression::compile(cel, in_each)).map(Source::Cel)
            }
            _ => {
                self.error(at, "needs exactly one of `field`, `header`, `key` and `cel`");
                None
            }
        }
    }

    fn known(&mut self, word: &Scalar<'_>, words: Words, at: &str) {
        let text = word.text();
        let (known, kind) = match words {
            Words::Any => return,
            Words::Channels => (self.taxonomy.channel(text).is_some(), "channel"),
            Words::Stages => (text == OTHER || self.taxonomy.stage(text).is_some(), "stage"),
        };
        if !known {
            self.error(at, format!("unknown {kind} `{text}`"));
        }
    }
}
