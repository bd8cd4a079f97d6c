//! `[models.<name>]`: a model of the recipe, how it is prompted and where it is put. Rendering
//! prompts is left to `text`, opening folders to `models`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::super::sizes::LmSizes;
use super::super::tokenizer_folder::chat_template;
use super::super::words::grouped;
use super::api::Api;
use super::exemplars::{Exemplars, file_rule};
use super::model_prompt::{HOLE, ModelPrompt};
use super::run::Dtype;
use super::sampling::SamplingTable;
use super::scratch::{Scratch, ScratchTokenizer};

/// A model: `id`, which is there already, `scratch`, which `[pretrain]` makes, or `api`, which
/// somebody serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A folder in Hugging Face layout (`config.json`, `tokenizer.json` and weights), or a hub id
    /// `owner/name[@revision]`.
    #[schemars(extend("x-also" = ["model_name_or_path", "model_name", "repo_id"]))]
    #[schemars(example = &"openai-community/gpt2")]
    pub id: Option<String>,
    pub scratch: Option<Scratch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// What the model reads before the response; `{prompt}` stands in it once, for the raw prompt.
    /// `{ file = "prompt.txt" }` is the text of a file, as it is but for one end of a line at its
    /// end.
    #[serde(default)]
    pub prompt: ModelPrompt,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemplars: Option<Exemplars>,
    /// Where this model is put instead of `run.device`, for inference and training. A guide that
    /// descends from it goes with it.
    #[schemars(example = &"cuda:1")]
    pub device: Option<String>,
    /// The precision of its weights, instead of `run.dtype`.
    #[schemars(example = &"bfloat16")]
    pub dtype: Option<Dtype>,
    /// Whether the model's BOS token stands before the prompt, in training and in search alike;
    /// left out, what the tokenizer's own files put there does, or the chat template's.
    #[schemars(extend("x-also" = ["add_bos_token"]))]
    #[schemars(example = true)]
    pub bos: Option<bool>,
    pub chat: Option<Chat>,
    /// How tokens are drawn where `[steer]` samples this model, instead of by `steer.sampling`: as
    /// a base, as what direct tuning or PPO made of it, or as a guide alone.
    pub sampling: Option<SamplingTable>,
    /// Where its responses end there, instead of at `steer.stop`.
    #[schemars(example = &["\n"])]
    pub stop: Option<Vec<String>>,
    /// Tokens of its responses there, at most, instead of `steer.max_new_tokens`.
    #[schemars(range(min = 1), example = 50)]
    pub max_new_tokens: Option<usize>,
}

/// Makes the filled `prompt` the user's turn of the tokenizer's chat template, which ends where the
/// assistant's turn begins; for models with `id`. `{}` does it without a system's turn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The system's turn; an empty one is said too, which is not the same as none.
    #[schemars(extend("x-also" = ["system_prompt", "system_message"]))]
    #[schemars(example = &"Be brief.")]
    pub system: Option<String>,
}

impl Model {
    /// The values that its prompts depend on; its weights have outcomes of their own.
    pub fn prompt_outcome(&self) -> Value {
        let Self {
            id: _,
            scratch: _,
            api: _,
            prompt,
            exemplars,
            device: _,
            dtype: _,
            bos,
            chat,
            // Counts for the responses of `[steer]` alone.
            sampling: _,
            stop: _,
            max_new_tokens: _,
        } = self;
        let mut outcome = json!({ "prompt": prompt, "bos": bos, "chat": chat });
        if let Some(exemplars) = exemplars {
            outcome["exemplars"] = exemplars.outcome();
        }
        outcome
    }

    /// The folder or hub id of its tokenizer, where it has one before a run.
    pub fn tokenizer_id(&self) -> Option<&String> {
        let served = self.api.as_ref().and_then(|api| api.tokenizer.as_ref());
        self.id.as_ref().or(served)
    }

    pub(in crate::recipe) fn rules(&self, name: &str, rules: &mut Rules) {
        let table = format!("models.{name}");
        rules.folder_name("models", name);
        let origins = [self.id.is_some(), self.scratch.is_some(), self.api.is_some()];
        rules.one_origin(&table, origins);
        if let Some(api) = &self.api {
            api.rules(&format!("{table}.api"), rules);
            self.served_rules(&table, rules);
        }
        if let Some(id) = &self.id {
            rules.model_folder(&format!("{table}.id"), id);
        }
        if let Some(scratch) = &self.scratch {
            scratch.rules(name, rules);
        }
        if let Some(device) = &self.device {
            rules.device(&format!("{table}.device"), device);
        }
        if self.stop.iter().flatten().any(String::is_empty) {
            rules.problem(format!(
                "`{table}.stop` holds an empty text, which would end every response at once"
            ));
        }
        self.chat_rules(&table, rules);
        if let Some(file) = self.prompt.file() {
            file_rule(&format!("{table}.prompt.file"), file, rules);
        }
        if let Some(exemplars) = &self.exemplars {
            exemplars.rules(&table, self.prompt.text(), self.chat.is_some(), rules);
        }
    }

