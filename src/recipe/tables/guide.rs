//! `[[steer.guide]]`: one guide pair of several, and what holds for any pair that a recipe names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::guide_pairs::is_one_model;
use super::super::rules::Rules;

/// One guide pair with its weight: two models of the recipe, or the results of `[dpo]` and `[sft]`
/// where neither is named. Scores are the weighted sums over all pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuideTable {
    /// The tuned guide π*, a model of the recipe.
    #[schemars(example = &"tuned")]
    pub tuned: Option<String>,
    /// The untuned guide π_ref, a model of the recipe with the same tokenizer.
    #[schemars(example = &"untuned")]
    pub untuned: Option<String>,
    /// What the pair's score is multiplied by; below 0 steers away from what the pair was tuned
    /// for.
    #[serde(default = "one")]
    pub weight: f64,
}

impl GuideTable {
    /// Where it stands behind the pairs `before` it.
    pub(super) fn rules(&self, before: &[Self], rules: &mut Rules) {
        let key = format!("steer.guide.{}", before.len());
        pair_rules(&key, &self.tuned, &self.untuned, rules);
        let is_one = |one: &Option<String>, other: &Option<String>| match (one, other) {
            (Some(one), Some(other)) => is_one_model(rules.recipe, rules.folder, one, other),
            _ => one == other,
        };
        let is_same = |other: &Self| {
            is_one(&other.tuned, &self.tuned) && is_one(&other.untuned, &self.untuned)
        };
        if before.iter().any(is_same) {
            rules.problem_hint(
                format!("`{key}` is a pair that stands before it too"),
                "one pair with the sum of their weights is the same",
            );
        }
        if !self.weight.is_finite() || self.weight == 0.0 {
            rules.problem(format!(
                "`{key}.weight` is {}, expected a number that is not 0",
                self.weight
            ));
        }
        if self.tuned.is_none() && rules.recipe.dpo.is_none() {
            rules.problem_hint(
                format!("`{key}` names no models, and there is no `[dpo]`"),
                "name its `tuned` and its `untuned` model",
            );
        }
    }
}

/// The models that the table `key` names as a pair: both or neither, with one tokenizer.
pub(super) fn pair_rules(
    key: &str,
    tuned: &Option<String>,
    untuned: &Option<String>,
    rules: &mut Rules,
) {
    if let (Some(tuned), Some(untuned)) = (tuned, untuned)
        && rules.have_two_tokenizers(tuned, untuned)
        // What is in folders is compared when they are opened.
        && rules.is_scratch(tuned)
        && rules.is_scratch(untuned)
    {
        rules.problem_hint(
            format!(
                "`{key}.tuned` is `{tuned}` and `{key}.untuned` is `{untuned}`, which have a \
                 tokenizer each"
            ),
            "a guide pair is two models of one origin, which read the same tokens",
        );
    }
    for (name, model) in [("tuned", tuned), ("untuned", untuned)] {
        if let Some(model) = model {
            rules.known_model(&format!("{key}.{name}"), model);
        }
    }
    if tuned.is_some() != untuned.is_some() {
        let (given, other) =
            if tuned.is_some() { ("tuned", "untuned") } else { ("untuned", "tuned") };
        rules.problem_hint(
            format!("`{key}.{given}` is given without `{key}.{other}`"),
            "a guide pair is two models of one origin: name both, or neither and use the results \
             of `[dpo]`",
        );
    }
}

fn one() -> f64 {
    1.0
}
