//! What of a plan is worth a second look, though a run does it.

use std::path::Path;

use super::validate::is_one_model;
use super::{GuideSource, Plan, guide_tokens, prompt_bound};

impl Plan {
    /// One line each, with the key that it is about.
    pub fn warnings(&self) -> Vec<String> {
        let recipe = &self.recipe;
        let mut warnings = Vec::new();
        if let Some(steer) = &recipe.steer {
            warnings.extend(self.guide_pairs().iter().filter_map(|pair| {
                match (&pair.tuned, &pair.untuned) {
                    (GuideSource::Model(tuned), GuideSource::Model(untuned))
                        if is_one_model(recipe, Path::new(""), tuned, untuned) =>
                    {
                        let both = if tuned == untuned {
                            format!("`{tuned}`")
                        } else {
                            format!("`{tuned}` and `{untuned}`, which are one model")
                        };
                        Some(format!(
                            "`steer`: the tuned and the untuned guide are {both}, so every \
                                  score is 0 and they choose nothing"
                        ))
                    }
                    _ => None,
                }
            }));
            let scoring = recipe
                .guide_models()
                .into_iter()
                .filter(|guide| !recipe.sampled_guides().contains(guide));
            let bases: Vec<&str> = steer.bases.iter().map(String::as_str).collect();
            warnings.extend(scoring.filter_map(|guide| {
                self.short_guide("steer.max_new_tokens", guide, &bases, steer.max_new_tokens)
            }));
        }
        if let Some(ppo) = &recipe.ppo {
            let guides = recipe.ppo_guide_models().into_iter();
            warnings.extend(guides.filter_map(|guide| {
                self.short_guide("ppo.max_new_tokens", guide, &[&ppo.policy], ppo.max_new_tokens)
            }));
        }
        warnings
    }

    /// Of a guide that may not read all of a response.
    fn short_guide(
        &self,
        key: &str,
        guide: &str,
        bases: &[&str],
        new_tokens: usize,
    ) -> Option<String> {
        let GuideRoom { prompt, room, expected } = self.guide_room(guide, bases, new_tokens)?;
        (room <= expected).then(|| {
            format!(
                "`{key}`: behind a prompt of up to {prompt} tokens `models.{guide}` reads {room}, \
                 and a response may take {expected} and an \
                 end token: of a longer one only the beginning is scored"
            )
        })
    }

    /// What a guide can read of the responses of these models; `None` where its sizes are not
    /// known.
    pub(super) fn guide_room(
        &self,
        guide: &str,
        bases: &[&str],
        new_tokens: usize,
    ) -> Option<GuideRoom> {
        let prompt = prompt_bound(&self.recipe.data.prompt, self.recipe.models.get(guide)?);
        let room = (self.models.get(guide)?.context as usize).saturating_sub(prompt);
        let owner = self.recipe.tokenizer_owner(guide);
        let same_vocabulary = bases.iter().all(|base| self.recipe.tokenizer_owner(base) == owner);
        Some(GuideRoom { prompt, room, expected: guide_tokens(new_tokens, same_vocabulary) })
    }
}

/// In a guide's tokens.
pub(super) struct GuideRoom {
    /// Of the longest prompt.
    pub prompt: usize,
    /// What the guide's context has behind it.
    pub room: usize,
    /// Of a response.
    pub expected: usize,
}
