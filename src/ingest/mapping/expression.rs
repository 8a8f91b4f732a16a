//! CEL expressions, by the interpreter: the record is copied for each evaluation.

use super::path::Scope;
use crate::ingest::json::Json;
use cel::common::ast::{Expr, IdedExpr};
use cel::objects::{Key, Value};
use cel::{Context, Env, Program};
use std::sync::{Arc, LazyLock};

/// The standard environment, made once: it is only read.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Functions that an expression may call, besides operators.
const FUNCTIONS: [&str; 14] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "max",
    "min",
];

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) struct Expression(pub(super) IdedExpr);

impl Expression {
    /// Compiles `source`, in which `item` may occur only under `each`.
    pub(super) fn compile(source: &str, in_each: bool) -> Result<Expression, String> {
        let program = Program::compile(source).map_err(|errors| {
            let first = errors.errors.first().map_or("", |e| e.msg.as_str());
            format!("not a CEL expression: {first}")
        })?;
        let references = program.references();
        for name in references.variables() {
            // Names that begin with `@` are those of macros (`exists`, `all`).
            let known = matches!(name, "event" | "headers") || (in_each && name == "item");
            if !known && !name.starts_with('@') && !bound(program.expression(), name) {
                return Err(format!("unknown variable `{name}`"));
            }
        }
        for name in references.functions() {
            let operator = name.starts_with(|c: char| !c.is_ascii_alphabetic());
            if !operator && !FUNCTIONS.contains(&name) {
                return Err(format!("unknown function `{name}`"));
            }
        }
        Ok(Expression(program.expression().clone()))
    }

    /// The value, or `None` if it cannot be had.
    pub(super) fn evaluate(&self, scope: &Scope<'_>) -> Option<Value> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_from_value("event", to_value(scope.event));
        if let Some(item) = scope.item {
            context.add_variable_from_value("item", to_value(item));
        }
        let headers = scope
            .headers
            .iter()
            .filter_map(|(n, v)| Some((text_key(n), Value::from(std::str::from_utf8(v).ok()?))));
        context.add_variable_from_value("headers", to_map(headers));
        Value::resolve(&self.0, &context).ok()
    }
}

/// True if a macro of the expression binds `name` (`list.exists(name, …)`).
fn bound(expression: &IdedExpr, name: &str) -> bool {
    let any = |list: &[IdedExpr]| list.iter().any(|e| bound(e, name));
    match &expression.expr {
        Expr::Comprehension(c) => {
            c.iter_var == name
                || c.accu_var == name
                || c.iter_var2.as_deref() == Some(name)
                || [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result]
                    .into_iter()
                    .any(|e| bound(e, name))
        }
        Expr::Call(call) => any(&call.args) || call.target.as_ref().is_some_and(|t| bound(t, name)),
        Expr::Select(select) => bound(&select.operand, name),
        Expr::List(list) => any(&list.elements),
        _ => false,
    }
}

fn text_key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

fn to_map(entries: impl Iterator<Item = (Key, Value)>) -> Value {
    Value::Map(cel::objects::Map { map: Arc::new(entries.collect()) })
}

fn to_value(json: &Json<'_>) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(text) => match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(int), _) => Value::Int(int),
            (_, Ok(int)) => Value::UInt(int),
            _ => Value::Float(text.parse().unwrap_or(f64::NAN)),
        },
        Json::Text(text) => Value::from(text.as_ref()),
        Json::Array(elements) => Value::List(Arc::new(elements.iter().map(to_value).collect())),
        Json::Object(fields) => to_map(fields.iter().map(|(n, v)| (text_key(n), to_value(v)))),
    }
}
