//! The settings file as a table: every key with its shape and one sentence.

use super::shape::Shape::{
    Address, Any, Bool, Budget, Choice, Duration, Either, Integer, List, Number, Object, Retention,
    Share, Shift, Size, Start, Table, Tagged, Text, Threads, Url, Words,
};
use super::shape::{Key, Shape, Variant, key, optional};
use crate::model::dimension::Dimension;
use crate::model::record::Transition;
use crate::model::topic::Topic;

/// The names of all values of a type.
macro_rules! names {
    ($type:ident) => {{
        let mut names = [""; $type::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = $type::ALL[at].name();
            at += 1;
        }
        names
    }};
}

/// The whole file.
pub(super) const SETTINGS: Shape = Object(&[
    key("app", Object(APP), "Who this application is on the cluster."),
    key("kafka", Table(&Any), "Properties of librdkafka, passed through."),
    key("registry", Object(REGISTRY), "Schema registry, and schemas from files."),
    key("ingest", Choice(&["canonical", "direct"]), "Whether the role ingest runs or is skipped."),
    key("sources", Table(&Object(SOURCE)), "Topics to read touchpoints from, by name."),
    key("topics", Object(TOPICS), "Our own topics, by role."),
    key("delivery", Object(DELIVERY), "What is promised about restarts."),
    key("time", Object(TIME), "Slices, lateness, idleness and bounds of event time."),
    key("sessions", Object(SESSIONS), "When a session ends."),
    key("checkout", Object(CHECKOUT), "When a checkout or a cart is abandoned."),
    key("deduplication", Object(DEDUPLICATION), "How repeats are recognised."),
    key("identity", Object(IDENTITY), "Which ids name a customer."),
    key("figures", Object(FIGURES), "Windows and series that are counted."),
    key("flush", Object(FLUSH), "How often journey tasks report to rollup."),
    key("limits", Object(LIMITS), "Bounds against hostile input."),
    key("taxonomy", Object(TAXONOMY), "Channels, stages, phases and touchpoints."),
    key("rules", Table(&RULE), "Alerts, by name."),
    key("relay", Object(RELAY), "Where alerts are sent."),
    key("http", Object(HTTP), "Metrics, API and page."),
    key("workers", Object(WORKERS), "Threads per role."),
]);

const POSITIVE: Shape = Duration { min_ms: 1 };
const ANY_LENGTH: Shape = Duration { min_ms: 0 };
const COUNT: Shape = Integer { min: 1, max: i64::MAX };
const ANY_COUNT: Shape = Integer { min: 0, max: i64::MAX };
const ABOVE_ZERO: Shape = Number { above: 0.0, below: f64::INFINITY };
const SHARE: Shape = Number { above: 0.0, below: 1.0 };

const APP: &[Key] = &[
    key("name", Text, "Begins the names of consumer groups and internal topics."),
    optional("instance", Text, "This process among those of the application; absent: host name."),
];

const DELIVERY: &[Key] = &[
    key(
        "mode",
        Choice(&["exactly_once", "at_least_once"]),
        "Transactions and state, or neither: for brokers without transactions.",
    ),
    key("commit_interval", POSITIVE, "Time between two commits."),
    key("checkpoint_interval", POSITIVE, "Time between two checkpoints of a partition's state."),
    key("static_membership", Bool, "Whether a restart within the session keeps its partitions."),
    key(
        "standby_replicas",
        Integer { min: 0, max: 10 },
        "Copies of each state kept warm elsewhere.",
    ),
    key("state_dir", Text, "Directory for a copy of the state, for quick restarts; auto; none."),
];

const REGISTRY: &[Key] = &[
    optional("url", Url, "Address of the schema registry; absent: none, and topics are JSON."),
    optional("username", Text, "User for basic authentication."),
    optional("password", Text, "Password for basic authentication."),
    key(
        "schemas",
        Table(&Text),
        "Files of writer schemas by id, instead of or beside the registry.",
    ),
];

