//! A touchpoint as one line of canonical JSON: absent fields are left out.

use crate::model::touchpoint::Touchpoint;
use serde_json::Value;

/// Writes `touchpoint` as canonical JSON, without a line end.
///
/// # Panics
/// Never: a touchpoint has only string keys and finite numbers.
pub fn line(touchpoint: &Touchpoint) -> String {
    let mut value = serde_json::to_value(touchpoint).expect("a touchpoint is plain data");
    drop_absent(&mut value);
    value.to_string()
}

/// Takes out what is absent: nulls, empty lists and maps, and the two marks where they are not set.
fn drop_absent(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(drop_absent);
        fields.retain(|name, field| match field {
            Value::Null => false,
            Value::Bool(set) => *set || !matches!(name.as_str(), "is_bot" | "is_test"),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    } else if let Value::Array(list) = value {
        list.iter_mut().for_each(drop_absent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::EventTime;

    #[test]
    fn a_line_is_read_back_as_it_was() {
        let mut touchpoint =
            Touchpoint::new("1", "web", EventTime::from_ms(5), "web", "page", "view");
        touchpoint.value = Some(0);
        touchpoint.paid = Some(false);
        touchpoint.consent.insert("mail".into(), false);
        touchpoint.items.push(Default::default());
        let line = line(&touchpoint);
        assert_eq!(serde_json::from_str::<Touchpoint>(&line).unwrap(), touchpoint);
        assert!(!line.contains("null") && line.contains(r#""value":0"#));
    }
}
