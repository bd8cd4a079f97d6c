//! The rules on one `[[steer.method]]`: its bases and its proposals must be there. Whether guides
//! have the base's vocabulary, tokenizers tell.

use super::super::guide_pairs::{guide_pairs, untuned};
use super::super::rules::{Rules, first_twice};
use super::super::words::listed;
use super::api::{Api, DialectName};
use super::chunk_len::ChunkLens;
use super::method::{Method, Proposal};
use super::method_spelling::{EFT, MethodTable};
use crate::search::ChunkLen;

/// Ids of guides are those of a server only by a tokenizer that both have.
const NO_TOKENIZER: &str = " without `api.tokenizer`";
const OTHER_DIALECT: &str = " in a dialect that has a few likely tokens at most; those of llama.cpp \
                             and vLLM have them all";

impl MethodTable {
    /// Where it stands at `key` in a `[steer]` with these `bases`.
    pub(super) fn rules(&self, key: &str, bases: &[String], rules: &mut Rules) {
        self.bases_rules(key, bases, rules);
        let bases = self.bases_of(bases);
        self.served_rules(key, &bases, rules);
        self.weight_rules(key, rules);
        if let Some(chunk_lens) = self.ppo_chunk_lens() {
            made_by_ppo(key, &chunk_lens, &bases, rules);
        }
        if self.proposes(|proposal| *proposal == Proposal::Direct) {
            directly_tuned(key, &bases, rules);
        }
        if !self.has_guides(rules) {
            rules.problem_hint(
                format!("`{key}`: `{}` needs guides, and there are none", self.kind()),
                "add `[dpo]`, or name two models as `steer.tuned` and `steer.untuned`",
            );
        }
    }

    /// Its own bases are some of all.
    fn bases_rules(&self, key: &str, all: &[String], rules: &mut Rules) {
        let Some(bases) = &self.bases else { return };
        let key = format!("{key}.bases");
        if self.proposes(|proposal| matches!(proposal, Proposal::Tuned | Proposal::Untuned)) {
            let kind = self.kind();
            return rules.problem_hint(
                format!("`{key}`: `{kind}` samples a guide alone and steers no base"),
                "leave it out",
            );
        }
        if bases.is_empty() {
            rules.problem(format!("`{key}` is empty, expected one base or more"));
        }
        if let Some(twice) = first_twice(bases) {
            rules.problem(format!("`{key}` holds `{twice}` twice"));
        }
        for base in bases.iter().filter(|base| !all.contains(base)) {
            rules.problem_hint(
                format!("`{key}` holds `{base}`, which is not among `steer.bases`"),
                format!("`steer.bases` has {}", listed(all.iter().map(String::as_str))),
            );
        }
    }

    /// Servers sample; what is asked of every next token of a base is told by few of them, and by
    /// none to searches that draw nothing.
    fn served_rules(&self, key: &str, bases: &[&str], rules: &mut Rules) {
        let recipe = rules.recipe;
        let served = bases.iter().filter_map(|base| Some((*base, recipe.api(base)?)));
        let lacking: Vec<(&str, &str)> =
            served.filter_map(|(base, api)| Some((base, self.lacks(api)?))).collect();
        let Some(&(_, lack)) = lacking.first() else { return };
        let alike = lacking.into_iter().filter(|(_, other)| *other == lack);
        let alike: Vec<&str> = alike.map(|(base, _)| base).collect();
        let others = bases.iter().filter(|base| recipe.api(base).is_none());
        let others: Vec<String> = others.map(|base| format!("{base:?}")).collect();
        let hint = match others.is_empty() {
            _ if lack == NO_TOKENIZER => {
                "give it: a folder or a hub id, whose weights are not fetched".to_owned()
            }
            true => "steer it with `base`, `best_of_n` or `cbs`, whose guides read text".to_owned(),
            false => format!("give the method `bases = [{}]`", others.join(", ")),
        };
        rules.problem_hint(
            format!(
                "`{key}`: `{}` needs the distribution of every next token of {}, which is \
                 served{lack}",
                self.kind(),
                listed(alike)
            ),
            hint,
        );
    }

