//! Conditions in CEL over `event`, `headers` and, under `each`, `item`.
//!
//! Comparisons of a field with constants, `in` with constants, `has`, `!`, `&&` and `||` are
//! evaluated here on the record as it lies; whatever else is in an expression goes to the
//! interpreter, for which the record must first be copied. Both follow CEL: a missing field is an
//! error, `&&` and `||` may outweigh an error, equality of different types is false. A condition
//! that ends in an error is not met.

use super::expression::Expression;
use super::path::{Path, Root, Scope, Step};
use crate::ingest::json::Json;
use cel::Value;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use std::cmp::Ordering;

/// A failed evaluation: a missing field, or types that do not go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Failed;

/// A compiled condition.
#[derive(Clone, Debug)]
pub(super) struct Condition(Node);

#[derive(Clone, Debug)]
enum Node {
    Constant(bool),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Has(Operand),
    /// A field that is itself true or false.
    Field(Operand),
    Compare(Operand, Comparison, Literal),
    In(Operand, Vec<Literal>),
    Interpret(Expression),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
enum Operand {
    Path(Path),
    Header(String),
}

#[derive(Clone, PartialEq, Debug)]
enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Condition {
    /// Compiles `source`, in which `item` may occur only under `each`.
    pub(super) fn compile(source: &str, in_each: bool) -> Result<Condition, String> {
        Ok(Condition(node(&Expression::compile(source, in_each)?.0)))
    }

    /// True if the record meets the condition.
    pub(super) fn met(&self, scope: &Scope<'_>) -> bool {
        self.0.evaluate(scope) == Ok(true)
    }

    /// True if no part of it needs the interpreter.
    #[cfg(test)]
    fn is_fast(&self) -> bool {
        fn fast(node: &Node) -> bool {
            match node {
                Node::And(a, b) | Node::Or(a, b) => fast(a) && fast(b),
                Node::Not(a) => fast(a),
                Node::Interpret(_) => false,
                _ => true,
            }
        }
        fast(&self.0)
    }
}

/// The fast form of an expression where it has one.
fn node(expression: &IdedExpr) -> Node {
    let fast = match &expression.expr {
        Expr::Literal(LiteralValue::Boolean(b)) => Some(Node::Constant(*b.inner())),
        Expr::Select(select) if select.test => {
            operand_of(&select.operand).and_then(|o| o.field(&select.field)).map(Node::Has)
        }
        Expr::Select(_) => operand(expression).map(Node::Field),
        Expr::Call(call) => call_node(call),
        _ => None,
    };
    fast.unwrap_or_else(|| Node::Interpret(Expression(expression.clone())))
}

fn call_node(call: &CallExpr) -> Option<Node> {
    if call.target.is_some() {
        return None;
    }
    let comparison = |name: &str| {
        Some(match name {
            operators::EQUALS => Comparison::Equal,
            operators::NOT_EQUALS => Comparison::NotEqual,
            operators::LESS => Comparison::Less,
            operators::LESS_EQUALS => Comparison::LessOrEqual,
            operators::GREATER => Comparison::Greater,
            operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
            _ => return None,
        })
    };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_NOT, [a]) => Some(Node::Not(Box::new(node(a)))),
        (operators::LOGICAL_AND, [a, b]) => Some(Node::And(Box::new(node(a)), Box::new(node(b)))),
        (operators::LOGICAL_OR, [a, b]) => Some(Node::Or(Box::new(node(a)), Box::new(node(b)))),
        (operators::INDEX, [_, _]) => {
            let whole = IdedExpr { id: 0, expr: Expr::Call(call.clone()) };
            operand(&whole).map(Node::Field)
        }
        (operators::IN, [a, IdedExpr { expr: Expr::List(list), .. }]) => {
            let literals = list.elements.iter().map(literal).collect::<Option<Vec<_>>>()?;
            Some(Node::In(operand(a)?, literals))
        }
        (name, [a, b]) => Some(Node::Compare(operand(a)?, comparison(name)?, literal(b)?)),
        _ => None,
    }
}

fn literal(expression: &IdedExpr) -> Option<Literal> {
    Some(match &expression.expr {
        Expr::Literal(LiteralValue::Null) => Literal::Null,
        Expr::Literal(LiteralValue::Boolean(b)) => Literal::Bool(*b.inner()),
        Expr::Literal(LiteralValue::Int(i)) => Literal::Number(Number::Int((*i.inner()).into())),
        Expr::Literal(LiteralValue::UInt(i)) => Literal::Number(Number::Int((*i.inner()).into())),
        Expr::Literal(LiteralValue::Double(f)) => Literal::Number(Number::Float(*f.inner())),
        Expr::Literal(LiteralValue::String(s)) => Literal::Text(s.inner().to_owned()),
        _ => return None,
    })
}

