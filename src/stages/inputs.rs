//! What each task of a plan reads, and nothing that it does not open: the arrows from task to task.
//! Made from the plan alone; what an input's fingerprint is, `lineage.rs` says.

use super::cells::{Cell, Purpose, Source, cells};
use super::tasks::{Task, absent, gap_judgements, judge_task, ppo, tasks};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::recipe::{GOLD, GuidePairSource, GuideSource, Plan, RewardStart, Stage};
use crate::text::Split;

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
    /// The prompts of all pairs that are there already, which are no test prompts.
    LearnedPrompts,
    /// The pairs of `preferences.source`.
    Pairs,
    /// The pairs that the gold reward model is trained and measured on.
    GoldPairs,
    /// The reference outputs and annotators of `[evaluate.alpaca_eval]`.
    Reference,
    /// A model of the recipe that something is trained on top of, however it is prompted: its
    /// weights and in which precision it computes.
    Body(String),
}

impl Input {
    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Result(task) => task.name(),
            Self::Model(name) => format!("models.{name}"),
            Self::Reading(name) => format!("reading of {name}"),
            Self::Judge(name) => format!("judge {name}"),
            Self::Texts => "texts".to_owned(),
            Self::Prompts => "prompts".to_owned(),
            Self::TestPrompts => "test prompts".to_owned(),
            Self::LearnedPrompts => "prompts of pairs".to_owned(),
            Self::Pairs => "pairs".to_owned(),
            Self::GoldPairs => "pairs of the gold".to_owned(),
            Self::Reference => "reference outputs".to_owned(),
            Self::Body(name) => format!("weights of models.{name}"),
        }
    }

    /// The task that makes it, where one of this plan does.
    pub fn made_by(&self, plan: &Plan) -> Option<Task> {
        match self {
            Self::Result(task) => Some(task.clone()),
            Self::Model(name) | Self::Body(name) => plan
                .recipe
                .models
                .get(name)
                .filter(|model| model.scratch.is_some())
                .map(|_| Task::Pretrain(name.clone())),
            Self::Judge(name) => judge_task(plan, name),
            Self::Reading(_)
            | Self::Texts
            | Self::Prompts
            | Self::TestPrompts
            | Self::LearnedPrompts
            | Self::Pairs
            | Self::Reference
            | Self::GoldPairs => None,
        }
    }
}

impl Task {
    /// What it reads, and nothing that it does not open.
    pub fn inputs(&self, plan: &Plan) -> Result<Vec<Input>> {
        let recipe = &plan.recipe;
        Ok(match self {
            Task::Pretrain(model) => {
                let owner = Some(recipe.tokenizer_owner(model)).filter(|owner| owner != model);
                let owner = owner.map(|owner| Input::Result(Task::Pretrain(owner.to_owned())));
                [Input::Texts].into_iter().chain(owner).collect()
            }
            Task::Gold => match recipe.gold_reward_model() {
                Some(table) => vec![Input::Body(table.model.clone()), Input::GoldPairs],
                None => vec![Input::Texts],
            },
            Task::GoldAccuracy => match recipe.gold_reward_model() {
                Some(_) => vec![gold_input(), Input::GoldPairs],
                None => vec![gold_input(), Input::Texts, Input::TestPrompts],
            },
            Task::Preferences => of_preferences(plan)?,
            Task::Sft(pupil) => vec![
                Input::Model(pupil.tuning(plan)?.model.to_owned()),
                Input::Result(Task::Preferences),
            ],
            Task::Dpo(pupil) => of_dpo(plan, pupil)?,
            Task::RewardModel => of_reward_model(plan)?,
            Task::Ppo { policy, .. } => of_ppo(plan, policy)?,
            Task::PpoReport(of) => {
                let trainings = tasks(plan, Stage::Ppo)?
                    .into_iter()
                    .filter(|task| matches!(task, Task::Ppo { policy, .. } if policy == of));
                trainings.map(Input::Result).collect()
            }
            Task::Steer { cell, seed } => {
                let scoring = pair_inputs(plan, &cell.guides)?;
                let sampled = source_inputs(plan, cell, *seed)?;
                prompt_inputs(plan, cell).into_iter().chain(sampled).chain(scoring).collect()
            }
            Task::Judge { judge, cell, seed } => {
                let answers = Task::Steer { cell: cell.clone(), seed: *seed };
                vec![Input::Judge(judge.clone()), Input::Result(answers)]
            }
            Task::Likelihood { cell, seed } => {
                let answers = Task::Steer { cell: cell.clone(), seed: *seed };
                let is_trained = matches!(cell.source, Source::Direct(_) | Source::Ppo(_));
                let base = is_trained.then(|| Input::Model(cell.base.clone()));
                [Input::Result(answers)].into_iter().chain(base).collect()
            }
            Task::AlpacaEval { cell, seed } => {
                let answers = Task::Steer { cell: cell.clone(), seed: *seed };
                vec![Input::Reference, Input::Result(answers)]
            }
            Task::Gap => {
                let judged = gap_judgements(plan)?.into_iter().filter(|task| *task != Task::Gap);
                judged.map(Input::Result).collect()
            }
            Task::Evaluate => of_evaluate(plan)?,
        })
    }
}

