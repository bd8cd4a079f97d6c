//! Weak to strong: what steering a base with the guides gains over the tuned guide itself, over
//! the base as it is, and over the base tuned directly.

use serde::{Deserialize, Serialize};

use super::comparison::{Comparison, against};
use crate::recipe::GOLD;

/// What a row stands for when the weak are asked to steer the strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The base as it is, sampled.
    Plain,
    /// The base, steered by guides.
    Steered,
    /// The guides alone.
    Tuned,
    Untuned,
    /// The base after its own tuning.
    Direct,
    /// Whatever else: vanilla beam search, PPO.
    Other,
}

impl Role {
    pub(super) fn is_of_guides(self) -> bool {
        matches!(self, Self::Tuned | Self::Untuned)
    }
}

/// One base steered by one method, by the gold reward; what it is compared with is `null` where
/// the recipe has no such row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeakToStrong {
    pub base: String,
    pub method: String,
    pub gold_reward: f64,
    /// Less that of the tuned guide, sampled alone.
    pub over_tuned: Option<Over>,
    /// Less that of the base, sampled.
    pub over_base: Option<Over>,
    /// Less that of the base after its own SFT and DPO.
    pub over_direct: Option<Over>,
}

/// A paired difference; Holm's correction is over all methods of the base less the same row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Over {
    pub difference: f64,
    pub bootstrap95: Option<[f64; 2]>,
    pub p_holm: Option<f64>,
}

/// What is known of a row: its names, what it stands for, and which setting of `dpo.sweep` made its
/// guides.
pub(super) struct Place<'a> {
    pub base: &'a str,
    pub method: &'a str,
    pub role: Role,
    pub guide: Option<&'a str>,
    pub gold_reward: f64,
}

pub(super) fn weak_to_strong(places: &[Place], comparisons: &[Comparison]) -> Vec<WeakToStrong> {
    let steered = places.iter().filter(|place| place.role == Role::Steered);
    let row = |place: &Place| {
        let over = |found: Option<&Place>| -> Option<Over> {
            let family = against(comparisons, GOLD, place.base, found?.method);
            let Comparison { difference, bootstrap95, p_holm, .. } =
                family.into_iter().find(|it| it.a == place.method)?;
            Some(Over { difference, bootstrap95, p_holm })
        };
        let of_base = |role| places.iter().find(|it| it.role == role && it.base == place.base);
        let tuned = places.iter().find(|it| it.role == Role::Tuned && it.guide == place.guide);
        WeakToStrong {
            base: place.base.to_owned(),
            method: place.method.to_owned(),
            gold_reward: place.gold_reward,
            over_tuned: over(tuned),
            over_base: over(of_base(Role::Plain)),
            over_direct: over(of_base(Role::Direct)),
        }
    };
    steered.map(row).collect()
}
