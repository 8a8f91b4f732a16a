//! The derived records field by field, in the order of their schema files.

use crate::codec::avro::write::AvroWrite;
use crate::codec::fields::{FromTree, record, wrong};
use crate::codec::tree::Tree;
use crate::model::record::{
    Abandonment, AlertRecord, AlertTransition, CheckoutKind, CheckoutRecord, Contributor, Evidence,
    LiveRecord, PathStep, SessionRecord, SessionStatus, Severity, Transition, WindowRecord,
};
use crate::model::reject::{Reject, RejectReason};

/// Makes a closed set of words a text in Avro; the words are those of its JSON form.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal,)* }) => {
        impl AvroWrite for $type {
            fn avro(&self, out: &mut Vec<u8>) {
                match self {
                    $($type::$variant => $word.avro(out),)*
                }
            }
        }

        impl FromTree for $type {
            fn from_tree(tree: &Tree<'_>, field: &str) -> Result<$type, Reject> {
                match tree.as_str() {
                    $(Some($word) => Ok($type::$variant),)*
                    _ => Err(wrong(field)),
                }
            }
        }
    };
}

words!(SessionStatus { Closed = "closed", Amended = "amended", Merged = "merged", });
words!(CheckoutKind { Checkout = "checkout", Cart = "cart", });
words!(AlertTransition {
    Pending = "pending",
    Firing = "firing",
    Amended = "amended",
    Recovering = "recovering",
    Resolved = "resolved",
    Suppressed = "suppressed",
});
words!(Severity { Critical = "critical", Warning = "warning", Info = "info", });

impl AvroWrite for Transition {
    fn avro(&self, out: &mut Vec<u8>) {
        self.name().avro(out);
    }
}

impl FromTree for Transition {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<Transition, Reject> {
        tree.as_str().and_then(Transition::by_name).ok_or_else(|| wrong(field))
    }
}

record!(PathStep { touchpoint; action; at; });
record!(SessionRecord {
    schema_version;
    id;
    tenant;
    customer;
    session_id;
    status;
    merged_into;
    start;
    end;
    events;
    channels;
    entry_channel;
    stage_reached;
    path;
    path_truncated;
    engaged;
    converted;
    value;
    revision;
    is_final;
});
record!(CheckoutRecord {
    schema_version;
    id;
    tenant;
    customer;
    instance;
    kind;
    transition;
    revision;
    at;
    decided_at;
    started_at;
    last_activity;
    step;
    step_name;
    channel;
    value;
    currency;
    payment_method;
    shipping_method;
    coupon;
    account_type;
    error_code;
    correlated_by;
    merged_into;
});
record!(LiveRecord {
    schema_version;
    id;
    tenant;
    window;
    start;
    end;
    dimensions;
    events;
    customers;
    sessions;
    engaged_sessions;
    orders;
    value;
    checkouts_started;
    checkouts_completed;
    checkouts_abandoned;
    checkouts_recovered;
    completeness;
});
record!(Abandonment {
    started;
    abandoned;
    expired;
    undecided;
    unique_abandoners;
    mature;
});
record!(WindowRecord {
    schema_version;
    id;
    tenant;
    window;
    start;
    end;
    dimensions;
    events;
    customers;
    sessions;
    engaged_sessions;
    orders;
    value;
    checkouts_started;
    checkouts_completed;
    checkouts_abandoned;
    checkouts_recovered;
    abandonment;
    revision;
    is_final;
    completeness;
});
record!(Contributor { dimensions; effect; value; n; });
record!(Evidence { topic; partition; from; to; });
record!(AlertRecord {
    schema_version;
    id;
    fingerprint;
    episode;
    sequence;
    alert;
    transition;
    severity;
    owner;
    tenant;
    dimensions;
    at;
    starts_at;
    ends_at;
    value;
    expected;
    lower;
    upper;
    n;
    effect;
    p_value;
    window;
    maturity;
    completeness;
    contributors;
    at_risk;
    evidence;
    summary;
    runbook;
});