/// Judges the pairs of a source, or those that a policy is sampled for.
fn of_preferences(plan: &Plan) -> Result<Vec<Input>> {
    let recipe = &plan.recipe;
    let table = recipe.preferences.as_ref().ok_or_else(|| absent("preferences"))?;
    let (data, model) = match table.source {
        Some(_) => (Input::Pairs, recipe.guide_model()),
        None => (Input::Prompts, table.policy.as_deref()),
    };
    let model = model.map(|model| Input::Model(model.to_owned()));
    let gold = recipe.gold.as_ref().map(|_| gold_input());
    Ok([data].into_iter().chain(model).chain(gold).collect())
}

/// Starts from the pupil's SFT where it has one.
fn of_dpo(plan: &Plan, pupil: &Pupil) -> Result<Vec<Input>> {
    let tuning = pupil.tuning(plan)?;
    let model = || tuning.model.to_owned();
    let reference = match tuning.sft {
        Some(_) => Input::Result(Task::Sft(pupil.before_dpo())),
        None => Input::Model(model()),
    };
    Ok(vec![reference, Input::Reading(model()), Input::Result(Task::Preferences)])
}

fn of_reward_model(plan: &Plan) -> Result<Vec<Input>> {
    let table = plan.recipe.reward_model.as_ref().zip(plan.recipe.reward_model_base());
    let (table, model) = table.ok_or_else(|| absent("reward_model"))?;
    let start = match table.from {
        RewardStart::Model => Input::Model(model.to_owned()),
        RewardStart::Sft => Input::Result(Task::Sft(Pupil::Guide)),
    };
    Ok(vec![start, Input::Reading(model.to_owned()), Input::Result(Task::Preferences)])
}

fn of_ppo(plan: &Plan, policy: &str) -> Result<Vec<Input>> {
    let (table, _) = ppo(plan, policy)?;
    let pair = plan.ppo_pair().ok_or_else(|| Error::recipe("`[ppo]` has no guide pair"))?;
    let first = [Input::Prompts, Input::Model(policy.to_owned())];
    // Where nothing is validated there is nothing to judge.
    let is_judged = plan.recipe.gold.is_some() && table.validation_prompts > 0;
    let gold = is_judged.then(gold_input);
    Ok(first.into_iter().chain(pair_inputs(plan, &[pair])?).chain(gold).collect())
}

/// Where the prompts of a cell come from.
fn prompt_inputs(plan: &Plan, cell: &Cell) -> Vec<Input> {
    match cell.purpose {
        Purpose::Choice | Purpose::Gap(Split::Validation) => vec![Input::Prompts],
        Purpose::Row | Purpose::Gap(_) => {
            let learned = !plan.recipe.pair_sources().is_empty();
            let learned = learned.then_some(Input::LearnedPrompts);
            [Input::TestPrompts].into_iter().chain(learned).collect()
        }
    }
}

/// What a cell samples from.
fn source_inputs(plan: &Plan, cell: &Cell, seed: u64) -> Result<Vec<Input>> {
    Ok(match &cell.source {
        Source::Model(name) => vec![Input::Model(name.clone())],
        Source::Guide(source) => guide_inputs(plan, source)?,
        Source::Direct(name) => {
            let tuned = Task::Dpo(Pupil::Direct(name.clone()));
            vec![Input::Result(tuned), Input::Reading(name.clone())]
        }
        Source::Ppo(chunk_len) => {
            let policy = cell.base.clone();
            let trained = Task::Ppo { policy, chunk_len: *chunk_len, seed };
            vec![Input::Result(trained), Input::Reading(cell.base.clone())]
        }
    })
}

/// All that the summary and the page show, and what judges say.
fn of_evaluate(plan: &Plan) -> Result<Vec<Input>> {
    let shown = [
        Stage::Gold,
        Stage::Preferences,
        Stage::Sft,
        Stage::Dpo,
        Stage::Direct,
        Stage::Ppo,
        Stage::Steer,
    ];
    let shown = shown.into_iter().map(|stage| tasks(plan, stage));
    let shown = shown.collect::<Result<Vec<_>>>()?.concat();
    let sampled: Vec<Source> = cells(plan)?.into_iter().map(|cell| cell.source).collect();
    let is_shown = |task: &Task| match task {
        Task::Gold => false,
        Task::Sft(Pupil::Direct(model)) | Task::Dpo(Pupil::Direct(model)) => {
            sampled.contains(&Source::Direct(model.clone()))
        }
        _ => true,
    };
    let judged = tasks(plan, Stage::Evaluate)?.into_iter().filter(|task| *task != Task::Evaluate);
    Ok(shown.into_iter().filter(is_shown).chain(judged).map(Input::Result).collect())
}

/// The gold as a judge.
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
        GuideSource::Dpo(setting) => {
            vec![Input::Result(Task::Dpo(Pupil::guide(setting))), Input::Reading(model)]
        }
    })
}

/// Both guides of each pair; the prompt of a pair is its tuned guide's.
fn pair_inputs(plan: &Plan, pairs: &[GuidePairSource]) -> Result<Vec<Input>> {
    let sources = pairs.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]);
    Ok(sources.map(|source| guide_inputs(plan, source)).collect::<Result<Vec<_>>>()?.concat())
}
