//! Puts a referenced schema into the one that refers to it, so that the text stands by itself.
//!
//! Names are looked for only where Avro has types; the first place gets the definition, as Avro wants
//! it, the others keep the name. The only place of this module that reads JSON.

use serde_json::Value;

/// `text` with the definition of `name` in the first place that uses it.
pub(super) fn inline(text: &str, name: &str, definition: &str) -> Result<String, String> {
    let parse = |text: &str| serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"));
    let mut schema: Value = parse(text)?;
    let mut definition: Value = parse(definition)?;
    // Inside of another record it would take on that one's namespace.
    if let Some(fields) = definition.as_object_mut()
        && !fields.get("name").and_then(Value::as_str).is_some_and(|n| n.contains('.'))
    {
        fields.entry("namespace").or_insert_with(|| "".into());
    }
    let mut place = Place { name, definition: Some(definition) };
    place.put(&mut schema, "");
    // A definition that nothing uses changes nothing.
    Ok(schema.to_string())
}

struct Place<'a> {
    name: &'a str,
    definition: Option<Value>,
}

impl Place<'_> {
    fn put(&mut self, kind: &mut Value, namespace: &str) {
        match kind {
            Value::String(used) if self.is_meant(used, namespace) => {
                if let Some(definition) = self.definition.take() {
                    *kind = definition;
                }
            }
            Value::Array(union) => union.iter_mut().for_each(|k| self.put(k, namespace)),
            Value::Object(object) => {
                let text = |key| object.get(key).and_then(Value::as_str).unwrap_or("");
                let namespace = match (text("name").rsplit_once('.'), object.get("namespace")) {
                    (Some((of_name, _)), _) => of_name.to_owned(),
                    (None, Some(own)) => own.as_str().unwrap_or("").to_owned(),
                    (None, None) => namespace.to_owned(),
                };
                for key in ["type", "items", "values"] {
                    if let Some(inner) = object.get_mut(key) {
                        self.put(inner, &namespace);
                    }
                }
                let fields = object.get_mut("fields").and_then(Value::as_array_mut);
                for field in fields.into_iter().flatten() {
                    if let Some(inner) = field.get_mut("type") {
                        self.put(inner, &namespace);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_meant(&self, used: &str, namespace: &str) -> bool {
        used == self.name
            || (!used.contains('.')
                && self.name.strip_suffix(used).and_then(|s| s.strip_suffix('.'))
                    == Some(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONEY: &str = r#"{"type":"record","name":"Money","namespace":"shop","fields":[]}"#;

    #[track_caller]
    fn check(text: &str, name: &str, definition: &str, expected: &str) {
        assert_eq!(inline(text, name, definition).as_deref(), Ok(expected));
    }

    #[test]
    fn the_first_use_gets_the_definition() {
        check(
            r#"{"type":"record","name":"O","fields":[{"name":"a","type":["null","shop.Money"]},{"name":"b","type":"shop.Money"}]}"#,
            "shop.Money",
            MONEY,
            &format!(
                r#"{{"type":"record","name":"O","fields":[{{"name":"a","type":["null",{MONEY}]}},{{"name":"b","type":"shop.Money"}}]}}"#
            ),
        );
    }

    #[test]
    fn short_names_count_inside_their_namespace_only() {
        let of = |namespace: &str| {
            let items = r#"{"type":"array","items":"Money"}"#;
            format!(
                r#"{{"type":"record","name":"O","namespace":"{namespace}","fields":[{{"name":"a","type":{items}}}]}}"#
            )
        };
        let put = of("shop").replace(r#""Money""#, MONEY);
        check(&of("shop"), "shop.Money", MONEY, &put);
        check(&of("bank"), "shop.Money", MONEY, &of("bank"));
    }

    #[test]
    fn a_definition_without_a_namespace_does_not_take_on_another_one() {
        check(
            r#"{"type":"map","values":"Money"}"#,
            "Money",
            r#"{"type":"fixed","name":"Money","size":8}"#,
            r#"{"type":"map","values":{"type":"fixed","name":"Money","size":8,"namespace":""}}"#,
        );
    }

    #[test]
    fn names_that_are_no_types_stay() {
        let text = r#"{"type":"enum","name":"Money","symbols":["Money"],"default":"Money"}"#;
        check(text, "Money", r#"{"type":"fixed","name":"Money","size":8}"#, text);
        assert!(inline("{", "Money", "{}").is_err());
    }
}
