//! The rules on guides that others serve: they score responses by ids of a tokenizer that is here,
//! and do nothing else. What their servers tell is found by asking them.

use super::super::rules::Rules;
use super::super::words::listed;
use super::Recipe;
use super::method::served_guides_only_score;

pub(in crate::recipe) fn served_guides(rules: &mut Rules) {
    let recipe = rules.recipe;
    for name in served(recipe, recipe.guide_models()) {
        if recipe.api(name).is_some_and(|api| api.tokenizer.is_none()) {
            rules.problem_hint(
                format!("`models.{name}` is a guide that others serve, without `api.tokenizer`"),
                "responses are scored by ids: name the folder or hub id of its tokenizer",
            );
        }
    }
    let rewarding = served(recipe, recipe.ppo_guide_models());
    if !rewarding.is_empty() {
        rules.problem_hint(
            format!(
                "`[ppo]` is rewarded by {}, served by others: it needs guides that are here",
                listed(rewarding)
            ),
            "name two models with `id` as `ppo.tuned` and `ppo.untuned`",
        );
    }
    asked_for_more(rules);
}

/// Methods of `[steer]` that sample from guides or ask them for all next tokens.
fn asked_for_more(rules: &mut Rules) {
    let recipe = rules.recipe;
    let Some(steer) = &recipe.steer else { return };
    let are_sampled = !served(recipe, recipe.sampled_guides()).is_empty();
    let are_served = !served(recipe, recipe.guide_models()).is_empty();
    for (index, method) in steer.method.iter().enumerate() {
        let asks = method.rows.iter().any(|row| match row.needs_one_vocabulary() {
            true => are_served,
            false => are_sampled && row.samples_guides(),
        });
        if asks {
            let what = served_guides_only_score(method.kind());
            rules.problem(format!("`steer.method.{index}`: {what}"));
        }
    }
}

fn served<'a>(recipe: &Recipe, models: Vec<&'a str>) -> Vec<&'a str> {
    models.into_iter().filter(|model| recipe.api(model).is_some()).collect()
}
