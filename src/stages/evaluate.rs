//! Turns the steer journals into `evaluate/summary.json` and `report.html`.

use serde_json::json;

use super::context::{Context, write_json};
use super::steer::{self, Cell};
use super::steer_method::{Method, SteerLine};
use super::{direct, ppo};
use crate::artifacts::{Journal, atomic};
use crate::error::Result;
use crate::recipe::StageTraining;
use crate::report::{Answer, Sample, Summary, html};
use crate::search::Finish;

/// Raised when the summary or the page says more, so that finished runs are summarised again.
const SUMMARY_VERSION: u32 = 3;

pub fn run(context: &Context) -> Result<()> {
    let fingerprint = context.fingerprint(
        "evaluate",
        (&context.recipe().evaluate, SUMMARY_VERSION),
        &steer::tasks(context)?.into_iter().chain(ppo::tasks(context)?).map(|(_, fingerprint)| fingerprint).collect::<Vec<_>>(),
    )?;
    context.task("evaluate", &fingerprint, &["evaluate/summary.json", "report.html"], |_| {
        let mut summary = Summary::new(&context.recipe().run.name);
        let mut samples = Vec::new();
        let shown = context.recipe().evaluate.as_ref().map_or(0, |evaluate| evaluate.examples);
        let mut direct = serde_json::Map::new();
        let cells = steer::cells(context)?;
        let references = references(&cells);
        for cell in cells {
            let responses = read(context, &cell)?;
            if cell.method == Method::Direct {
                let tuning = direct::tuning(context, &cell.base)?;
                let report = |task: &str| report(context, &format!("{task}/training.json"));
                let sft = tuning.sft.map(|_| report(&tuning.sft_task));
                direct.insert(cell.base.clone(), json!({ "sft": sft, "dpo": report(&tuning.dpo_task) }));
            }
            summary.add(&cell.base, &cell.name, cell.method.settings(), &responses);
            samples.push(Sample { base: cell.base, method: cell.name, responses: responses.into_iter().take(shown).collect() });
        }
        for (base, reference) in references {
            summary.control_for_length(&base, &reference);
        }
        summary.guide = json!({ "sft": report(context, "sft/training.json"), "dpo": report(context, "dpo/training.json"),
            "preferences": report(context, "preferences/report.json") });
        summary.direct = direct;
        let ppo = ppo::report(context)?;
        summary.ppo = ppo.as_ref().map(|ppo| ppo.rows.clone()).unwrap_or_default();
        summary.gold = report(context, "gold/report.json");
        for (stage, folder) in trainings(context)? {
            summary.note_training(&stage, &report(context, &format!("{folder}/training.json")));
        }
        write_json(&context.path("evaluate/summary.json"), &summary)?;
        atomic::write(&context.path("report.html"), html(&summary, &samples, ppo.as_ref()).as_bytes())
    })
}

/// Every training of the plan and the folder of what came of it.
fn trainings(context: &Context) -> Result<Vec<(String, String)>> {
    let StageTraining { pretrain, gold, sft, reward_model, dpo, direct: _, ppo: _ } = &context.plan.training;
    let scratch = pretrain.keys().map(|name| (format!("pretrain/{name}"), format!("models/{name}")));
    let single = [("gold", gold), ("sft", sft), ("reward_model", reward_model), ("dpo", dpo)];
    let single = single.into_iter().filter(|(_, training)| training.is_some()).map(|(stage, _)| (stage.to_owned(), stage.to_owned()));
    let many = direct::tasks(context)?.into_iter().chain(ppo::tasks(context)?).map(|(task, _)| (task.clone(), task));
    Ok(scratch.chain(single).chain(many).collect())
}

/// For each base the method that gains are counted from: plain samples of the base; of the guides, samples of the untuned one.
fn references(cells: &[Cell]) -> Vec<(String, String)> {
    let mut references: Vec<(String, String)> = Vec::new();
    for method in [Method::Base, Method::Untuned] {
        for cell in cells.iter().filter(|cell| cell.method == method) {
            if references.iter().all(|(base, _)| *base != cell.base) {
                references.push((cell.base.clone(), cell.name.clone()));
            }
        }
    }
    references
}

/// All responses of one cell, seed after seed in prompt order.
fn read(context: &Context, cell: &Cell) -> Result<Vec<Answer>> {
    let mut all = Vec::new();
    for &seed in &context.recipe().run.seeds {
        let (_, lines) = Journal::<SteerLine>::open(context.path(&cell.journal(seed)))?;
        all.extend(lines.into_iter().map(|line| Answer {
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
