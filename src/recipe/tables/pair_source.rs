//! `preferences.source`: pairs that are there already. Reading them is left to `text`.

use super::super::rules::Rules;
use super::super::words::listed;
use super::pair_columns::PairColumns;
use super::preferences::{Pairing, Preferences};
use super::sampling::SamplingTable;
use super::splits;
use crate::artifacts::stand_in;

impl Preferences {
    /// The rules on pairs of `source`.
    pub(super) fn source_rules(&self, source: &str, rules: &mut Rules) {
        let path = rules.folder.join(source);
        if let Err(stands_in) = stand_in::refuse(&path) {
            rules.problem(format!("`preferences.source`: {stands_in}"));
        } else if source.is_empty() || !path.exists() {
            rules.problem_hint(
                format!(
                    "`preferences.source` is `{source}`, but `{}` does not exist",
                    path.display()
                ),
                "a file of pairs, or a folder with train and validation (or test) files; a path is \
                 relative to the recipe's folder",
            );
        } else if path.is_file() && self.validation_pairs == 0 {
            rules.problem_hint(
                "`preferences.validation_pairs` is 0, but one file is split by size",
                "give the number of pairs to hold out for validation",
            );
        }
        let named = self.splits.named();
        splits::rules(rules, ("preferences", source), path.is_dir(), &named);
        self.sampling_is_idle(rules);
        let PairColumns { prompt, chosen, rejected } = &self.columns;
        for (key, column) in [("prompt", prompt), ("chosen", chosen), ("rejected", rejected)] {
            if column.is_empty() {
                rules.problem(format!("`preferences.columns.{key}` is empty"));
            }
        }
        if prompt == chosen || prompt == rejected || chosen == rejected {
            rules.problem(format!(
                "`preferences.columns` names a column twice: `{prompt}`, `{chosen}`, `{rejected}`"
            ));
        }
        if let Some(policy) = &self.policy {
            rules.known_model("preferences.policy", policy);
        }
        self.model_to_tune(rules);
    }

    fn sampling_is_idle(&self, rules: &mut Rules) {
        let of_samples = [
            ("prompts", self.prompts > 0),
            ("validation_prompts", self.validation_prompts > 0),
            ("samples_per_prompt", self.samples_per_prompt != 2),
            ("pairing", self.pairing != Pairing::default()),
            ("sampling", self.sampling != SamplingTable::default()),
            ("max_new_tokens", self.max_new_tokens > 0),
        ];
        let given = of_samples.iter().filter(|(_, given)| *given);
        let given: Vec<String> = given.map(|(key, _)| format!("preferences.{key}")).collect();
        if !given.is_empty() {
            let keys = listed(given.iter().map(String::as_str));
            rules.problem_hint(
                format!(
                    "nothing is sampled with `preferences.source`, but the recipe gives {keys}"
                ),
                "leave out one or the other",
            );
        }
    }

    /// Without a policy to sample from, what `[sft]` and `[dpo]` tune must be said.
    fn model_to_tune(&self, rules: &mut Rules) {
        if self.policy.is_some() {
            return;
        }
        let table = match (&rules.recipe.sft, &rules.recipe.dpo) {
            (Some(sft), _) if sft.model.is_none() => "sft",
            (None, Some(_)) => "dpo",
            _ => return,
        };
        rules.problem_hint(
            format!("`[{table}]` has no model to tune, because `preferences.source` has no policy"),
            "name a model of the recipe as `preferences.policy`",
        );
    }
}
