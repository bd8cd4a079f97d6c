//! Which models of a recipe are trained by LoRA from their own folders.

use super::tables::{LoraTable, Recipe, RewardStart};

impl Recipe {
    /// The models that are trained by LoRA from their own folders, each with the settings of the
    /// first task that does.
    pub fn lora_starts(&self) -> Vec<(&str, &LoraTable)> {
        let of_guide = match (&self.sft, &self.dpo) {
            (Some(sft), _) => sft.lora.as_ref(),
            (None, dpo) => dpo.as_ref().and_then(|dpo| dpo.lora.as_ref()),
        };
        let guide = self.guide_model().zip(of_guide);
        let direct = self.direct.as_ref().and_then(|direct| direct.lora.as_ref());
        let direct = direct.into_iter().flat_map(|table| {
            self.direct_models().iter().map(move |model| (model.as_str(), table))
        });
        let of_reward = self.reward_model.as_ref().filter(|table| table.from == RewardStart::Model);
        let reward = self.reward_model_base().zip(of_reward.and_then(|table| table.lora.as_ref()));
        let gold = self.gold_reward_model();
        let gold = gold.and_then(|table| Some((table.model.as_str(), table.lora.as_ref()?)));
        let policies = self.ppo.iter().flat_map(|ppo| {
            let lora = ppo.lora.as_ref();
            ppo.policies().into_iter().filter_map(move |policy| Some((policy, lora?)))
        });
        gold.into_iter().chain(guide).chain(direct).chain(reward).chain(policies).collect()
    }
}
