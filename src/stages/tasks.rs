//! Every task of a plan: what it is called, where its results lie and which settings they depend
//! on; what it reads is in `inputs.rs`. Made from the plan alone.
//!
//! All that has to know what depends on what asks here: the manifest and fingerprints
//! ([`super::lineage`]), `--only`, `--from`, `--fresh`, shards, and the checks before a stage
//! begins.

use serde_json::{Value, json};

use super::cells::{Cell, GAP, Purpose, cells};
use super::tuning_plan::Pupil;
use super::validation_cells::{choice_cell, gap_cells};
use crate::artifacts::Reach;
use crate::error::{Error, Result};
use crate::recipe::{
    ChunkLen, Evaluate, GOLD, Judge, JudgeSource, MeasuredPair, Plan, PpoTable, Scratch,
    ScratchTokenizer, Stage, Training,
};

pub const TRAIN: &str = "preferences/train.jsonl";
pub const VALIDATION: &str = "preferences/validation.jsonl";
pub const PAIRS_REPORT: &str = "preferences/report.json";
pub const PAIRS_CARD: &str = "preferences/README.md";
pub const GOLD_REPORT: &str = "gold/report.json";
pub const GAP_REPORT: &str = "steer/gap/report.json";
pub const SUMMARY: &str = "evaluate/summary.json";
pub const PAGE: &str = "report.html";

/// Raised when the summary or the page says more, so that finished runs are summarised again.
const SUMMARY_VERSION: u32 = 4;

/// One piece of work that is done whole, recorded in the manifest, and not done again.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// A model from scratch.
    Pretrain(String),
    /// The judge, from scratch or on a model of the recipe.
    Gold,
    /// How often the judge is right.
    GoldAccuracy,
    Preferences,
    Sft(Pupil),
    RewardModel,
    Dpo(Pupil),
    Ppo {
        policy: String,
        chunk_len: ChunkLen,
        seed: u64,
    },
    /// The curves of all PPO trainings of one policy in one figure.
    PpoReport(String),
    Steer {
        cell: Cell,
        seed: u64,
    },
    /// What a judge says of the responses of one steer task.
    Judge {
        judge: String,
        cell: Cell,
        seed: u64,
    },
    /// What the gold prefers of each guide pair's own answers.
    Gap,
    Evaluate,
}

/// The tasks of one stage in the order in which they are done; none where the plan does not have
/// the stage.
pub fn tasks(plan: &Plan, stage: Stage) -> Result<Vec<Task>> {
    if !plan.has(stage) {
        return Ok(Vec::new());
    }
    let recipe = &plan.recipe;
    let seeds = || recipe.run.seeds.iter().copied();
    Ok(match stage {
        Stage::Pretrain => {
            // Models whose tokenizer another one shares come first.
            let mut scratch: Vec<(&String, &Scratch)> = recipe
                .models
                .iter()
                .filter_map(|(name, model)| Some((name, model.scratch.as_ref()?)))
                .collect();
            scratch.sort_by_key(|(_, scratch)| {
                matches!(scratch.tokenizer, ScratchTokenizer::SameAs { .. })
            });
            scratch.into_iter().map(|(name, _)| Task::Pretrain(name.clone())).collect()
        }
        Stage::Gold => {
            let held_out = recipe.data.is_some() || recipe.gold_reward_model().is_some();
            let measured = held_out.then_some(Task::GoldAccuracy);
            judge_task(plan, GOLD).into_iter().chain(measured).collect()
        }
        Stage::Preferences => vec![Task::Preferences],
        Stage::Sft => vec![Task::Sft(Pupil::Guide)],
        Stage::RewardModel => vec![Task::RewardModel],
        Stage::Dpo => {
            let settings = plan.training.dpo.iter();
            settings.map(|training| Task::Dpo(Pupil::guide(&training.setting))).collect()
        }
        Stage::Direct => {
            let of_model = |(model, training): (&String, &crate::recipe::DirectTraining)| {
                let pupil = Pupil::Direct(model.clone());
                let sft = training.sft.as_ref().map(|_| Task::Sft(pupil.clone()));
                sft.into_iter().chain([Task::Dpo(pupil)])
            };
            plan.training.direct.iter().flat_map(of_model).collect()
        }
        Stage::Ppo => {
            let of_policy = |policy: &String| {
                let lengths = recipe.ppo.iter().flat_map(|ppo| ppo.chunk_len.0.iter().copied());
                let of_length = |chunk_len| {
                    seeds().map(move |seed| Task::Ppo { policy: policy.clone(), chunk_len, seed })
                };
                let report = Task::PpoReport(policy.clone());
                lengths.flat_map(of_length).chain([report]).collect::<Vec<_>>()
            };
            recipe.ppo.iter().flat_map(|ppo| &ppo.policy.0).flat_map(of_policy).collect()
        }
        Stage::Steer => {
            // Guides are measured before they steer.
            let alone = gap_cells(plan)?.into_iter();
            let alone = alone.map(|cell| Task::Steer { cell, seed: recipe.run.seed() });
            let before = alone.chain(gap_judgements(plan)?);
            let cells = cells(plan)?;
            let of_cell = |cell: &Cell| {
                let steer = |(cell, seed)| Task::Steer { cell, seed };
                asked_of(plan, cell, &cells).into_iter().map(steer).collect::<Vec<_>>()
            };
            before.chain(cells.iter().flat_map(of_cell)).collect()
        }
        Stage::Evaluate => {
            // All that one judge has to say comes together.
            let (judges, cells) = (recipe.judges(), cells(plan)?);
            let of_judge = |name: &str| {
                let asked = cells.iter().flat_map(|cell| asked_of(plan, cell, &cells));
                // The gold alone chooses.
                let is_judged =
                    |(cell, _): &(Cell, u64)| name == GOLD || cell.purpose == Purpose::Row;
                asked
                    .filter(is_judged)
                    .map(|(cell, seed)| Task::Judge { judge: name.to_owned(), cell, seed })
                    .collect::<Vec<_>>()
            };
            // What shards steered has not been measured yet.
            let measured = gap_judgements(plan)?.into_iter();
            let judged = judges.iter().flat_map(|judge| of_judge(judge.name));
            measured.chain(judged).chain([Task::Evaluate]).collect()
        }
    })
}

