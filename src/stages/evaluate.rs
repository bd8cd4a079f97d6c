//! Turns the steer journals into `evaluate/summary.json` and `report.html`.

use std::collections::HashSet;

use serde_json::json;

use super::context::{Context, Task, write_json};
use super::steer::{self, Cell};
use super::steer_method::SteerLine;
use super::tuning::Tuning;
use super::{direct, dpo, gold, ppo, preferences, sft};
use crate::artifacts::{atomic, journal};
use crate::error::Result;
use crate::recipe::{Evaluate, Method, Proposal, Stage, StageTraining};
use crate::report::{Answer, Sample, Summary, html};
use crate::search::Finish;

/// Raised when the summary or the page says more, so that finished runs are summarised again.
const SUMMARY_VERSION: u32 = 3;

pub fn run(context: &Context) -> Result<()> {
    context.task(&task(context)?, &["evaluate/summary.json", "report.html"], |_| {
        let mut summary = Summary::new(&context.recipe().run.name);
        let mut samples = Vec::new();
        let shown = context.recipe().evaluate.as_ref().map_or(0, |evaluate| evaluate.examples);
        let mut direct = serde_json::Map::new();
        let cells = steer::cells(context)?;
        let references = references(&cells);
        let prompts: HashSet<String> = steer::test_prompts(context)?.into_iter().map(|(id, _)| id).collect();
        for cell in cells {
            let responses = read(context, &cell, &prompts)?;
            if cell.method.proposal == Proposal::Direct {
                let tuning = direct::tuning(context, &cell.base)?;
                let report = |task: &str| report(context, &format!("{task}/training.json"));
                let sft = tuning.sft.map(|_| report(&tuning.sft_task));
                direct.insert(cell.base.clone(), json!({ "sft": sft, "dpo": report(&tuning.dpo_task) }));
            }
            summary.add(&cell.base, &cell.method_name, cell.method.settings(), &responses);
            samples.push(Sample { base: cell.base, method: cell.method_name, responses: responses.into_iter().take(shown).collect() });
        }
        for (base, reference) in references {
            summary.control_for_length(&base, &reference);
        }
        summary.guide = json!({ "sft": report(context, "sft/training.json"), "dpo": report(context, "dpo/training.json"),
            "preferences": report(context, "preferences/report.json") });
        summary.direct = direct;
        let ppo = ppo::report(context)?;
        summary.ppo = ppo.as_ref().map(|ppo| ppo.rows.clone()).unwrap_or_default();
        summary.gold = report(context, gold::REPORT);
        for (stage, folder) in trainings(context)? {
            summary.note_training(&stage, &report(context, &format!("{folder}/training.json")));
        }
        write_json(&context.path("evaluate/summary.json"), &summary)?;
        atomic::write(&context.path("report.html"), html(&summary, &samples, ppo.as_ref()).as_bytes())
    })
}

/// The trainings behind what is shown, and the folder of what came of it.
fn trainings(context: &Context) -> Result<Vec<(String, String)>> {
    let StageTraining { pretrain, gold, sft, dpo, reward_model: _, direct: _, ppo: _ } = &context.plan.training;
    let scratch = pretrain.keys().map(|name| (format!("pretrain/{name}"), format!("models/{name}")));
    let single = [("gold", gold), ("sft", sft), ("dpo", dpo)];
    let single = single.into_iter().filter(|(_, training)| training.is_some()).map(|(stage, _)| (stage.to_owned(), stage.to_owned()));
    let many = direct::tasks(context)?.into_iter().chain(ppo::tasks(context)?).map(|task| (task.name.clone(), task.name));
    Ok(scratch.chain(single).chain(many).collect())
}

/// It shows what steering and PPO gave, and the reports of the stages before them.
fn task(context: &Context) -> Result<Task> {
    let recipe = context.recipe();
    let steered = steer::tasks(context)?;
    // How many prompts there are, and not how many were answered.
    let prompts = recipe.steer.as_ref().map(|steer| steer.prompts);
    let mut shown = [steered, ppo::tasks(context)?, direct::tasks(context)?].concat();
    if context.plan.has(Stage::Gold) {
        shown.push(gold::measurement(context)?);
    }
    if context.plan.has(Stage::Preferences) {
        shown.push(preferences::task(context)?);
    }
    if context.plan.has(Stage::Sft) {
        shown.push(sft::task(context, &Tuning::of_guide(context)?)?);
    }
    if context.plan.has(Stage::Dpo) {
        shown.push(dpo::task(context, &Tuning::of_guide(context)?)?);
    }
    let parents: Vec<String> = shown.into_iter().map(|task| task.fingerprint).collect();
    let page = (&recipe.run.name, recipe.evaluate.as_ref().map(Evaluate::outcome), prompts);
    Ok(Task::new("evaluate", context.fingerprint("evaluate", (page, SUMMARY_VERSION), &parents)?))
}

/// For each base the method that gains are counted from: plain samples of the base; of the guides, samples of the untuned one.
fn references(cells: &[Cell]) -> Vec<(String, String)> {
    let mut references: Vec<(String, String)> = Vec::new();
    for method in [Proposal::Base, Proposal::Untuned].map(Method::sampled) {
        for cell in cells.iter().filter(|cell| cell.method == method) {
            if references.iter().all(|(base, _)| *base != cell.base) {
                references.push((cell.base.clone(), cell.method_name.clone()));
            }
        }
    }
    references
}

/// All responses of one cell to these prompts, seed after seed; the journal may hold more.
fn read(context: &Context, cell: &Cell, prompts: &HashSet<String>) -> Result<Vec<Answer>> {
    let mut all = Vec::new();
    for &seed in &context.recipe().run.seeds {
        let lines = journal::complete_lines::<SteerLine>(&context.path(&cell.journal(seed)))?.into_iter().map(|(line, _)| line);
        all.extend(lines.filter(|line| prompts.contains(&line.id)).map(|line| Answer {
            seed,
            id: line.id,
            prompt: line.prompt,
            response: line.response,
            complete: line.finish != Finish::Length,
            score: line.score.map(f64::from),
            gold_reward: line.gold_reward,
            base_logprob_per_token: line.base_logprob_per_token,
            response_tokens: line.response_tokens,
            base_tokens: line.tokens.base,
            guide_tokens: line.tokens.guide,
            seconds: line.seconds,
        }));
    }
    Ok(all)
}

/// A stage's own report, or null where the stage did not run.
fn report(context: &Context, file: &str) -> serde_json::Value {
    std::fs::read_to_string(context.path(file)).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}
