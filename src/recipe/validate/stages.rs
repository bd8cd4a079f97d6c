//! Rules on what stages need from each other, and on their optimisation.

use super::super::{
    DirectTraining, Length, RewardStart, SamplingTable, Stage, StageTable, StageTraining, Training,
    TrainingTable,
};
use super::{Rules, prompt_bound};
use crate::losses::PreferenceLoss;

impl Rules<'_> {
    pub(super) fn stages(&mut self) {
        let recipe = self.recipe;
        for stage in Stage::ALL {
            let needs = stage.table(recipe).map(StageTable::needs).unwrap_or_default();
            for needed in needs.into_iter().filter(|needed| needed.table(recipe).is_none()) {
                if stage == Stage::Preferences {
                    self.problem_hint(
                        "`[preferences]` needs `[gold]`, which labels the pairs",
                        "pairs of a file may keep their labels: `label = \"kept\"`",
                    );
                } else if (stage, needed) == (Stage::Evaluate, Stage::Gold)
                    && !recipe.judges.is_empty()
                {
                    self.problem_hint(
                        "`[evaluate]` needs `[gold]`",
                        "make one of `[judges]` the \
                                                                      `[gold]`, whose rewards are \
                                                                      compared",
                    );
                } else {
                    self.problem(format!("`[{stage}]` needs `[{needed}]`"));
                }
            }
        }
        if Stage::ALL.iter().all(|stage| stage.table(recipe).is_none()) {
            let tables: Vec<String> = Stage::ALL
                .iter()
                .filter(|stage| **stage != Stage::Evaluate)
                .map(|stage| format!("`[{stage}]`"))
                .collect();
            self.problem_hint(
                "the recipe has no stage",
                format!("add the table of a stage: {}", tables.join(", ")),
            );
        }
        self.preferences();
        if let Some(model) = recipe.sft.as_ref().and_then(|sft| sft.model.as_ref()) {
            self.known_model("sft.model", model);
        }
        if let Some(dpo) = &recipe.dpo {
            self.positive("dpo.beta", dpo.beta);
            self.label_smoothing("dpo", dpo.label_smoothing, dpo.loss);
        }
        self.reward_model();
        self.direct();
        self.trainings();
    }

    fn reward_model(&mut self) {
        let Some(table) = &self.recipe.reward_model else { return };
        self.positive("reward_model.head_learning_rate", table.head_learning_rate);
        let named =
            table.model.as_deref().filter(|model| self.known_model("reward_model.model", model));
        if table.from != RewardStart::Sft {
            if self.recipe.preferences.is_some() && self.recipe.reward_model_base().is_none() {
                self.problem_hint(
                    "`[reward_model]` has no model to stand on, because `preferences.source` has \
                     no policy",
                    "name a model of the recipe as `reward_model.model`",
                );
            }
            return;
        }
        if self.recipe.sft.is_none() {
            self.problem_hint(
                "`reward_model.from` is `sft`, and there is no `[sft]`",
                "add `[sft]`, or leave `from` out",
            );
        } else if let (Some(model), Some(tuned)) =
            (named, self.recipe.guide_model().filter(|tuned| named != Some(tuned)))
        {
            self.problem_hint(
                format!(
                    "`reward_model.from` is `sft`, which tunes `{tuned}`, but \
                         `reward_model.model` is `{model}`"
                ),
                "leave one of them out",
            );
        }
    }

    fn direct(&mut self) {
        let recipe = self.recipe;
        let (Some(direct), models) = (&recipe.direct, recipe.direct_models()) else { return };
        if direct.models.as_ref().is_some_and(Vec::is_empty) {
            self.problem("`direct.models` is empty, expected one model or more");
        } else if direct.models.is_none() && recipe.steer.is_none() {
            self.problem_hint(
                "`[direct]` tunes `steer.bases`, and there is no `[steer]`",
                "add `[steer]`, or name models as `direct.models`",
            );
        }
        for (index, model) in direct.models.iter().flatten().enumerate() {
            if models[..index].contains(model) {
                self.problem(format!("`direct.models` holds `{model}` twice"));
            } else {
                self.known_model("direct.models", model);
            }
        }
        if let Some(beta) = direct.beta {
            self.positive("direct.beta", beta);
        }
        if let Some(smoothing) = direct.label_smoothing {
            self.label_smoothing("direct", smoothing, direct.objective(recipe.dpo.as_ref()).loss);
        }
        let Some(preferences) =
            recipe.preferences.as_ref().filter(|preferences| preferences.source.is_none())
        else {
            return;
        };
        // With another vocabulary responses may be longer still; those that are too long are left
        // out, and a warning counts them.
        for model in models.iter().filter(|model| Some(*model) != preferences.policy.as_ref()) {
            self.fits_context("preferences.max_new_tokens", model, preferences.max_new_tokens);
        }
    }

    fn label_smoothing(&mut self, table: &str, smoothing: f64, loss: PreferenceLoss) {
        let key = format!("{table}.label_smoothing");
        if !(0.0..0.5).contains(&smoothing) {
            self.problem(format!(
                "`{key}` is {smoothing}, expected 0 or more and below 0.5: the \
                                  chance that a label is wrong"
            ));
        } else if smoothing > 0.0 && loss != PreferenceLoss::Sigmoid {
            self.problem_hint(
                format!("`{key}` is {smoothing}, but only the loss `sigmoid` smooths labels"),
                format!("leave it out, or set `{table}.loss` to `sigmoid`"),
            );
        }
    }

    /// Prompts come from a split, so it must have that many rows (0 rows: as many as the source
    /// has).
    pub(super) fn prompts(&mut self, key: &str, prompts: usize, split_key: &str, rows: usize) {
        self.at_least_one(key, prompts);
        if rows > 0 && prompts > rows {
            self.problem(format!("`{key}` = {prompts} is more than `{split_key}` = {rows}"));
        }
    }

    pub(super) fn sampling(&mut self, table: &str, sampling: &SamplingTable) {
        let SamplingTable { temperature, top_p, .. } = *sampling;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            self.problem(format!(
                "`{table}.temperature` is {temperature}, expected 0 (greedy) or \
                                  more"
            ));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            self.problem(format!(
                "`{table}.top_p` is {top_p}, expected a number above 0 and up to \
                                  1 (1 is off)"
            ));
        }
    }

    /// Prompt and response must fit what the model can see.
    pub(super) fn fits_context(&mut self, key: &str, model: &str, new_tokens: usize) {
        let (Some(sizes), Some(table)) =
            (self.sizes.models.get(model), self.recipe.models.get(model))
        else {
            return;
        };
        let context = sizes.context;
        let prompt = prompt_bound(&self.recipe.data.prompt, table);
        // One more for the end-of-sequence token.
        let needed = prompt.saturating_add(new_tokens).saturating_add(1);
        if needed as u64 > context {
            self.problem_hint(
                format!(
                    "`{key}`: a prompt of up to {prompt} tokens, {new_tokens} new ones and an \
                         end token make {needed}, but `models.{model}` sees {context}"
                ),
                format!(
                    "lower `{key}` or `data.prompt.max_words`, or take a model with a longer \
                         context"
                ),
            );
        }
    }

    /// A guide that scores must have room for a token behind the prompt, or every response is worth
    /// 0.
    pub(super) fn reads_prompts(&mut self, model: &str) {
        let (Some(sizes), Some(table)) =
            (self.sizes.models.get(model), self.recipe.models.get(model))
        else {
            return;
        };
        let prompt = prompt_bound(&self.recipe.data.prompt, table);
        if prompt as u64 >= sizes.context {
            let context = sizes.context;
            let what = format!(
                "`data.prompt.max_words`: a prompt of up to {prompt} tokens leaves the guide \
                 `models.{model}`, which sees {context}, no token of a response"
            );
            if !self.problems.iter().any(|told| told.contains(&what)) {
                self.problem_hint(what, "lower it, or take a guide with a longer context");
            }
        }
    }

    fn trainings(&mut self) {
        let recipe = self.recipe;
        let resolved = StageTraining::resolve(recipe, &self.sizes);
        if let Some(pretrain) = &recipe.pretrain {
            self.table(
                "pretrain.training",
                &pretrain.training,
                &Training::resolve(&pretrain.training, Training::pretrain()),
            );
            for (name, training) in &resolved.pretrain {
                self.length_fits(
                    "pretrain.training",
                    training,
                    &format!("models.{name}"),
                    self.sizes.models.get(name).map(|sizes| sizes.context),
                );
            }
        }
        let guide = recipe.guide_model().unwrap_or_default();
        let guide_context = self.sizes.models.get(guide).map(|sizes| sizes.context);
        let gold = (self.sizes.gold.as_ref().map(|sizes| sizes.context), "gold".to_owned());
        let guide = (guide_context, format!("models.{guide}"));
        let base = recipe.reward_model_base().unwrap_or_default();
        let base =
            (self.sizes.models.get(base).map(|sizes| sizes.context), format!("models.{base}"));
        let stages = [
            (
                "gold.training",
                recipe.gold.as_ref().map(|gold| &gold.training),
                &resolved.gold,
                &gold,
            ),
            ("sft.training", recipe.sft.as_ref().map(|sft| &sft.training), &resolved.sft, &guide),
            (
                "reward_model.training",
                recipe.reward_model.as_ref().map(|table| &table.training),
                &resolved.reward_model,
                &base,
            ),
            ("dpo.training", recipe.dpo.as_ref().map(|dpo| &dpo.training), &resolved.dpo, &guide),
        ];
        for (key, table, training, (context, model)) in stages {
            let (Some(table), Some(training)) = (table, training) else { continue };
            self.table(key, table, training);
            self.length_fits(key, training, model, *context);
        }
        for (index, (name, training)) in resolved.direct.iter().enumerate() {
            self.direct_training(name, training, index == 0);
        }
    }

    fn direct_training(&mut self, name: &str, training: &DirectTraining, first: bool) {
        let Some(direct) = &self.recipe.direct else { return };
        let model = format!("models.{name}");
        let context = self.sizes.models.get(name).map(|sizes| sizes.context);
        let stages = [
            ("direct.sft", "sft.training", direct.sft.as_ref(), training.sft.as_ref()),
            ("direct.dpo", "dpo.training", Some(&direct.dpo), Some(&training.dpo)),
        ];
        for (key, guide, table, training) in stages {
            let (Some(table), Some(training)) = (table, training) else { continue };
            // Models differ only in the length of their texts.
            if first {
                let told = self.problems.len();
                self.table(key, table, training);
                // A wrong value that is the guide's has been told where it stands.
                let mut own = self.problems.split_off(told);
                own.retain(|problem| !self.problems.contains(&problem.replace(key, guide)));
                self.problems.extend(own);
            }
            self.length_fits(key, training, &model, context);
        }
    }

    pub(super) fn table(&mut self, key: &str, given: &TrainingTable, training: &Training) {
        if given.steps.is_some() && given.epochs.is_some() {
            self.problem(format!("`{key}` has both `steps` and `epochs`, expected one of them"));
        }
        match training.length {
            Length::Steps(steps) => self.at_least_one(&format!("{key}.steps"), steps),
            Length::Epochs(epochs) => self.positive(&format!("{key}.epochs"), epochs),
        }
        let Training { batch_size, micro_batch_size, warmup_ratio, weight_decay, .. } = *training;
        let counts = [
            ("batch_size", batch_size),
            ("micro_batch_size", micro_batch_size),
            ("eval_every", training.eval_every),
            ("checkpoint_every", training.checkpoint_every),
            ("keep_checkpoints", training.keep_checkpoints),
            ("early_stop", training.early_stop.unwrap_or(1)),
        ];
        for (name, count) in counts {
            self.at_least_one(&format!("{key}.{name}"), count);
        }
        // That of PPO divides its minibatch.
        if key != "ppo.training" {
            self.equal_parts(
                (&format!("{key}.micro_batch_size"), micro_batch_size),
                (&format!("{key}.batch_size"), batch_size),
            );
        }
        if training.activation_checkpointing && key == "gold.training" {
            self.problem(format!(
                "`{key}.activation_checkpointing` is for language and reward \
                                  models, not for classifiers"
            ));
        }
        self.positive(&format!("{key}.learning_rate"), training.learning_rate);
        self.positive(&format!("{key}.max_grad_norm"), training.max_grad_norm);
        self.positive(&format!("{key}.checkpoints_gib"), training.checkpoints_gib.unwrap_or(1.0));
        if let Some(factor) =
            training.spike_factor.filter(|factor| *factor <= 1.0 || factor.is_nan())
        {
            self.problem(format!("`{key}.spike_factor` is {factor}, expected more than 1"));
        }
        if !(0.0..1.0).contains(&warmup_ratio) {
            self.problem(format!(
                "`{key}.warmup_ratio` is {warmup_ratio}, expected 0 or more and \
                                  below 1"
            ));
        }
        self.not_negative(&format!("{key}.weight_decay"), weight_decay);
        if given.max_length.is_some_and(|length| length < 2) {
            self.problem(format!(
                "`{key}.max_length` is {}, expected 2 or more",
                training.max_length
            ));
        }
    }

    /// A batch is made of parts of one size; that neither is 0 has its own rule.
    pub(super) fn equal_parts(
        &mut self,
        (part_key, part): (&str, usize),
        (whole_key, whole): (&str, usize),
    ) {
        if part > 0 && whole > 0 && !whole.is_multiple_of(part) {
            let divisors = (1..=whole.min(1024)).filter(|divisor| whole.is_multiple_of(*divisor));
            self.problem_hint(
                format!("`{part_key}` = {part} does not divide `{whole_key}` = {whole}"),
                format!(
                    "use one of {}",
                    divisors.map(|divisor| divisor.to_string()).collect::<Vec<_>>().join(", ")
                ),
            );
        }
    }

    fn length_fits(&mut self, key: &str, training: &Training, model: &str, context: Option<u64>) {
        if let Some(context) = context.filter(|context| training.max_length as u64 > *context) {
            self.problem(format!(
                "`{key}.max_length` = {} is more than the {context} tokens that \
                                  `{model}` sees",
                training.max_length
            ));
        }
    }
}
