//! Turns the steer journals into `evaluate/summary.json` and `report.html`. What judges say is
//! gathered before, by `judging.rs`; the statistics are in `report`.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::alpaca_eval;
use super::applicable::not_applicable;
use super::cells::{Cell, cells};
use super::choice;
use super::context::Context;
use super::gap;
use super::journals::{JudgeLine, check_whole, once_each};
use super::measured::Measured;
use super::ppo;
use super::run::{remove, write_json};
use super::served;
use super::tasks::{self, GOLD_REPORT, PAGE, PAIRS_REPORT, SUMMARY, Task};
use super::test_prompts::test_prompts;
use super::tuning_plan::Pupil;
use crate::artifacts::atomic;
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::recipe::{GOLD, Method, Proposal};
use crate::report::{Answer, Figure, Role, Sample, Served, Summary, figures, html};
use crate::search::Finish;

/// What [`Judging`](alpaca_eval::Judging) failed of is noted.
pub fn run(context: &Context, by_package: &alpaca_eval::Judging) -> Result<()> {
    let mut summary = Summary::new(&context.recipe().run.name);
    let mut samples = Vec::new();
    let planned = tasks::all(&context.plan)?;
    // What another recipe left here is not told as this one's.
    let report = |task: &Task, file: &str| {
        if planned.contains(task) { report(context, file) } else { Value::Null }
    };
    let training = |task: &Task| report(task, &format!("{}/training.json", task.name()));
    let shown = context.recipe().evaluate.as_ref().map_or(0, |evaluate| evaluate.examples);
    let mut direct = serde_json::Map::new();
    // The gold reward of the tuned guide alone.
    let mut tuned = None;
    let cells = cells(&context.plan)?;
    let references = references(&cells);
    let prompts: HashSet<String> =
        test_prompts(context)?.into_iter().map(|prompt| prompt.id).collect();
    let mut measured = Measured::new(context)?;
    for cell in cells {
        if let Some(why) = not_applicable(context, &cell)? {
            summary.add_not_applicable(
                &cell.base,
                &cell.method_name,
                settings(context, &cell),
                why,
            );
            continue;
        }
        let mut responses = answers(context, &cell, &prompts)?;
        measured.correct(&cell, &mut responses)?;
        if cell.method.proposal == Proposal::Direct {
            let pupil = Pupil::Direct(cell.base.clone());
            let [sft, dpo] =
                [Task::Sft(pupil.clone()), Task::Dpo(pupil)].map(|task| training(&task));
            direct.insert(cell.base.clone(), json!({ "sft": sft, "dpo": dpo }));
        }
        let (role, settings) = (role(&cell), settings(context, &cell));
        summary.add(&cell.base, &cell.method_name, role, settings, &responses);
        if let (Some(served), Some(row)) = (cost(context, &cell)?, summary.rows.last_mut()) {
            row.served = Some(served);
        }
        if let Some(row) = summary.rows.last_mut() {
            measured.measure(&cell, &responses, row)?;
            row.alpaca_eval = alpaca_eval::of_cell(context, &cell)?;
        }
        summary.value.extend(measured.foresight(&cell, &responses)?);
        if cell.method.proposal == Proposal::Tuned {
            let reward = summary.rows.last().and_then(|row| row.gold_reward.as_ref());
            tuned = tuned.or(reward.map(|reward| reward.mean));
        }
        samples.push(Sample {
            base: cell.base,
            method: cell.method_name,
            responses: responses.into_iter().take(shown).collect(),
        });
    }
    for (base, reference) in references {
        summary.control_for_length(&base, &reference);
    }
    summary.compare();
    let [sft, dpo] = [Task::Sft(Pupil::Guide), Task::Dpo(Pupil::Guide)].map(|task| training(&task));
    summary.guide =
        json!({ "sft": sft, "dpo": dpo, "preferences": report(&Task::Preferences, PAIRS_REPORT) });
    for task in &planned {
        if let Task::Dpo(Pupil::Swept(setting)) = task {
            summary.guide["sweep"][setting.as_str()] = training(task);
        }
    }
    gap::add_to(context, &mut summary)?;
    choice::mark(context, &mut summary)?;
    by_package.note(&mut summary);
    summary.direct = direct;
    let ppo = ppo::reports(context, tuned)?;
    summary.ppo = ppo.iter().flat_map(|ppo| ppo.rows.clone()).collect();
    summary.gold = report(&Task::GoldAccuracy, GOLD_REPORT);
    for task in planned.iter().filter(|task| is_shown(task)) {
        for folder in task.outputs() {
            summary.note_training(&task.name(), &report(task, &format!("{folder}/training.json")));
        }
    }
    summary.figures = figures(&summary)?;
    write_figures(context, &summary.figures)?;
    write_json(&context.run.path(SUMMARY), &summary)?;
    atomic::write(&context.run.path(PAGE), html(&summary, &samples, &ppo).as_bytes())
}

