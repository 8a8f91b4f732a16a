//! A touchpoint as one line of canonical JSON: absent fields are left out.

use crate::model::touchpoint::Touchpoint;
use serde::Serialize;

/// One JSON object in the making; fields that are absent are not written.
struct Object(Vec<u8>);

impl Object {
    fn put(&mut self, name: &str, value: &impl Serialize) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        serde_json::to_writer(&mut self.0, value).expect("plain data with string keys");
    }
}

/// Writes the named fields that are there.
macro_rules! put_some {
    ($object:ident, $from:expr, $($field:ident)*) => {$(
        if let Some(value) = &$from.$field {
            $object.put(stringify!($field), value);
        }
    )*};
}

/// Writes the named lists and maps that are not empty.
macro_rules! put_filled {
    ($object:ident, $from:expr, $($field:ident)*) => {$(
        if !$from.$field.is_empty() {
            $object.put(stringify!($field), &$from.$field);
        }
    )*};
}

/// Writes `touchpoint` as canonical JSON, without a line end.
///
/// # Panics
/// Never: a touchpoint has only string keys.
pub fn line(touchpoint: &Touchpoint) -> String {
    let t = touchpoint;
    let mut object = Object(Vec::with_capacity(256));
    object.put("id", &t.id);
    object.put("source", &t.source);
    object.put("tenant", &t.tenant);
    object.put("event_time", &t.event_time);
    put_some!(object, t, received_time original_event_time time_source customer_id anonymous_id);
    put_some!(object, t, device_id account_id session_id);
    object.put("channel", &t.channel);
    put_some!(object, t, stage);
    object.put("touchpoint", &t.touchpoint);
    object.put("action", &t.action);
    put_some!(object, t, outcome error_code surface direction paid checkout_id order_id cart_id);
    put_some!(object, t, conversation_id ticket_id shipment_id subscription_id survey_id);
    put_some!(object, t, step step_name value currency payment_method shipping_method coupon);
    put_some!(object, t, account_type);
    put_filled!(object, t, items);
    put_some!(object, t, campaign channel_group message_id content_version);
    put_filled!(object, t, experiments segments);
    put_some!(object, t, rating response_to handled_by agent_id department country region store_id);
    if t.is_bot {
        object.put("is_bot", &true);
    }
    put_some!(object, t, bot_reason);
    if t.is_test {
        object.put("is_test", &true);
    }
    put_filled!(object, t, consent attributes);
    object.0.push(b'}');
    String::from_utf8(object.0).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::EventTime;
    use serde_json::{Value, json};

    #[test]
    fn a_line_is_read_back_as_it_was() {
        let bare = Touchpoint::new("1", "web", EventTime::from_ms(5), "web", "page", "view");
        assert_eq!(serde_json::from_str::<Touchpoint>(&line(&bare)).unwrap(), bare);
        assert!(!line(&bare).contains("null"));

        // One with every field there is, whatever fields come to be.
        let mut all = serde_json::to_value(&bare).unwrap();
        for (name, field) in all.as_object_mut().unwrap() {
            let filled = match name.as_str() {
                "received_time" | "original_event_time" | "step" | "value" => json!(7),
                "paid" | "is_bot" | "is_test" => json!(true),
                "items" => json!([{"sku": "s"}]),
                "campaign" => json!({"name": "n"}),
                "experiments" => json!([{"experiment_id": "e", "variant": "v"}]),
                "segments" => json!(["s"]),
                "rating" => json!({"kind": "nps", "score": 9.5, "scale_max": 10.0}),
                "consent" => json!({"mail": false}),
                "attributes" => json!({"a": "b"}),
                _ if *field == Value::Null => json!("text \"quoted\""),
                _ => continue,
            };
            *field = filled;
        }
        let full: Touchpoint = serde_json::from_value(all).unwrap();
        assert_eq!(serde_json::from_str::<Touchpoint>(&line(&full)).unwrap(), full);
    }
}
