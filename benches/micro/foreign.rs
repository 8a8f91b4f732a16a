//! Touchpoints as the shop of `config/mappings/shop.yaml` would have written them.

use serde_json::{Value, json};
use touchline::model::touchpoint::Touchpoint;

/// The shop's own record, if the shop has a word for it.
pub(crate) fn json(t: &Touchpoint) -> Option<Vec<u8>> {
    let mut record = json!({
        "id": t.id,
        "ts": t.event_time.to_string(),
        "platform": match t.channel.as_str() {
            "mobile_app" => "ios",
            "store" => "pos",
            _ => "desktop",
        },
        "user": {"id": t.customer_id, "cookie": t.anonymous_id},
        "bot": t.is_bot,
        "test": t.is_test,
    });
    let Value::Object(own) = kind(t)? else { return None };
    record.as_object_mut()?.extend(own);
    Some(record.to_string().into_bytes())
}

/// What depends on the kind of the record.
fn kind(t: &Touchpoint) -> Option<Value> {
    let cart = || json!({"id": t.cart_id, "total": major(t.value.unwrap_or(0))});
    let lines = || -> Vec<Value> {
        let items = t.items.iter();
        items.map(|i| json!({"sku": i.sku, "qty": i.quantity, "price": 10.5})).collect()
    };
    Some(match (t.touchpoint.as_str(), t.action.as_str()) {
        ("page", "view") => json!({"type": "page"}),
        ("search", "submit") => json!({"type": "search"}),
        ("product", "view") => json!({"type": "product", "sku": t.items.first()?.sku}),
        ("cart", op) => json!({"type": "cart", "op": op, "cart": cart()}),
        ("checkout", "start") => {
            json!({"type": "checkout", "step": 1, "checkout": t.checkout_id, "cart": cart()})
        }
        ("checkout", "step") => json!({
            "type": "checkout", "step": t.step? + 1, "name": t.step_name, "checkout": t.checkout_id,
            "shipping": {"method": t.shipping_method},
        }),
        ("payment", "fail") => json!({
            "type": "payment", "status": "failed", "error": t.error_code,
            "checkout": t.checkout_id,
        }),
        ("payment", "pending") => {
            json!({"type": "payment", "status": "pending", "checkout": t.checkout_id})
        }
        ("checkout", "complete") => json!({
            "type": "order", "total": major(t.value.filter(|v| *v > 0)?),
            "order": {"id": t.order_id, "checkout": t.checkout_id, "lines": lines()},
        }),
        ("delivery", "update") => json!({
            "type": "shipment", "order": {"id": t.order_id},
            "parcels": [{"id": t.id, "status": t.step_name}],
        }),
        ("chat", action) => json!({
            "type": "chat", "what": action, "conversation": t.conversation_id,
        }),
        ("email_campaign", "open") => json!({"type": "email", "what": "opened", "message": "m"}),
        ("email_campaign", "click") => json!({"type": "email", "what": "clicked", "message": "m"}),
        _ => return None,
    })
}

/// An amount as shops write it.
fn major(minor: i64) -> f64 {
    minor as f64 / 100.0
}
