//! `[preferences]`: which pairs there are, and who labels them. Its rules are in
//! `preferences_rules.rs`; sampling and judging is left to `stages`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::memory::{StageMemory, cache_apart, frozen, judge_parts};
use super::super::plan::Plan;
use super::super::reading::SAMPLED_ROWS;
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::super::stage::{StageTable, Texts};
use super::super::words::{grouped, product};
use super::pair_columns::PairColumns;
use super::pair_source::{PAIR_FILE_TOKENS, PairSource};
use super::sampling::SamplingTable;
use super::splits::PairSplits;
use super::training::Training;
use super::{GOLD, Recipe, Stage};

/// The pairs to learn from: sampled from `policy` and judged by the gold reward, or taken from
/// `source` and judged anew or kept. Pairs that are equal, empty, tied or too long are left out and
/// counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The model whose samples are judged: the untuned guide. With `source` nothing is sampled, and
    /// it only is the model to tune.
    #[schemars(example = &"guide")]
    pub policy: Option<String>,
    /// Pairs that are there already: a file (`.jsonl[.gz]`, `.json`, `.csv`, `.parquet`), a folder
    /// with such files for training and for validation (or test), or a hub data set
    /// `owner/name[@revision]`.
    #[schemars(example = &"../data/pairs")]
    pub source: Option<String>,
    /// A folder below `source`, where that holds several data sets.
    #[schemars(extend("x-also" = ["dataset_config", "config_name"]))]
    #[schemars(example = &"comparisons")]
    pub subset: Option<String>,
    #[serde(default)]
    pub splits: PairSplits,
    #[serde(default)]
    pub columns: PairColumns,
    /// Pairs of `source` to train on; 0 takes all there are.
    #[serde(default)]
    #[schemars(example = 1000)]
    pub train_pairs: usize,
    /// Pairs of `source` to validate on; 0 takes all that a folder has for it.
    #[serde(default)]
    #[schemars(example = 100)]
    pub validation_pairs: usize,
    /// Prompts of the training split to sample from; required without `source`.
    #[serde(default)]
    #[schemars(example = 500)]
    pub prompts: usize,
    /// Prompts of the validation split to sample from; required without `source`.
    #[serde(default)]
    #[schemars(example = 50)]
    pub validation_prompts: usize,
    /// Responses sampled to each prompt, an even number for `disjoint`.
    #[serde(default = "two")]
    #[schemars(extend("x-also" = ["num_return_sequences"]))]
    pub samples_per_prompt: usize,
    /// Which samples of a prompt make pairs.
    #[serde(default)]
    pub pairing: Pairing,
    /// Who says which response of a pair is chosen.
    #[serde(default)]
    pub label: PreferenceLabel,
    #[serde(default)]
    pub sampling: SamplingTable,
    /// Tokens of a sample, at most; required without `source`.
    #[serde(default)]
    #[schemars(extend("x-also" = ["max_tokens", "response_length"]))]
    #[schemars(example = 50)]
    pub max_new_tokens: usize,
}

/// Which samples of a prompt make pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// The first two, the next two, and so on.
    #[default]
    Disjoint,
    /// Every two different ones.
    All,
    /// The highest and the lowest reward.
    BestWorst,
}

/// Who says which response of a pair is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLabel {
    /// Drawn with probability σ(r1 − r2) of the gold rewards (Bradley–Terry).
    #[default]
    Drawn,
    /// The higher gold reward.
    Argmax,
    /// As the pair file has it, for which `[gold]` may be left out.
    Kept,
}

impl Preferences {
    /// Where it stands, as keys and messages name it.
    pub const TABLE: &str = "preferences";

    /// Prompts whose samples are drawn together.
    pub fn prompts_at_once(&self) -> usize {
        (SAMPLED_ROWS / self.samples_per_prompt.max(1)).max(1)
    }

    /// Pairs that the samples of one prompt make, before equal, empty and tied ones drop out.
    pub fn pairs_per_prompt(&self) -> usize {
        let samples = self.samples_per_prompt;
        match self.pairing {
            Pairing::Disjoint => samples / 2,
            Pairing::All => samples.saturating_mul(samples.saturating_sub(1)) / 2,
            Pairing::BestWorst => 1,
        }
    }

    /// The pairs of `source`; `None` where they are sampled.
    pub fn pair_source(&self) -> Option<PairSource<'_>> {
        let Self { source, subset, splits, columns, train_pairs, validation_pairs, .. } = self;
        Some(PairSource {
            table: Self::TABLE,
            source: source.as_ref()?,
            subset: subset.as_deref(),
            splits,
            columns,
            train_pairs: *train_pairs,
            validation_pairs: *validation_pairs,
        })
    }

    /// The values that the pairs depend on, beside the policy and the files.
    pub fn outcome(&self) -> Value {
        let Self {
            policy: _,
            source: _,
            subset: _,
            splits: _,
            columns: _,
            train_pairs: _,
            validation_pairs: _,
            prompts,
            validation_prompts,
            samples_per_prompt,
            pairing,
            label,
            sampling,
            max_new_tokens,
        } = self;
        let pairs = match self.pair_source() {
            Some(source) => source.outcome(),
            None => json!({
                "prompts": prompts,
                "validation_prompts": validation_prompts,
                "samples_per_prompt": samples_per_prompt,
                "pairing": pairing,
                "sampling": sampling,
                "max_new_tokens": max_new_tokens,
            }),
        };
        json!({ "label": label, "pairs": pairs })
    }
}

