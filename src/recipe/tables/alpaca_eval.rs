//! `[evaluate.alpaca_eval]`: a judge that the `alpaca_eval` package asks about pairs of responses,
//! ours and a reference's. Running the package is left to `score`, what becomes of its verdicts to
//! `stages`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::Recipe;
use super::api::{http_url, key_rule};
use super::judge_source::program_rules;

/// Instructions of the package's own data set, for each of which its length control has a
/// difficulty.
pub const INSTRUCTIONS: usize = 805;

/// Has the `alpaca_eval` package, a program of its own, compare the responses with reference
/// outputs: win rate and length-controlled win rate. Each judgement is a request to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlpacaEvalTable {
    /// The reference outputs, a JSON array of `{"instruction", "output", "generator"}` as the
    /// package has it. Their instructions must be the prompts of `[steer]`, and these in one and
    /// the same wording.
    #[schemars(example = &"alpaca_eval_gpt4_baseline.json")]
    pub reference: String,
    /// Who judges: a name that the package knows, or a folder with a `configs.yaml`, whose path
    /// holds a `/`.
    #[serde(default = "weighted_gpt4_turbo")]
    #[schemars(extend("x-also" = ["annotators_config"]))]
    pub annotators: String,
    /// The package's program and arguments before ours, looked for as `gold.command`.
    #[serde(default = "alpaca_eval")]
    #[schemars(example = &["venv/bin/alpaca_eval"])]
    pub command: Vec<String>,
    /// Where an OpenAI-compatible server of the judge begins; left out, the package's own settings
    /// hold, which is OpenAI for most of its annotators.
    #[schemars(extend("x-also" = ["base_url", "api_base"]))]
    #[schemars(example = &"http://127.0.0.1:8000/v1")]
    pub url: Option<String>,
    /// The environment variable that holds the judge's key, which the package is given as
    /// `OPENAI_API_KEY`.
    #[schemars(extend("x-also" = ["api_key", "api_key_env"]), example = &"OPENAI_API_KEY")]
    pub key: Option<String>,
    /// Requests to the judge under way at once.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1024), extend("x-also" = ["concurrency"]))]
    pub at_once: usize,
    /// Whether the win rate is told at equal length, too. The package fetches a table for it from
    /// the hub, or from where `HF_ENDPOINT` says, which knows the 805 instructions of AlpacaEval by
    /// their places and no others.
    #[serde(default = "yes")]
    pub length_control: bool,
    /// The bases whose responses are judged; all where none is named.
    #[serde(default)]
    #[schemars(example = &["base"])]
    pub bases: Vec<String>,
    /// The methods whose responses are judged, by their names in the summary; all where none is
    /// named.
    #[serde(default)]
    #[schemars(example = &["base", "cbs"])]
    pub methods: Vec<String>,
    /// The seeds whose responses are judged; all of `run.seeds` where none is named.
    #[serde(default)]
    #[schemars(example = &[1])]
    pub seeds: Vec<u64>,
}

impl AlpacaEvalTable {
    /// The name of this judge in folders and messages.
    pub const NAME: &str = "alpaca_eval";

    /// The value that verdicts depend on; the contents of reference and annotators count beside it.
    /// What is asked for at equal length is asked of the same verdicts.
    pub fn outcome(&self) -> Value {
        let Self {
            reference: _,
            annotators,
            command: _,
            url: _,
            key: _,
            at_once: _,
            length_control: _,
            bases: _,
            methods: _,
            seeds: _,
        } = self;
        let named = (!self.has_own_annotators()).then_some(annotators);
        json!({ "annotators": named })
    }

    /// Whether `annotators` is a folder of the user's.
    pub fn has_own_annotators(&self) -> bool {
        self.annotators.contains('/')
    }