    /// The rule that holds wherever the model is, for `w2s steer` too.
    pub(in crate::recipe) fn template_rules(&self, name: &str, rules: &mut Rules) {
        let Some(prompt) = self.prompt.text() else { return };
        let holes = prompt.matches(HOLE).count();
        if holes != 1 {
            rules.problem(format!(
                "`models.{name}.prompt` holds `{{prompt}}` {holes} times, expected once"
            ));
        }
    }

    /// A model that is served is put nowhere here.
    fn served_rules(&self, table: &str, rules: &mut Rules) {
        let here = [("device", self.device.is_some()), ("dtype", self.dtype.is_some())];
        for (key, _) in here.iter().filter(|(_, given)| *given) {
            rules.problem_hint(
                format!("`{table}.{key}` is given, but `{table}.api` says that it is served"),
                format!("leave `{key}` out: the server decides"),
            );
        }
    }

    fn chat_rules(&self, table: &str, rules: &mut Rules) {
        if self.chat.is_none() {
            return;
        }
        let plain = "leave `chat` out; a plain `prompt` can hold the turns as text";
        if self.scratch.is_some() {
            let what = format!(
                "`{table}.chat` is asked of a model made from scratch, which has no chat template"
            );
            return rules.problem_hint(what, plain);
        }
        let folder = self.id.as_ref().map(|id| rules.folder.join(id));
        let Some(folder) = folder.filter(|folder| folder.is_dir()) else { return };
        match chat_template(&folder) {
            Ok(Some(_)) => {}
            Ok(None) => rules.problem_hint(
                format!(
                    "`{table}.chat` is asked of `{}`, which has no chat template",
                    folder.display()
                ),
                format!("{plain}, or add a `chat_template.jinja` to the folder"),
            ),
            Err(trouble) => rules.problem(format!("`{table}.chat`: {trouble}")),
        }
    }

    pub(in crate::recipe) fn words(
        &self,
        name: &str,
        sizes: Option<&LmSizes>,
        out: &mut String,
    ) -> fmt::Result {
        if let Some(api) = &self.api {
            api.words(name, out)?;
            return self.prompt_words(out);
        }
        write!(out, "  {name}: ")?;
        if let Some(LmSizes {
            parameters, n_layer, hidden_size, n_head, context, vocab_size, ..
        }) = sizes
        {
            let [parameters, vocab_size] = [*parameters, *vocab_size].map(grouped);
            write!(out, "{parameters} parameters, {n_layer} layers × {hidden_size} wide, ")?;
            write!(out, "{n_head} heads, context {context}, vocabulary {vocab_size}")?;
        }
        match (&self.id, self.scratch.as_ref().map(|scratch| &scratch.tokenizer)) {
            (Some(id), _) => writeln!(out, ", from {id}")?,
            (None, Some(ScratchTokenizer::SameAs { model })) => {
                writeln!(out, " (the tokenizer of {model}), from scratch")?;
            }
            (None, _) => writeln!(out, " (its own byte-level BPE), from scratch")?,
        }
        self.prompt_words(out)
    }

    fn prompt_words(&self, out: &mut String) -> fmt::Result {
        write!(out, "    prompt {:?}", self.prompt.text().unwrap_or_default())?;
        match self.chat.as_ref().map(|chat| &chat.system) {
            None => {}
            Some(None) => write!(out, " as the user's turn of the chat template")?,
            Some(Some(system)) => write!(
                out,
                " as the user's turn of the chat template, after the system's {system:?}"
            )?,
        }
        match self.exemplars.as_ref().map(|exemplars| exemplars.rows.len()) {
            None => {}
            Some(1) => write!(out, " behind one exemplar")?,
            Some(count) => write!(out, " behind {count} exemplars")?,
        }
        let bos = match (self.bos, &self.chat) {
            (Some(true), _) => "after BOS",
            _ if self.api.is_some() && self.tokenizer_id().is_none() => "BOS as the server has it",
            (_, Some(_)) => "BOS as the template has it",
            (None, None) => "BOS as the tokenizer has it",
            (Some(false), None) => "without BOS",
        };
        writeln!(out, ", {bos}")
    }
}