const SOURCE: &[Key] = &[
    key("topic", Text, "Topic to read."),
    key(
        "format",
        Choice(&["canonical_avro", "canonical_json", "mapped_json"]),
        "What its records are.",
    ),
    optional("mapping", Text, "Mapping file of `mapped_json`, relative to this file."),
    key("start", Start, "Where to begin: earliest, latest or a time. Has no default."),
    optional("max_out_of_orderness", ANY_LENGTH, "Bound for disorder of one partition (5s)."),
    optional("tenant", Text, "Tenant of its touchpoints where they name none."),
];

const TOPIC: Shape = Object(&[
    optional("name", Text, "Name of the topic."),
    key("partitions", Integer { min: 1, max: 10_000 }, "Partitions, fixed at creation."),
    key("cleanup", Choice(&["delete", "compact"]), "What Kafka does with old records."),
    key("retention", Retention, "How long Kafka keeps records (of a compacted topic: forever)."),
]);

const TOPICS: &[Key] = &[
    key("replication_factor", Integer { min: 1, max: 100 }, "Copies of each partition."),
    key("canonical", TOPIC, "Touchpoints keyed by customer."),
    key("rejected", TOPIC, "Records that could not be used."),
    key("late", TOPIC, "Touchpoints that came too late."),
    key("sessions", TOPIC, "Sessions."),
    key("checkout_lifecycle", TOPIC, "Transitions of checkouts and carts."),
    key("live", TOPIC, "Live figures per window and series."),
    key("channel_stage", TOPIC, "Figures of aligned windows, with revisions."),
    key("alert_events", TOPIC, "Every transition of every alert."),
    key("alerts_active", TOPIC, "What fires now."),
    key("rollup", TOPIC, "Internal, from journey to rollup; its name follows from app.name."),
];

const TIME: &[Key] = &[
    key("slice", POSITIVE, "Length of a slice: the grain of all windows."),
    key("allowed_lateness", ANY_LENGTH, "How far behind the watermark events still amend."),
    key("outage_tolerance", ANY_LENGTH, "How far the watermark waits for a silent source."),
    key("idle_timeout", POSITIVE, "After which quiet a source partition counts as idle."),
    key("max_future_skew", ANY_LENGTH, "How far ahead of its arrival an event may be dated."),
    key("max_age", POSITIVE, "How old an event may be on arrival."),
    key(
        "max_drift",
        POSITIVE,
        "How far a source partition may run ahead of the slowest, a fetch apart.",
    ),
];

const SESSIONS: &[Key] = &[
    key("gap", POSITIVE, "Quiet after which a session has ended."),
    key("channel_gaps", Table(&POSITIVE), "Other gaps by channel."),
    key("by", Choice(&["gap", "source"]), "By the gap, or by the source's own session ids."),
    key("path", Integer { min: 0, max: 64 }, "Steps of its path in a session's record."),
];

const CHECKOUT: &[Key] = &[
    key("t_checkout", POSITIVE, "Quiet after which a checkout is abandoned."),
    key("carts", Bool, "Whether carts are followed, too."),
    key("t_cart", POSITIVE, "Quiet after which a cart is abandoned."),
    key("t_pending", POSITIVE, "The same while a payment is pending."),
    key("t_merge", ANY_LENGTH, "Further abandonments of a customer within it are the same one."),
    key("max_checkout_age", POSITIVE, "From its start, after which a checkout expires."),
    key("max_recovery", ANY_LENGTH, "From its deadline, how long one can be recovered."),
    key("channels", Table(&Object(CHECKOUT_CHANNEL)), "Other times by channel."),
    key("transitions", List(&Choice(&TRANSITIONS)), "Transitions that have a record."),
];

const TRANSITIONS: [&str; Transition::ALL.len()] = names!(Transition);

const CHECKOUT_CHANNEL: &[Key] = &[
    optional("t_checkout", POSITIVE, "Quiet after which a checkout is abandoned."),
    optional("t_cart", POSITIVE, "Quiet after which a cart is abandoned."),
];

const DEDUPLICATION: &[Key] = &[
    key("window", ANY_LENGTH, "Event time within which a repeated id is a repeat."),
    key("ids", Integer { min: 0, max: 65_535 }, "Ids remembered per customer; 0: none."),
];

const IDENTITY: &[Key] = &[
    key("degenerate_ids", List(&Text), "Ids that name nobody, compared without case."),
    key("follow_customers", Bool, "Whether sessions, checkouts and ids are kept per customer."),
];

