//! Rules on `[ppo]` and on the method that samples what it made.

use super::super::plan::ppo_pair;
use super::super::{
    ChunkLen, ChunkLens, GuidePairSource, GuideSource, KlTable, PpoTable, Steer, Training,
    TrainingTable, listed,
};
use super::steer::is_one_model;
use super::{Rules, first_twice};

impl Rules<'_> {
    pub(super) fn ppo(&mut self) {
        let Some(ppo) = &self.recipe.ppo else { return };
        if self.known_model("ppo.policy", &ppo.policy) {
            self.fits_context("ppo.max_new_tokens", &ppo.policy, ppo.max_new_tokens);
        }
        self.rewarding_pair(ppo);
        self.chunk_lens("ppo.chunk_len", &ppo.chunk_len);
        let data = &self.recipe.data;
        self.prompts("ppo.prompts", ppo.prompts, "data.train", data.train);
        if ppo.validation_prompts > 0 {
            self.prompts(
                "ppo.validation_prompts",
                ppo.validation_prompts,
                "data.validation",
                data.validation,
            );
        }
        self.at_least_one("ppo.max_new_tokens", ppo.max_new_tokens);
        self.at_least_one("ppo.ppo_epochs", ppo.ppo_epochs);
        if ppo.temperature == 0.0 {
            self.problem_hint(
                "`ppo.temperature` is 0, but greedy rollouts have nothing to choose \
                               from",
                "0.7 is the default",
            );
        } else {
            self.positive("ppo.temperature", ppo.temperature);
        }
        if !(ppo.scale.is_finite() && ppo.scale != 0.0) {
            self.problem(format!(
                "`ppo.scale` is {}, expected a finite number that is not 0",
                ppo.scale
            ));
        }
        if !(ppo.gamma > 0.0 && ppo.gamma <= 1.0) {
            self.problem(format!(
                "`ppo.gamma` is {}, expected a number above 0 and up to 1",
                ppo.gamma
            ));
        }
        if !(0.0..=1.0).contains(&ppo.lam) {
            self.problem(format!("`ppo.lam` is {}, expected 0 to 1", ppo.lam));
        }
        self.positive("ppo.cliprange", ppo.cliprange);
        self.positive("ppo.cliprange_value", ppo.cliprange_value);
        self.not_negative("ppo.vf_coef", ppo.vf_coef);
        self.positive("ppo.head_learning_rate", ppo.head_learning_rate);
        self.not_negative("ppo.missing_eos_penalty", ppo.missing_eos_penalty);
        if let Some(target) = ppo.target_kl {
            self.positive("ppo.target_kl", target);
        }
        self.kl(&ppo.kl, ppo.training.batch_size.unwrap_or(Training::ppo().batch_size));
        self.ppo_training(ppo);
    }

    /// Two models of the recipe, or those of `[steer]`, or the results of `[dpo]` and `[sft]`.
    fn rewarding_pair(&mut self, ppo: &PpoTable) {
        let recipe = self.recipe;
        self.guide_pair("ppo", &ppo.tuned, &ppo.untuned);
        if let Some(GuidePairSource {
            tuned: GuideSource::Model(tuned),
            untuned: GuideSource::Model(untuned),
            ..
        }) = ppo_pair(recipe)
            && is_one_model(recipe, self.folder, &tuned, &untuned)
        {
            let both = if tuned == untuned {
                format!("both `{tuned}`")
            } else {
                format!("`{tuned}` and `{untuned}`, which are one model")
            };
            self.problem_hint(
                format!(
                    "the tuned and the untuned guide of `[ppo]` are {both}, so every reward \
                         would be 0"
                ),
                "name the model before its tuning as `ppo.untuned`",
            );
        }
        if ppo.tuned.is_none()
            && ppo.untuned.is_none()
            && recipe.dpo.is_none()
            && ppo_pair(recipe).is_none()
        {
            self.problem_hint(
                "`[ppo]` has no guide pair to reward its policy: it names none, `[steer]` names \
                 none, and there is no `[dpo]`",
                "add `[dpo]`, or name two models as `ppo.tuned` and `ppo.untuned`",
            );
        }
        for model in recipe.ppo_guide_models().into_iter().filter(|model| *model != ppo.policy) {
            self.reads_prompts(model);
        }
    }

    fn chunk_lens(&mut self, key: &str, ChunkLens(lengths): &ChunkLens) {
        if lengths.is_empty() {
            self.problem_hint(
                format!("`{key}` is empty, expected one chunk length or more"),
                "a number of tokens, or \"inf\"",
            );
        }
        if lengths.contains(&ChunkLen::Tokens(0)) {
            self.problem_hint(
                format!("`{key}` holds 0, expected 1 or more"),
                "\"inf\" makes the \
                                                                               whole response one \
                                                                               chunk",
            );
        }
        if let Some(twice) = first_twice(lengths) {
            self.problem(format!("`{key}` holds {twice} twice"));
        }
    }

    fn kl(&mut self, kl: &KlTable, batch_size: usize) {
        self.not_negative("ppo.kl.coef", kl.coef);
        self.positive("ppo.kl.horizon", kl.horizon());
        match kl.target {
            Some(target) => {
                self.positive("ppo.kl.target", target);
                // One step changes the coefficient by up to a fifth of batch over horizon.
                let least = 0.2 * batch_size as f64;
                if kl.horizon() > 0.0 && kl.horizon() <= least {
                    self.problem_hint(
                        format!(
                            "`ppo.kl.horizon` is {}, and a step of {batch_size} rollouts would \
                             take the coefficient to 0 or below",
                            kl.horizon()
                        ),
                        format!("more than {least}; 10000 is the default"),
                    );
                }
                if kl.coef == 0.0 {
                    self.problem_hint(
                        "`ppo.kl.target` adapts `ppo.kl.coef` by factors, so it stays at its 0",
                        "start from a coefficient above 0, or leave `target` out",
                    );
                }
            }
            None if kl.horizon.is_some() => self.problem_hint(
                "`ppo.kl.horizon` does nothing without `ppo.kl.target`: the coefficient is fixed",
                "name a target, or leave `horizon` out",
            ),
            None => {}
        }
    }

    fn ppo_training(&mut self, ppo: &PpoTable) {
        let given = &ppo.training;
        let idle = [
            (
                "epochs",
                given.epochs.is_some(),
                "`steps` counts batches of rollouts, and \
                                                `ppo.ppo_epochs` the passes over one of them",
            ),
            (
                "max_length",
                given.max_length.is_some(),
                "leave it out: a rollout ends by \
                                                        `ppo.max_new_tokens`",
            ),
            ("early_stop", given.early_stop.is_some(), "leave it out: all `steps` are taken"),
            (
                "spike_factor",
                given.spike_factor.is_some(),
                "leave it out: the level of PPO's loss \
                                                            means nothing",
            ),
            (
                "max_skips",
                given.max_skips.is_some(),
                "leave it out: training stops at a reward, \
                                                      loss or gradient that is no number",
            ),
        ];
        for (key, _, hint) in idle.iter().filter(|(_, given, _)| *given) {
            self.problem_hint(format!("`ppo.training.{key}` does nothing in `[ppo]`"), hint);
        }
        let given = TrainingTable {
            epochs: None,
            max_length: None,
            early_stop: None,
            spike_factor: None,
            max_skips: None,
            ..given.clone()
        };
        let training = Training::resolve(&given, Training::ppo());
        self.table("ppo.training", &given, &training);
        let (batch_size, minibatch_size) =
            (training.batch_size, ppo.minibatch(training.batch_size));
        let batch_key = "ppo.training.batch_size";
        let minibatch_key =
            if ppo.minibatch_size.is_some() { "ppo.minibatch_size" } else { batch_key };
        self.at_least_one("ppo.minibatch_size", ppo.minibatch_size.unwrap_or(1));
        self.equal_parts((minibatch_key, minibatch_size), (batch_key, batch_size));
        if let Some(micro_batch_size) = given.micro_batch_size {
            self.equal_parts(
                ("ppo.training.micro_batch_size", micro_batch_size),
                (minibatch_key, minibatch_size),
            );
        }
        if ppo.prompts > 0 && batch_size > ppo.prompts {
            self.problem_hint(
                format!(
                    "`{batch_key}` = {batch_size} is more than `ppo.prompts` = {}, and each step \
                     takes as many different prompts",
                    ppo.prompts
                ),
                "raise `ppo.prompts`, or lower the batch",
            );
        }
    }

    /// A method `ppo` samples what `[ppo]` made of its policy.
    pub(super) fn made_by_ppo(&mut self, key: &str, chunk_len: &ChunkLens, steer: &Steer) {
        self.chunk_lens(&format!("{key}.chunk_len"), chunk_len);
        let Some(ppo) = &self.recipe.ppo else {
            return self.problem_hint(
                format!("`{key}`: `ppo` samples what PPO made of a base, and there is no `[ppo]`"),
                "add `[ppo]` with its `policy`, `prompts` and `max_new_tokens`",
            );
        };
        let untrained: Vec<String> = chunk_len
            .0
            .iter()
            .filter(|length| !ppo.chunk_len.0.contains(length))
            .map(ChunkLen::to_string)
            .collect();
        if !untrained.is_empty() {
            let trained: Vec<String> = ppo.chunk_len.0.iter().map(ChunkLen::to_string).collect();
            self.problem_hint(
                format!(
                    "`{key}.chunk_len` holds {}, which `ppo.chunk_len` does not",
                    listed(untrained.iter().map(String::as_str))
                ),
                format!("`[ppo]` trains with {}", listed(trained.iter().map(String::as_str))),
            );
        }
        if self.recipe.models.contains_key(&ppo.policy)
            && !steer.bases.is_empty()
            && !steer.bases.contains(&ppo.policy)
        {
            self.problem_hint(
                format!(
                    "`{key}`: `ppo` samples what became of `ppo.policy` = `{}`, which is not \
                         among `steer.bases`",
                    ppo.policy
                ),
                "name it there too",
            );
        }
    }
}
