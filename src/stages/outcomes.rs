//! What a task's result depends on beside its inputs, and how far it goes. Made from the plan
//! alone; what it reads is in `inputs.rs`.

use serde_json::{Value, json};

use super::cells::{Cell, Purpose};
use super::tasks::{Task, absent, ppo};
use crate::artifacts::Reach;
use crate::error::{Error, Result};
use crate::recipe::{AlpacaEvalTable, Evaluate, MeasuredPair, Plan, Scratch, Training};

/// Raised when the summary or the page says more, so that finished runs are summarised again.
const SUMMARY_VERSION: u32 = 5;

impl Task {
    /// What its result depends on beside its inputs.
    pub fn settings(&self, plan: &Plan) -> Result<Value> {
        let (recipe, seed) = (&plan.recipe, plan.recipe.run.seed());
        Ok(match self {
            Self::Pretrain(name) => {
                let model = recipe
                    .models
                    .get(name)
                    .ok_or_else(|| Error::recipe(format!("no model `{name}` in the recipe")))?;
                let training = plan.training.pretrain.get(name).map(Training::outcome);
                json!({
                    "scratch": model.scratch.as_ref().map(Scratch::outcome),
                    "bos": model.bos,
                    "training": training
                })
            }
            Self::Gold => {
                let gold = recipe.gold.as_ref().ok_or_else(|| absent("gold"))?;
                let (made, outcome) = gold.made_outcome();
                json!({
                    (made): outcome,
                    "training": plan.training.gold.as_ref().map(Training::outcome),
                    "seed": seed
                })
            }
            Self::GoldAccuracy => match recipe.gold_reward_model() {
                Some(table) => json!({ "pairs": table.pair_source().outcome() }),
                None => json!({ "data.test": recipe.data()?.test }),
            },
            Self::Preferences => {
                let table = recipe.preferences.as_ref().ok_or_else(|| absent("preferences"))?;
                json!({ "preferences": table.outcome(), "seed": seed })
            }
            Self::Sft(pupil) => {
                let (on, training) = pupil.tuning(plan)?.sft.ok_or_else(|| absent("sft"))?;
                json!({ "on": on, "training": training.outcome(), "seed": seed })
            }
            Self::Dpo(pupil) => {
                let (objective, training) = pupil.tuning(plan)?.dpo.ok_or_else(|| absent("dpo"))?;
                json!({ "objective": objective, "training": training.outcome(), "seed": seed })
            }
            Self::RewardModel => {
                let table = recipe.reward_model.as_ref().zip(plan.training.reward_model.as_ref());
                let (table, training) = table.ok_or_else(|| absent("reward_model"))?;
                json!({ "reward_model": table.outcome(training), "seed": seed })
            }
            Self::Ppo { policy, chunk_len, seed } => {
                let (table, training) = ppo(plan, policy)?;
                json!({ "ppo": table.outcome(*chunk_len, training), "seed": seed })
            }
            Self::PpoReport(_) | Self::Judge { .. } | Self::Likelihood { .. } => Value::Null,
            Self::Steer { cell, seed } => {
                let steer = recipe.steer.as_ref().ok_or_else(|| absent("steer"))?;
                let answering = steer.answering(recipe, &cell.base);
                json!({
                    "method": cell.method.settings(),
                    "steer": steer.outcome(&cell.guides, &answering),
                    "seed": seed
                })
            }
            Self::AlpacaEval { .. } => {
                let prompts = recipe.steer.as_ref().map(|steer| steer.prompts);
                json!({ "judge": recipe.alpaca_eval().map(AlpacaEvalTable::outcome), "prompts": prompts })
            }
            Self::Gap => {
                let pairs = plan.measured_pairs();
                let pairs = pairs.iter().map(|MeasuredPair { pair, setting }| {
                    json!([pair.tuned.to_string(), pair.untuned.to_string(), pair.weight, setting])
                });
                json!({
                    "pairs": pairs.collect::<Vec<_>>(),
                    "prompts": recipe.measuring_prompts()
                })
            }
            Self::Evaluate => {
                // How many prompts there are, and not how many were answered.
                let steer = recipe.steer.as_ref();
                let mut settings = json!({
                    "run.name": recipe.run.name,
                    "examples": recipe.evaluate.as_ref().map(Evaluate::outcome),
                    "prompts": steer.map(|steer| steer.prompts),
                    "validation_prompts": recipe.measuring_prompts(),
                    "version": SUMMARY_VERSION,
                });
                // Its verdicts are the same without it.
                if let Some(table) = recipe.alpaca_eval() {
                    settings["length_control"] = json!(table.length_control);
                }
                settings
            }
        })
    }

    /// How far it is to go, where it can go on from less.
    pub fn reach(&self, plan: &Plan) -> Reach {
        let Some(steer) = &plan.recipe.steer else { return Reach::new() };
        let prompts = |cell: &Cell| ("prompts".to_owned(), cell.prompts(&plan.recipe));
        match self {
            Self::Steer { cell, .. } => {
                let traced = if steer.trace { steer.prompts } else { 0 };
                let traced = (cell.purpose == Purpose::Row).then(|| ("traced".to_owned(), traced));
                [prompts(cell)].into_iter().chain(traced).collect()
            }
            Self::Judge { cell, .. } | Self::Likelihood { cell, .. } => {
                Reach::from([prompts(cell)])
            }
            // The verdicts are the same, whichever rates are made of them.
            Self::AlpacaEval { .. } => {
                let controlled = plan.recipe.alpaca_eval().is_some_and(|t| t.length_control);
                Reach::from([("length_controlled".to_owned(), usize::from(controlled))])
            }
            _ => Reach::new(),
        }
    }
}
