//! `gold.reward_model`: the judge is a reward model that the stage trains on pairs of its own, and
//! measures on those that it held out. How it is trained is told by `reward_training.rs`.

use serde_json::json;
use tracing::{info, warn};

use super::context::{Context, tell};
use super::reward_training::{self, Judged, JudgedPair, RewardTraining};
use super::run::write_json;
use super::tasks::GOLD_REPORT;
use crate::error::{Error, Result};
use crate::models::RewardHead;
use crate::recipe::{GOLD, GoldRewardModel};
use crate::report::{PairAccuracy, PairOutcome};
use crate::score::{Reading, ToJudge};
use crate::text::{PairRow, PairRows, load_pair_rows};

/// Texts of one forward pass where nothing is learned, chosen by length among all.
const BATCH: usize = 16;

/// Makes the judge.
pub fn train(context: &Context, table: &GoldRewardModel) -> Result<()> {
    let pairs = load_pair_rows(&table.pair_source())?;
    tell(GOLD, &pairs.report);
    let text = context.recipe().judge(GOLD).and_then(|gold| gold.text);
    let absent = || Error::recipe("a gold reward model needs training settings");
    let asked = RewardTraining {
        name: GOLD,
        model: &table.model,
        start: context.models.folder(&table.model)?,
        head_learning_rate: table.head_learning_rate,
        training: context.plan.training.gold.as_ref().ok_or_else(absent)?,
        reading: Reading::new(RewardHead::Score.layout(), text),
    };
    let splits = [of_split("training", &pairs.train), of_split("validation", &pairs.validation)];
    reward_training::train(context, &asked, splits)
}

/// What can be learned from of a split, as far as its layout tells; a warning counts the rest.
fn of_split<'a>(split: &str, rows: &'a [PairRow]) -> Judged<'a> {
    let of = format!("the {split} split of `{}`", GoldRewardModel::TABLE);
    let pairs = judged(rows);
    let (unfit, all) = (rows.len() - pairs.len(), rows.len());
    if unfit > 0 {
        warn!("{GOLD}: {unfit} of {all} pairs of {of} are left out, for a response is no answer");
    }
    Judged { of, pairs, hint: "give other pairs" }
}

/// How often the judge, as it judges, finds the response that was chosen among the held-out pairs,
/// and how often the longer one is it. A judge reads of a long text what its context holds, so that
/// pairs count here which are too long to learn from.
pub fn measure(context: &Context, table: &GoldRewardModel) -> Result<()> {
    let PairRows { validation, .. } = load_pair_rows(&table.pair_source())?;
    let pairs: Vec<JudgedPair> = judged(&validation)
        .into_iter()
        .filter(|pair| {
            let has_text = |response: &str| !response.trim().is_empty();
            has_text(pair.chosen) && has_text(pair.rejected) && pair.chosen != pair.rejected
        })
        .collect();
    let answers: Vec<ToJudge> = pairs
        .iter()
        .enumerate()
        .flat_map(|(number, JudgedPair { prompt, chosen, rejected })| {
            [("chosen", chosen), ("rejected", rejected)].map(|(which, response)| {
                ToJudge::new(format!("{number}/{which}"), prompt, response)
            })
        })
        .collect();
    let rewards = context.models.open_gold()?.rewards_by_length(&answers, BATCH)?;
    let outcomes: Vec<PairOutcome> = pairs
        .iter()
        .zip(rewards.chunks_exact(2))
        .map(|(pair, rewards)| PairOutcome {
            rewards: [rewards[0], rewards[1]],
            lengths: [pair.chosen, pair.rejected].map(|response| response.chars().count()),
        })
        .collect();
    let found = PairAccuracy::of(&outcomes);
    match &found {
        Some(found) if found.beats_chance() && found.beats_length() => {
            info!("gold: {}", found.words());
        }
        Some(found) => warn!("gold: {}", found.words()),
        None => warn!("gold: no held-out pair can be judged, so its accuracy is not measured"),
    }
    let report =
        found.map_or_else(|| json!({ "accuracy": null, "pairs": 0 }), |found| json!(found));
    write_json(&context.run.path(GOLD_REPORT), &report)
}

/// Those that are pairs to learn from, as far as their layout tells.
fn judged(rows: &[PairRow]) -> Vec<JudgedPair<'_>> {
    let fit = rows.iter().filter(|row| row.unfit.is_none());
    fit.map(|PairRow { prompt, chosen, rejected, .. }| JudgedPair { prompt, chosen, rejected })
        .collect()
}
