//! `[ppo]`: PPO of a base on the guide pair's dense reward. The loop is left to `stages`, the
//! losses and the advantages to `losses`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::memory::{StageMemory, judge_parts, largest};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::super::stage::{StageTable, Texts};
use super::super::words::{grouped, product};
use super::chunk_len::ChunkLens;
use super::kl::KlTable;
use super::lora::LoraTable;
use super::policies::Policies;
use super::training::{Training, TrainingTable, largest_divisor};
use super::{GOLD, Recipe};
use crate::search::ChunkLen;

/// Proximal policy optimisation of bases on the guide pair's dense reward (paper C.3), once for
/// each policy, chunk length and each of `run.seeds`. Each step samples one response to each of
/// `training.batch_size` different prompts, rewards them, and passes over them `ppo_epochs` times
/// in minibatches. What is kept is the policy after the last step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PpoTable {
    /// The model to train, or a list of models, each trained alone.
    #[schemars(example = &"base")]
    pub policy: Policies,
    /// The model that rewards as the tuned guide; by default that of the first pair of `[steer]`,
    /// or else the result of `[dpo]`.
    #[schemars(example = &"tuned")]
    pub tuned: Option<String>,
    /// The model that rewards as the untuned guide; given with `tuned` or not at all.
    #[schemars(example = &"untuned")]
    pub untuned: Option<String>,
    /// Tokens whose rewards are paid together, `"inf"` for the whole response, or a list of these,
    /// each a training of its own.
    #[serde(default)]
    pub chunk_len: ChunkLens,
    /// What the pair's log-ratios are multiplied by (the paper's β); below 0 trains away from what
    /// the pair was tuned for.
    #[serde(default = "one")]
    pub scale: f64,
    /// Prompts of the training split; `training.batch_size` or more.
    #[schemars(example = 500)]
    pub prompts: usize,
    /// Prompts of the validation split, answered before the first step, every
    /// `training.eval_every` steps and after the last; 0 leaves validation out.
    #[serde(default)]
    pub validation_prompts: usize,
    /// Tokens of a rollout, at most.
    #[schemars(range(min = 1), extend("x-also" = ["response_length", "max_tokens"]))]
    #[schemars(example = 50)]
    pub max_new_tokens: usize,
    /// The temperature of the rollouts, and of every log-probability that PPO compares; above 0.
    /// Rollouts have no top-k and no top-p.
    #[serde(default = "default_temperature")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(extend("x-hint" = "greedy rollouts leave no choice; 0.7 is the default"))]
    pub temperature: f64,
    /// Passes over the rollouts of one step.
    #[serde(default = "four")]
    #[schemars(range(min = 1), extend("x-also" = ["num_ppo_epochs", "noptepochs"]))]
    pub ppo_epochs: usize,
    /// Rollouts of one update of the weights; `training.batch_size` by default, which it must
    /// divide.
    #[schemars(range(min = 1), extend("x-also" = ["num_mini_batches"]))]
    #[schemars(example = 16)]
    pub minibatch_size: Option<usize>,
    /// γ of generalised advantage estimation (arXiv 1506.02438).
    #[serde(default = "one")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub gamma: f64,
    /// λ of generalised advantage estimation.
    #[serde(default = "default_lam")]
    #[schemars(range(min = 0, max = 1), extend("x-also" = ["lambda", "gae_lambda"]))]
    pub lam: f64,
    /// How far from 1 a token's ratio π/π_old is followed (ε).
    #[serde(default = "default_cliprange")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["clip_range", "epsilon"]))]
    pub cliprange: f64,
    /// How far from its value at sampling a token's value is followed.
    #[serde(default = "default_cliprange")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub cliprange_value: f64,
    /// The weight of the value loss beside the policy's.
    #[serde(default = "default_vf_coef")]
    #[schemars(range(min = 0), extend("x-also" = ["value_loss_coef"]))]
    pub vf_coef: f64,
    /// What the values are read from.
    #[serde(default)]
    pub value: ValueSource,
    /// The learning rate of the value's head, by the schedule of `training.learning_rate`, which is
    /// that of everything else.
    #[serde(default = "default_head_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub head_learning_rate: f64,
    #[serde(default)]
    pub kl: KlTable,
    /// Taken off the reward of a response that is cut by `max_new_tokens`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub missing_eos_penalty: f64,
    /// A step's updates end where the policy has moved this far from the one that sampled, by
    /// `policy/approxkl_avg` of a minibatch.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 0.1)]
    pub target_kl: Option<f64>,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// What the values V(s_t) are read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// A linear head on the policy's own states.
    #[default]
    Head,
    /// A second model that starts as a copy of the policy and is trained beside it, every weight of
    /// it.
    Model,
}

