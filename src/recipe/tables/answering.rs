//! How `[steer]` samples the responses of each model: by what the model's own table says, or else
//! by `[steer]`. What samples them is left to the engine.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};

use super::super::guide_pairs::{guide_pairs, untuned};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::model::Model;
use super::sampling::Answering;
use super::steer::Steer;
use super::{Proposal, Recipe};

/// Tokens of a response, and the key that says so many.
type Tokens = (usize, String);

impl Model {
    fn has_own_answers(&self) -> bool {
        self.sampling.is_some() || self.stop.is_some() || self.max_new_tokens.is_some()
    }
}

impl Steer {
    /// How the responses of a model of the recipe are sampled: a base's, and those of a guide that
    /// is sampled alone and descends from the model.
    pub fn answering(&self, recipe: &Recipe, model: &str) -> Answering {
        let own = recipe.models.get(model);
        let sampling = own.and_then(|model| model.sampling.clone());
        let stop = own.and_then(|model| model.stop.clone());
        let max_new_tokens = own.and_then(|model| model.max_new_tokens);
        Answering {
            sampling: sampling.unwrap_or_else(|| self.sampling.clone()),
            stop: stop.unwrap_or_else(|| self.stop.clone()),
            max_new_tokens: max_new_tokens.unwrap_or(self.max_new_tokens),
        }
    }

    /// What is other for responses of `model` than `[steer]` says, as far as reports show it.
    pub fn own_settings(&self, recipe: &Recipe, model: &str) -> Map<String, Value> {
        let Answering { sampling, max_new_tokens, .. } = self.answering(recipe, model);
        let mut own = Map::new();
        if sampling != self.sampling {
            own.insert("sampling".to_owned(), json!(sampling));
        }
        if max_new_tokens != self.max_new_tokens {
            own.insert("max_new_tokens".to_owned(), json!(max_new_tokens));
        }
        own
    }

    /// Tokens of the longest response that any model gives.
    pub(in crate::recipe) fn most_new_tokens(&self, recipe: &Recipe) -> usize {
        let tokens = self.answering_models(recipe).into_iter();
        let tokens = tokens.map(|model| self.answering(recipe, model).max_new_tokens);
        tokens.max().unwrap_or(self.max_new_tokens)
    }

    /// The key whose value counts for responses of `model`.
    fn key(&self, recipe: &Recipe, model: &str, key: &str) -> String {
        let own = recipe.models.get(model);
        let is_own = own.is_some_and(|own| match key {
            "max_new_tokens" => own.max_new_tokens.is_some(),
            _ => own.sampling.is_some(),
        });
        if is_own { format!("models.{model}.{key}") } else { format!("steer.{key}") }
    }

    fn tokens(&self, recipe: &Recipe, model: &str) -> Tokens {
        let tokens = self.answering(recipe, model).max_new_tokens;
        (tokens, self.key(recipe, model, "max_new_tokens"))
    }

    /// The bases, and the models that guides sampled alone descend from.
    fn answering_models<'a>(&'a self, recipe: &'a Recipe) -> Vec<&'a str> {
        let mut models: Vec<&str> = self.bases.iter().map(String::as_str).collect();
        for alone in self.sampled_alone(recipe) {
            let name = recipe.models.get_key_value(&alone).map(|(name, _)| name.as_str());
            models.extend(name.filter(|name| !models.contains(name)));
        }
        models
    }

    fn sampled_alone(&self, recipe: &Recipe) -> Vec<String> {
        let is_sampled = |half: Proposal| {
            self.method.iter().any(|method| method.proposes(|proposal| *proposal == half))
        };
        let tuned = guide_pairs(recipe).into_iter().next().map(|pair| pair.tuned);
        let halves = [(Proposal::Tuned, tuned), (Proposal::Untuned, untuned(recipe))];
        let sources = halves.into_iter().filter(|(half, _)| is_sampled(*half));
        let sources = sources.filter_map(|(_, source)| source);
        sources.filter_map(|source| Some(recipe.model_of(&source)?.to_owned())).collect()
    }