/// The tasks of all stages, in the order in which they are done.
pub fn all(plan: &Plan) -> Result<Vec<Task>> {
    Ok(Stage::ALL.into_iter().map(|stage| tasks(plan, stage)).collect::<Result<Vec<_>>>()?.concat())
}

impl Task {
    pub fn stage(&self) -> Stage {
        match self {
            Self::Pretrain(_) => Stage::Pretrain,
            Self::Gold | Self::GoldAccuracy => Stage::Gold,
            Self::Preferences => Stage::Preferences,
            Self::Sft(Pupil::Guide | Pupil::Swept(_)) => Stage::Sft,
            Self::RewardModel => Stage::RewardModel,
            Self::Dpo(Pupil::Guide | Pupil::Swept(_)) => Stage::Dpo,
            Self::Sft(Pupil::Direct(_)) | Self::Dpo(Pupil::Direct(_)) => Stage::Direct,
            Self::Ppo { .. } | Self::PpoReport(_) => Stage::Ppo,
            Self::Steer { .. } | Self::Gap => Stage::Steer,
            Self::Judge { cell: Cell { purpose: Purpose::Gap(_), .. }, .. } => Stage::Steer,
            Self::Judge { .. } | Self::Evaluate => Stage::Evaluate,
        }
    }

    /// What the manifest, the metrics and messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Pretrain(model) => format!("pretrain/{model}"),
            Self::Gold => "gold".to_owned(),
            Self::GoldAccuracy => "gold/accuracy".to_owned(),
            Self::Preferences => "preferences".to_owned(),
            Self::Sft(pupil) => pupil.folder("sft"),
            Self::RewardModel => "reward_model".to_owned(),
            Self::Dpo(pupil) => pupil.folder("dpo"),
            Self::Ppo { policy, chunk_len, seed } => {
                format!("{}/L-{chunk_len}/seed-{seed}", ppo_folder(policy))
            }
            Self::PpoReport(policy) => format!("{}/report", ppo_folder(policy)),
            Self::Steer { cell, seed } => cell.name(*seed),
            Self::Judge { judge, cell, seed } => cell.judged_name(judge, *seed),
            Self::Gap => GAP.to_owned(),
            Self::Evaluate => "evaluate".to_owned(),
        }
    }

    /// The files and folders that are its own, relative to the run directory.
    pub fn outputs(&self) -> Vec<String> {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        match self {
            Self::Pretrain(model) => vec![format!("models/{model}")],
            Self::GoldAccuracy => owned(&[GOLD_REPORT]),
            Self::Preferences => {
                let left_out = [TRAIN, VALIDATION].map(left_out_file);
                [owned(&[TRAIN, VALIDATION, PAIRS_REPORT, PAIRS_CARD]), left_out.to_vec()].concat()
            }
            Self::PpoReport(policy) => ["curves.svg", "report.json"]
                .map(|file| format!("{}/{file}", ppo_folder(policy)))
                .to_vec(),
            Self::Steer { .. } | Self::Judge { .. } => vec![format!("{}.jsonl", self.name())],
            Self::Gap => owned(&[GAP_REPORT]),
            Self::Evaluate => owned(&[SUMMARY, PAGE]),
            Self::Gold | Self::Sft(_) | Self::RewardModel | Self::Dpo(_) | Self::Ppo { .. } => {
                vec![self.name()]
            }
        }
    }

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
            Self::PpoReport(_) | Self::Judge { .. } => Value::Null,
            Self::Steer { cell, seed } => {
                let steer = recipe.steer.as_ref().ok_or_else(|| absent("steer"))?;
                let answering = steer.answering(recipe, &cell.base);
                json!({
                    "method": cell.method.settings(),
                    "steer": steer.outcome(&cell.guides, &answering),
                    "seed": seed
                })
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
                json!({
                    "run.name": recipe.run.name,
                    "examples": recipe.evaluate.as_ref().map(Evaluate::outcome),
                    "prompts": steer.map(|steer| steer.prompts),
                    "validation_prompts": recipe.measuring_prompts(),
                    "version": SUMMARY_VERSION,
                })
            }
        })
    }

    /// How far it is to go, where it can go on from less.
    pub fn reach(&self, plan: &Plan) -> Reach {
        let Some(steer) = &plan.recipe.steer else { return Reach::new() };
        let (Self::Steer { cell, .. } | Self::Judge { cell, .. }) = self else {
            return Reach::new();
        };
        let mut reach = Reach::from([("prompts".to_owned(), cell.prompts(&plan.recipe))]);
        if matches!(self, Self::Steer { .. }) && cell.purpose == Purpose::Row {
            let traced = if steer.trace { steer.prompts } else { 0 };
            reach.insert("traced".to_owned(), traced);
        }
        reach
    }
}