impl PpoTable {
    pub fn policies(&self) -> Vec<&str> {
        self.policy.0.iter().map(String::as_str).collect()
    }

    /// Rollouts of one update of the weights.
    pub fn minibatch(&self, batch_size: usize) -> usize {
        self.minibatch_size.unwrap_or(batch_size)
    }

    /// Of one of its policies.
    pub(in crate::recipe) fn settle(
        &self,
        policy: &str,
        recipe: &Recipe,
        sizes: &Sizes,
    ) -> Training {
        let prompt = recipe.prompt_bound(policy).unwrap_or_default();
        let policy = sizes.models.get(policy);
        let max_length = prompt.saturating_add(self.max_new_tokens).saturating_add(1);
        let context = policy.map(|sizes| sizes.context);
        let default = Training { max_length, ..Training::ppo() }.within(context);
        // A divisor of the minibatch is one of the batch too.
        let most = default.micro_batch_size;
        let micro_batch_size =
            self.minibatch_size.map_or(most, |minibatch| largest_divisor(minibatch, most));
        let default = Training { micro_batch_size, ..default };
        Training::resolve(&self.training, default).with_lora(&self.lora, policy)
    }

    /// The values that one training depends on, with chunks of this length and the settled
    /// `training`; other lengths and policies beside it change nothing.
    pub fn outcome(&self, chunk_len: ChunkLen, training: &Training) -> Value {
        let Self {
            policy: _,
            tuned: _,
            untuned: _,
            chunk_len: _,
            scale,
            prompts,
            // What is measured on the way is part of the result; how often is not.
            validation_prompts,
            max_new_tokens,
            temperature,
            ppo_epochs,
            minibatch_size,
            gamma,
            lam,
            cliprange,
            cliprange_value,
            vf_coef,
            value,
            head_learning_rate,
            kl,
            missing_eos_penalty,
            target_kl,
            training: _,
            lora: _,
        } = self;
        // The last weights are kept.
        let mut training = training.outcome();
        training["eval_every"] = Value::Null;
        json!({
            "chunk_len": chunk_len,
            "scale": scale,
            "prompts": [prompts, validation_prompts],
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "ppo_epochs": ppo_epochs,
            "minibatch_size": minibatch_size,
            "gamma": gamma,
            "lam": lam,
            "cliprange": [cliprange, cliprange_value],
            "vf_coef": vf_coef,
            "value": value,
            "head_learning_rate": head_learning_rate,
            "kl": kl,
            "missing_eos_penalty": missing_eos_penalty,
            "target_kl": target_kl,
            "training": training,
        })
    }

    /// Trainings in all, and their rollouts.
    fn trainings(&self, plan: &Plan, training: &Training) -> (u64, u64) {
        let seeds = plan.recipe.run.seeds.len();
        let counts = [self.policy.0.len(), self.chunk_len.0.len(), seeds];
        let trainings = product(&counts.map(|count| count as u64));
        let steps = training.steps(self.prompts) as u64;
        (trainings, product(&[trainings, steps, training.batch_size as u64]))
    }

    fn rollout_words(&self, plan: &Plan, training: &Training, out: &mut String) -> fmt::Result {
        let Self { prompts, validation_prompts, max_new_tokens, .. } = self;
        for guide in plan.recipe.ppo_guide_models() {
            plan.write_guide_room(out, guide, &self.policies(), *max_new_tokens)?;
        }
        if self.policy.0.len() > 1 {
            write!(out, "     policies {} × ", self.policy.0.len())?;
        } else {
            write!(out, "     ")?;
        }
        let (lengths, seeds) = (self.chunk_len.0.len(), plan.recipe.run.seeds.len());
        let (trainings, rollouts) = self.trainings(plan, training);
        let [steps, batch] = [training.steps(*prompts), training.batch_size];
        let [steps, batch] = [steps, batch].map(|count| grouped(count as u64));
        write!(out, "chunk lengths {lengths} × seeds {seeds} = {trainings} trainings; ")?;
        write!(out, "{steps} steps of {batch} rollouts each, ")?;
        writeln!(out, "{} rollouts in all", grouped(rollouts))?;
        write!(out, "     {prompts} prompts and {validation_prompts} for validation; ")?;
        write!(out, "up to {max_new_tokens} new tokens, temperature {}", self.temperature)?;
        writeln!(out, "; missing-EOS penalty {}", self.missing_eos_penalty)
    }

