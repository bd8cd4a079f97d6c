//! `[gold]`: the judge whose rewards label preferences and compare methods. Training and asking it
//! is left to `stages` and `score`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::memory::{Shape, StageMemory, judge_parts};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::sizes::{ClassifierSizes, Sizes, in_range};
use super::super::stage::{StageTable, Texts};
use super::super::words::grouped;
use super::GOLD;
use super::Recipe;
use super::api::ApiLimits;
use super::gold_reward_model::GoldRewardModel;
use super::judge_source::{JudgeSource, OutsideKeys, one_origin};
use super::run::Dtype;
use super::training::{Training, TrainingTable};

/// The gold reward: log p(positive) − log p(negative) of a sentiment classifier, what a reward
/// model says, or what a program of one's own or a server does. One of `id`, `scratch`,
/// `reward_model`, `command` and `url`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gold {
    /// A folder or a hub id: a DistilBERT or BERT sequence classifier with a label called POSITIVE,
    /// or a reward model.
    #[schemars(extend("x-also" = ["reward_model_path"]))]
    #[schemars(example = &"lvwerra/distilbert-imdb")]
    pub id: Option<String>,
    pub scratch: Option<GoldScratch>,
    pub reward_model: Option<GoldRewardModel>,
    /// A program and its arguments, which is started in the recipe's folder, once in each stage
    /// that asks it. It reads a line of JSON for each response, `{"id", "prompt", "response"}`,
    /// and writes a line with a number for each, in their order, or `{"id", "reward"}` in any.
    /// Rewards are asked anew when its words, or files that they name, are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &["python3", "reward.py"])]
    pub command: Option<Vec<String>>,
    /// How long the program may be silent while answers are due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 600)]
    pub seconds: Option<u64>,
    /// The address of a server of rewards: OpenRLHF's remote reward model, or vLLM's where it ends
    /// in `/classify` (log p(positive) − log p(negative) of two classes, the number of one) or
    /// `/pooling` (its number, of several the last).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-also" = ["remote_rm_url"]), example = &"http://127.0.0.1:5000/get_reward")]
    pub url: Option<String>,
    /// What a vLLM server calls the model; where it is left out, the only one it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"owner/reward-model")]
    pub model: Option<String>,
    /// The environment variable that holds the server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"REWARD_KEY")]
    pub key: Option<String>,
    /// How much the server is asked at once, and how patiently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ApiLimits>,
    /// What the judge reads, with `{prompt}` and `{response}` once each; by default the layout that
    /// its kind was trained with. A `reward_model` is trained on it, too.
    #[schemars(example = &"{prompt}{response}")]
    pub text: Option<String>,
    /// Where it is put, instead of `run.device`.
    #[schemars(example = &"cuda")]
    pub device: Option<String>,
    /// The precision of a reward model's weights, instead of `run.dtype`; classifiers are always
    /// f32.
    #[schemars(example = &"bfloat16")]
    pub dtype: Option<Dtype>,
    #[serde(default)]
    pub training: TrainingTable,
}

/// A DistilBERT classifier that the stage makes, with its own WordPiece vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldScratch {
    /// Layers.
    #[schemars(range(min = 1, max = 1_048_576), extend("x-also" = ["num_hidden_layers"]))]
    #[schemars(example = 2)]
    pub n_layers: i64,
    /// Attention heads; divides `dim`.
    #[schemars(range(min = 1, max = 1_048_576), extend("x-also" = ["num_attention_heads"]))]
    #[schemars(example = 4)]
    pub n_heads: i64,
    /// Width of the hidden states.
    #[schemars(range(min = 1, max = 1_048_576), extend("x-also" = ["hidden_size"]))]
    #[schemars(example = 128)]
    pub dim: i64,
    /// Width of the feed-forward layers.
    #[schemars(range(min = 1, max = 1_048_576), extend("x-also" = ["intermediate_size"]))]
    #[schemars(example = 512)]
    pub hidden_dim: i64,
    /// Tokens that it sees.
    #[serde(default = "default_positions")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_position_embeddings: i64,
    /// Tokens of its WordPiece vocabulary.
    #[schemars(range(min = 100, max = 1_048_576))]
    #[schemars(example = 2000)]
    pub vocab_size: usize,
}

impl GoldScratch {
    /// `None` if a size is not positive or beyond any model.
    pub(in crate::recipe) fn sizes(&self) -> Option<ClassifierSizes> {
        let Self { n_layers, n_heads, dim, hidden_dim, max_position_embeddings, vocab_size } =
            *self;
        let vocab_size = i64::try_from(vocab_size).ok()?;
        let sizes = [vocab_size, max_position_embeddings, n_layers, n_heads, dim, hidden_dim];
        let [Some(vocab), Some(context), Some(layers), Some(heads), Some(width), Some(inner)] =
            sizes.map(in_range)
        else {
            return None;
        };
        Some(ClassifierSizes::distilbert(vocab, context, layers, heads, width, inner))
    }
}