    /// Whether the responses of this row and seed are judged.
    pub fn asks(&self, base: &str, method: &str, seed: u64) -> bool {
        let holds = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|known| known == name)
        };
        holds(&self.bases, base)
            && holds(&self.methods, method)
            && (self.seeds.is_empty() || self.seeds.contains(&seed))
    }

    /// Paths that start from the recipe's folder.
    pub(in crate::recipe) fn paths_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let is_folder = self.has_own_annotators();
        let annotators = is_folder.then_some(&mut self.annotators);
        [&mut self.reference].into_iter().chain(annotators)
    }

    pub(super) fn rules(&self, rules: &mut Rules) {
        let table = "evaluate.alpaca_eval";
        self.file_rules(table, rules);
        if rules.recipe.judges.contains_key(Self::NAME) {
            rules.problem_hint(
                format!("`judges.{0}` has the name of the judge that `{table}` is", Self::NAME),
                "give it another name",
            );
        }
        program_rules(table, &self.command, rules);
        if let Some(url) = &self.url {
            http_url(&format!("{table}.url"), url, rules);
        }
        if let Some(key) = &self.key {
            key_rule(&format!("{table}.key"), key, rules);
        }
        let prompts = rules.recipe.steer.as_ref().map_or(INSTRUCTIONS, |steer| steer.prompts);
        if self.length_control && prompts != INSTRUCTIONS {
            rules.problem_hint(
                format!(
                    "`{table}.length_control` needs the {INSTRUCTIONS} instructions of AlpacaEval, \
                     whose difficulties it knows by their places, and `steer.prompts` = {prompts}"
                ),
                "ask all of them, or set it to false for the plain win rate",
            );
        }
        self.choice_rules(table, rules);
    }

    fn file_rules(&self, table: &str, rules: &mut Rules) {
        let file = rules.folder.join(&self.reference);
        if !self.reference.ends_with(".json") || !file.is_file() {
            rules.problem_hint(
                format!("`{table}.reference`: there is no JSON file `{}`", file.display()),
                "AlpacaEval 2.0 compares with alpaca_eval_gpt4_baseline.json of the data set \
                 tatsu-lab/alpaca_eval on the hub",
            );
        }
        let configs = rules.folder.join(&self.annotators).join("configs.yaml");
        if self.has_own_annotators() && !configs.is_file() {
            rules.problem_hint(
                format!("`{table}.annotators`: there is no file `{}`", configs.display()),
                "a path is a folder of annotators as the package has them; a name without `/` is \
                 one that it knows",
            );
        }
    }

    /// What is named must be there to be judged.
    fn choice_rules(&self, table: &str, rules: &mut Rules) {
        let Some(steer) = &rules.recipe.steer else { return };
        let recipe = rules.recipe;
        let guides = recipe.guide_models();
        let mut unknown: Vec<String> = Vec::new();
        for base in &self.bases {
            if !steer.bases.contains(base) && !guides.contains(&base.as_str()) {
                unknown.push(format!("`{table}.bases`: no response is of `{base}`"));
            }
        }
        let settings = recipe.guide_settings();
        let is_known = |method: &String| {
            steer.method.iter().flat_map(|table| table.names()).any(|name| {
                let of_setting = |setting: &String| format!("{name}-{setting}") == *method;
                name == *method || settings.iter().flatten().any(of_setting)
            })
        };
        for method in self.methods.iter().filter(|method| !is_known(method)) {
            unknown.push(format!("`{table}.methods`: no response is by `{method}`"));
        }
        for seed in self.seeds.iter().filter(|seed| !recipe.run.seeds.contains(seed)) {
            unknown.push(format!("`{table}.seeds`: no response has the seed {seed}"));
        }
        unknown.into_iter().for_each(|problem| rules.problem(problem));
    }

    pub(super) fn words(&self, out: &mut String) -> fmt::Result {
        let Self { reference, annotators, command, length_control, .. } = self;
        write!(out, "     alpaca_eval: {annotators} compares with {reference}")?;
        if let Some(url) = &self.url {
            write!(out, ", served at {url}")?;
        }
        write!(out, "; by the program `{}`", command.join(" "))?;
        writeln!(out, "{}", if *length_control { ", at equal length, too" } else { "" })
    }
}

impl Recipe {
    /// `[evaluate.alpaca_eval]`.
    pub fn alpaca_eval(&self) -> Option<&AlpacaEvalTable> {
        self.evaluate.as_ref()?.alpaca_eval.as_ref()
    }
}

fn weighted_gpt4_turbo() -> String {
    "weighted_alpaca_eval_gpt4_turbo".to_owned()
}

fn alpaca_eval() -> Vec<String> {
    vec!["alpaca_eval".to_owned()]
}

fn five() -> usize {
    5
}

fn yes() -> bool {
    true
}
