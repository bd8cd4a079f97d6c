//! Every task of a plan: what it is called, and where its results lie; what it reads is in
//! `inputs.rs`, which settings it depends on in `outcomes.rs`. Made from the plan alone.
//!
//! All that has to know what depends on what asks here: the manifest and fingerprints
//! ([`super::lineage`]), `--only`, `--from`, `--fresh`, shards, and the checks before a stage
//! begins.

use super::cells::{Cell, GAP, Purpose, cells};
use super::tuning_plan::Pupil;
use super::validation_cells::{choice_cell, gap_cells};
use crate::error::{Error, Result};
use crate::recipe::{
    AlpacaEvalTable, ChunkLen, FIGURES, GOLD, Judge, JudgeSource, LIKELIHOOD, Plan, PpoTable,
    Recipe, Scratch, ScratchTokenizer, Stage, Training,
};

pub const TRAIN: &str = "preferences/train.jsonl";
pub const VALIDATION: &str = "preferences/validation.jsonl";
pub const PAIRS_REPORT: &str = "preferences/report.json";
pub const PAIRS_CARD: &str = "preferences/README.md";
pub const GOLD_REPORT: &str = "gold/report.json";
pub const GAP_REPORT: &str = "steer/gap/report.json";
pub const SUMMARY: &str = "evaluate/summary.json";
pub const PAGE: &str = "report.html";

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
    /// What models say of the responses of one steer task.
    Likelihood {
        cell: Cell,
        seed: u64,
    },
    /// What the `alpaca_eval` package says of the responses of one steer task.
    AlpacaEval {
        cell: Cell,
        seed: u64,
    },
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
            let read = cells
                .iter()
                .filter(|cell| cell.has_likelihood(plan))
                .flat_map(|cell| seeds().map(|seed| Task::Likelihood { cell: cell.clone(), seed }));
            // What shards steered has not been measured yet.
            let measured = gap_judgements(plan)?.into_iter();
            let judged = judges.iter().flat_map(|judge| of_judge(judge.name)).chain(read);
            let judged = measured.chain(judged).chain(by_alpaca_eval(recipe, &cells));
            judged.chain([Task::Evaluate]).collect()
        }
    })
}

/// Those of the `alpaca_eval` package.
fn by_alpaca_eval(recipe: &Recipe, cells: &[Cell]) -> Vec<Task> {
    let Some(table) = recipe.alpaca_eval() else { return Vec::new() };
    let of_cell = |cell: &Cell| {
        let asks = |seed: &u64| table.asks(&cell.base, &cell.method_name, *seed);
        let seeds = recipe.run.seeds.iter().copied().filter(asks);
        seeds.map(|seed| Task::AlpacaEval { cell: cell.clone(), seed }).collect::<Vec<_>>()
    };
    cells.iter().flat_map(of_cell).collect()
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
            Self::Judge { .. }
            | Self::Likelihood { .. }
            | Self::AlpacaEval { .. }
            | Self::Evaluate => Stage::Evaluate,
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
            Self::Likelihood { cell, seed } => cell.judged_name(LIKELIHOOD, *seed),
            Self::AlpacaEval { cell, seed } => cell.judged_name(AlpacaEvalTable::NAME, *seed),
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
            Self::Steer { .. } | Self::Judge { .. } | Self::Likelihood { .. } => {
                vec![format!("{}.jsonl", self.name())]
            }
            Self::Gap => owned(&[GAP_REPORT]),
            Self::Evaluate => [owned(&[SUMMARY, PAGE]), vec![figures()]].concat(),
            Self::Gold
            | Self::Sft(_)
            | Self::RewardModel
            | Self::Dpo(_)
            | Self::Ppo { .. }
            | Self::AlpacaEval { .. } => vec![self.name()],
        }
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

/// The folder of the figures of the evaluation.
pub fn figures() -> String {
    format!("evaluate/{FIGURES}")
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
