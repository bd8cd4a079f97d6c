//! `[models.<name>] api`: a model that somebody serves over HTTP, and how much is asked of a
//! service. What servers understand is left to `policy`, calling them to `http`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::super::words::grouped;
use super::Recipe;

/// A model behind HTTP, which can be a base, and a guide where its server tells log-probabilities
/// of given texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where the server's OpenAI routes begin, such as `http://127.0.0.1:8000/v1`; native routes
    /// are looked for beside them.
    #[schemars(extend("x-also" = ["base_url", "api_base"]))]
    #[schemars(example = &"http://127.0.0.1:8000/v1")]
    pub url: String,
    /// What the server calls the model; where it is left out, the only one it serves.
    #[schemars(example = &"meta-llama/Llama-2-70b-hf")]
    pub model: Option<String>,
    /// What the server understands; `"auto"` asks it. `w2s doctor URL` tells what was found.
    #[serde(default)]
    pub dialect: DialectName,
    /// The environment variable that holds the key; keys themselves stand in no recipe.
    #[schemars(extend("x-also" = ["api_key", "api_key_env"]))]
    #[schemars(example = &"OPENAI_API_KEY")]
    pub key: Option<String>,
    /// The model's tokenizer, a folder or a hub id whose weights are not fetched. With it prompts
    /// go as token ids where the server takes them, and ids pass straight to guides of the same
    /// vocabulary. A guide needs it.
    #[schemars(example = &"meta-llama/Llama-2-70b-hf")]
    pub tokenizer: Option<String>,
    /// What is done with a setting of the sampling that the server cannot take, such as top-k at
    /// OpenAI: `"drop"` samples without it and says so in the summary.
    #[serde(default)]
    pub unsupported: Unsupported,
    /// Continuations of one request, at most; left out, as many as the server gives.
    #[schemars(range(min = 1), example = 8)]
    pub max_n: Option<usize>,
    #[serde(default)]
    pub limits: ApiLimits,
    #[serde(default)]
    pub budget: ApiBudget,
}

/// The routes and shapes that a server understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DialectName {
    /// What the server says that it is, or else what it takes.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// `/completions` with what OpenAI documents, for any server that has it.
    #[serde(rename = "openai")]
    OpenAi,
    /// vLLM's `/completions`, by token ids.
    #[serde(rename = "vllm")]
    Vllm,
    /// SGLang's `/generate`, by token ids.
    #[serde(rename = "sglang")]
    Sglang,
    /// `/completion` of llama.cpp's server, by token ids.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// `/generate` of Text Generation Inference.
    #[serde(rename = "tgi")]
    Tgi,
    /// Ollama's `/api/generate`, raw.
    #[serde(rename = "ollama")]
    Ollama,
    /// `transformers serve`.
    #[serde(rename = "transformers")]
    Transformers,
    /// `/chat/completions` of a server that goes on with an assistant's turn.
    #[serde(rename = "chat")]
    Chat,
}

impl DialectName {
    /// As it stands in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama.cpp",
            Self::Tgi => "tgi",
            Self::Ollama => "ollama",
            Self::Transformers => "transformers",
            Self::Chat => "chat",
        }
    }
}

/// What becomes of settings that a server cannot take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unsupported {
    /// Before any request is paid for.
    #[default]
    Refuse,
    /// It is left out, and the summary says so.
    Drop,
}

/// How much is asked of a service at once, and how patiently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiLimits {
    /// Requests under way at once, at most; a service that refuses (429, 503) is asked for fewer.
    #[schemars(range(min = 1, max = 1024), extend("x-also" = ["num_concurrent", "concurrency"]))]
    pub at_once: usize,
    /// Requests in any minute, at most.
    #[schemars(range(min = 1), example = 3500)]
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers together in any minute, at most.
    #[schemars(range(min = 1), example = 90000)]
    pub tokens_per_minute: Option<u64>,
    /// How often a request that may still succeed is sent; then its prompt has no answer, until
    /// the next run asks again.
    #[schemars(range(min = 1, max = 100), extend("x-also" = ["max_retries"]))]
    pub attempts: u32,
    /// Seconds until a connection stands.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub connect_seconds: f64,
    /// Seconds until an answer begins.
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["timeout"]))]
    pub first_byte_seconds: f64,
    /// Seconds without a byte in the middle of an answer.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub silence_seconds: f64,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            at_once: 32,
            requests_per_minute: None,
            tokens_per_minute: None,
            attempts: 6,
            connect_seconds: 10.0,
            first_byte_seconds: 600.0,
            silence_seconds: 60.0,
        }
    }
}

/// What may be spent on a service, over all runs into one run directory. What is used up ends the
/// run; a larger budget goes on from there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiBudget {
    /// Tokens of prompts and answers together.
    #[schemars(range(min = 1), example = 2000000)]
    pub tokens: Option<u64>,
    /// Money, in the currency of the prices.
    #[schemars(extend("exclusiveMinimum" = 0), example = 5.0)]
    pub cost: Option<f64>,
    /// The price of a million tokens of prompts.
    #[schemars(range(min = 0), example = 1.5)]
    pub price_prompt: f64,
    /// The price of a million sampled tokens.
    #[schemars(range(min = 0), example = 2.0)]
    pub price_completion: f64,
}