/// A path of at least one step below `event`, `item` or `headers`.
fn operand(expression: &IdedExpr) -> Option<Operand> {
    let found = operand_of(expression)?;
    let usable = match &found {
        Operand::Path(path) => !path.steps.is_empty(),
        Operand::Header(name) => !name.is_empty(),
    };
    usable.then_some(found)
}

/// The same, where the variable alone is allowed; a header without a name stands for all of them.
fn operand_of(expression: &IdedExpr) -> Option<Operand> {
    match &expression.expr {
        Expr::Ident(name) => Some(match name.as_str() {
            "event" => Operand::Path(Path { root: Root::Event, steps: Vec::new() }),
            "item" => Operand::Path(Path { root: Root::Item, steps: Vec::new() }),
            "headers" => Operand::Header(String::new()),
            _ => return None,
        }),
        Expr::Select(select) if !select.test => operand_of(&select.operand)?.field(&select.field),
        Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => {
            let [of, index] = call.args.as_slice() else { return None };
            let base = operand_of(of)?;
            match literal(index)? {
                Literal::Text(name) => base.field(&name),
                Literal::Number(Number::Int(index)) => match base {
                    Operand::Path(mut path) => {
                        path.steps.push(Step::Index(usize::try_from(index).ok()?));
                        Some(Operand::Path(path))
                    }
                    Operand::Header(_) => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}

impl Operand {
    fn field(self, name: &str) -> Option<Operand> {
        match self {
            Operand::Path(mut path) => {
                path.steps.push(Step::Field(name.to_owned()));
                Some(Operand::Path(path))
            }
            Operand::Header(of) if of.is_empty() && !name.is_empty() => {
                Some(Operand::Header(name.to_owned()))
            }
            Operand::Header(_) => None,
        }
    }

    fn with<T>(
        &self,
        scope: &Scope<'_>,
        read: impl FnOnce(&Json<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        match self {
            Operand::Path(path) => read(path.find(scope).ok_or(Failed)?),
            Operand::Header(name) => read(&Json::Text(scope.header(name).ok_or(Failed)?.into())),
        }
    }

    /// CEL's `has`: an error if what should hold the field is missing or no object.
    fn has(&self, scope: &Scope<'_>) -> Result<bool, Failed> {
        let Operand::Path(path) = self else { return Ok(self.with(scope, |_| Ok(())).is_ok()) };
        let (last, parents) = path.steps.split_last().ok_or(Failed)?;
        let parent = Path { root: path.root, steps: parents.to_vec() };
        match (parent.find(scope), last) {
            (Some(of @ Json::Object(_)), Step::Field(name)) => Ok(of.get(name).is_some()),
            _ => Err(Failed),
        }
    }
}

impl Node {
    fn evaluate(&self, scope: &Scope<'_>) -> Result<bool, Failed> {
        match self {
            Node::Constant(value) => Ok(*value),
            Node::And(a, b) => match a.evaluate(scope) {
                Ok(false) => Ok(false),
                Ok(true) => b.evaluate(scope),
                Err(Failed) if b.evaluate(scope) == Ok(false) => Ok(false),
                Err(Failed) => Err(Failed),
            },
            Node::Or(a, b) => match a.evaluate(scope) {
                Ok(true) => Ok(true),
                Ok(false) => b.evaluate(scope),
                Err(Failed) if b.evaluate(scope) == Ok(true) => Ok(true),
                Err(Failed) => Err(Failed),
            },
            Node::Not(a) => a.evaluate(scope).map(|value| !value),
            Node::Has(operand) => operand.has(scope),
            Node::Field(operand) => operand.with(scope, |value| match value {
                Json::Bool(b) => Ok(*b),
                _ => Err(Failed),
            }),
            Node::Compare(operand, comparison, literal) => {
                operand.with(scope, |value| compare(value, *comparison, literal))
            }
            Node::In(operand, literals) => {
                operand.with(scope, |value| Ok(literals.iter().any(|l| equal(value, l))))
            }
            Node::Interpret(expression) => match expression.evaluate(scope) {
                Some(Value::Bool(value)) => Ok(value),
                _ => Err(Failed),
            },
        }
    }
}

fn compare(value: &Json<'_>, comparison: Comparison, literal: &Literal) -> Result<bool, Failed> {
    match comparison {
        Comparison::Equal => return Ok(equal(value, literal)),
        Comparison::NotEqual => return Ok(!equal(value, literal)),
        _ => {}
    }
    let order = match (value, literal) {
        (Json::Number(text), Literal::Number(number)) => order(read_number(text), *number),
        (Json::Text(text), Literal::Text(literal)) => Some(text.as_ref().cmp(literal)),
        (Json::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        _ => return Err(Failed),
    };
    Ok(order.is_some_and(|order| match comparison {
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

fn equal(value: &Json<'_>, literal: &Literal) -> bool {
    match (value, literal) {
        (Json::Null, Literal::Null) => true,
        (Json::Bool(value), Literal::Bool(literal)) => value == literal,
        (Json::Text(text), Literal::Text(literal)) => text.as_ref() == literal,
        (Json::Number(text), Literal::Number(number)) => {
            order(read_number(text), *number) == Some(Ordering::Equal)
        }
        _ => false,
    }
}

fn read_number(text: &str) -> Number {
    match text.parse::<i64>() {
        Ok(int) => Number::Int(int.into()),
        Err(_) => match text.parse::<u64>() {
            Ok(int) => Number::Int(int.into()),
            // A JSON number always reads as a float, if need be an infinite one.
            Err(_) => Number::Float(text.parse().unwrap_or(f64::NAN)),
        },
    }
}

fn order(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Int(a), Number::Float(b)) => (a as f64).partial_cmp(&b),
        (Number::Float(a), Number::Int(b)) => a.partial_cmp(&(b as f64)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::json::Limits;

    const EVENT: &[u8] = br#"{"type":"order","total":12.5,"n":3,"big":18446744073709551615,
        "vip":true,"none":null,"user":{"id":"u1"},"list":[{"sku":"a"},{"sku":"b"}],"a-b":1}"#;

    /// The fast path and the interpreter must agree with what is expected.
    #[track_caller]
    fn check(source: &str, expected: Option<bool>, fast: bool) {
        let event = Json::parse(EVENT, Limits::default()).unwrap();
        let item = Json::parse(b"{\"q\":2}", Limits::default()).unwrap();
        let headers: [(&str, &[u8]); 2] = [("ce_type", b"x"), ("bad", b"\xff")];
        let scope = Scope { event: &event, item: Some(&item), key: None, headers: &headers };
        let condition = Condition::compile(source, true).unwrap();
        assert_eq!(condition.is_fast(), fast, "{source}: fast");
        assert_eq!(condition.0.evaluate(&scope).ok(), expected, "{source}");
        let interpreted = match Expression::compile(source, true).unwrap().evaluate(&scope) {
            Some(Value::Bool(value)) => Some(value),
            _ => None,
        };
        assert_eq!(interpreted, expected, "{source}: interpreted");
    }

    #[test]
    fn common_conditions_need_no_interpreter() {
        let (yes, no, error) = (Some(true), Some(false), None);
        check("event.type == 'order' && event.total > 0", yes, true);
        check("event.type == \"view\" || event.n != 3", no, true);
        check("event.total >= 12.5 && event.total <= 12.5", yes, true);
        check("event.n < 3.5", yes, true);
        check("event.n > 3", no, true);
        check("event.big > 9223372036854775807", yes, true);
        check("event.user.id in ['u1', 'u2']", yes, true);
        check("event.user.id in []", no, true);
        check("event.vip && !event.none", error, true);
        check("event.vip", yes, true);
        check("!event.vip", no, true);
        check("event.none == null", yes, true);
        check("event.type == 1", no, true);
        check("event.type != 1", yes, true);
        check("event.type > 1", error, true);
        check("event.missing == 'x'", error, true);
        check("event.missing != 'x'", error, true);
        check("event.missing == 'x' || event.vip", yes, true);
        check("event.missing == 'x' && !event.vip", no, true);
        check("has(event.user.id) && !has(event.user.name)", yes, true);
        check("has(event.missing.id)", error, true);
        check("event.list[1].sku == 'b'", yes, true);
        check("event['a-b'] == 1", yes, true);
        check("event.list[2].sku == 'b'", error, true);
        check("headers.ce_type == 'x'", yes, true);
        check("has(headers.ce_id)", no, true);
        check("headers['bad'] == 'x'", error, true);
        check("item.q == 2", yes, true);
        check("true", yes, true);
    }

    #[test]
    fn the_rest_is_interpreted() {
        check("event.type.startsWith('ord')", Some(true), false);
        check("event.list.exists(l, l.sku == 'b')", Some(true), false);
        check("event.list.all(l, l.sku == 'b') || event.vip", Some(true), false);
        check("size(event.list) == 2 && event.n == 3", Some(true), false);
        check("event.total * 2.0 == 25.0", Some(true), false);
        check("event.type == event.user.id", Some(false), false);
        check("3 == event.n", Some(true), false);
        check("event.n / 0 == 1", None, false);
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        for (source, wrong) in [
            ("event.type ==", "not a CEL expression"),
            ("evnt.type == 'a'", "unknown variable `evnt`"),
            ("lower(event.type) == 'a'", "unknown function `lower`"),
            ("event.type.matches('a')", "unknown function `matches`"),
        ] {
            let error = Condition::compile(source, false).unwrap_err();
            assert!(error.contains(wrong), "{source}: {error}");
        }
        assert!(Condition::compile("item.q == 2", false).is_err());
    }
}
