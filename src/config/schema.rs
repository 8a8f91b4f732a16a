//! The JSON Schema of the settings file, for editors, made from the same table as the check.

use super::shape::{Key, Shape};
use super::table::SETTINGS;

/// The JSON Schema (2020-12) of the settings file.
pub fn json_schema() -> String {
    let mut out = String::from("{\n");
    out.push_str("  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n");
    out.push_str("  \"title\": \"Touchline\",\n");
    let body = schema(&SETTINGS, false);
    out.push_str("  \"type\": \"object\",\n");
    out.push_str(body.strip_prefix("{\"type\":\"object\",").unwrap_or(&body).trim_start());
    out.push('\n');
    out
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `required` is kept only for maps of the user's own making: what has a default may be left out.
fn schema(shape: &Shape, required: bool) -> String {
    let unit = |pattern: &str| format!("{{\"type\":\"string\",\"pattern\":{}}}", quoted(pattern));
    match shape {
        Shape::Text => "{\"type\":\"string\",\"minLength\":1}".into(),
        Shape::Any => "{\"type\":[\"string\",\"number\",\"boolean\"]}".into(),
        Shape::Bool => "{\"type\":\"boolean\"}".into(),
        Shape::Integer { min, max } => {
            format!("{{\"type\":\"integer\",\"minimum\":{min},\"maximum\":{max}}}")
        }
        Shape::Threads => format!(
            "{{\"anyOf\":[{{\"const\":\"auto\"}},\
             {{\"type\":\"integer\",\"minimum\":1,\"maximum\":{}}}]}}",
            u8::MAX
        ),
        Shape::Number { above, below } if below.is_infinite() => {
            format!("{{\"type\":\"number\",\"exclusiveMinimum\":{above}}}")
        }
        Shape::Number { above, below } => format!(
            "{{\"type\":\"number\",\"exclusiveMinimum\":{above},\"exclusiveMaximum\":{below}}}"
        ),
        Shape::Share => "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}".into(),
        Shape::Shift => unit("^-?[0-9]+ *(ms|s|m|h|d)$"),
        Shape::Duration { .. } => unit("^[0-9]+ *(ms|s|m|h|d)$"),
        Shape::Retention => unit("^(forever|[0-9]+ *(ms|s|m|h|d))$"),
        Shape::Budget => unit("^(none|[0-9]+ *(B|KiB|MiB|GiB))$"),
        Shape::Size => unit("^[0-9]+ *(B|KiB|MiB|GiB)$"),
        Shape::Start => unit("^(earliest|latest|[0-9]{4}-.*)$"),
        Shape::Url => unit("^https?://.+$"),
        Shape::Address => unit("^.+:[0-9]+$"),
        Shape::Choice(words) => {
            let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
            format!("{{\"enum\":[{}]}}", words.join(","))
        }
        Shape::Object(keys) => object(keys, required),
        Shape::Table(of) => {
            format!("{{\"type\":\"object\",\"additionalProperties\":{}}}", entry(of))
        }
        Shape::Words(_, of) => {
            format!("{{\"type\":\"object\",\"additionalProperties\":{}}}", schema(of, true))
        }
        Shape::List(of) => format!("{{\"type\":\"array\",\"items\":{}}}", schema(of, true)),
        Shape::OneOrMany(of) => {
            let one = schema(of, true);
            format!("{{\"anyOf\":[{one},{{\"type\":\"array\",\"items\":{one}}}]}}")
        }
        Shape::Either(one, other) => {
            format!("{{\"anyOf\":[{},{}]}}", schema(one, true), schema(other, true))
        }
        // An entry may be laid over a default one, so its tag may stand elsewhere: every variant's
        // keys are allowed.
        Shape::Tagged { common, variants, .. } => {
            let mut keys: Vec<Key> = common.to_vec();
            for key in variants.iter().flat_map(|v| v.keys) {
                if !keys.iter().any(|k| k.name == key.name) {
                    keys.push(*key);
                }
            }
            object(&keys, false)
        }
    }
}

/// The value of a table: what it must hold, or null, which takes an entry of the default away.
fn entry(of: &Shape) -> String {
    format!("{{\"anyOf\":[{},{{\"type\":\"null\"}}]}}", schema(of, true))
}

fn object(keys: &[Key], required: bool) -> String {
    let property = |key: &Key| {
        let inner = schema(&key.shape, false);
        let inner = if key.required && !matches!(key.shape, Shape::Object(_) | Shape::Table(_)) {
            format!("\"allOf\":[{inner}]")
        } else {
            format!("\"anyOf\":[{inner},{{\"type\":\"null\"}}]")
        };
        format!("{}:{{\"description\":{},{inner}}}", quoted(key.name), quoted(key.about))
    };
    let properties: Vec<String> = keys.iter().map(property).collect();
    let needed: Vec<String> =
        keys.iter().filter(|k| required && k.required).map(|k| quoted(k.name)).collect();
    let needed = if needed.is_empty() {
        String::new()
    } else {
        format!(",\"required\":[{}]", needed.join(","))
    };
    format!(
        "{{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{{{}}}{needed}}}",
        properties.join(",\n")
    )
}
