//! What each task of a plan reads, and nothing that it does not open: the arrows from task to task.
//! Made from the plan alone; what an input's fingerprint is, `lineage.rs` says.

use super::cells::{Source, cells};
use super::tasks::{Task, absent, judge_task, ppo, tasks};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::recipe::{GOLD, GuidePairSource, GuideSource, Plan, RewardStart, Stage};

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
            Self::Judge(name) => judge_task(plan, name),
            Self::Reading(_) | Self::Texts | Self::Prompts | Self::TestPrompts | Self::Pairs => {
                None
            }
        }
    }
}

impl Task {
    /// What it reads, and nothing that it does not open.
    pub fn inputs(&self, plan: &Plan) -> Result<Vec<Input>> {
        let recipe = &plan.recipe;
        let gold = |is_asked: bool| recipe.gold.as_ref().filter(|_| is_asked).map(|_| gold_input());
        Ok(match self {
            Task::Pretrain(model) => {
                let owner = Some(recipe.tokenizer_owner(model)).filter(|owner| owner != model);
                [Input::Texts]
                    .into_iter()
                    .chain(owner.map(|owner| Input::Result(Task::Pretrain(owner.to_owned()))))
                    .collect()
            }
            Task::Gold => vec![Input::Texts],
            Task::GoldAccuracy => vec![gold_input(), Input::Texts, Input::TestPrompts],
            Task::Preferences => {
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
            Task::Sft(pupil) => vec![
                Input::Model(pupil.tuning(plan)?.model.to_owned()),
                Input::Result(Task::Preferences),
            ],
            Task::Dpo(pupil) => {
                let tuning = pupil.tuning(plan)?;
                let reference = match tuning.sft {
                    Some(_) => Input::Result(Task::Sft(pupil.clone())),
                    None => Input::Model(tuning.model.to_owned()),
                };
                vec![
                    reference,
                    Input::Reading(tuning.model.to_owned()),
                    Input::Result(Task::Preferences),
                ]
            }
            Task::RewardModel => {
                let table = recipe.reward_model.as_ref().zip(recipe.reward_model_base());
                let (table, model) = table.ok_or_else(|| absent("reward_model"))?;
                let start = match table.from {
                    RewardStart::Model => Input::Model(model.to_owned()),
                    RewardStart::Sft => Input::Result(Task::Sft(Pupil::Guide)),
                };
                vec![start, Input::Reading(model.to_owned()), Input::Result(Task::Preferences)]
            }
            Task::Ppo { .. } => {
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
            Task::PpoReport => {
                let trainings = tasks(plan, Stage::Ppo)?
                    .into_iter()
                    .filter(|task| matches!(task, Task::Ppo { .. }));
                trainings.map(Input::Result).collect()
            }
            Task::Steer { cell, seed } => {
                let sampled = match &cell.source {
                    Source::Model(name) => vec![Input::Model(name.clone())],
                    Source::Guide(source) => guide_inputs(plan, source)?,
                    Source::Direct(name) => {
                        vec![
                            Input::Result(Task::Dpo(Pupil::Direct(name.clone()))),
                            Input::Reading(name.clone()),
                        ]
                    }
                    Source::Ppo(chunk_len) => {
                        vec![
                            Input::Result(Task::Ppo { chunk_len: *chunk_len, seed: *seed }),
                            Input::Reading(cell.base.clone()),
                        ]
                    }
                };
                let scoring = pair_inputs(plan, &plan.guide_pairs())?;
                [Input::TestPrompts].into_iter().chain(sampled).chain(scoring).collect()
            }
            Task::Judge { judge, cell, seed } => {
                vec![
                    Input::Judge(judge.clone()),
                    Input::Result(Task::Steer { cell: cell.clone(), seed: *seed }),
                ]
            }
            Task::Evaluate => {
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
                let is_shown = |task: &Task| match task {
                    Task::Gold => false,
                    Task::Sft(Pupil::Direct(model)) | Task::Dpo(Pupil::Direct(model)) => {
                        sampled.contains(&Source::Direct(model.clone()))
                    }
                    _ => true,
                };
                let judged = tasks(plan, Stage::Evaluate)?
                    .into_iter()
                    .filter(|task| *task != Task::Evaluate);
                shown.into_iter().filter(is_shown).chain(judged).map(Input::Result).collect()
            }
        })
    }
}

fn gold_input() -> Input {
    Input::Judge(GOLD.to_owned())
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
