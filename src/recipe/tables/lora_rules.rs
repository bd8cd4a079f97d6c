//! The rules on a `lora` table, wherever it stands.

use super::super::rules::Rules;
use super::super::words::listed;
use super::lora::{Lora, LoraSave, LoraTable};

impl LoraTable {
    /// Where it stands at `key` and adapts `model`.
    pub(super) fn rules(&self, key: &str, model: &str, rules: &mut Rules) {
        let sizes = rules.sizes.models.get(model);
        let lora = Lora::resolve(self, sizes);
        if self.targets.as_ref().is_some_and(Vec::is_empty) {
            rules.problem_hint(
                format!("`{key}.targets` is empty"),
                "leave it out for the layers that are usual for the model",
            );
        }
        let Some(sizes) = sizes else { return };
        for target in &lora.targets {
            let layers: Vec<_> =
                sizes.linears.iter().filter(|layer| Lora::matches(target, &layer.name)).collect();
            if layers.is_empty() {
                let names = sizes.linears.iter().map(|layer| layer.name.as_str());
                rules.problem_hint(
                    format!(
                        "`{key}.targets` holds `{target}`, but `models.{model}` has no linear \
                         layer of that name"
                    ),
                    format!("its layers: {}", listed(names)),
                );
            }
            for layer in layers.into_iter().filter(|layer| lora.rank > layer.n_in.min(layer.n_out))
            {
                let (name, n_in, n_out) = (&layer.name, layer.n_in, layer.n_out);
                let rank = lora.rank;
                rules.problem(format!(
                    "`{key}.rank` is {rank}, more than the rank of `{name}` of `models.{model}`, \
                     which has {n_in} inputs and {n_out} outputs"
                ));
            }
        }
    }

    /// What starts from an adapter that `sft` saved goes on training that one.
    pub(super) fn goes_on_with_sft(&self, key: &str, rules: &mut Rules) {
        let sft = rules.recipe.sft.as_ref().and_then(|sft| sft.lora.as_ref());
        let Some(sft) = sft.filter(|sft| sft.save == LoraSave::Adapter) else { return };
        let guide = rules.recipe.guide_model().unwrap_or_default();
        let sizes = rules.sizes.models.get(guide);
        let [sft, next] = [sft, self].map(|table| Lora::resolve(table, sizes));
        if (sft.rank, sft.alpha, &sft.targets) != (next.rank, next.alpha, &next.targets) {
            rules.problem_hint(
                format!(
                    "`{key}` goes on training the adapter that `sft.lora` saves, so `rank`, \
                     `alpha` and `targets` must be the same"
                ),
                "make them the same, or save SFT's result with `sft.lora.save = \"merged\"`",
            );
        }
    }
}
