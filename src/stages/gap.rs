//! What a guide pair prefers by itself, before it steers: the gold's reward of the tuned guide's
//! own answers beside that of the untuned one's, told and reported. Sampling and judging are tasks
//! like others; the arithmetic is `report`'s.

use tracing::{info, warn};

use super::cell_prompts::CellPrompts;
use super::context::Context;
use super::judging::gold_rewards;
use super::run::write_json;
use super::tasks::GAP_REPORT;
use super::validation_cells::gap_cell;
use crate::error::{Error, Result};
use crate::recipe::{GuidePairSource, MeasuredPair};
use crate::report::{GuideGap, MeasuredGuides, Summary};
use crate::text::Split;

/// Measures every pair whose guides have answered.
pub fn measure(context: &Context) -> Result<()> {
    let (prompts, mut gaps) = (CellPrompts::new(context), Vec::new());
    for measured in context.plan.measured_pairs() {
        let gap = of_pair(context, &prompts, &measured)?;
        let GuidePairSource { tuned, untuned, .. } = &measured.pair;
        match &gap {
            None => warn!(
                "steer: what the gold prefers of {tuned} over {untuned} is not measured, for both \
                 have answered fewer than two prompts: `steer.validation_prompts` asks for more, \
                 and each needs room for `steer.max_new_tokens`"
            ),
            Some(gap) => match gap.warning() {
                Some(warning) => warn!("steer: {warning}"),
                None => info!("steer: {}", gap.words()),
            },
        }
        gaps.extend(gap);
    }
    write_json(&context.run.path(GAP_REPORT), &gaps)
}

fn of_pair(
    context: &Context,
    prompts: &CellPrompts,
    MeasuredPair { pair, setting }: &MeasuredPair,
) -> Result<Option<GuideGap>> {
    let cells = [gap_cell(&context.plan, &pair.tuned)?, gap_cell(&context.plan, &pair.untuned)?];
    let (prompts, seed) = (prompts.of(&cells[0])?, context.seed());
    let tuned = gold_rewards(context, &cells[0], seed, &prompts)?;
    let untuned = gold_rewards(context, &cells[1], seed, &prompts)?;
    let both = |id: &String| Some([*tuned.get(id)?, *untuned.get(id)?]);
    let rewards: Vec<[f64; 2]> = prompts.iter().filter_map(|prompt| both(&prompt.id)).collect();
    let has_validation = context.recipe().has_validation_texts();
    let split = if has_validation { Split::Validation } else { Split::Test };
    let guides = MeasuredGuides {
        tuned: pair.tuned.to_string(),
        untuned: pair.untuned.to_string(),
        setting: setting.clone(),
        weight: pair.weight,
        split: split.key().to_owned(),
    };
    Ok(GuideGap::of(guides, &rewards))
}

/// Puts what was measured into the summary, with what is to be said of it.
pub fn add_to(context: &Context, summary: &mut Summary) -> Result<()> {
    if context.plan.measured_pairs().is_empty() {
        return Ok(());
    }
    let path = context.run.path(GAP_REPORT);
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "reading"))?;
    let gaps: Vec<GuideGap> = serde_json::from_str(&text)
        .map_err(|error| Error::data(&path, Some(error.line()), error.to_string()))?;
    summary.notes.extend(gaps.iter().filter_map(GuideGap::warning));
    summary.guide["gap"] = serde_json::json!(gaps);
    Ok(())
}
