//! The rules between the keys of `[ppo]`.

use super::super::guide_pairs::{GuidePairSource, GuideSource, is_one_model, ppo_pair};
use super::super::rules::{Rules, first_twice};
use super::guide::pair_rules;
use super::ppo::PpoTable;
use super::training::Training;

impl PpoTable {
    /// Tells what is wrong between its keys and others.
    pub(super) fn tell(&self, rules: &mut Rules) {
        self.policy_rules(rules);
        self.rewarding_pair(rules);
        rules.chunk_lens("ppo.chunk_len", &self.chunk_len);
        let data = rules.recipe.data.as_ref();
        let train = ("data.train", data.and_then(|data| data.train));
        rules.prompts("ppo.prompts", self.prompts, train);
        if self.validation_prompts > 0 {
            let validation = ("data.validation", data.and_then(|data| data.validation));
            rules.prompts("ppo.validation_prompts", self.validation_prompts, validation);
        }
        if self.scale == 0.0 {
            rules.problem("`ppo.scale` is 0, so that every reward would be 0");
        }
        if let Some(training) = rules.training.ppo.values().next() {
            self.kl.rules(training.batch_size, rules);
            self.training_rules(training, rules);
        }
        if let Some(lora) = &self.lora {
            for policy in self.policies() {
                lora.rules("ppo.lora", policy, rules);
            }
        }
    }

    fn policy_rules(&self, rules: &mut Rules) {
        let policies = self.policies();
        if policies.is_empty() {
            rules.problem("`ppo.policy` is empty, expected one model or more");
        }
        if let Some(twice) = first_twice(&policies) {
            rules.problem(format!("`ppo.policy` holds `{twice}` twice"));
        }
        for policy in policies {
            if rules.known_model("ppo.policy", policy) {
                rules.fits_context("ppo.max_new_tokens", policy, self.max_new_tokens);
            }
        }
    }

    /// Two models of the recipe, or those of `[steer]`, or the results of `[dpo]` and `[sft]`.
    fn rewarding_pair(&self, rules: &mut Rules) {
        let recipe = rules.recipe;
        pair_rules("ppo", &self.tuned, &self.untuned, rules);
        if let Some(GuidePairSource {
            tuned: GuideSource::Model(tuned),
            untuned: GuideSource::Model(untuned),
            ..
        }) = ppo_pair(recipe)
            && is_one_model(recipe, rules.folder, &tuned, &untuned)
        {
            let both = match tuned == untuned {
                true => format!("both `{tuned}`"),
                false => format!("`{tuned}` and `{untuned}`, which are one model"),
            };
            rules.problem_hint(
                format!(
                    "the tuned and the untuned guide of `[ppo]` are {both}, so every reward would \
                     be 0"
                ),
                "name the model before its tuning as `ppo.untuned`",
            );
        }
        let names_none = self.tuned.is_none() && self.untuned.is_none();
        if names_none && recipe.dpo.is_none() && ppo_pair(recipe).is_none() {
            rules.problem_hint(
                "`[ppo]` has no guide pair to reward its policy: it names none, `[steer]` names \
                 none, and there is no `[dpo]`",
                "add `[dpo]`, or name two models as `ppo.tuned` and `ppo.untuned`",
            );
        }
        for model in recipe.ppo_guide_models() {
            if !self.policies().contains(&model) {
                rules.reads_prompts(model);
            }
        }
    }

    fn training_rules(&self, training: &Training, rules: &mut Rules) {
        let given = &self.training;
        let idle = [
            (
                "epochs",
                given.epochs.is_some(),
                "`steps` counts batches of rollouts, and `ppo.ppo_epochs` the passes over one of \
                 them",
            ),
            (
                "max_length",
                given.max_length.is_some(),
                "leave it out: a rollout ends by `ppo.max_new_tokens`",
            ),
            ("early_stop", given.early_stop.is_some(), "leave it out: all `steps` are taken"),
            (
                "spike_factor",
                given.spike_factor.is_some(),
                "leave it out: the level of PPO's loss means nothing",
            ),
            (
                "max_skips",
                given.max_skips.is_some(),
                "leave it out: training stops at a reward, loss or gradient that is not finite",
            ),
        ];
        for (key, _, hint) in idle.iter().filter(|(_, given, _)| *given) {
            rules.problem_hint(format!("`ppo.training.{key}` does nothing in `[ppo]`"), hint);
        }
        let batch_size = training.batch_size;
        let minibatch_size = self.minibatch(batch_size);
        let batch_key = "ppo.training.batch_size";
        let minibatch_key =
            if self.minibatch_size.is_some() { "ppo.minibatch_size" } else { batch_key };
        rules.equal_parts((minibatch_key, minibatch_size), (batch_key, batch_size));
        if let Some(micro_batch_size) = given.micro_batch_size {
            let micro_batch = ("ppo.training.micro_batch_size", micro_batch_size);
            rules.equal_parts(micro_batch, (minibatch_key, minibatch_size));
        }
        if self.prompts > 0 && batch_size > self.prompts {
            let prompts = self.prompts;
            rules.problem_hint(
                format!(
                    "`{batch_key}` = {batch_size} is more than `ppo.prompts` = {prompts}, and each \
                     step takes as many different prompts"
                ),
                "raise `ppo.prompts`, or lower the batch",
            );
        }
    }
}