impl Gold {
    /// The values that the weights of the judge that is made for it depend on, beside the
    /// training's. What a classifier reads is looked at where it judges; a reward model learns from
    /// it.
    pub fn made_outcome(&self) -> (&'static str, Value) {
        let Self {
            id: _,
            scratch,
            reward_model,
            command: _,
            seconds: _,
            url: _,
            model: _,
            key: _,
            limits: _,
            text,
            device: _,
            dtype: _,
            training: _,
        } = self;
        if let Some(table) = reward_model {
            return ("reward_model", json!({ "text": text, "table": table.outcome() }));
        }
        let scratch = scratch.as_ref().map(|scratch| {
            let GoldScratch {
                n_layers,
                n_heads,
                dim,
                hidden_dim,
                max_position_embeddings,
                vocab_size,
            } = scratch;
            json!({
                "n_layers": n_layers,
                "n_heads": n_heads,
                "dim": dim,
                "hidden_dim": hidden_dim,
                "max_position_embeddings": max_position_embeddings,
                "vocab_size": vocab_size,
            })
        });
        ("scratch", json!(scratch))
    }

    /// How the judge is trained, if one is made.
    pub(in crate::recipe) fn settle(&self, sizes: &Sizes) -> Option<Training> {
        if let Some(table) = &self.reward_model {
            return Some(table.settle(&self.training, sizes));
        }
        self.scratch.as_ref()?;
        let default = Training::gold().within(sizes.gold.as_ref().map(|sizes| sizes.context));
        Some(Training::resolve(&self.training, default))
    }

    /// Where its rewards come from.
    pub fn source(&self) -> JudgeSource<'_> {
        let model = self.id.as_deref().map(JudgeSource::Model);
        model.or_else(|| self.outside().source()).unwrap_or(JudgeSource::Made)
    }

    fn outside(&self) -> OutsideKeys<'_> {
        let Self { command, seconds, url, model, key, limits, .. } = self;
        OutsideKeys { command, seconds: *seconds, url, model, key, limits }
    }

    fn origin_rules(&self, rules: &mut Rules) {
        let origins = [
            ("id", self.id.is_some()),
            ("scratch", self.scratch.is_some()),
            ("reward_model", self.reward_model.is_some()),
            ("command", self.command.is_some()),
            ("url", self.url.is_some()),
        ];
        let hint = "`id` is a folder or a hub id, `scratch` the sizes of a classifier to make, \
                    `reward_model` the model and the pairs of one to train, `command` a program \
                    of your own, `url` a server";
        one_origin(GOLD, &origins, hint, rules);
        let local = [("device", self.device.is_some()), ("dtype", self.dtype.is_some())];
        self.outside().rules(GOLD, &local, self.text.is_some(), rules);
    }
}

impl StageTable for Gold {
    fn texts(&self, _: &Recipe) -> Texts {
        if self.scratch.is_some() { Texts::Training } else { Texts::None }
    }

    fn rules(&self, rules: &mut Rules) {
        self.origin_rules(rules);
        if let Some(scratch) = &self.scratch {
            let (heads, dim) = (("n_heads", scratch.n_heads), ("dim", scratch.dim));
            rules.divides("gold.scratch", heads, dim);
        }
        let Some(training) = &rules.training.gold else { return };
        rules.training_table("gold.training", &self.training, training);
        if let Some(table) = &self.reward_model {
            return table.rules(rules);
        }
        if training.activation_checkpointing {
            rules.problem(
                "`gold.training.activation_checkpointing` is for language and reward models, not \
                 for classifiers",
            );
        }
        let context = rules.sizes.gold.as_ref().map(|sizes| sizes.context);
        rules.length_fits("gold.training", training, GOLD, context);
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        if let Some(table) = &self.reward_model {
            return table.words(plan, out);
        }
        let source = self.source();
        if let JudgeSource::Program(_) | JudgeSource::Server(_) = source {
            return writeln!(out, "asks {}", source.words(""));
        }
        let parameters = grouped(plan.gold.as_ref().map_or(0, |sizes| sizes.parameters));
        let context = plan.gold.as_ref().map_or(0, |sizes| sizes.context);
        if let Some(id) = &self.id {
            return writeln!(
                out,
                "classifier from {id}, {parameters} parameters, context {context}"
            );
        }
        writeln!(
            out,
            "trains a classifier of {parameters} parameters, context {context}, with its own \
             WordPiece vocabulary"
        )?;
        write!(out, "     ")?;
        let mut training = plan.training.gold.iter();
        training.try_for_each(|training| training.words(out, plan.texts(), 1))
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        if let Some(table) = &self.reward_model {
            return table.memory(plan);
        }
        let sizes = plan.gold.as_ref()?;
        let parts = match &plan.training.gold {
            None => judge_parts(plan, GOLD)?,
            Some(training) => Shape::of_classifier(sizes).training_parts(training, 1),
        };
        Some(StageMemory { model: GOLD.to_owned(), parts })
    }
}

fn default_positions() -> i64 {
    128
}
