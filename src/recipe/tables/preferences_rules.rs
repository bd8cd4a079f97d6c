//! The rules of `[preferences]`, on pairs that are sampled and on pairs that are there already.

use super::super::rules::Rules;
use super::super::words::listed;
use super::pair_columns::PairColumns;
use super::pair_source::PairSource;
use super::preferences::{Pairing, PreferenceLabel, Preferences};
use super::sampling::SamplingTable;
use super::splits::PairSplits;

impl Preferences {
    /// The rules on pairs that are there already.
    pub(super) fn source_rules(&self, source: &PairSource, rules: &mut Rules) {
        source.rules(rules);
        self.sampling_is_idle(rules);
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

    /// The rules on pairs that are sampled.
    pub(super) fn sampling_rules(&self, rules: &mut Rules) {
        let data = rules.recipe.data.as_ref();
        let train = ("data.train", data.and_then(|data| data.train));
        rules.prompts("preferences.prompts", self.prompts, train);
        let validation = ("data.validation", data.and_then(|data| data.validation));
        rules.prompts("preferences.validation_prompts", self.validation_prompts, validation);
        let samples = self.samples_per_prompt;
        let key = "preferences.samples_per_prompt";
        if self.pairing == Pairing::Disjoint && (samples < 2 || !samples.is_multiple_of(2)) {
            rules.problem(format!(
                "`{key}` is {samples}, expected an even number of 2 or more: each two make a pair"
            ));
        } else if samples < 2 {
            rules.problem(format!("`{key}` is {samples}, expected 2 or more"));
        }
        rules.at_least_one("preferences.max_new_tokens", self.max_new_tokens);
        if self.sampling.temperature == 0.0 {
            rules.problem_hint(
                "`preferences.sampling.temperature` is 0, so all samples of a prompt would be the \
                 same and make no pair",
                "0.7 is the default",
            );
        }
        if self.label == PreferenceLabel::Kept {
            rules.problem_hint(
                "`preferences.label` is `kept`, but samples have no labels to keep",
                "`drawn` or `argmax`, or name a file of pairs as `preferences.source`",
            );
        }
        let of_a_source = [
            ("subset", self.subset.is_some()),
            ("columns", self.columns != PairColumns::default()),
            ("splits", self.splits != PairSplits::default()),
            ("subset", self.subset.is_some()),
            ("train_pairs", self.train_pairs > 0),
            ("validation_pairs", self.validation_pairs > 0),
        ];
        for (key, _) in of_a_source.iter().filter(|(_, given)| *given) {
            rules.problem(format!(
                "`preferences.{key}` is about a file of pairs, but there is no `preferences.source`"
            ));
        }
        match &self.policy {
            None => rules.problem_hint(
                "missing key `policy` in `preferences`",
                "a model of the recipe to sample pairs from; or `source`, a file of pairs",
            ),
            Some(policy) => {
                if rules.known_model("preferences.policy", policy) {
                    let key = "preferences.max_new_tokens";
                    rules.fits_context(key, policy, self.max_new_tokens);
                }
            }
        }
    }
}
