//! Dimensions and series: what figures are kept by.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One dimension of figures: the built-in three and the fields of a touchpoint that may be configured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the touchpoint field of its name")]
pub enum Dimension {
    AccountType,
    Campaign,
    Channel,
    ChannelGroup,
    ContentVersion,
    Country,
    Department,
    Device,
    HandledBy,
    Message,
    PaymentMethod,
    Region,
    ShippingMethod,
    Stage,
    Store,
    Touchpoint,
}

impl Dimension {
    /// Every dimension, in the order of their names.
    pub const ALL: [Dimension; 16] = [
        Dimension::AccountType,
        Dimension::Campaign,
        Dimension::Channel,
        Dimension::ChannelGroup,
        Dimension::ContentVersion,
        Dimension::Country,
        Dimension::Department,
        Dimension::Device,
        Dimension::HandledBy,
        Dimension::Message,
        Dimension::PaymentMethod,
        Dimension::Region,
        Dimension::ShippingMethod,
        Dimension::Stage,
        Dimension::Store,
        Dimension::Touchpoint,
    ];

    /// The dimension's name in records, labels and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Dimension::AccountType => "account_type",
            Dimension::Campaign => "campaign",
            Dimension::Channel => "channel",
            Dimension::ChannelGroup => "channel_group",
            Dimension::ContentVersion => "content_version",
            Dimension::Country => "country",
            Dimension::Department => "department",
            Dimension::Device => "device",
            Dimension::HandledBy => "handled_by",
            Dimension::Message => "message",
            Dimension::PaymentMethod => "payment_method",
            Dimension::Region => "region",
            Dimension::ShippingMethod => "shipping_method",
            Dimension::Stage => "stage",
            Dimension::Store => "store",
            Dimension::Touchpoint => "touchpoint",
        }
    }
}

/// The value that stands for every value beyond a dimension's cap, and for unknown words.
pub const OTHER: &str = "other";

/// What one series is about: dimension values by dimension, sorted; empty is the tenant's total.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dimensions(Vec<(Dimension, CompactString)>);

impl Dimensions {
    /// The total: no dimension at all.
    pub const TOTAL: Dimensions = Dimensions(Vec::new());

    /// Makes dimensions from pairs in any order; the last of two with one name stays.
    pub fn new(pairs: impl IntoIterator<Item = (Dimension, CompactString)>) -> Dimensions {
        let sorted: BTreeMap<Dimension, CompactString> = pairs.into_iter().collect();
        Dimensions(sorted.into_iter().collect())
    }

    /// The pairs, sorted by name.
    pub fn pairs(&self) -> &[(Dimension, CompactString)] {
        &self.0
    }

    /// The value of `dimension`, if it is one of these.
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        self.0.iter().find(|(d, _)| *d == dimension).map(|(_, v)| v.as_str())
    }

    /// True for the total.
    pub fn is_total(&self) -> bool {
        self.0.is_empty()
    }

    /// As names and values, for records.
    pub fn to_map(&self) -> BTreeMap<CompactString, CompactString> {
        self.0.iter().map(|(d, v)| (CompactString::const_new(d.name()), v.clone())).collect()
    }
}

impl fmt::Display for Dimensions {
    /// Writes `channel=web,stage=purchase`; nothing for the total.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (dimension, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}={value}", dimension.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_sorted_by_name_and_unique() {
        let of = |pairs: &[(Dimension, &str)]| {
            Dimensions::new(pairs.iter().map(|(d, v)| (*d, CompactString::from(*v)))).to_string()
        };
        assert_eq!(of(&[]), "");
        assert_eq!(
            of(&[(Dimension::Stage, "purchase"), (Dimension::Channel, "web")]),
            "channel=web,stage=purchase"
        );
        let mut names: Vec<&str> = Dimension::ALL.iter().map(|d| d.name()).collect();
        let given = names.clone();
        names.sort_unstable();
        assert_eq!(given, names);
    }
}
