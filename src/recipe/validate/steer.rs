//! Rules on `[steer]`: bases, guides and methods.

use std::path::Path;

use super::super::plan::{guide_pairs, untuned};
use super::super::{
    EFT, GuideTable, Method, MethodTable, Proposal, Recipe, Steer, listed, two_vocabularies,
};
use super::{Rules, first_twice};
use crate::search::Search;

impl Rules<'_> {
    pub(super) fn steer(&mut self) {
        let Some(steer) = &self.recipe.steer else { return };
        if steer.bases.is_empty() {
            self.problem("`steer.bases` is empty, expected one model or more");
        }
        for (index, base) in steer.bases.iter().enumerate() {
            if steer.bases[..index].contains(base) {
                self.problem(format!("`steer.bases` holds `{base}` twice"));
            } else if self.known_model("steer.bases", base) {
                self.fits_context("steer.max_new_tokens", base, steer.max_new_tokens);
            }
        }
        self.prompts("steer.prompts", steer.prompts, "data.test", self.recipe.data.test);
        self.guides_fit(steer);
        self.steer_settings(steer);
    }

    /// The rules that hold whatever is steered over, those of `w2s steer` too.
    pub(super) fn steer_settings(&mut self, steer: &Steer) {
        self.at_least_one("steer.max_new_tokens", steer.max_new_tokens);
        self.at_least_one("steer.prompts_in_flight", steer.prompts_in_flight);
        self.sampling("steer.sampling", &steer.sampling);
        if steer.stop.iter().any(String::is_empty) {
            self.problem(
                "`steer.stop` holds an empty text, which would end every response at once",
            );
        }
        self.guides(steer);
        self.methods(steer);
    }

    fn guides(&mut self, steer: &Steer) {
        self.guide_pair("steer", &steer.tuned, &steer.untuned);
        for (index, guide) in steer.guide.iter().enumerate() {
            let key = format!("steer.guide.{index}");
            self.guide_pair(&key, &guide.tuned, &guide.untuned);
            let is_one = |one: &Option<String>, other: &Option<String>| match (one, other) {
                (Some(one), Some(other)) => is_one_model(self.recipe, self.folder, one, other),
                _ => one == other,
            };
            let is_same = |other: &GuideTable| {
                is_one(&other.tuned, &guide.tuned) && is_one(&other.untuned, &guide.untuned)
            };
            if steer.guide[..index].iter().any(is_same) {
                self.problem_hint(
                    format!("`{key}` is a pair that stands before it too"),
                    "one pair with the sum of their weights is the same",
                );
            }
            if !guide.weight.is_finite() || guide.weight == 0.0 {
                self.problem(format!(
                    "`{key}.weight` is {}, expected a number that is not 0",
                    guide.weight
                ));
            }
            if guide.tuned.is_none() && self.recipe.dpo.is_none() {
                self.problem_hint(
                    format!("`{key}` names no models, and there is no `[dpo]`"),
                    "name its `tuned` and its `untuned` model",
                );
            }
        }
        if !steer.guide.is_empty() && (steer.tuned.is_some() || steer.untuned.is_some()) {
            self.problem_hint(
                "`steer.tuned` and `steer.untuned` are given beside `[[steer.guide]]`",
                "name that pair in a `[[steer.guide]]` too",
            );
        }
    }

    /// Guides that are sampled need room for all new tokens; what others cannot read of a response
    /// they do not score.
    fn guides_fit(&mut self, steer: &Steer) {
        let sampled = self.recipe.sampled_guides();
        for model in self
            .recipe
            .guide_models()
            .into_iter()
            .filter(|model| !steer.bases.iter().any(|base| base == model))
        {
            if sampled.contains(&model) {
                self.fits_context("steer.max_new_tokens", model, steer.max_new_tokens);
            } else {
                self.reads_prompts(model);
            }
        }
    }

    pub(super) fn guide_pair(
        &mut self,
        key: &str,
        tuned: &Option<String>,
        untuned: &Option<String>,
    ) {
        if let (Some(tuned), Some(untuned)) = (tuned, untuned)
            && self.have_two_tokenizers(tuned, untuned)
            // What is in folders is compared when they are opened.
            && self.is_scratch(tuned)
            && self.is_scratch(untuned)
        {
            self.problem_hint(
                format!(
                    "`{key}.tuned` is `{tuned}` and `{key}.untuned` is `{untuned}`, which have \
                         a tokenizer each"
                ),
                "a guide pair is two models of one origin, which read the same tokens",
            );
        }
        for (name, model) in [("tuned", tuned), ("untuned", untuned)] {
            if let Some(model) = model {
                self.known_model(&format!("{key}.{name}"), model);
            }
        }
        if tuned.is_some() != untuned.is_some() {
            let (given, other) =
                if tuned.is_some() { ("tuned", "untuned") } else { ("untuned", "tuned") };
            self.problem_hint(
                format!("`{key}.{given}` is given without `{key}.{other}`"),
                "a guide pair is two models of one origin: name both, or neither and use the \
                 results of `[dpo]`",
            );
        }
    }

    fn is_scratch(&self, model: &str) -> bool {
        self.recipe.models.get(model).is_some_and(|model| model.scratch.is_some())
    }

    fn have_two_tokenizers(&self, one: &str, other: &str) -> bool {
        let recipe = self.recipe;
        let both_known = [one, other].iter().all(|model| recipe.models.contains_key(*model));
        both_known && recipe.tokenizer_owner(one) != recipe.tokenizer_owner(other)
    }

    /// Guides that propose have the base's vocabulary. What is in folders is compared when they are
    /// opened.
    fn one_vocabulary(&mut self, key: &str, steer: &Steer, method: &MethodTable) {
        for base in &steer.bases {
            for guide in self.recipe.guide_models() {
                if self.have_two_tokenizers(base, guide)
                    && (self.is_scratch(base) || self.is_scratch(guide))
                {
                    let [base, guide] = [format!("base `{base}`"), format!("guide `{guide}`")];
                    self.problem(format!(
                        "`{key}`: {}",
                        two_vocabularies(&method.search, &base, &guide, "a tokenizer each")
                    ));
                }
            }
        }
    }

    fn methods(&mut self, steer: &Steer) {
        if steer.method.is_empty() {
            self.problem_hint(
                "`steer.method` is empty, expected one method or more",
                "add `[[steer.method]]` with `kind = \"base\"`",
            );
        }
        let mut taken: Vec<String> = Vec::new();
        for (index, method) in steer.method.iter().enumerate() {
            let key = format!("steer.method.{index}");
            for name in method.names() {
                self.folder_name(&format!("{key}.name"), &name);
                if taken.contains(&name) {
                    self.problem_hint(
                        format!(
                            "`{key}`: a method before it has the name `{name}` \
                                               too"
                        ),
                        "give one of them another `name`",
                    );
                }
            }
            taken.extend(method.names());
            self.search(&key, steer, &method.search);
            self.proposals(&key, steer, method);
            if !self.has_guides_of(method) {
                self.problem_hint(
                    format!("`{key}`: `{}` needs guides, and there are none", method.kind()),
                    "add `[dpo]`, or name two models as `steer.tuned` and `steer.untuned`",
                );
            }
        }
    }

    fn search(&mut self, key: &str, steer: &Steer, search: &Search) {
        search.settings().problems(key).iter().for_each(|problem| self.problem(problem));
        let samples = search.settings().samples();
        if steer.sampling.temperature == 0.0 && samples > 1 {
            self.problem_hint(
                format!(
                    "`{key}` samples {samples} continuations, but `steer.sampling.temperature` \
                         is 0, so they would all be the same"
                ),
                "use a temperature above 0, or only methods that sample once",
            );
        }
    }

    fn proposals(&mut self, key: &str, steer: &Steer, method: &MethodTable) {
        if method.is_tilted() {
            self.weights(key, method);
            self.one_vocabulary(key, steer, method);
        }
        if let Some(chunk_lens) = method.ppo_chunk_lens() {
            self.made_by_ppo(key, &chunk_lens, steer);
        }
        if method.proposes(|proposal| *proposal == Proposal::Direct) {
            self.directly_tuned(key, steer);
        }
    }

    /// The weights with which guides take part in what is sampled.
    fn weights(&mut self, key: &str, method: &MethodTable) {
        let weights = method.weights();
        let infinite = weights.iter().find(|weight| !weight.is_finite());
        if method.kind() != EFT {
            infinite.iter().for_each(|weight| {
                self.problem(format!(
                    "`{key}.tilt` is {weight}, \
                                                                    expected a number"
                ))
            });
            return;
        }
        if weights.is_empty() {
            self.problem(format!("`{key}.weights` is empty, expected one weight or more"));
        }
        if let Some(weight) = infinite {
            self.problem(format!("`{key}.weights` holds {weight}, expected numbers"));
        }
        if let Some(twice) = first_twice(&weights) {
            self.problem(format!("`{key}.weights` holds {twice} twice"));
        }
    }

    /// Whether the guides that a method samples or compares by are there.
    fn has_guides_of(&self, method: &MethodTable) -> bool {
        let is_there = |method: &Method| match method.proposal {
            Proposal::Untuned => untuned(self.recipe).is_some(),
            Proposal::Tuned => !guide_pairs(self.recipe).is_empty(),
            _ => !method.needs_guides() || !guide_pairs(self.recipe).is_empty(),
        };
        method.methods().iter().all(|(_, method)| is_there(method))
    }

    /// A method `direct` samples what `[direct]` made of every base.
    fn directly_tuned(&mut self, key: &str, steer: &Steer) {
        if self.recipe.direct.is_none() {
            return self.problem_hint(
                format!(
                    "`{key}`: `direct` samples directly tuned bases, and there is no \
                         `[direct]`"
                ),
                "add `[direct]`; all its keys have defaults",
            );
        }
        let tuned = self.recipe.direct_models();
        let untuned: Vec<&str> =
            steer.bases.iter().filter(|base| !tuned.contains(base)).map(String::as_str).collect();
        if !untuned.is_empty() {
            self.problem_hint(
                format!(
                    "`{key}`: `direct` samples every base, but `direct.models` leaves out {}",
                    listed(untuned)
                ),
                "name them there too, or leave `direct.models` out to tune all of `steer.bases`",
            );
        }
    }
}

/// Whether two models of the recipe, whose paths start from `folder`, have one name or lie in one
/// folder.
pub(in crate::recipe) fn is_one_model(
    recipe: &Recipe,
    folder: &Path,
    one: &str,
    other: &str,
) -> bool {
    let id = |name: &str| recipe.models.get(name).and_then(|model| model.id.as_ref());
    let place = |id: &String| folder.join(id).canonicalize().unwrap_or_else(|_| id.into());
    one == other || id(one).zip(id(other)).is_some_and(|(one, other)| place(one) == place(other))
}
