//! Preference pairs (paper §4.1, B.1.4): samples of a policy, or pairs that a file holds, judged by
//! the gold reward under the Bradley–Terry model p(1 ≻ 2) = σ(r1 − r2), with a data set card that
//! says what they are like.

mod journal;
mod relabel;
mod sample;
mod verdict;

use serde_json::json;
use tracing::{info, warn};

use super::context::Context;
use super::prompt_room::Asked;
use super::run::write_json;
use super::tasks::{PAIRS_CARD, PAIRS_REPORT, TRAIN, VALIDATION, left_out_file};
use crate::artifacts::{atomic, hash_file};
use crate::error::{Error, Result};
use crate::recipe::Preferences;
use crate::report::{PairCard, PairReport};

/// Makes or judges the pairs, and describes them.
pub fn make(context: &Context) -> Result<()> {
    let settings = table(context)?;
    match settings.pair_source() {
        Some(source) => relabel::run(context, settings, &source)?,
        None => sample::run(context, settings)?,
    }
    let path = |file: &str| context.run.path(file);
    let train = PairReport::read(&path(TRAIN), &path(&left_out_file(TRAIN)), None)?;
    let validation =
        PairReport::read(&path(VALIDATION), &path(&left_out_file(VALIDATION)), Some(&path(TRAIN)))?;
    if train.pairs == 0 {
        let hint = match settings.source {
            Some(_) => {
                "a pair needs two different responses with text, and a prompt that fits the model \
                 to tune"
            }
            None => "raise `preferences.sampling.temperature`",
        };
        return Err(Error::failed(format!(
            "no preference pair is left: {}\n\nhint: {hint}",
            train.left_out_words()
        )));
    }
    let agreement = train
        .label_agreement
        .map_or_else(String::new, |share| format!(", labels agree with the reward in {share:.3}"));
    info!("preferences: {} pairs ({}){agreement}", train.pairs, train.left_out_words());
    for (file, report) in [(TRAIN, &train), (VALIDATION, &validation)] {
        if report.left_out * 10 > report.pairs + report.left_out {
            warn!(
                "preferences: {file} has {} pairs, {} are left out: {}",
                report.pairs,
                report.left_out,
                report.left_out_words()
            );
        }
    }
    let card = PairCard {
        recipe: context.recipe(),
        train: &train,
        validation: &validation,
        contents: &hash_file(&path(TRAIN))?,
    }
    .markdown();
    atomic::write(&context.run.path(PAIRS_CARD), card.as_bytes())?;
    write_json(
        &context.run.path(PAIRS_REPORT),
        &json!({ "train": train, "validation": validation }),
    )
}

/// The prompts of the stage, and what reads them; `None` where nothing is sampled.
pub fn asked(context: &Context) -> Result<Option<Asked>> {
    let settings = table(context)?;
    match settings.policy.as_ref().filter(|_| settings.source.is_none()) {
        Some(policy) => sample::asked(context, settings, policy).map(Some),
        None => Ok(None),
    }
}

fn table(context: &Context) -> Result<&Preferences> {
    context
        .recipe()
        .preferences
        .as_ref()
        .ok_or_else(|| Error::recipe("the recipe has no `[preferences]` table"))
}