    /// The most tokens that are sampled of `model`, as a base, as a guide alone or in a mixture
    /// with a base; `None` where it is not sampled.
    fn sampled_tokens(&self, recipe: &Recipe, model: &str) -> Option<Tokens> {
        let mut all = Vec::new();
        if self.answering_models(recipe).contains(&model) {
            all.push(self.tokens(recipe, model));
        }
        if recipe.guide_models().contains(&model) {
            let is_tilted = |proposal: &Proposal| proposal.tilt().is_some();
            let tilted = self.method.iter().filter(|method| method.proposes(is_tilted));
            let bases = tilted.flat_map(|method| method.bases_of(&self.bases));
            all.extend(bases.map(|base| self.tokens(recipe, base)));
        }
        all.into_iter().rev().max_by_key(|(tokens, _)| *tokens)
    }

    /// What the guides may have to read of a response, at most.
    pub(super) fn longest_of_bases(&self, recipe: &Recipe) -> Tokens {
        let all = self.bases.iter().rev().map(|base| self.tokens(recipe, base));
        let longest = all.max_by_key(|(tokens, _)| *tokens);
        longest.unwrap_or_else(|| (self.max_new_tokens, "steer.max_new_tokens".to_owned()))
    }

    /// A base needs room for all its new tokens.
    pub(super) fn base_fits(&self, base: &str, rules: &mut Rules) {
        if let Some((tokens, key)) = self.sampled_tokens(rules.recipe, base) {
            rules.fits_context(&key, base, tokens);
        }
    }

    /// Guides that are sampled need room for all new tokens; what others cannot read of a response
    /// they do not score.
    pub(super) fn guides_fit(&self, rules: &mut Rules) {
        for model in rules.recipe.guide_models() {
            if self.bases.iter().any(|base| base == model) {
                continue;
            }
            match self.sampled_tokens(rules.recipe, model) {
                Some((tokens, key)) => rules.fits_context(&key, model, tokens),
                None => rules.reads_prompts(model),
            }
        }
    }

    /// Several samples of one prompt must be able to differ.
    pub(super) fn samples_differ(
        &self,
        key: &str,
        bases: &[&str],
        samples: usize,
        rules: &mut Rules,
    ) {
        let is_greedy =
            |base: &&&str| self.answering(rules.recipe, base).sampling.temperature == 0.0;
        let Some(base) = bases.iter().find(is_greedy).filter(|_| samples > 1) else { return };
        let temperature = format!("{}.temperature", self.key(rules.recipe, base, "sampling"));
        rules.problem_hint(
            format!(
                "`{key}` samples {samples} continuations, but `{temperature}` is 0, so they would \
                 all be the same"
            ),
            "use a temperature above 0, or only methods that sample once",
        );
    }

    /// A line for each model with settings of its own.
    pub(super) fn own_words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        for name in self.answering_models(&plan.recipe) {
            if plan.recipe.models.get(name).is_some_and(Model::has_own_answers) {
                writeln!(out, "     {name}: {}", self.answering(&plan.recipe, name).words())?;
            }
        }
        Ok(())
    }

    /// Models whose own settings nothing asks for.
    pub(super) fn idle_settings(&self, recipe: &Recipe) -> Vec<String> {
        let mut answering = self.answering_models(recipe);
        if recipe.measures_guides() {
            answering.extend(recipe.guide_models());
        }
        let own = recipe.models.iter().filter(|(_, model)| model.has_own_answers());
        let idle = own.filter(|(name, _)| !answering.contains(&name.as_str()));
        let warning = |(name, _): (&String, &Model)| {
            format!(
                "`models.{name}`: its own `sampling`, `stop` or `max_new_tokens` count where \
                 `[steer]` samples it, which it does not"
            )
        };
        idle.map(warning).collect()
    }
}