    fn update_words(&self, training: &Training, out: &mut String) -> fmt::Result {
        let Self { ppo_epochs, gamma, lam, cliprange, cliprange_value, vf_coef, .. } = self;
        let minibatch = self.minibatch(training.batch_size);
        let minibatches = training.batch_size / minibatch;
        let updates = grouped(product(&[*ppo_epochs as u64, minibatches as u64]));
        let Training { micro_batch_size, max_length, .. } = training;
        write!(out, "     {ppo_epochs} epochs × {minibatches} minibatches of {minibatch} = ")?;
        write!(out, "{updates} updates a step, {micro_batch_size} rollouts in a forward pass ")?;
        writeln!(out, "of up to {max_length} tokens each")?;
        let value = match self.value {
            ValueSource::Head => "a value head on the policy's states",
            ValueSource::Model => "a value model that starts as a copy of the policy",
        };
        let rate = self.head_learning_rate;
        write!(out, "     {value}, value coefficient {vf_coef}, ")?;
        writeln!(out, "learning rate of the head {rate:e}")?;
        let most = self.target_kl.map_or("off".to_owned(), |most| most.to_string());
        write!(out, "     gamma {gamma}, lambda {lam}; clip {cliprange}, ")?;
        writeln!(out, "value clip {cliprange_value}, target KL {most}")?;
        writeln!(out, "     {}", self.kl.words())
    }
}

impl StageTable for PpoTable {
    fn texts(&self, _: &Recipe) -> Texts {
        Texts::Training
    }

    fn rules(&self, rules: &mut Rules) {
        self.tell(rules);
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let Some(training) = plan.training.ppo.values().next() else { return Ok(()) };
        let pair = plan.ppo_pair().map(|pair| format!("{} over {}", pair.tuned, pair.untuned));
        let (pair, chunks) = (pair.unwrap_or_default(), self.chunk_len.words());
        write!(out, "{}; rewarded by {pair} with scale {}, ", self.policy.words(), self.scale)?;
        writeln!(out, "at the end of each chunk of {chunks} tokens")?;
        self.rollout_words(plan, training, out)?;
        self.update_words(training, out)?;
        training.optimisation_words(out)?;
        match self.validation_prompts {
            0 => write!(out, "; no validation")?,
            _ => write!(out, "; validated every {} steps", training.eval_every)?,
        }
        writeln!(out, ", checkpoint every {}", training.checkpoint_every)?;
        for policy in self.policies() {
            let training = plan.training.ppo.get(policy).unwrap_or(training);
            training.lora_words(plan.models.get(policy), out)?;
        }
        // The policy as it was counts, and what is left of the steps.
        let (trainings, rollouts) = self.trainings(plan, training);
        let validations = training.steps(self.prompts).div_ceil(training.eval_every);
        let validations = (validations as u64).saturating_add(1);
        let answers = product(&[trainings, validations, self.validation_prompts as u64]);
        let sampled = product(&[rollouts.saturating_add(answers), self.max_new_tokens as u64]);
        let sampled = grouped(sampled);
        writeln!(out, "     at most {sampled} sampled tokens in all, validation included")
    }

    fn warnings(&self, plan: &Plan) -> Vec<String> {
        let guides = plan.recipe.ppo_guide_models().into_iter();
        let key = "ppo.max_new_tokens";
        guides
            .filter_map(|guide| plan.short_guide(key, guide, &self.policies(), self.max_new_tokens))
            .collect()
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        largest(plan.training.ppo.iter().filter_map(|(policy, training)| {
            let mut parts = self.training_memory(plan, policy, training)?;
            if self.validation_prompts > 0 {
                parts.extend(judge_parts(plan, GOLD).unwrap_or_default());
            }
            Some(StageMemory { model: policy.clone(), parts })
        }))
    }
}

fn one() -> f64 {
    1.0
}
fn four() -> usize {
    4
}
fn default_temperature() -> f64 {
    0.7
}
fn default_lam() -> f64 {
    0.95
}
fn default_head_learning_rate() -> f64 {
    1e-3
}
fn default_cliprange() -> f64 {
    0.2
}
fn default_vf_coef() -> f64 {
    0.1
}