/// What the cell's row stands for among those that it is compared with.
fn role(cell: &Cell) -> Role {
    match cell.method.proposal {
        Proposal::Tuned => Role::Tuned,
        Proposal::Untuned => Role::Untuned,
        Proposal::Direct if cell.method == Method::sampled(Proposal::Direct) => Role::Direct,
        _ if cell.method.needs_guides() => Role::Steered,
        _ if cell.method == Method::sampled(Proposal::Base) => Role::Plain,
        _ => Role::Other,
    }
}

/// Each figure in a file of its own, and no others.
fn write_figures(context: &Context, figures: &[Figure]) -> Result<()> {
    let folder = context.run.path(&tasks::figures());
    remove(&folder)?;
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "creating the folder"))?;
    figures.iter().try_for_each(|figure| {
        let file = folder.join(format!("{}.svg", figure.name));
        atomic::write(&file, figure.svg.as_bytes())
    })
}

/// What tells the row of a cell from others: its method's settings, and the base's own.
fn settings(context: &Context, cell: &Cell) -> Value {
    let mut settings = cell.settings();
    let steer = context.recipe().steer.as_ref();
    let own = steer.map(|steer| steer.own_settings(context.recipe(), &cell.base));
    if let (Some(settings), Some(own)) = (settings.as_object_mut(), own) {
        settings.extend(own);
    }
    let dropped = served::dropped(context, &cell.base);
    if !dropped.is_empty() {
        settings["dropped"] = json!(dropped.join(", "));
    }
    settings
}

/// What the answers of a cell have cost, where others serve its base.
fn cost(context: &Context, cell: &Cell) -> Result<Option<Served>> {
    let Some(costs) = served::costs(context, &cell.base)? else { return Ok(None) };
    let seeds = context.recipe().run.seeds.iter();
    let of_seeds = seeds.filter_map(|seed| costs.get(&cell.name(*seed)));
    Ok(Some(of_seeds.fold(Served::default(), |all, one| all.and(one))))
}

/// Whether it is a training behind what is shown.
fn is_shown(task: &Task) -> bool {
    matches!(task, Task::Pretrain(_) | Task::Gold | Task::Sft(_) | Task::Dpo(_) | Task::Ppo { .. })
}

/// For each base the method that gains are counted from: plain samples of the base; of the guides,
/// samples of the untuned one.
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
///
/// # Errors
/// Where a journal lacks a prompt, or has it twice.
fn answers(context: &Context, cell: &Cell, prompts: &HashSet<String>) -> Result<Vec<Answer>> {
    let mut all = Vec::new();
    let judges = context.recipe().judges();
    let asked = || prompts.iter().map(String::as_str);
    for &seed in &context.recipe().run.seeds {
        let rewards = judges.iter().map(|judge| {
            let task = Task::Judge { judge: judge.name.to_owned(), cell: cell.clone(), seed };
            let path = context.run.path(&format!("{}.jsonl", task.name()));
            let lines = once_each::<JudgeLine>(&path)?;
            let rewards: HashMap<String, f64> =
                lines.into_iter().map(|(line, _)| (line.id, line.reward)).collect();
            check_whole(&path, asked(), |id| rewards.contains_key(id))?;
            Ok((judge.name, rewards))
        });
        let rewards = rewards.collect::<Result<Vec<_>>>()?;
        let of = |judge: &str, id: &str| {
            rewards.iter().find(|(name, _)| *name == judge)?.1.get(id).copied()
        };
        let further = |id: &str| {
            let further = rewards.iter().filter(|(name, _)| *name != GOLD);
            further.filter_map(|(name, _)| Some(((*name).to_owned(), of(name, id)?))).collect()
        };
        let path = context.run.path(&cell.journal(seed));
        let lines = once_each::<SteerLine>(&path)?.into_iter().map(|(line, _)| line);
        let lines: Vec<SteerLine> = lines.filter(|line| prompts.contains(&line.id)).collect();
        let known: HashSet<&str> = lines.iter().map(|line| line.id.as_str()).collect();
        check_whole(&path, asked(), |id| known.contains(id))?;
        all.extend(lines.into_iter().map(|line| Answer {
            seed,
            gold_reward: of(GOLD, &line.id),
            judges: further(&line.id),
            id: line.id,
            prompt: line.prompt.to_string(),
            response: line.response,
            complete: line.finish != Finish::Length,
            score: line.score.map(f64::from),
            base_logprob_per_token: line.base_logprob_per_token,
            response_tokens: line.response_tokens,
            base_tokens: line.tokens.base,
            guide_tokens: line.tokens.guide,
            seconds: line.seconds,
            guide_seconds: line.guide_seconds,
        }));
    }
    Ok(all)
}

/// A task's own report, or null where it did not run.
fn report(context: &Context, file: &str) -> Value {
    std::fs::read_to_string(context.run.path(file))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}
