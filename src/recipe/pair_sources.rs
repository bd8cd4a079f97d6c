//! Which tables of a recipe name pairs that are there already.

use super::tables::{GoldRewardModel, PairSource, Preferences, Recipe};

impl Recipe {
    /// The pairs that the gold is trained on, and those of `[preferences]`.
    pub fn pair_sources(&self) -> Vec<PairSource<'_>> {
        let gold = self.gold_reward_model().map(GoldRewardModel::pair_source);
        let preferences = self.preferences.as_ref().and_then(Preferences::pair_source);
        gold.into_iter().chain(preferences).collect()
    }

    /// Where these lie, in the same order.
    pub fn pair_sources_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let Self { gold, preferences, .. } = self;
        let gold = gold.as_mut().and_then(|gold| gold.reward_model.as_mut());
        let gold = gold.map(|table| &mut table.source);
        let preferences = preferences.as_mut().and_then(|table| table.source.as_mut());
        gold.into_iter().chain(preferences)
    }
}
