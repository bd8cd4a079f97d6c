//! `exemplars` of `[models.<name>]`: answered prompts that a model reads before its own. A file of
//! them is read by `text`, which puts its rows in its place; rendering is left to `text`, too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::model_prompt::HOLE;
use crate::artifacts::stand_in;

/// Where the response stands in a template of exemplars.
pub const ANSWER: &str = "{response}";

/// Answered prompts that the model reads before the prompt: as texts before the filled `prompt`, or
/// for a model with `chat` as turns of user and assistant before the user's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exemplars {
    /// The answered prompts, in the order in which they are read.
    pub rows: Vec<Exemplar>,
    /// A data file of any kind with the columns `prompt` and `response`, instead of `rows`.
    #[schemars(example = &"../data/exemplars.jsonl")]
    pub file: Option<String>,
    /// What each becomes; `{prompt}` and `{response}` stand in it once. Left out, it is the model's
    /// own `prompt`, a space, the response and the end of a line.
    #[schemars(example = &"{prompt}TL;DR: {response}\n")]
    pub template: Option<String>,
}

/// A prompt and a response to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exemplar {
    /// The raw prompt.
    #[schemars(example = &"Name a colour.")]
    pub prompt: String,
    /// The response, read without white space at its ends.
    #[schemars(example = &"Blue.")]
    pub response: String,
}

impl Exemplars {
    /// What prompts depend on: what is read, not from which file.
    pub(super) fn outcome(&self) -> Value {
        let Self { rows, file: _, template } = self;
        json!({ "rows": rows, "template": template })
    }

    /// What each becomes where the model's `prompt` is `prompt`.
    pub fn template(&self, prompt: &str) -> String {
        self.template.clone().unwrap_or_else(|| format!("{prompt} {ANSWER}\n"))
    }

    /// Words of them all, where the model's `prompt` is `prompt`.
    pub(in crate::recipe) fn words(&self, prompt: &str) -> usize {
        let count = |text: &str| text.split_whitespace().count();
        let around = count(&self.template(prompt));
        self.rows.iter().map(|row| around + count(&row.prompt) + count(&row.response)).sum()
    }

    /// Of the model whose table is `model` and whose template is `prompt`, once it is read.
    pub(super) fn rules(&self, model: &str, prompt: Option<&str>, chat: bool, rules: &mut Rules) {
        let key = format!("{model}.exemplars");
        match &self.file {
            Some(_) if !self.rows.is_empty() => rules.problem_hint(
                format!("`{key}` has `rows` and a `file`"),
                "leave out one or the other",
            ),
            Some(file) => file_rule(&format!("{key}.file"), file, rules),
            None if self.rows.is_empty() => rules.problem_hint(
                format!("`{key}` has neither `rows` nor a `file`"),
                "give `rows = [{ prompt = \"…\", response = \"…\" }]`, or leave `exemplars` out",
            ),
            None => {}
        }
        for (index, row) in self.rows.iter().enumerate() {
            if row.response.trim().is_empty() {
                rules.problem(format!("`{key}.rows.{index}.response` is empty"));
            }
        }
        match &self.template {
            Some(_) if chat => rules.problem_hint(
                format!("`{key}.template` is for models that read texts, and this one has `chat`"),
                "leave it out: exemplars are turns of user and assistant",
            ),
            Some(template) => holes(&key, template, rules),
            None => {}
        }
        self.ends_once(&key, prompt, chat, rules);
    }

    /// Exemplars whose prompts end in what their template puts behind them.
    fn ends_once(&self, key: &str, prompt: Option<&str>, chat: bool, rules: &mut Rules) {
        let Some(prompt) = prompt else { return };
        let template = if chat { prompt.to_owned() } else { self.template(prompt) };
        let end = behind_hole(&template);
        let twice = |row: &Exemplar| !end.is_empty() && row.prompt.trim_end().ends_with(end);
        if let Some(index) = self.rows.iter().position(twice) {
            rules.problem_hint(
                format!(
                    "exemplar {} of `{key}` ends in `{end}` already, which its template adds again",
                    index + 1
                ),
                "leave it out of the exemplars or of the template",
            );
        }
    }
}

/// What a template puts behind the raw prompt, without the white space around it.
pub fn behind_hole(template: &str) -> &str {
    let behind = template.split_once(HOLE).map_or("", |(_, behind)| behind);
    behind.split(ANSWER).next().unwrap_or_default().trim()
}

/// A file that a model's prompts are made of must be there.
pub(super) fn file_rule(key: &str, file: &str, rules: &mut Rules) {
    let path = rules.folder.join(file);
    if let Err(stands_in) = stand_in::refuse(&path) {
        rules.problem(format!("`{key}`: {stands_in}"));
    } else if !path.is_file() {
        rules.problem_hint(
            format!("`{key}` is `{file}`, but `{}` is no file", path.display()),
            "a path is relative to the recipe's folder",
        );
    }
}

fn holes(key: &str, template: &str, rules: &mut Rules) {
    for hole in [HOLE, ANSWER] {
        let found = template.matches(hole).count();
        if found != 1 {
            rules.problem(format!("`{key}.template` holds `{hole}` {found} times, expected once"));
        }
    }
}