const WINDOW: &[Key] = &[
    key("length", POSITIVE, "Length of the window."),
    key("slide", POSITIVE, "How often it is reported; divides the length."),
];

const FIGURES: &[Key] = &[
    key("windows", List(&Object(WINDOW)), "Rolling windows."),
    key("dimensions", List(&List(&DIMENSION)), "Sets of dimensions; the total is always there."),
    key("dimension_cap", COUNT, "Values per dimension; what comes after is `other`."),
    key("value_of", Choice(&["orders", "events"]), "Whose money `value` sums up."),
    key("distinct_customers", Bool, "Whether distinct customers are counted."),
];

const FLUSH: &[Key] = &[
    key("interval", POSITIVE, "Event time between two flushes within a slice."),
    key("records", COUNT, "Records between two flushes within a slice."),
];

const LIMITS: &[Key] = &[
    key("record_bytes", Size, "Largest record that is decoded."),
    key("json_depth", Integer { min: 1, max: 127 }, "Deepest nesting that is decoded."),
    key("memory_budget", Budget, "Resident memory to stay below; none: no bound."),
];

/// Presets of the taxonomy.
pub(super) const PRESETS: &[&str] = &["ecommerce", "services", "software", "retail", "none"];

const TAXONOMY: &[Key] = &[
    key("preset", Choice(PRESETS), "Words of an industry to begin with."),
    optional("file", Text, "File laid over the preset, relative to this file."),
];

/// Names of dimensions.
pub(super) const DIMENSIONS: [&str; Dimension::ALL.len()] = names!(Dimension);
const DIMENSION: Shape = Choice(&DIMENSIONS);

const RULE: Shape = Tagged { tag: "detector", common: RULE_KEYS, variants: DETECTORS };

const RULE_KEYS: &[Key] = &[
    key("detector", Choice(&["ratio_spike", "silence", "threshold"]), "How it is noticed."),
    key("enabled", Bool, "Whether it is evaluated."),
    key("severity", Choice(&["critical", "warning", "info"]), "How bad it is."),
    key("owner", Text, "Team that gets it."),
    optional("runbook", Text, "Address of what to do about it."),
    key("summary", Text, "One line for people; names in braces are filled in."),
    key("scopes", List(&List(&DIMENSION)), "Sets of dimensions, coarse to fine; [] is the total."),
    key("enter", Object(OF), "Suspicious evaluations that make it fire."),
    key("leave", Integer { min: 1, max: 100 }, "Evaluations in a row that end it."),
    key("merge_gap", ANY_LENGTH, "What returns within it belongs to the same episode."),
    key("cool_down", ANY_LENGTH, "Time after the end in which no new episode opens."),
    key("min_completeness", Share, "Below this share of complete partitions nothing is judged."),
];

const DETECTORS: &[Variant] = &[
    Variant { name: "ratio_spike", keys: RATIO_SPIKE },
    Variant { name: "silence", keys: SILENCE },
    Variant { name: "threshold", keys: THRESHOLD },
];

const OF: &[Key] = &[
    key("k", Integer { min: 1, max: 100 }, "So many evaluations …"),
    key("of", Integer { min: 1, max: 100 }, "… out of the last so many."),
];

const RATIO_SPIKE: &[Key] = &[
    key("ratio", Choice(&["checkout_abandonment"]), "The figure."),
    key("window", POSITIVE, "Length of the aligned windows that it is taken from."),
    key("over", Integer { min: 1, max: 100 }, "It is tested over at most so many windows."),
    key("min_sample", COUNT, "It is tested from so many decided checkouts."),
    key("min_effect", SHARE, "Least rise as a difference of shares (0.05: five points)."),
    key("min_relative", ABOVE_ZERO, "Least rise relative to what is expected."),
    key("alpha", SHARE, "False-discovery level at which it is an alert."),
    key("alpha_suspicious", SHARE, "Level from which on an evaluation counts as suspicious."),
    key("learning", Object(LEARNING), "How the baseline learns."),
];

const LEARNING: &[Key] = &[
    key("half_life", POSITIVE, "After which time a window counts half."),
    key("min_windows", COUNT, "Windows with data before anything is said."),
    key("min_decided", COUNT, "Decided checkouts before anything is said."),
    key("relearn_after", POSITIVE, "An episode that lasts longer is the new normal."),
];

