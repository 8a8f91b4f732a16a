//! Profiles: what figures need to know of a touchpoint, interned per task.
//!
//! A profile is one combination of tenant, channel, stage, touchpoint, action and configured
//! dimension values; a stored event names it by a number. Values of one dimension are capped per
//! tenant (channel and stage are bounded by the taxonomy): what comes later is `other`, in series
//! and in paths alike. The meaning of a pair is taken before the cap.

mod state;

use super::settings::Settings;
use crate::model::dimension::{Dimension, Dimensions, OTHER};
use crate::model::figures::NO_CURRENCY;
use crate::model::taxonomy::Meaning;
use crate::model::time::Millis;
use crate::model::touchpoint::TouchpointRef;
use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use std::num::NonZeroU32;

/// Most combinations found by one look-up; others are put together anew for each event.
const MEMO_MAX: usize = 1 << 16;
/// Most combinations found by the decoder's number of their words.
const NUMBERED_MAX: usize = 1 << 10;
/// Most currencies told apart.
const CURRENCIES_MAX: usize = 1_000;

/// Number of a tenant within the task.
pub(super) type TenantId = u32;
/// Number of a series within the task.
pub(super) type SeriesId = u32;
/// Number of a profile within the task.
pub(super) type ProfileId = u32;

/// What one combination means.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) tenant: TenantId,
    pub(super) channel: CompactString,
    pub(super) stage: CompactString,
    pub(super) touchpoint: CompactString,
    pub(super) action: CompactString,
    pub(super) meaning: Meaning,
    /// Its action is `view`.
    pub(super) view: bool,
    /// Place of the stage on the journey, plus one; 0 for `other`.
    pub(super) stage_rank: u16,
    /// Pause that ends a session after such an event.
    pub(super) gap: Millis,
    /// Pause after which a checkout with this as its last activity is abandoned.
    pub(super) t_checkout: Millis,
    /// The series that such an event belongs to, the total first.
    pub(super) series: Box<[SeriesId]>,
}

impl Profile {
    /// True for the completion of a checkout and for a purchase in a store.
    pub(super) fn is_order(&self) -> bool {
        matches!(self.meaning, Meaning::CheckoutComplete | Meaning::StorePurchase)
    }

    /// Place among events of one moment: start, then all others, then completion.
    pub(super) fn life_cycle_rank(&self) -> u8 {
        match self.meaning {
            Meaning::CheckoutStart => 0,
            Meaning::CheckoutComplete | Meaning::StorePurchase => 2,
            _ => 1,
        }
    }
}

/// A series: whose, and of what.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) tenant: TenantId,
    pub(super) dimensions: Dimensions,
}

/// All that is interned.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    tenants: Vec<CompactString>,
    tenant_ids: HashMap<CompactString, TenantId>,
    profiles: Vec<Profile>,
    by_key: HashMap<Box<[u8]>, ProfileId>,
    memo: HashMap<Box<[u8]>, ProfileId>,
    /// By the decoder's number of the words, modulo its length; where words and tenant are all that a
    /// profile depends on.
    numbered: Vec<Option<(NonZeroU32, ProfileId)>>,
    series: Vec<Series>,
    series_ids: HashMap<(TenantId, Dimensions), SeriesId>,
    values: HashMap<(TenantId, ValueOf), HashSet<CompactString>>,
    currencies: Vec<CompactString>,
    scratch: Vec<u8>,
    /// How much has been written down: tables only grow.
    written: state::Written,
    /// Values of capped dimensions that have not been written down.
    new_values: Vec<(TenantId, ValueOf, CompactString)>,
    /// While they are restored.
    staged: Option<Box<state::Staged>>,
}

/// What a cap is counted for: actions are capped like dimensions, as paths name them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum ValueOf {
    Dimension(Dimension),
    Action,
}

impl Profiles {
    pub(super) fn get(&self, id: ProfileId) -> &Profile {
        &self.profiles[id as usize]
    }

    pub(super) fn series(&self, id: SeriesId) -> &Series {
        &self.series[id as usize]
    }

    pub(super) fn tenant(&self, id: TenantId) -> &CompactString {
        &self.tenants[id as usize]
    }

