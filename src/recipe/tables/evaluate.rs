//! `[evaluate]`: who is asked about the responses, and what the page shows. Asking is left to
//! `stages`, the page to `report`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::memory::{StageMemory, judge_parts, largest};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::stage::StageTable;
use super::super::words::{grouped, listed};
use super::alpaca_eval::AlpacaEvalTable;
use super::{GOLD, Judge, Recipe, Stage};

/// Asks `[gold]` and the other judges about the responses, in journals of their own that a killed
/// run continues, and makes the summary and the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Sample responses of each method shown in `report.html`.
    pub examples: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpaca_eval: Option<AlpacaEvalTable>,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { examples: 3, alpaca_eval: None }
    }
}

impl Evaluate {
    /// The value that the page depends on, which alone shows them.
    pub fn outcome(&self) -> Value {
        // Its verdicts have an outcome of their own.
        let Self { examples, alpaca_eval: _ } = self;
        json!(examples)
    }
}

impl StageTable for Evaluate {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Steer, Stage::Gold]
    }

    fn without(&self, needed: Stage, recipe: &Recipe) -> Option<(&'static str, &'static str)> {
        let hint = match recipe.judges.is_empty() {
            true => "add `[gold]`, the judge whose rewards are compared, or leave `[evaluate]` out",
            false => "make one of `[judges]` the `[gold]`, whose rewards are compared",
        };
        (needed == Stage::Gold).then_some(("", hint))
    }

    fn rules(&self, rules: &mut Rules) {
        self.alpaca_eval.iter().for_each(|table| table.rules(rules));
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let others: Vec<&str> = plan.recipe.judges.keys().map(String::as_str).collect();
        let beside = match others.is_empty() {
            true => String::new(),
            false => format!(", and those of {}", listed(others)),
        };
        let examples = self.examples;
        write!(out, "gold reward of every response{beside}; ")?;
        writeln!(out, "{examples} examples of each method in report.html")?;
        for Judge { name, source, text, .. } in plan.recipe.judges() {
            if name == GOLD {
                continue;
            }
            let sizes = plan.judges.get(name).map_or_else(String::new, |sizes| {
                format!(", {} parameters", grouped(sizes.parameters))
            });
            let text = text.map_or_else(String::new, |text| format!(", reads {text:?}"));
            writeln!(out, "     {name}: {}{sizes}{text}", source.words(""))?;
        }
        self.alpaca_eval.as_ref().map_or(Ok(()), |table| table.words(out))
    }

    /// One judge after the other.
    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        largest(plan.recipe.judges().iter().filter_map(|judge| {
            let parts = judge_parts(plan, judge.name)?;
            Some(StageMemory { model: judge.name.to_owned(), parts })
        }))
    }
}
