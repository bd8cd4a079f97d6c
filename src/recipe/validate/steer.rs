//! Rules on `[steer]`: bases, guides and methods.

use super::super::plan::{GuideSource, tuned, untuned};
use super::super::{MethodTable, Steer, listed};
use super::Rules;

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
        for (key, model) in [("steer.tuned", &steer.tuned), ("steer.untuned", &steer.untuned)] {
            if let Some(model) = model {
                self.known_model(key, model);
            }
        }
        if steer.tuned.is_some() != steer.untuned.is_some() {
            let (given, other) = if steer.tuned.is_some() { ("tuned", "untuned") } else { ("untuned", "tuned") };
            self.problem_hint(
                format!("`steer.{given}` is given without `steer.{other}`"),
                "a guide pair is two models of one origin: name both, or neither and use the results of `[dpo]`",
            );
        }
        let mut models: Vec<&str> = [tuned(self.recipe), untuned(self.recipe)]
            .iter()
            .flatten()
            .filter_map(|source| match source {
                GuideSource::Stage(_) => self.recipe.guide_model(),
                GuideSource::Model(name) => self.recipe.models.get_key_value(name).map(|(name, _)| name.as_str()),
            })
            .collect();
        models.dedup();
        for model in models {
            // A guide with another vocabulary may need more tokens for the same text.
            let owner = |model| self.recipe.tokenizer_owner(model);
            let other = steer.bases.iter().any(|base| owner(base) != owner(model));
            let new_tokens = if other { steer.max_new_tokens.saturating_add(steer.max_new_tokens / 2) } else { steer.max_new_tokens };
            if !steer.bases.iter().any(|base| base == model) || other {
                self.fits_context("steer.max_new_tokens", model, new_tokens);
            }
        }
    }

    fn methods(&mut self, steer: &Steer) {
        if steer.method.is_empty() {
            self.problem_hint("`steer.method` is empty, expected one method or more", "add `[[steer.method]]` with `kind = \"base\"`");
        }
        let has_pair = tuned(self.recipe).is_some() && untuned(self.recipe).is_some();
        for (index, method) in steer.method.iter().enumerate() {
            let key = format!("steer.method.{index}");
            let name = method.name();
            self.folder_name(&format!("{key}.name"), name);
            if steer.method[..index].iter().any(|before| before.name() == name) {
                self.problem_hint(format!("`{key}`: a method before it has the name `{name}` too"), "give one of them another `name`");
            }
            match method {
                MethodTable::BestOfN { n, .. } => self.at_least_one(&format!("{key}.n"), *n),
                MethodTable::Cbs { beam_width, successors, chunk_len, .. } => {
                    for (name, count) in [("beam_width", beam_width), ("successors", successors), ("chunk_len", chunk_len)] {
                        self.at_least_one(&format!("{key}.{name}"), *count);
                    }
                }
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
                MethodTable::Base { .. } | MethodTable::Direct { .. } => true,
                MethodTable::Untuned { .. } => untuned(self.recipe).is_some(),
                MethodTable::Tuned { .. } | MethodTable::BestOfN { .. } | MethodTable::Cbs { .. } => has_pair,
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
