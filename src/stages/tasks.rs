//! Every task of a plan: what it is called, what it reads, where its results lie and which settings
//! they depend on. Made from the plan alone.
//!
//! All that has to know what depends on what asks here: the manifest and fingerprints
//! ([`super::lineage`]), `--only`, `--from`, `--fresh`, shards, and the checks before a stage
//! begins.

use serde_json::{Value, json};

use super::cells::{Cell, Source, cells};
use super::tuning_plan::Pupil;
use crate::artifacts::Reach;
use crate::error::{Error, Result};
use crate::recipe::{
    ChunkLen, Evaluate, GOLD, GuidePairSource, GuideSource, Plan, PpoTable, RewardStart, Scratch,
    ScratchTokenizer, Stage, Training,
};

pub const TRAIN: &str = "preferences/train.jsonl";
pub const VALIDATION: &str = "preferences/validation.jsonl";
pub const PAIRS_REPORT: &str = "preferences/report.json";
pub const PAIRS_CARD: &str = "preferences/README.md";
pub const GOLD_REPORT: &str = "gold/report.json";
pub const SUMMARY: &str = "evaluate/summary.json";
pub const PAGE: &str = "report.html";

/// Raised when the summary or the page says more, so that finished runs are summarised again.
const SUMMARY_VERSION: u32 = 4;

/// One piece of work that is done whole, recorded in the manifest, and not done again.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// A model from scratch.
    Pretrain(String),
    /// The judge from scratch.
    Gold,
    /// How often the judge is right.
    GoldAccuracy,
    Preferences,
    Sft(Pupil),
    RewardModel,
    Dpo(Pupil),
    Ppo {
        chunk_len: ChunkLen,
        seed: u64,
    },
    /// The curves of all PPO trainings in one figure.
    PpoReport,
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
    Evaluate,
}

/// What a task reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// What another task leaves.
    Result(Task),
    /// A model of the recipe: its weights, how it is prompted and in which precision it computes.
    Model(String),
    /// How a model of the recipe is prompted and in which precision it computes, whatever its
    /// weights.
    Reading(String),
    /// A judge: its weights, precision, and what it reads.
    Judge(String),
    /// The texts to train and to validate on.
    Texts,
    /// The prompts that are made of these.
    Prompts,
    /// The prompts that are made of the test texts, however many of them are asked for.
    TestPrompts,
    /// The pairs of `preferences.source`.
    Pairs,
}

impl Input {
    /// What messages call it.
    pub fn name(&self, plan: &Plan) -> String {
        match self {
            Self::Result(task) => task.name(plan),
            Self::Model(name) => format!("models.{name}"),
            Self::Reading(name) => format!("reading of {name}"),
            Self::Judge(name) => format!("judge {name}"),
            Self::Texts => "texts".to_owned(),
            Self::Prompts => "prompts".to_owned(),
            Self::TestPrompts => "test prompts".to_owned(),
            Self::Pairs => "pairs".to_owned(),
        }
    }