/// The gold's word on what guides alone answer, and the report of it; nothing where none is
/// measured.
pub(super) fn gap_judgements(plan: &Plan) -> Result<Vec<Task>> {
    let seed = plan.recipe.run.seed();
    let judged = |cell| Task::Judge { judge: GOLD.to_owned(), cell, seed };
    let judged: Vec<Task> = gap_cells(plan)?.into_iter().map(judged).collect();
    let report = (!judged.is_empty()).then_some(Task::Gap);
    Ok(judged.into_iter().chain(report).collect())
}

/// What `[steer]` asks of a cell, one of `cells`: the cell with each seed, and on validation
/// prompts with the first.
fn asked_of(plan: &Plan, cell: &Cell, cells: &[Cell]) -> Vec<(Cell, u64)> {
    let rows = plan.recipe.run.seeds.iter().map(|seed| (cell.clone(), *seed));
    let choice = choice_cell(plan, cell, cells).map(|choice| (choice, plan.recipe.run.seed()));
    rows.chain(choice).collect()
}

/// The task that trains the judge called `name`, where one of this plan does.
pub(super) fn judge_task(plan: &Plan, name: &str) -> Option<Task> {
    let is_made = |judge: &Judge| judge.source == JudgeSource::Made;
    plan.recipe.judge(name).filter(is_made).map(|_| Task::Gold)
}

/// Where the pairs that `file` does without are listed.
pub fn left_out_file(file: &str) -> String {
    file.replace(".jsonl", ".left_out.jsonl")
}

/// The folder of all PPO trainings of a policy.
pub fn ppo_folder(policy: &str) -> String {
    format!("ppo/{policy}")
}

/// `[ppo]` and the settled training of a policy.
pub fn ppo<'a>(plan: &'a Plan, policy: &str) -> Result<(&'a PpoTable, &'a Training)> {
    plan.recipe.ppo.as_ref().zip(plan.training.ppo.get(policy)).ok_or_else(|| absent("ppo"))
}

pub(super) fn absent(table: &str) -> Error {
    Error::recipe(format!("the recipe has no `[{table}]` table"))
}