    /// What it does not get of a base that is served so.
    fn lacks(&self, api: &Api) -> Option<&'static str> {
        let tells = [DialectName::Auto, DialectName::Vllm, DialectName::LlamaCpp];
        let methods = self.methods();
        let draws = methods.iter().all(|(_, method)| method.search.kind().draws);
        match methods.iter().any(|(_, method)| method.proposal.tilt().is_some()) {
            _ if !draws => Some(": servers tell a few likely tokens at most"),
            true if !tells.contains(&api.dialect) => Some(OTHER_DIALECT),
            true if api.tokenizer.is_none() => Some(NO_TOKENIZER),
            _ => None,
        }
    }

    /// The weights with which guides take part in what is sampled.
    fn weight_rules(&self, key: &str, rules: &mut Rules) {
        if self.kind() != EFT {
            return;
        }
        let weights = self.weights();
        if weights.is_empty() {
            rules.problem(format!("`{key}.weights` is empty, expected one weight or more"));
        }
        if let Some(twice) = first_twice(&weights) {
            rules.problem(format!("`{key}.weights` holds {twice} twice"));
        }
    }

    /// Whether the guides that it samples or compares by are there.
    fn has_guides(&self, rules: &Rules) -> bool {
        let is_there = |method: &Method| match method.proposal {
            Proposal::Untuned => untuned(rules.recipe).is_some(),
            Proposal::Tuned => !guide_pairs(rules.recipe).is_empty(),
            _ => !method.needs_guides() || !guide_pairs(rules.recipe).is_empty(),
        };
        self.methods().iter().all(|(_, method)| is_there(method))
    }
}

/// A method `ppo` samples what `[ppo]` made of its policy.
fn made_by_ppo(key: &str, chunk_len: &ChunkLens, bases: &[&str], rules: &mut Rules) {
    rules.chunk_lens(&format!("{key}.chunk_len"), chunk_len);
    let Some(ppo) = &rules.recipe.ppo else {
        return rules.problem_hint(
            format!("`{key}`: `ppo` samples what PPO made of a base, and there is no `[ppo]`"),
            "add `[ppo]` with its `policy`, `prompts` and `max_new_tokens`",
        );
    };
    let is_untrained = |length: &&ChunkLen| !ppo.chunk_len.0.contains(length);
    let untrained: Vec<String> =
        chunk_len.0.iter().filter(is_untrained).map(ChunkLen::to_string).collect();
    if !untrained.is_empty() {
        let trained: Vec<String> = ppo.chunk_len.0.iter().map(ChunkLen::to_string).collect();
        let [untrained, trained] =
            [untrained, trained].map(|lengths| listed(lengths.iter().map(String::as_str)));
        rules.problem_hint(
            format!("`{key}.chunk_len` holds {untrained}, which `ppo.chunk_len` does not"),
            format!("`[ppo]` trains with {trained}"),
        );
    }
    for policy in &ppo.policy.0 {
        let is_known = rules.recipe.models.contains_key(policy);
        if is_known && !bases.is_empty() && !bases.contains(&policy.as_str()) {
            rules.problem_hint(
                format!(
                    "`{key}`: `ppo` samples what became of `ppo.policy` = `{policy}`, which is \
                     not among `steer.bases`"
                ),
                "name it there too",
            );
        }
    }
}

/// A method `direct` samples what `[direct]` made of every base.
fn directly_tuned(key: &str, bases: &[&str], rules: &mut Rules) {
    if rules.recipe.direct.is_none() {
        return rules.problem_hint(
            format!("`{key}`: `direct` samples directly tuned bases, and there is no `[direct]`"),
            "add `[direct]`; all its keys have defaults",
        );
    }
    let tuned = rules.recipe.direct_models();
    let is_tuned = |base: &&str| tuned.iter().any(|tuned| tuned == base);
    let untuned: Vec<&str> = bases.iter().copied().filter(|base| !is_tuned(base)).collect();
    if !untuned.is_empty() {
        let untuned = listed(untuned);
        rules.problem_hint(
            format!(
                "`{key}`: `direct` samples every base, but `direct.models` leaves out {untuned}"
            ),
            "name them there too, or leave `direct.models` out to tune all of `steer.bases`",
        );
    }
}