    /// The task that makes it, where one of this plan does.
    pub fn made_by(&self, plan: &Plan) -> Option<Task> {
        match self {
            Self::Result(task) => Some(task.clone()),
            Self::Model(name) => plan
                .recipe
                .models
                .get(name)
                .filter(|model| model.scratch.is_some())
                .map(|_| Task::Pretrain(name.clone())),
            Self::Judge(name) => {
                plan.recipe.judge(name).filter(|judge| judge.id.is_none()).map(|_| Task::Gold)
            }
            Self::Reading(_) | Self::Texts | Self::Prompts | Self::TestPrompts | Self::Pairs => {
                None
            }
        }
    }
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
        Stage::Gold => gold_input().made_by(plan).into_iter().chain([Task::GoldAccuracy]).collect(),
        Stage::Preferences => vec![Task::Preferences],
        Stage::Sft => vec![Task::Sft(Pupil::Guide)],
        Stage::RewardModel => vec![Task::RewardModel],
        Stage::Dpo => vec![Task::Dpo(Pupil::Guide)],
        Stage::Direct => {
            let of_model = |(model, training): (&String, &crate::recipe::DirectTraining)| {
                let pupil = Pupil::Direct(model.clone());
                let sft = training.sft.as_ref().map(|_| Task::Sft(pupil.clone()));
                sft.into_iter().chain([Task::Dpo(pupil)])
            };
            plan.training.direct.iter().flat_map(of_model).collect()
        }
        Stage::Ppo => {
            let lengths = recipe.ppo.iter().flat_map(|ppo| ppo.chunk_len.0.iter().copied());
            lengths
                .flat_map(|chunk_len| seeds().map(move |seed| Task::Ppo { chunk_len, seed }))
                .chain([Task::PpoReport])
                .collect()
        }
        Stage::Steer => {
            let cells = cells(plan)?.into_iter();
            cells
                .flat_map(|cell| seeds().map(move |seed| Task::Steer { cell: cell.clone(), seed }))
                .collect()
        }
        Stage::Evaluate => {
            // All that one judge has to say comes together.
            let (judges, cells) = (recipe.judges(), cells(plan)?);
            let of_judge = |name: &str| {
                let asked =
                    cells.iter().flat_map(|cell| seeds().map(move |seed| (cell.clone(), seed)));
                asked
                    .map(|(cell, seed)| Task::Judge { judge: name.to_owned(), cell, seed })
                    .collect::<Vec<_>>()
            };
            judges.iter().flat_map(|judge| of_judge(judge.name)).chain([Task::Evaluate]).collect()
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
            Self::Sft(Pupil::Guide) => Stage::Sft,
            Self::RewardModel => Stage::RewardModel,
            Self::Dpo(Pupil::Guide) => Stage::Dpo,
            Self::Sft(Pupil::Direct(_)) | Self::Dpo(Pupil::Direct(_)) => Stage::Direct,
            Self::Ppo { .. } | Self::PpoReport => Stage::Ppo,
            Self::Steer { .. } => Stage::Steer,
            Self::Judge { .. } | Self::Evaluate => Stage::Evaluate,
        }
    }

    /// What the manifest, the metrics and messages call it.
    pub fn name(&self, plan: &Plan) -> String {
        match self {
            Self::Pretrain(model) => format!("pretrain/{model}"),
            Self::Gold => "gold".to_owned(),
            Self::GoldAccuracy => "gold/accuracy".to_owned(),
            Self::Preferences => "preferences".to_owned(),
            Self::Sft(pupil) => pupil.folder("sft"),
            Self::RewardModel => "reward_model".to_owned(),
            Self::Dpo(pupil) => pupil.folder("dpo"),
            Self::Ppo { chunk_len, seed } => {
                format!("{}/L-{chunk_len}/seed-{seed}", ppo_folder(plan))
            }
            Self::PpoReport => format!("{}/report", ppo_folder(plan)),
            Self::Steer { cell, seed } => cell.name(*seed),
            Self::Judge { judge, cell, seed } => {
                format!("evaluate/{judge}/{}/{}/seed-{seed}", cell.base, cell.method_name)
            }
            Self::Evaluate => "evaluate".to_owned(),
        }
    }

    /// The files and folders that are its own, relative to the run directory.
    pub fn outputs(&self, plan: &Plan) -> Vec<String> {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        match self {
            Self::Pretrain(model) => vec![format!("models/{model}")],
            Self::GoldAccuracy => owned(&[GOLD_REPORT]),
            Self::Preferences => {
                let left_out = [TRAIN, VALIDATION].map(left_out_file);
                [owned(&[TRAIN, VALIDATION, PAIRS_REPORT, PAIRS_CARD]), left_out.to_vec()].concat()
            }
            Self::PpoReport => ["curves.svg", "report.json"]
                .map(|file| format!("{}/{file}", ppo_folder(plan)))
                .to_vec(),
            Self::Steer { .. } | Self::Judge { .. } => vec![format!("{}.jsonl", self.name(plan))],
            Self::Evaluate => owned(&[SUMMARY, PAGE]),
            Self::Gold | Self::Sft(_) | Self::RewardModel | Self::Dpo(_) | Self::Ppo { .. } => {
                vec![self.name(plan)]
            }
        }
    }

    /// What it reads, and nothing that it does not open.
    pub fn inputs(&self, plan: &Plan) -> Result<Vec<Input>> {
        let recipe = &plan.recipe;
        let gold = |is_asked: bool| recipe.gold.as_ref().filter(|_| is_asked).map(|_| gold_input());
        Ok(match self {
            Self::Pretrain(model) => {
                let owner = Some(recipe.tokenizer_owner(model)).filter(|owner| owner != model);
                [Input::Texts]
                    .into_iter()
                    .chain(owner.map(|owner| Input::Result(Self::Pretrain(owner.to_owned()))))
                    .collect()
            }
            Self::Gold => vec![Input::Texts],
            Self::GoldAccuracy => vec![gold_input(), Input::Texts, Input::TestPrompts],
            Self::Preferences => {
                let table = recipe.preferences.as_ref().ok_or_else(|| absent("preferences"))?;
                let (data, model) = match table.source {
                    Some(_) => (Input::Pairs, recipe.guide_model()),
                    None => (Input::Prompts, table.policy.as_deref()),
                };
                [data]
                    .into_iter()
                    .chain(model.map(|model| Input::Model(model.to_owned())))
                    .chain(gold(true))
                    .collect()
            }
            Self::Sft(pupil) => vec![
                Input::Model(pupil.tuning(plan)?.model.to_owned()),
                Input::Result(Self::Preferences),
            ],
            Self::Dpo(pupil) => {
                let tuning = pupil.tuning(plan)?;
                let reference = match tuning.sft {
                    Some(_) => Input::Result(Self::Sft(pupil.clone())),
                    None => Input::Model(tuning.model.to_owned()),
                };
                vec![
                    reference,
                    Input::Reading(tuning.model.to_owned()),
                    Input::Result(Self::Preferences),
                ]
            }
            Self::RewardModel => {
                let table = recipe.reward_model.as_ref().zip(recipe.reward_model_base());
                let (table, model) = table.ok_or_else(|| absent("reward_model"))?;
                let start = match table.from {
                    RewardStart::Model => Input::Model(model.to_owned()),
                    RewardStart::Sft => Input::Result(Self::Sft(Pupil::Guide)),
                };
                vec![start, Input::Reading(model.to_owned()), Input::Result(Self::Preferences)]
            }
            Self::Ppo { .. } => {
                let (table, _) = ppo(plan)?;
                let pair =
                    plan.ppo_pair().ok_or_else(|| Error::recipe("`[ppo]` has no guide pair"))?;
                let first = [Input::Prompts, Input::Model(table.policy.clone())];
                // Where nothing is validated there is nothing to judge.
                first
                    .into_iter()
                    .chain(pair_inputs(plan, &[pair])?)
                    .chain(gold(table.validation_prompts > 0))
                    .collect()
            }
            Self::PpoReport => {
                let trainings = tasks(plan, Stage::Ppo)?
                    .into_iter()
                    .filter(|task| matches!(task, Self::Ppo { .. }));
                trainings.map(Input::Result).collect()
            }
            Self::Steer { cell, seed } => {
                let sampled = match &cell.source {
                    Source::Model(name) => vec![Input::Model(name.clone())],
                    Source::Guide(source) => guide_inputs(plan, source)?,
                    Source::Direct(name) => {
                        vec![
                            Input::Result(Self::Dpo(Pupil::Direct(name.clone()))),
                            Input::Reading(name.clone()),
                        ]
                    }
                    Source::Ppo(chunk_len) => {
                        vec![
                            Input::Result(Self::Ppo { chunk_len: *chunk_len, seed: *seed }),
                            Input::Reading(cell.base.clone()),
                        ]
                    }
                };
                let scoring = pair_inputs(plan, &plan.guide_pairs())?;
                [Input::TestPrompts].into_iter().chain(sampled).chain(scoring).collect()
            }
            Self::Judge { judge, cell, seed } => {
                vec![
                    Input::Judge(judge.clone()),
                    Input::Result(Self::Steer { cell: cell.clone(), seed: *seed }),
                ]
            }
            Self::Evaluate => {
                let shown = [
                    Stage::Gold,
                    Stage::Preferences,
                    Stage::Sft,
                    Stage::Dpo,
                    Stage::Direct,
                    Stage::Ppo,
                    Stage::Steer,
                ];
                let shown = shown
                    .into_iter()
                    .map(|stage| tasks(plan, stage))
                    .collect::<Result<Vec<_>>>()?
                    .concat();
                let sampled: Vec<Source> =
                    cells(plan)?.into_iter().map(|cell| cell.source).collect();
                let is_shown = |task: &Self| match task {
                    Self::Gold => false,
                    Self::Sft(Pupil::Direct(model)) | Self::Dpo(Pupil::Direct(model)) => {
                        sampled.contains(&Source::Direct(model.clone()))
                    }
                    _ => true,
                };
                let judged = tasks(plan, Stage::Evaluate)?
                    .into_iter()
                    .filter(|task| *task != Self::Evaluate);
                shown.into_iter().filter(is_shown).chain(judged).map(Input::Result).collect()
            }
        })
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
                json!({
                    "scratch": gold.scratch_outcome(),
                    "training": plan.training.gold.as_ref().map(Training::outcome),
                    "seed": seed
                })
            }
            Self::GoldAccuracy => json!({ "data.test": recipe.data.test }),
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
            Self::Ppo { chunk_len, seed } => {
                let (table, training) = ppo(plan)?;
                json!({ "ppo": table.outcome(*chunk_len, training), "seed": seed })
            }
            Self::PpoReport | Self::Judge { .. } => Value::Null,
            Self::Steer { cell, seed } => {
                let steer = recipe.steer.as_ref().ok_or_else(|| absent("steer"))?;
                json!({
                    "method": cell.method.settings(),
                    "steer": steer.outcome(&plan.guide_pairs()),
                    "seed": seed
                })
            }
            Self::Evaluate => {
                // How many prompts there are, and not how many were answered.
                let prompts = recipe.steer.as_ref().map(|steer| steer.prompts);
                json!({
                    "run.name": recipe.run.name,
                    "examples": recipe.evaluate.as_ref().map(Evaluate::outcome),
                    "prompts": prompts,
                    "version": SUMMARY_VERSION,
                })
            }
        })
    }

    /// How far it is to go, where it can go on from less.
    pub fn reach(&self, plan: &Plan) -> Reach {
        let Some(steer) = &plan.recipe.steer else { return Reach::new() };
        let traced = if steer.trace { steer.prompts } else { 0 };
        let all = [("prompts", steer.prompts), ("traced", traced)]
            .map(|(what, count)| (what.to_owned(), count));
        match self {
            Self::Steer { .. } => Reach::from(all),
            Self::Judge { .. } => all.into_iter().take(1).collect(),
            _ => Reach::new(),
        }
    }
}