    /// Name of an interned currency.
    pub(super) fn currency(&self, id: u32) -> &str {
        &self.currencies[id as usize]
    }

    /// Interns a currency; absent, and beyond the bound, it is the one for "none".
    pub(super) fn currency_id(&mut self, name: Option<&str>) -> u32 {
        if self.currencies.is_empty() {
            self.currencies.push(CompactString::const_new(NO_CURRENCY));
        }
        let name = name.unwrap_or(NO_CURRENCY);
        if let Some(at) = self.currencies.iter().position(|c| c == name) {
            return at as u32;
        }
        if self.currencies.len() >= CURRENCIES_MAX {
            return 0;
        }
        self.currencies.push(name.into());
        (self.currencies.len() - 1) as u32
    }

    /// The profile of a touchpoint. Dimensions whose value became `other` are appended to
    /// `overflow`.
    pub(super) fn resolve(
        &mut self,
        settings: &Settings,
        touchpoint: &TouchpointRef<'_>,
        overflow: &mut Vec<Dimension>,
    ) -> ProfileId {
        if let Some(id) = self.by_number(touchpoint) {
            return id;
        }
        let mut key = std::mem::take(&mut self.scratch);
        key.clear();
        for text in [touchpoint.tenant, touchpoint.channel, touchpoint.stage.unwrap_or("")] {
            push(&mut key, text);
        }
        push(&mut key, touchpoint.touchpoint);
        push(&mut key, touchpoint.action);
        for set in &settings.dimension_sets {
            for dimension in set {
                if let Some(value) = own_value(touchpoint, *dimension) {
                    push(&mut key, value);
                } else {
                    key.push(0xFE);
                }
            }
        }
        let found = self.memo.get(key.as_slice()).copied();
        let id = found.unwrap_or_else(|| {
            let id = self.put_together(settings, touchpoint, overflow);
            if overflow.is_empty() && self.memo.len() < MEMO_MAX {
                self.memo.insert(key.clone().into_boxed_slice(), id);
            }
            id
        });
        self.scratch = key;
        if overflow.is_empty() {
            self.keep_number(settings, touchpoint, id);
        }
        id
    }

    /// The profile of a touchpoint whose words the decoder has numbered.
    #[inline]
    fn by_number(&self, touchpoint: &TouchpointRef<'_>) -> Option<ProfileId> {
        let number = touchpoint.words.number()?;
        let (of, id) = (*self.numbered.get(number.get() as usize % NUMBERED_MAX)?)?;
        let tenant = self.get(id).tenant;
        (of == number && *self.tenant(tenant) == touchpoint.tenant).then_some(id)
    }

    fn keep_number(&mut self, settings: &Settings, touchpoint: &TouchpointRef<'_>, id: ProfileId) {
        let of_words = |d: &Dimension| {
            matches!(d, Dimension::Channel | Dimension::Stage | Dimension::Touchpoint)
        };
        if let Some(number) = touchpoint.words.number()
            && settings.dimension_sets.iter().flatten().all(of_words)
        {
            self.numbered.resize(NUMBERED_MAX, None);
            self.numbered[number.get() as usize % NUMBERED_MAX] = Some((number, id));
        }
    }

