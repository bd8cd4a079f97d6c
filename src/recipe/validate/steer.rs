//! Rules on `[steer]`: bases, guides and methods.

use super::super::plan::{guide_pairs, untuned};
use super::super::{MethodTable, Steer, listed};
use super::{Rules, first_twice};

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
        self.at_least_one("steer.max_new_tokens", steer.max_new_tokens);
        self.at_least_one("steer.prompts_in_flight", steer.prompts_in_flight);
        self.sampling("steer.sampling", &steer.sampling);
        if steer.stop.iter().any(String::is_empty) {
            self.problem("`steer.stop` holds an empty text, which would end every response at once");
        }
        self.guides(steer);
        self.methods(steer);
    }

    fn guides(&mut self, steer: &Steer) {
        self.guide_pair("steer", &steer.tuned, &steer.untuned);
        for (index, guide) in steer.guide.iter().enumerate() {
            let key = format!("steer.guide.{index}");
            self.guide_pair(&key, &guide.tuned, &guide.untuned);
            if !guide.weight.is_finite() || guide.weight == 0.0 {
                self.problem(format!("`{key}.weight` is {}, expected a number that is not 0", guide.weight));
            }
            if guide.tuned.is_none() && self.recipe.dpo.is_none() {
                self.problem_hint(format!("`{key}` names no models, and there is no `[dpo]`"), "name its `tuned` and its `untuned` model");
            }
        }
        if !steer.guide.is_empty() && (steer.tuned.is_some() || steer.untuned.is_some()) {
            self.problem_hint(
                "`steer.tuned` and `steer.untuned` are given beside `[[steer.guide]]`",
                "name that pair in a `[[steer.guide]]` too",
            );
        }
        for model in self.recipe.guide_models() {
            // A guide with another vocabulary may need more tokens for the same text.
            let owner = |model| self.recipe.tokenizer_owner(model);
            let other = steer.bases.iter().any(|base| owner(base) != owner(model));
            let new_tokens = if other { steer.max_new_tokens.saturating_add(steer.max_new_tokens / 2) } else { steer.max_new_tokens };
            if !steer.bases.iter().any(|base| base == model) || other {
                self.fits_context("steer.max_new_tokens", model, new_tokens);
            }
        }
    }

    pub(super) fn guide_pair(&mut self, key: &str, tuned: &Option<String>, untuned: &Option<String>) {
        for (name, model) in [("tuned", tuned), ("untuned", untuned)] {
            if let Some(model) = model {
                self.known_model(&format!("{key}.{name}"), model);
            }
        }
        if tuned.is_some() != untuned.is_some() {
            let (given, other) = if tuned.is_some() { ("tuned", "untuned") } else { ("untuned", "tuned") };
            self.problem_hint(
                format!("`{key}.{given}` is given without `{key}.{other}`"),
                "a guide pair is two models of one origin: name both, or neither and use the results of `[dpo]`",
            );
        }
    }

    /// Emulated fine-tuning adds logits, id by id. What is in folders is compared when they are opened.
    fn one_vocabulary(&mut self, key: &str, steer: &Steer) {
        let recipe = self.recipe;
        let is_scratch = |model: &str| recipe.models.get(model).is_some_and(|model| model.scratch.is_some());
        for base in steer.bases.iter().filter(|base| recipe.models.contains_key(*base)) {
            for guide in self.recipe.guide_models() {
                let differ = recipe.tokenizer_owner(base) != recipe.tokenizer_owner(guide);
                if differ && (is_scratch(base) || is_scratch(guide)) {
                    self.problem_hint(
                        format!("`{key}`: `eft` needs one vocabulary, but base `{base}` and guide `{guide}` have a tokenizer each"),
                        "steer such a base with `cbs` or `best_of_n`, whose guides read text",
                    );
                }
            }
        }
    }

    fn methods(&mut self, steer: &Steer) {
        if steer.method.is_empty() {
            self.problem_hint("`steer.method` is empty, expected one method or more", "add `[[steer.method]]` with `kind = \"base\"`");
        }
        let has_pair = !guide_pairs(self.recipe).is_empty();
        let mut taken: Vec<String> = Vec::new();
        for (index, method) in steer.method.iter().enumerate() {
            let key = format!("steer.method.{index}");
            for name in method.names() {
                self.folder_name(&format!("{key}.name"), &name);
                if taken.contains(&name) {
                    self.problem_hint(format!("`{key}`: a method before it has the name `{name}` too"), "give one of them another `name`");
                }
            }
            taken.extend(method.names());
            match method {
                MethodTable::BestOfN { n, .. } => self.at_least_one(&format!("{key}.n"), *n),
                MethodTable::Cbs { beam_width, successors, chunk_len, .. } => {
                    for (name, count) in [("beam_width", beam_width), ("successors", successors), ("chunk_len", chunk_len)] {
                        self.at_least_one(&format!("{key}.{name}"), *count);
                    }
                }
                MethodTable::Eft { weights, .. } => {
                    if weights.is_empty() {
                        self.problem(format!("`{key}.weights` is empty, expected one weight or more"));
                    }
                    if let Some(weight) = weights.iter().find(|weight| !weight.is_finite()) {
                        self.problem(format!("`{key}.weights` holds {weight}, expected numbers"));
                    }
                    if let Some(twice) = first_twice(weights) {
                        self.problem(format!("`{key}.weights` holds {twice} twice"));
                    }
                    self.one_vocabulary(&key, steer);
                }
                MethodTable::Beam { beam_width, length_penalty, .. } => {
                    self.at_least_one(&format!("{key}.beam_width"), *beam_width);
                    if !length_penalty.is_finite() {
                        self.problem(format!("`{key}.length_penalty` is {length_penalty}, expected a number"));
                    }
                }
                MethodTable::Ppo { chunk_len, .. } => self.made_by_ppo(&key, chunk_len, steer),
                _ => {}
            }
            if steer.sampling.temperature == 0.0 && method.samples() > 1 {
                self.problem_hint(
                    format!(
                        "`{key}` samples {} continuations, but `steer.sampling.temperature` is 0, so they would all be the same",
                        method.samples()
                    ),
                    "use a temperature above 0, or only methods that sample once",
                );
            }
            if matches!(method, MethodTable::Direct { .. }) {
                self.directly_tuned(&key, steer);
            }
            let guides_there = match method {
                MethodTable::Base { .. } | MethodTable::Beam { .. } | MethodTable::Direct { .. } | MethodTable::Ppo { .. } => true,
                MethodTable::Untuned { .. } => untuned(self.recipe).is_some(),
                MethodTable::Tuned { .. } | MethodTable::BestOfN { .. } | MethodTable::Cbs { .. } | MethodTable::Eft { .. } => has_pair,
            };
            if !guides_there {
                self.problem_hint(
                    format!("`{key}`: `{}` needs guides, and there are none", method.kind()),
                    "add `[dpo]`, or name two models as `steer.tuned` and `steer.untuned`",
                );
            }
        }
    }

    /// A method `direct` samples what `[direct]` made of every base.
    fn directly_tuned(&mut self, key: &str, steer: &Steer) {
        if self.recipe.direct.is_none() {
            return self.problem_hint(
                format!("`{key}`: `direct` samples directly tuned bases, and there is no `[direct]`"),
                "add `[direct]`; all its keys have defaults",
            );
        }
        let tuned = self.recipe.direct_models();
        let untuned: Vec<&str> = steer.bases.iter().filter(|base| !tuned.contains(base)).map(String::as_str).collect();
        if !untuned.is_empty() {
            self.problem_hint(
                format!("`{key}`: `direct` samples every base, but `direct.models` leaves out {}", listed(untuned)),
                "name them there too, or leave `direct.models` out to tune all of `steer.bases`",
            );
        }
    }
}
