//! Pairs that a file holds, judged anew by the gold reward (paper B.1.4) or kept as they are.

use tracing::warn;

use super::journal::{Labelled, label_all};
use super::verdict::{fault, verdict};
use crate::error::{Error, Result};
use crate::models::end_token_ids;
use crate::prompt::PromptText;
use crate::recipe::{PairSource, Preferences};
use crate::sampling::Stream;
use crate::score::{Judge, ToJudge};
use crate::stages::context::{Context, tell};
use crate::stages::tasks::{TRAIN, VALIDATION};
use crate::text::{
    LeftOut, Pair, PairRow, PairRows, PromptTemplate, Reason, Tokenizer, load_pair_rows,
};

/// Pairs judged together; a killed run does at most so many again.
const PAIRS: usize = 32;

/// Texts of one forward pass of the gold, chosen by length among those of the pairs.
const TEXTS: usize = 16;

/// Labels the pairs of `source`.
pub fn run(context: &Context, settings: &Preferences, source: &PairSource) -> Result<()> {
    let reward = context.recipe().gold.as_ref().map(|_| context.models.open_gold()).transpose()?;
    let limit = PromptLimit::of(context)?;
    let PairRows { train, validation, report } = load_pair_rows(source)?;
    tell("preferences", &report);
    if let Some(limit) = limit.as_ref().filter(|_| train.iter().any(is_chat)) {
        limit.tell_no_template()?;
    }
    for (file, mut rows) in [(TRAIN, train), (VALIDATION, validation)] {
        if let Some(limit) = &limit {
            limit.take_ends(&mut rows);
        }
        let rows: Vec<(String, PairRow)> =
            rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        label_all(
            context,
            file,
            &rows,
            |(id, _)| id,
            PAIRS,
            |group| label_group(settings, context.seed(), group, limit.as_ref(), reward.as_ref()),
        )?;
    }
    Ok(())
}

fn is_chat(row: &PairRow) -> bool {
    matches!(row.prompt, PromptText::Chat(_))
}

/// What the model that is tuned on the pairs can read.
struct PromptLimit {
    tokenizer: Tokenizer,
    ends: Vec<i64>,
    template: PromptTemplate,
    context: usize,
}

impl PromptLimit {
    /// `None` where the recipe names no such model.
    fn of(context: &Context) -> Result<Option<Self>> {
        let Some(model) = context.recipe().guide_model() else { return Ok(None) };
        let Some(sizes) = context.plan.models.get(model) else { return Ok(None) };
        let folder = context.models.folder(model)?;
        let tokenizer = Tokenizer::open(&folder)?;
        let ends = end_token_ids(&folder, &tokenizer)?;
        Ok(Some(Self {
            tokenizer,
            ends,
            template: context.models.template(model)?,
            context: sizes.context as usize,
        }))
    }

    /// Says that the turns of chats are read as texts.
    fn tell_no_template(&self) -> Result<()> {
        if self.tokenizer.chat_template()?.is_none() {
            warn!(
                "preferences: the pairs are chats, and the model to tune has no chat template: \
                 their turns are read as texts, by its `prompt`, which should set answers apart \
                 from questions, as \"{{prompt}}\\n\" does"
            );
        }
        Ok(())
    }

    /// A response that ends in the model's end token is complete, and its text is what stands
    /// before: what the gold judges, and what another model learns, who ends in a token of its own.
    fn take_ends(&self, rows: &mut [PairRow]) {
        for row in rows {
            for (response, complete) in [
                (&mut row.chosen, &mut row.chosen_complete),
                (&mut row.rejected, &mut row.rejected_complete),
            ] {
                let (text, ended) = self.tokenizer.split_end(response, &self.ends);
                (*response, *complete) = (text.to_owned(), *complete || ended);
            }
        }
    }

    /// Whether a token is left for the response.
    fn has_room(&self, row: &PairRow) -> Result<bool> {
        let tokens = self
            .template
            .encode(&self.tokenizer, &row.prompt)
            .map_err(|error| Error::failed(format!("pair `{}`: {error}", row.id)))?;
        Ok(tokens.len() < self.context)
    }
}

fn label_group(
    settings: &Preferences,
    seed: u64,
    group: &[(String, PairRow)],
    limit: Option<&PromptLimit>,
    reward: Option<&Judge>,
) -> Result<Vec<Labelled>> {
    let reason = |row: &PairRow| -> Result<Option<Reason>> {
        let too_long = || limit.map_or(Ok(false), |limit| limit.has_room(row).map(|room| !room));
        Ok(match row.unfit.or_else(|| fault(&row.chosen, &row.rejected)) {
            None if too_long()? => Some(Reason::PromptTooLong),
            reason => reason,
        })
    };
    let reasons = group.iter().map(|(_, row)| reason(row)).collect::<Result<Vec<_>>>()?;
    let usable = group.iter().zip(&reasons).filter(|(_, reason)| reason.is_none());
    let answers: Vec<ToJudge> = usable
        .flat_map(|((id, row), _)| {
            [("chosen", &row.chosen), ("rejected", &row.rejected)].map(|(which, response)| {
                ToJudge::new(format!("{id}/{which}"), &row.prompt, response)
            })
        })
        .collect();
    let rewards = reward.map(|reward| reward.rewards_by_length(&answers, TEXTS)).transpose()?;
    let mut rewards = rewards.iter().flatten().copied();
    let mut all = Vec::with_capacity(group.len());
    for ((id, row), reason) in group.iter().zip(reasons) {
        let judgement = match reason {
            Some(reason) => Err(reason),
            None => {
                let rewards = rewards.next().zip(rewards.next());
                let coin = Stream::new(seed, "preferences/label", id).uniform(0, 0);
                verdict(settings.label, rewards, coin)
                    .map(|verdict| (verdict, rewards))
                    .ok_or(Reason::Tied)
            }
        };
        all.push(match judgement {
            Err(reason) => Labelled::LeftOut(LeftOut { id: id.clone(), reason }),
            Ok((verdict, rewards)) => {
                let as_in_file = Pair {
                    id: id.clone(),
                    prompt: row.prompt.clone(),
                    chosen: row.chosen.clone(),
                    rejected: row.rejected.clone(),
                    reward_chosen: rewards.map(|(chosen, _)| chosen),
                    reward_rejected: rewards.map(|(_, rejected)| rejected),
                    probability: verdict.probability,
                    relabelled: Some(!verdict.first_wins),
                    chosen_complete: row.chosen_complete,
                    rejected_complete: row.rejected_complete,
                };
                Labelled::Kept(Box::new(if verdict.first_wins {
                    as_in_file
                } else {
                    swapped(as_in_file)
                }))
            }
        });
    }
    Ok(all)
}

fn swapped(pair: Pair) -> Pair {
    Pair {
        chosen: pair.rejected,
        rejected: pair.chosen,
        reward_chosen: pair.reward_rejected,
        reward_rejected: pair.reward_chosen,
        chosen_complete: pair.rejected_complete,
        rejected_complete: pair.chosen_complete,
        ..pair
    }
}