    fn put_together(
        &mut self,
        settings: &Settings,
        touchpoint: &TouchpointRef<'_>,
        overflow: &mut Vec<Dimension>,
    ) -> ProfileId {
        let words = &settings.taxonomy;
        let tenant = self.tenant_id(touchpoint.tenant);
        let channel = CompactString::from(words.resolve_channel(touchpoint.channel));
        let (name, action) = (touchpoint.touchpoint, touchpoint.action);
        let stage = CompactString::from(words.resolve_stage(touchpoint.stage, name, action));
        let cap = settings.dimension_cap;
        let capped = self.capped(cap, tenant, ValueOf::Dimension(Dimension::Touchpoint), name);
        let capped_action = self.capped(cap, tenant, ValueOf::Action, action);
        let mut sets: Vec<Dimensions> = vec![Dimensions::TOTAL];
        let mut seen: Vec<Dimension> = Vec::new();
        for set in &settings.dimension_sets {
            let mut pairs = Vec::with_capacity(set.len());
            for dimension in set {
                let value = match dimension {
                    Dimension::Channel => Some(channel.clone()),
                    Dimension::Stage => Some(stage.clone()),
                    other => own_value(touchpoint, *other)
                        .map(|v| self.capped(cap, tenant, ValueOf::Dimension(*other), v)),
                };
                // A touchpoint without a value of a configured dimension is in none of its series.
                let Some(value) = value else { break };
                let own = own_value(touchpoint, *dimension);
                if own.is_some_and(|own| own != value) && !seen.contains(dimension) {
                    seen.push(*dimension);
                }
                pairs.push((*dimension, value));
            }
            if pairs.len() == set.len() {
                sets.push(Dimensions::new(pairs));
            }
        }
        overflow.append(&mut seen);
        let meaning = match Meaning::of(name, action) {
            Meaning::Cart if !settings.follow_carts => Meaning::Interaction,
            meaning => meaning,
        };
        let texts = [&channel, &stage, &capped, &capped_action];
        let key = key_of(tenant, texts, meaning, sets.iter());
        if let Some(id) = self.by_key.get(key.as_slice()) {
            return *id;
        }
        let series = sets.into_iter().map(|d| self.series_id(tenant, d)).collect();
        let saved = state::SavedProfile {
            tenant,
            channel,
            stage,
            touchpoint: capped,
            action: capped_action,
            meaning,
            view: action == "view",
            series,
        };
        self.profiles.push(saved.complete(settings));
        let id = (self.profiles.len() - 1) as ProfileId;
        self.by_key.insert(key.into_boxed_slice(), id);
        id
    }

    fn tenant_id(&mut self, name: &str) -> TenantId {
        if let Some(id) = self.tenant_ids.get(name) {
            return *id;
        }
        let id = self.tenants.len() as TenantId;
        self.tenants.push(name.into());
        self.tenant_ids.insert(name.into(), id);
        id
    }

    fn series_id(&mut self, tenant: TenantId, dimensions: Dimensions) -> SeriesId {
        let next = self.series.len() as SeriesId;
        let id = *self.series_ids.entry((tenant, dimensions.clone())).or_insert(next);
        if id == next {
            self.series.push(Series { tenant, dimensions });
        }
        id
    }

    /// First seen, first kept.
    fn capped(&mut self, cap: usize, tenant: TenantId, of: ValueOf, value: &str) -> CompactString {
        let values = self.values.entry((tenant, of)).or_default();
        if let Some(known) = values.get(value) {
            return known.clone();
        }
        if values.len() >= cap {
            return CompactString::const_new(OTHER);
        }
        values.insert(value.into());
        self.new_values.push((tenant, of, value.into()));
        value.into()
    }
}

/// What a profile is found by.
fn key_of<'a>(
    tenant: TenantId,
    texts: [&CompactString; 4],
    meaning: Meaning,
    sets: impl Iterator<Item = &'a Dimensions>,
) -> Vec<u8> {
    let mut key = tenant.to_le_bytes().to_vec();
    for text in texts {
        push(&mut key, text);
    }
    key.push(meaning as u8);
    for dimensions in sets {
        for (dimension, value) in dimensions.pairs() {
            push(&mut key, dimension.name());
            push(&mut key, value);
        }
        key.push(0xFE);
    }
    key
}

fn push(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(text.as_bytes());
    // No byte of UTF-8 text.
    key.push(0xFF);
}

/// The touchpoint's own value of a dimension that is not resolved by the taxonomy.
fn own_value<'a>(t: &TouchpointRef<'a>, dimension: Dimension) -> Option<&'a str> {
    match dimension {
        Dimension::AccountType => t.account_type,
        Dimension::Campaign => t.campaign,
        Dimension::Channel | Dimension::Stage => None,
        Dimension::ChannelGroup => t.channel_group,
        Dimension::ContentVersion => t.content_version,
        Dimension::Country => t.country,
        Dimension::Department => t.department,
        Dimension::Device => t.device_id,
        Dimension::HandledBy => t.handled_by,
        Dimension::Message => t.message_id,
        Dimension::PaymentMethod => t.payment_method,
        Dimension::Region => t.region,
        Dimension::ShippingMethod => t.shipping_method,
        Dimension::Store => t.store_id,
        Dimension::Touchpoint => Some(t.touchpoint),
    }
}
