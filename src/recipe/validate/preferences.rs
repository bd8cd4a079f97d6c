//! Rules on preference pairs, sampled from a policy or read from a source.

use super::super::{PairColumns, PairSplits, Pairing, PreferenceLabel, Preferences, SamplingTable};
use super::Rules;

impl Rules<'_> {
    pub(super) fn preferences(&mut self) {
        let Some(preferences) = &self.recipe.preferences else { return };
        match &preferences.source {
            Some(source) => self.pair_source(preferences, source),
            None => self.sampled_pairs(preferences),
        }
        self.model_to_tune(preferences);
    }

    fn sampled_pairs(&mut self, preferences: &Preferences) {
        let data = &self.recipe.data;
        self.prompts("preferences.prompts", preferences.prompts, "data.train", data.train);
        self.prompts(
            "preferences.validation_prompts",
            preferences.validation_prompts,
            "data.validation",
            data.validation,
        );
        let samples = preferences.samples_per_prompt;
        if preferences.pairing == Pairing::Disjoint && (samples < 2 || !samples.is_multiple_of(2)) {
            self.problem(format!(
                "`preferences.samples_per_prompt` is {samples}, expected an even number of 2 or \
                 more: each two make a pair"
            ));
        } else if samples < 2 {
            self.problem(format!(
                "`preferences.samples_per_prompt` is {samples}, expected 2 or \
                                  more"
            ));
        }
        self.at_least_one("preferences.max_new_tokens", preferences.max_new_tokens);
        self.sampling("preferences.sampling", &preferences.sampling);
        if preferences.sampling.temperature == 0.0 {
            self.problem_hint(
                "`preferences.sampling.temperature` is 0, so all samples of a prompt would be the \
                 same and make no pair",
                "0.7 is the default",
            );
        }
        if preferences.label == PreferenceLabel::Kept {
            self.problem_hint(
                "`preferences.label` is `kept`, but samples have no labels to keep",
                "`drawn` or `argmax`, or name a file of pairs as `preferences.source`",
            );
        }
        let of_a_source = [
            ("columns", preferences.columns != PairColumns::default()),
            ("splits", preferences.splits != PairSplits::default()),
            ("train_pairs", preferences.train_pairs > 0),
            ("validation_pairs", preferences.validation_pairs > 0),
        ];
        for (key, _) in of_a_source.iter().filter(|(_, given)| *given) {
            self.problem(format!(
                "`preferences.{key}` is about a file of pairs, but there is no \
                                  `preferences.source`"
            ));
        }
        match &preferences.policy {
            None => self.problem_hint(
                "missing key `policy` in `preferences`",
                "a model of the recipe to sample pairs from; or `source`, a file of pairs",
            ),
            Some(policy) => {
                if self.known_model("preferences.policy", policy) {
                    self.fits_context(
                        "preferences.max_new_tokens",
                        policy,
                        preferences.max_new_tokens,
                    );
                }
            }
        }
    }

    fn pair_source(&mut self, preferences: &Preferences, source: &str) {
        let path = self.folder.join(source);
        if source.is_empty() || !path.exists() {
            self.problem_hint(
                format!(
                    "`preferences.source` is `{source}`, but `{}` does not exist",
                    path.display()
                ),
                "a file of pairs, or a folder with train and validation (or test) files; a path is \
                 relative to the recipe's folder",
            );
        } else if path.is_file() && preferences.validation_pairs == 0 {
            self.problem_hint(
                "`preferences.validation_pairs` is 0, but one file is split by size",
                "give the number of pairs to hold out for validation",
            );
        }
        self.splits("preferences", source, path.is_dir(), &preferences.splits.named());
        let of_samples = [
            ("prompts", preferences.prompts > 0),
            ("validation_prompts", preferences.validation_prompts > 0),
            ("samples_per_prompt", preferences.samples_per_prompt != 2),
            ("pairing", preferences.pairing != Pairing::default()),
            ("sampling", preferences.sampling != SamplingTable::default()),
            ("max_new_tokens", preferences.max_new_tokens > 0),
        ];
        let given: Vec<String> = of_samples
            .iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| format!("preferences.{key}"))
            .collect();
        if !given.is_empty() {
            self.problem_hint(
                format!(
                    "nothing is sampled with `preferences.source`, but the recipe gives {}",
                    super::listed(given.iter().map(String::as_str))
                ),
                "leave out one or the other",
            );
        }
        let PairColumns { prompt, chosen, rejected } = &preferences.columns;
        for (key, column) in [("prompt", prompt), ("chosen", chosen), ("rejected", rejected)] {
            if column.is_empty() {
                self.problem(format!("`preferences.columns.{key}` is empty"));
            }
        }
        if prompt == chosen || prompt == rejected || chosen == rejected {
            self.problem(format!(
                "`preferences.columns` names a column twice: `{prompt}`, \
                                  `{chosen}`, `{rejected}`"
            ));
        }
        if let Some(policy) = &preferences.policy {
            self.known_model("preferences.policy", policy);
        }
    }

    /// Without a policy to sample from, what `[sft]` and `[dpo]` tune must be said.
    fn model_to_tune(&mut self, preferences: &Preferences) {
        let recipe = self.recipe;
        if preferences.source.is_none() || preferences.policy.is_some() {
            return;
        }
        let table = match (&recipe.sft, &recipe.dpo) {
            (Some(sft), _) if sft.model.is_none() => "sft",
            (None, Some(_)) => "dpo",
            _ => return,
        };
        self.problem_hint(
            format!("`[{table}]` has no model to tune, because `preferences.source` has no policy"),
            "name a model of the recipe as `preferences.policy`",
        );
    }
}
