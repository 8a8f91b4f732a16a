//! Names, kinds, labels and help of every metric, in one table.
//!
//! `touchline_<name>_<unit>[_total]`, base units, closed label sets; no customer is ever a label.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution, with the buckets of `BUCKETS_SECONDS`.
    Histogram,
}

/// Upper bounds of the histogram buckets, in seconds: from a millisecond to ten minutes.
pub(super) const BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 600.0];

macro_rules! metrics {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// One metric.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[expect(missing_docs, reason = "each has its help text in the table")]
        pub enum Metric { $($id),* }

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &[Metric] = &[$(Metric::$id),*];

            /// Full name.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$id => concat!("touchline_", $name)),* }
            }

            /// Kind.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$id => Kind::$kind),* }
            }

            /// Label names.
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Metric::$id => &[$($label),*]),* }
            }

            /// Help text.
            pub const fn help(self) -> &'static str {
                match self { $(Metric::$id => $help),* }
            }
        }
    };
}

metrics! {
    Events: Counter "events_total" ["channel", "stage"] "Touchpoints folded into the figures.";
    SourceEvents: Counter "source_events_total" ["source", "outcome"] "Source records by what became of them: mapped, filtered, rejected.";
    RejectedEvents: Counter "rejected_events_total" ["source", "reason"] "Records sent to touchpoints.rejected.";
    Touchpoints: Counter "touchpoints_total" ["outcome"] "Touchpoints read by journey, by outcome: counted, duplicate, late, filtered.";
    FilteredTouchpoints: Counter "filtered_touchpoints_total" ["reason"] "Touchpoints left out of the figures.";
    UnknownWords: Counter "unknown_words_total" ["dimension"] "Words unknown to the taxonomy, counted as other.";
    DedupEvicted: Counter "dedup_evicted_total" [] "Fingerprints that the bound pushed out of the deduplication window.";
    LabelOverflow: Counter "label_overflow_total" ["metric"] "Values folded into other because of a cap.";
    Sessions: Counter "sessions_total" ["channel"] "Sessions begun, by entry channel; merges and other corrections take none back here.";
    EngagedSessions: Counter "engaged_sessions_total" ["channel"] "Sessions that became engaged; corrections take none back here.";
    Orders: Counter "orders_total" ["channel"] "Orders; corrections take none back here.";
    Revenue: Counter "revenue_minor_units_total" ["currency"] "Money of orders, minor units; corrections take none back here.";
    CheckoutsStarted: Counter "checkouts_started_total" ["channel"] "Checkouts published as started.";
    CheckoutsCompleted: Counter "checkouts_completed_total" ["channel"] "Checkouts published as completed.";
    CheckoutsAbandoned: Counter "checkouts_abandoned_total" ["channel"] "Checkouts published as abandoned.";
    CheckoutsRecovered: Counter "checkouts_recovered_total" ["channel"] "Checkouts published as recovered.";
    CheckoutsRetracted: Counter "checkouts_retracted_total" ["channel"] "Abandonments taken back.";
    CheckoutsExpired: Counter "checkouts_expired_total" ["channel"] "Checkouts published as expired.";
    PaymentsFailed: Counter "payments_failed_total" ["channel"] "Failed payments of checkouts.";
    AbandonmentRatio: Gauge "checkout_abandonment_ratio" ["channel", "window"] "Abandoned per decided checkout of the latest mature cohort.";
    AbandonmentExpected: Gauge "checkout_abandonment_expected_ratio" ["channel", "window"] "What the baseline expected when the alert last spoke.";
    AbandonmentLower: Gauge "checkout_abandonment_lower_ratio" ["channel", "window"] "Lower bound of the ratio's interval when the alert last spoke.";
    AbandonmentUpper: Gauge "checkout_abandonment_upper_ratio" ["channel", "window"] "Upper bound of the ratio's interval when the alert last spoke.";
    ActiveCustomers: Gauge "active_customers" ["window", "stage"] "Distinct customers of the latest rolling window (exact); stage is empty for all.";
    RevenueAtRisk: Gauge "revenue_at_risk_minor_units" ["currency", "alert"] "Money per hour at risk by active alerts, minor units.";
    WindowRevisions: Counter "window_revisions_total" ["view"] "Window results written.";
    AlertsActive: Gauge "alerts_active" ["alert", "severity"] "Alerts firing now.";
    AlertTransitions: Counter "alert_transitions_total" ["alert", "to"] "Steps in the lives of alerts.";
    AlertDelay: Histogram "alert_detection_delay_seconds" ["alert"] "Event time from the start of what is wrong to the decision to fire.";
    AlertDeliveries: Counter "alert_deliveries_total" ["sink", "result"] "Pushes of alerts.";
    AlertTests: Counter "alert_tests_total" ["detector"] "Tests made by detectors.";
    StateEntries: Gauge "state_entries" ["role", "partition", "store"] "Entries of a store.";
    TimersPending: Gauge "timers_pending" ["role", "partition"] "Timers pending.";
    RepeatedFlushes: Counter "repeated_flushes_total" [] "Flushes ignored because their number had been taken.";
    Clock: Gauge "clock_timestamp_seconds" ["role", "partition"] "Clock of a task: fires timers and closes slices.";
    Watermark: Gauge "watermark_timestamp_seconds" ["role", "partition"] "Watermark of a task: decides what is too late and what is final.";
    HoldingBack: Gauge "holding_back" ["role", "partition", "by"] "1 for what holds a task's clock back now.";
    LagRecords: Gauge "consumer_lag_records" ["topic", "partition"] "Records between the position and the end of the partition.";
    LagSeconds: Gauge "consumer_lag_seconds" ["topic", "partition"] "Age of the last record folded when it was folded, while there is a lag; else 0.";
    RecordsIn: Counter "records_in_total" ["role"] "Records polled.";
    RecordsOut: Counter "records_out_total" ["role"] "Records produced and acknowledged.";
    BusySeconds: Counter "busy_seconds_total" ["role", "step"] "Time spent in poll, fold, produce and commit.";
    RestoreLeft: Gauge "restore_records_left" ["role", "partition"] "Records of the changelog that are still to be read before the partition is folded again.";
    RestoreSecondsLeft: Gauge "restore_seconds_left" ["role", "partition"] "How long that takes if it goes on as before.";
    StandbyBehind: Gauge "standby_records_behind" ["role", "partition"] "Records of the changelog that the copy kept here of another's state has not taken in; -1 without a copy.";
    Full: Gauge "full" ["role", "what"] "1 while a role reads no further because its outputs in flight or the memory budget are full.";
    StableOffsetStands: Gauge "stable_offset_stands_seconds" ["topic", "partition"] "For how long an open transaction has been keeping readers of committed records from records behind it.";
    Commits: Counter "commits_total" ["role", "result"] "Commits of offsets.";
    Rebalances: Counter "rebalances_total" ["role", "result"] "Partitions assigned and revoked.";
    BuildInfo: Gauge "build_info" ["version"] "1.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for metric in Metric::ALL {
            let name = metric.name();
            assert_eq!(name.ends_with("_total"), metric.kind() == Kind::Counter, "{name}");
            assert!(metric.help().ends_with('.'), "{name}");
            let parts = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            assert!(parts, "{name}");
        }
    }
}
