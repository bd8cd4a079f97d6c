//! Rules on `sft.lora`, `reward_model.lora`, `dpo.lora`, `direct.lora` and `ppo.lora`.

use super::super::{Lora, LoraSave, LoraTable, RewardStart};
use super::{Rules, listed};

impl Rules<'_> {
    pub(super) fn lora(&mut self) {
        let recipe = self.recipe;
        let (sft, dpo) = (
            recipe.sft.as_ref().and_then(|sft| sft.lora.as_ref()),
            recipe.dpo.as_ref().and_then(|dpo| dpo.lora.as_ref()),
        );
        let guide = recipe.guide_model().unwrap_or_default();
        for (key, table) in [("sft.lora", sft), ("dpo.lora", dpo)] {
            table.iter().for_each(|table| self.lora_table(key, table, guide));
        }
        if let Some(table) = recipe.direct.as_ref().and_then(|direct| direct.lora.as_ref()) {
            for model in recipe.direct_models() {
                let told = self.problems.len();
                self.lora_table("direct.lora", table, model);
                // What is wrong whatever the model is told once.
                let mut own = self.problems.split_off(told);
                own.retain(|problem| !self.problems.contains(problem));
                self.problems.extend(own);
            }
        }
        if let Some((ppo, table)) =
            recipe.ppo.as_ref().and_then(|ppo| Some((ppo, ppo.lora.as_ref()?)))
        {
            self.lora_table("ppo.lora", table, &ppo.policy);
        }
        let reward_model =
            recipe.reward_model.as_ref().and_then(|table| Some((table, table.lora.as_ref()?)));
        if let Some((_, table)) = reward_model {
            self.lora_table(
                "reward_model.lora",
                table,
                recipe.reward_model_base().unwrap_or_default(),
            );
        }
        let on_sft =
            reward_model.filter(|(table, _)| table.from == RewardStart::Sft).map(|(_, lora)| lora);
        for (key, next) in [("dpo.lora", dpo), ("reward_model.lora", on_sft)] {
            self.goes_on_with_sft(sft.filter(|sft| sft.save == LoraSave::Adapter), key, next);
        }
    }

    /// What starts from an adapter that `sft` saved goes on training that one.
    fn goes_on_with_sft(&mut self, sft: Option<&LoraTable>, key: &str, next: Option<&LoraTable>) {
        let (Some(sft), Some(next)) = (sft, next) else { return };
        let guide = self.recipe.guide_model().unwrap_or_default();
        let [sft, next] =
            [sft, next].map(|table| Lora::resolve(table, self.sizes.models.get(guide)));
        if (sft.rank, sft.alpha, &sft.targets) != (next.rank, next.alpha, &next.targets) {
            self.problem_hint(
                format!(
                    "`{key}` goes on training the adapter that `sft.lora` saves, so `rank`, \
                         `alpha` and `targets` must be the same"
                ),
                "make them the same, or save SFT's result with `sft.lora.save = \"merged\"`",
            );
        }
    }

    fn lora_table(&mut self, key: &str, table: &LoraTable, model: &str) {
        let sizes = self.sizes.models.get(model).cloned();
        let lora = Lora::resolve(table, sizes.as_ref());
        self.at_least_one(&format!("{key}.rank"), usize::try_from(lora.rank).unwrap_or(usize::MAX));
        if lora.rank > 0 || table.alpha.is_some() {
            self.positive(&format!("{key}.alpha"), lora.alpha);
        }
        if table.targets.as_ref().is_some_and(Vec::is_empty) {
            self.problem_hint(
                format!("`{key}.targets` is empty"),
                "leave it out for the layers \
                                                                    that are usual for the model",
            );
        }
        let Some(sizes) = sizes else { return };
        for target in &lora.targets {
            let layers: Vec<_> =
                sizes.linears.iter().filter(|layer| Lora::matches(target, &layer.name)).collect();
            if layers.is_empty() {
                self.problem_hint(
                    format!(
                        "`{key}.targets` holds `{target}`, but `models.{model}` has no linear \
                             layer of that name"
                    ),
                    format!(
                        "its layers: {}",
                        listed(sizes.linears.iter().map(|layer| layer.name.as_str()))
                    ),
                );
            }
            for layer in layers.into_iter().filter(|layer| lora.rank > layer.n_in.min(layer.n_out))
            {
                let (name, n_in, n_out) = (&layer.name, layer.n_in, layer.n_out);
                let rank = lora.rank;
                self.problem(format!(
                    "`{key}.rank` is {rank}, more than the rank of `{name}` of `models.{model}`, \
                     which has {n_in} inputs and {n_out} outputs"
                ));
            }
        }
    }
}