const SILENCE: &[Key] = &[
    key("min_gap", POSITIVE, "Shorter gaps are none."),
    key("max_gap", POSITIVE, "Longer gaps are not judged any more."),
    key("chance", ABOVE_ZERO, "So many gaps as long in `horizon` by chance alone are accepted."),
    key("horizon", POSITIVE, "See `chance`."),
    key("min_history", POSITIVE, "How long a series must be known before anything is said."),
];

const THRESHOLD: &[Key] = &[
    key("figure", Choice(&["events"]), "What is counted."),
    optional("above", ANY_COUNT, "More are wrong."),
    optional("below", COUNT, "Fewer are wrong."),
    key("window", POSITIVE, "In how long: at most 1000 times time.slice, and a multiple of it."),
];

const RELAY: &[Key] = &[
    key("alertmanagers", List(&Url), "Every Alertmanager instance; none: nothing is pushed."),
    key("resend_interval", POSITIVE, "How often a firing alert is pushed again."),
    key("max_alert_age", POSITIVE, "An older alert is recorded, not pushed."),
    optional("external_url", Url, "Address under which people reach the page."),
];

const HTTP: &[Key] = &[key("listen", Address, "Address and port; loopback by default.")];

const WORKERS: &[Key] = &[
    key("ingest", Threads, "Threads of ingest."),
    key("journey", Threads, "Threads of journey."),
    key("rollup", Threads, "Threads of rollup."),
];

/// The key of a topic in the configuration.
pub(super) const fn topic_key(topic: Topic) -> &'static str {
    match topic {
        Topic::Canonical => "canonical",
        Topic::Rejected => "rejected",
        Topic::Late => "late",
        Topic::Sessions => "sessions",
        Topic::CheckoutLifecycle => "checkout_lifecycle",
        Topic::Live => "live",
        Topic::ChannelStage => "channel_stage",
        Topic::AlertEvents => "alert_events",
        Topic::AlertsActive => "alerts_active",
        Topic::Rollup => "rollup",
    }
}

/// A taxonomy file.
pub(super) const TAXONOMY_FILE: Shape = Object(&[
    optional("phases", List(&Text), "Phases of the journey, in order."),
    optional("stages", List(&Object(STAGE)), "Stages of the journey, in order."),
    optional("channels", Table(&Object(CHANNEL)), "Channels."),
    optional("departments", List(&Text), "Departments that own touchpoints."),
    optional("pairs", Table(&Table(&Text)), "Stage by touchpoint and action."),
    optional("touchpoints", Table(&Object(REGISTERED)), "Owner and runbook of each touchpoint."),
]);

const STAGE: &[Key] =
    &[key("name", Text, "Name of the stage."), key("phase", Text, "Phase that it belongs to.")];

const CHANNEL: &[Key] = &[
    optional("direction", Choice(&["direct", "indirect"]), "Indirect: advertising, word of mouth."),
    optional("surface", Choice(&["online", "offline"]), "Where the customer is."),
];

const REGISTERED: &[Key] = &[
    optional("title", Text, "What people call it."),
    key("owner", Text, "Department that answers for it."),
    optional("runbook", Text, "Address of what to do when it fails."),
    optional("expectations", List(&Text), "What customers expect of it."),
];

/// A mapping file.
pub(super) const MAPPING_FILE: Shape = Object(&[
    key("mapping", Text, "Name of the mapping."),
    optional("time", Shape::OneOrMany(&Object(MAPPED_TIME)), "Where the event time stands."),
    optional("id", Object(MAPPED_ID), "Where the deduplication id stands."),
    optional("customer_id", VALUE, "The known customer."),
    optional("email", VALUE, "E-mail address, hashed, where there is no customer id."),
    optional("anonymous_id", VALUE, "The customer before log-in."),
    optional("defaults", Words(FIELDS, &VALUE), "Values of fields that nothing else gives."),
    optional("values", Table(&Table(&Any)), "Tables from the source's words to ours."),
    optional("rules", List(&Object(MAPPED_RULE)), "What to make of which record."),
    optional(
        "otherwise",
        Either(&Choice(&["reject", "filter"]), &Object(EMIT)),
        "What becomes of the other records.",
    ),
]);

