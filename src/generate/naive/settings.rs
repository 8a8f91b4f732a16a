//! What the naive model is told: the words and the lengths of time, as configuration has them.

use crate::model::taxonomy::{Pair, Taxonomy};
use crate::model::time::Millis;
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};

/// Words and lengths of time of the definitions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configured words.
    pub taxonomy: Taxonomy,
    /// Lengths of the windows.
    pub windows: Vec<Millis>,
    /// Longest pause within a session.
    pub session_gap: Millis,
    /// The same for pauses after an event of a channel.
    pub session_gaps: BTreeMap<CompactString, Millis>,
    /// True if the source's own session ids decide where there are any.
    pub sessions_by_source: bool,
    /// Time from a session's first event that makes it engaged.
    pub engaged_after: Millis,
    /// Longest path in a session's record.
    pub path_max: usize,
    /// Time without activity after which a checkout is abandoned.
    pub checkout_timeout: Millis,
    /// The same by channel of the last activity.
    pub checkout_timeouts: BTreeMap<CompactString, Millis>,
    /// False if what happens to a cart is an interaction like any other.
    pub follow_carts: bool,
    /// Time without activity after which a cart is abandoned.
    pub cart_timeout: Millis,
    /// How long a payment may be pending.
    pub pending_timeout: Millis,
    /// Age at which a checkout or cart expires.
    pub max_checkout_age: Millis,
    /// How long after its deadline an abandoned one can be recovered.
    pub max_recovery: Millis,
    /// Abandonments of one customer within this are one unique abandonment.
    pub merge: Millis,
    /// True if the value of every event counts, not that of orders.
    pub value_of_events: bool,
    /// Ids that are nobody's.
    pub degenerate_ids: BTreeSet<CompactString>,
    /// False if all touchpoints are nobody's.
    pub follow_customers: bool,
    /// True if a customer's event with a known id is a repeat.
    pub recognise_repeats: bool,
    /// True if distinct customers are counted.
    pub distinct_customers: bool,
}

impl Default for Settings {
    /// The shop's words and the defaults of the definitions.
    fn default() -> Settings {
        Settings {
            taxonomy: shop_taxonomy(),
            windows: vec![
                Millis::from_mins(1),
                Millis::from_mins(5),
                Millis::from_hours(1),
                Millis::from_hours(24),
            ],
            session_gap: Millis::from_mins(30),
            session_gaps: BTreeMap::new(),
            sessions_by_source: false,
            engaged_after: Millis::from_secs(10),
            path_max: 64,
            checkout_timeout: Millis::from_mins(30),
            checkout_timeouts: BTreeMap::new(),
            follow_carts: true,
            cart_timeout: Millis::from_mins(60),
            pending_timeout: Millis::from_hours(24),
            max_checkout_age: Millis::from_hours(48),
            max_recovery: Millis::from_hours(7 * 24),
            merge: Millis::from_hours(24),
            value_of_events: false,
            degenerate_ids: ["null", "guest", "0"].map(CompactString::from).into(),
            follow_customers: true,
            recognise_repeats: true,
            distinct_customers: true,
        }
    }
}

/// The default words of a shop: channels, stages, and what stage a pair belongs to.
pub fn shop_taxonomy() -> Taxonomy {
    let channels = "web mobile_app email sms push social search ads blog marketplace reviews store \
        phone chat chatbot self_service delivery subscription loyalty_program referral survey crm";
    let stages = [
        ("awareness", "pre_purchase"),
        ("consideration", "pre_purchase"),
        ("purchase", "purchase"),
        ("service", "post_purchase"),
        ("loyalty", "post_purchase"),
    ];
    let pairs = PAIRS.iter().flat_map(|(stage, pairs)| {
        pairs.split_whitespace().flat_map(move |pair| {
            let (touchpoint, actions) = pair.split_once(':').unwrap_or((pair, ""));
            actions.split('/').map(move |action| Pair {
                touchpoint: touchpoint.into(),
                action: action.into(),
                stage: (*stage).into(),
            })
        })
    });
    Taxonomy::new(
        channels.split_whitespace().map(CompactString::from),
        stages.map(|(stage, phase)| (stage.into(), phase.into())),
        pairs,
        [],
    )
}

/// Stage, and its pairs as `touchpoint:action/action`.
const PAIRS: [(&str, &str); 5] = [
    (
        "awareness",
        "page:view ad:impression/click promotion:view/click social_post:react/share \
         email_campaign:send/deliver/open/click/bounce/spam/unsubscribe push:send/deliver/open/click",
    ),
    (
        "consideration",
        "search:submit list:view/click product:view/click wishlist:add/remove faq:view video:view \
         account:create trial:start/end",
    ),
    (
        "purchase",
        "cart:add/remove/view checkout:start/step/complete/fail/pending/cancel/expire \
         payment:info/fail/pending coupon:apply/deny store_visit:visit store_purchase:complete",
    ),
    (
        "service",
        "order:update/refund/cancel delivery:update chat:start/message/reply/escalate/end \
         chatbot:start/message/reply/escalate/end call:start/message/reply/escalate/end \
         ticket:start/message/reply/escalate/end service:deliver survey:request/answer \
         complaint:submit",
    ),
    (
        "loyalty",
        "review:submit loyalty:enrol/earn/redeem/tier referral:share/use \
         subscription:renew/fail/cancel",
    ),
];