impl Api {
    /// What its answers depend on: the model, wherever it is served. Its tokenizer decides which
    /// ids it is sent.
    pub fn outcome(&self) -> Value {
        let Self {
            url,
            model,
            // Dialects ask for the same distribution.
            dialect: _,
            key: _,
            // Its contents count.
            tokenizer: _,
            unsupported,
            max_n: _,
            limits: _,
            budget: _,
        } = self;
        let model = model.as_ref().unwrap_or(url);
        json!({ "model": model, "unsupported": unsupported })
    }

    pub(in crate::recipe) fn rules(&self, table: &str, rules: &mut Rules) {
        http_url(&format!("{table}.url"), &self.url, rules);
        if let Some(key) = &self.key {
            key_rule(&format!("{table}.key"), key, rules);
        }
        if let Some(tokenizer) = &self.tokenizer {
            rules.tokenizer_folder(&format!("{table}.tokenizer"), tokenizer);
        }
        self.budget.rules(&format!("{table}.budget"), rules);
    }

    pub(in crate::recipe) fn words(&self, name: &str, out: &mut String) -> fmt::Result {
        let Self { url, model, dialect, budget, limits, .. } = self;
        let model = model.as_deref().unwrap_or("its only model");
        write!(out, "  {name}: {model} served at {url}, dialect {}, ", dialect.name())?;
        write!(out, "{} requests at once", limits.at_once)?;
        if let Some(tokens) = budget.tokens {
            write!(out, ", at most {} tokens", grouped(tokens))?;
        }
        if let Some(cost) = budget.cost {
            write!(out, ", at most {cost} spent")?;
        }
        writeln!(out)
    }
}

impl ApiBudget {
    fn rules(&self, table: &str, rules: &mut Rules) {
        if self.cost.is_some() && self.price_prompt == 0.0 && self.price_completion == 0.0 {
            rules.problem_hint(
                format!("`{table}.cost` is a bound, but tokens have no price"),
                format!("give `{table}.price_prompt` and `{table}.price_completion`, per million"),
            );
        }
    }
}

impl Recipe {
    /// What serves the model, where it is not here.
    pub fn api(&self, model: &str) -> Option<&Api> {
        self.models.get(model)?.api.as_ref()
    }
}

/// An address that requests can be sent to.
pub(in crate::recipe) fn http_url(key: &str, url: &str, rules: &mut Rules) {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host) if host.contains('@') => rules.problem_hint(
            format!("`{key}` holds a user or a password"),
            "a key is given by the environment variable that `key` names",
        ),
        Some(host) if !host.is_empty() && !url.contains(char::is_whitespace) => {}
        _ => rules.problem_hint(
            format!("`{key}` is `{url}`, which is no address"),
            "such as `http://127.0.0.1:8000/v1`",
        ),
    }
}

/// The name of an environment variable, and never what it holds.
pub(in crate::recipe) fn key_rule(key: &str, name: &str, rules: &mut Rules) {
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
    };
    if !is_name(name) {
        rules.problem_hint(
            format!("`{key}` is not the name of an environment variable"),
            "a recipe holds the name, such as `OPENAI_API_KEY`; the variable holds the key",
        );
    }
}

/// A served model is a base, or a guide that scores: nothing here can train it or look into it.
pub(in crate::recipe) fn served_models(rules: &mut Rules) {
    let recipe = rules.recipe;
    let preferences = recipe.preferences.as_ref();
    let gold = recipe.gold_reward_model().map(|table| table.model.as_str());
    let policies = recipe.ppo.iter().flat_map(|ppo| &ppo.policy.0).map(String::as_str);
    let sampled = preferences.and_then(|table| table.policy.as_deref());
    let tuned = recipe.sft.as_ref().and_then(|sft| sft.model.as_deref());
    let rewards = recipe.reward_model.as_ref().and_then(|table| table.model.as_deref());
    let mut asked: Vec<(&str, &str)> = Vec::new();
    asked.extend(sampled.map(|model| ("preferences.policy", model)));
    asked.extend(tuned.map(|model| ("sft.model", model)));
    asked.extend(rewards.map(|model| ("reward_model.model", model)));
    asked.extend(gold.map(|model| ("gold.reward_model.model", model)));
    asked.extend(recipe.direct_models().iter().map(|model| ("direct.models", model.as_str())));
    asked.extend(policies.map(|model| ("ppo.policy", model)));
    for (key, model) in asked.into_iter().filter(|(_, model)| recipe.api(model).is_some()) {
        rules.problem_hint(
            format!("`{key}` is `{model}`, which is served by others and only answers"),
            "name a model with `id` or `scratch`; served ones can be in `steer.bases`",
        );
    }
}