const MAPPED_TIME: &[Key] = &[
    optional("field", Text, "Path of the time."),
    optional("format", Text, "rfc3339, epoch_ms, epoch_s, epoch_us or a pattern of strptime."),
    optional("zone", Text, "Time zone of times that name none."),
    optional(
        "time_source",
        Choice(&["true", "corrected", "original", "broker"]),
        "What to call it.",
    ),
    optional("corrected", Object(CORRECTED), "Correction of the producer's clock."),
];

const CORRECTED: &[Key] = &[
    optional("timestamp", Text, "Path of the time that the source has corrected."),
    optional("received_at", Text, "Path of the time at which the source received it."),
    optional("sent_at", Text, "Path of the producer's time of sending."),
    optional("original", Text, "Path of the producer's time of the event."),
    optional("max", POSITIVE, "Largest correction that is believed."),
];

const MAPPED_ID: &[Key] = &[
    optional("field", Text, "Path of the id."),
    optional("header", Text, "Kafka header of the id."),
    optional("fingerprint", List(&Text), "Paths of fields that together make the id."),
    optional("position", Bool, "The record's place in its topic is its id."),
];

/// A constant or where a value stands.
pub(super) const VALUE: Shape = Either(&Any, &Object(FROM));

const FROM: &[Key] = &[
    optional("field", Text, "Path in the record."),
    optional("header", Text, "Name of a Kafka header."),
    optional("key", Bool, "The record's Kafka key."),
    optional("cel", Text, "CEL expression over `event`, `headers` and `item`."),
    optional("table", Text, "Table of `values` that it goes through."),
    optional("default", Any, "The value if there is none."),
    optional("scale", Integer { min: i64::MIN, max: i64::MAX }, "Factor of a number."),
    optional("prefix", Text, "Text put in front."),
];

const MAPPED_RULE: &[Key] = &[
    optional("when", Text, "CEL condition over `event` and `headers`."),
    optional("emit", List(&Object(EMIT)), "The touchpoints to make."),
    optional("filter", Bool, "Leave the record out."),
    optional("stop", Bool, "Look at no later rule (true)."),
];

const EMIT: &[Key] = &[
    optional("each", Text, "Path of an array: one touchpoint for each element."),
    key("touchpoint", VALUE, "The touchpoint."),
    key("action", VALUE, "What happened there."),
    optional("stage", VALUE, "The stage; absent: the taxonomy's."),
    optional("fields", Words(FIELDS, &VALUE), "Any other field."),
    optional("items", Object(ITEMS), "The lines of a cart or an order."),
    optional("shift", Shift, "Moves the event time, back if negative."),
];

const ITEMS: &[Key] = &[
    key("each", Text, "Path of the array."),
    key("sku", VALUE, "What was bought."),
    optional("category", VALUE, "Its category."),
    optional("quantity", VALUE, "How many."),
    optional("price", VALUE, "Price of one, minor units."),
];

/// Fields of a touchpoint that a mapping may fill.
pub(super) const FIELDS: &[&str] = &[
    "id",
    "source",
    "tenant",
    "customer_id",
    "anonymous_id",
    "device_id",
    "account_id",
    "session_id",
    "channel",
    "stage",
    "outcome",
    "error_code",
    "surface",
    "direction",
    "paid",
    "checkout_id",
    "order_id",
    "cart_id",
    "conversation_id",
    "ticket_id",
    "shipment_id",
    "subscription_id",
    "survey_id",
    "step",
    "step_name",
    "value",
    "currency",
    "payment_method",
    "shipping_method",
    "coupon",
    "account_type",
    "campaign.id",
    "campaign.name",
    "campaign.source",
    "campaign.medium",
    "campaign.term",
    "campaign.content",
    "campaign.click_id",
    "channel_group",
    "message_id",
    "content_version",
    "rating.kind",
    "rating.score",
    "rating.scale_max",
    "response_to",
    "handled_by",
    "agent_id",
    "department",
    "country",
    "region",
    "store_id",
    "is_bot",
    "bot_reason",
    "is_test",
    "consent.",
    "attributes.",
];