impl StageTable for Preferences {
    fn needs(&self) -> Vec<Stage> {
        if self.label == PreferenceLabel::Kept { Vec::new() } else { vec![Stage::Gold] }
    }

    fn without(&self, needed: Stage, _: &Recipe) -> Option<(&'static str, &'static str)> {
        (needed == Stage::Gold).then_some((
            ", which labels the pairs",
            "pairs of a file may keep their labels: `label = \"kept\"`",
        ))
    }

    fn texts(&self, _: &Recipe) -> Texts {
        if self.source.is_none() { Texts::Training } else { Texts::None }
    }

    fn rules(&self, rules: &mut Rules) {
        match self.pair_source() {
            Some(source) => self.source_rules(&source, rules),
            None => self.sampling_rules(rules),
        }
    }

    fn words(&self, _: &Plan, out: &mut String) -> fmt::Result {
        let Self { prompts, validation_prompts, samples_per_prompt, max_new_tokens, .. } = self;
        let label = match self.label {
            PreferenceLabel::Drawn => "drawn with probability σ(r1 − r2)",
            PreferenceLabel::Argmax => "the higher reward",
            PreferenceLabel::Kept => "as the source has it",
        };
        if let Some(source) = self.pair_source() {
            return source.words(label, out);
        }
        let policy = self.policy.as_deref().unwrap_or_default();
        let pairing = match self.pairing {
            Pairing::Disjoint => "",
            Pairing::All => ", every two of them a pair",
            Pairing::BestWorst => ", the best and the worst a pair",
        };
        write!(out, "({prompts} + {validation_prompts} validation) prompts × ")?;
        writeln!(out, "{samples_per_prompt} samples of {policy}{pairing}, judged by gold")?;
        let all = prompts.saturating_add(*validation_prompts) as u64;
        let tokens = product(&[all, *samples_per_prompt as u64, *max_new_tokens as u64]);
        write!(out, "     up to {max_new_tokens} new tokens each, {} in all; ", grouped(tokens))?;
        writeln!(out, "{}; chosen is {label}", self.sampling.words())?;
        let pairs = |prompts: usize| prompts.saturating_mul(self.pairs_per_prompt());
        let (train, validation) = (pairs(*prompts), pairs(*validation_prompts));
        writeln!(out, "     at most {train} pairs and {validation} for validation")
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let Some(policy) = self.policy.as_ref().filter(|_| self.source.is_none()) else {
            return Some(StageMemory { model: GOLD.to_owned(), parts: judge_parts(plan, GOLD)? });
        };
        let rows = product(&[self.prompts_at_once() as u64, self.samples_per_prompt as u64]);
        let mut parts = vec![frozen(plan, "weights", policy)?];
        parts.push(cache_apart(plan, policy, rows, self.max_new_tokens)?);
        parts.extend(judge_parts(plan, GOLD).unwrap_or_default());
        Some(StageMemory { model: policy.clone(), parts })
    }
}

impl Recipe {
    /// `default` on texts that hold the longest pair of `model`, which has the policy's vocabulary.
    pub(super) fn room_for_pairs(&self, default: Training, model: &str, sizes: &Sizes) -> Training {
        let new_tokens =
            self.preferences.as_ref().map_or(0, |preferences| preferences.max_new_tokens);
        self.room_for(default, model, new_tokens, sizes)
    }

    /// The same of a model that may have another vocabulary, in which a response takes half as many
    /// tokens again.
    pub(super) fn room_for_responses(
        &self,
        default: Training,
        model: &str,
        sizes: &Sizes,
    ) -> Training {
        let new_tokens = self.preferences.as_ref().map_or(0, |preferences| {
            let policy = preferences.policy.as_deref();
            let owner = policy.map(|policy| self.tokenizer_owner(policy));
            let same = owner == Some(self.tokenizer_owner(model));
            let more = if same { 0 } else { preferences.max_new_tokens / 2 };
            preferences.max_new_tokens.saturating_add(more)
        });
        self.room_for(default, model, new_tokens, sizes)
    }

    fn room_for(
        &self,
        default: Training,
        model: &str,
        new_tokens: usize,
        sizes: &Sizes,
    ) -> Training {
        let is_file = self.preferences.as_ref().is_some_and(|table| table.source.is_some());
        let longest = match is_file {
            true => PAIR_FILE_TOKENS,
            // Prompt, response and an end token.
            false => self
                .prompt_bound(model)
                .map_or(0, |prompt| prompt.saturating_add(new_tokens).saturating_add(1)),
        };
        default.roomy(longest, sizes.models.get(model).map(|sizes| sizes.context))
    }
}

fn two() -> usize {
    2
}