fn gold_input() -> Input {
    Input::Judge(GOLD.to_owned())
}

/// Where the pairs that `file` does without are listed.
pub fn left_out_file(file: &str) -> String {
    file.replace(".jsonl", ".left_out.jsonl")
}

/// The folder of all PPO trainings.
pub fn ppo_folder(plan: &Plan) -> String {
    format!("ppo/{}", plan.recipe.ppo.as_ref().map_or("", |ppo| &ppo.policy))
}

/// `[ppo]` and its settled training.
pub fn ppo(plan: &Plan) -> Result<(&PpoTable, &Training)> {
    plan.recipe.ppo.as_ref().zip(plan.training.ppo.as_ref()).ok_or_else(|| absent("ppo"))
}

/// Where a guide's weights come from, and how it reads.
fn guide_inputs(plan: &Plan, source: &GuideSource) -> Result<Vec<Input>> {
    let model = plan
        .model_of(source)
        .ok_or_else(|| Error::recipe("the recipe has no model to tune"))?
        .to_owned();
    Ok(match source {
        GuideSource::Model(name) => vec![Input::Model(name.clone())],
        GuideSource::Sft => vec![Input::Result(Task::Sft(Pupil::Guide)), Input::Reading(model)],
        GuideSource::Dpo => vec![Input::Result(Task::Dpo(Pupil::Guide)), Input::Reading(model)],
    })
}

/// Both guides of each pair; the prompt of a pair is its tuned guide's.
fn pair_inputs(plan: &Plan, pairs: &[GuidePairSource]) -> Result<Vec<Input>> {
    let sources = pairs.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]);
    Ok(sources.map(|source| guide_inputs(plan, source)).collect::<Result<Vec<_>>>()?.concat())
}

fn absent(table: &str) -> Error {
    Error::recipe(format!("the recipe has no `[{table}]` table"))
}
