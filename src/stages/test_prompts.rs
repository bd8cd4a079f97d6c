//! The prompts that are steered over and judged: those of the test texts that nobody learns from.

use tracing::{info, warn};

use super::context::Context;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::text::TestPrompts;

/// The prompts of as many test texts as are steered over: the first that are long enough for one
/// and that no judge or guide learns from. The first words of training or validation texts come
/// last, and behind them whole prompts that were asked before, where the others are too few.
///
/// # Errors
/// Where fewer are left than the recipe asks for: how many there are, and why.
pub fn test_prompts(context: &Context) -> Result<Vec<Prompt>> {
    let (found, count) = find(context)?;
    if let Some(too_few) = found.too_few(context.recipe().data()?, count) {
        return Err(Error::failed(too_few));
    }
    Ok(found.taken(count))
}

/// Says how many prompts were passed over, and how many were not new to what was trained.
pub fn tell_passed_over(context: &Context) -> Result<()> {
    let (TestPrompts { prompts, seen, repeated, learned }, count) = find(context)?;
    if !repeated.is_empty() {
        info!(
            "steer: {} test prompts are passed over, for earlier ones ask the same",
            repeated.len()
        );
    }
    for (whose, passed_over) in learned {
        info!("steer: {passed_over} test prompts are passed over, for {whose} have them too");
    }
    match ((count - prompts.len()).min(seen.len()), seen.len()) {
        (0, 0) => {}
        (0, seen) => info!(
            "steer: {seen} test texts are passed over, for training or validation texts make the \
             same prompts"
        ),
        (taken, _) => warn!(
            "steer: {taken} of {count} prompts are those of training or validation texts too; \
             other `data.prompt.min_words` or more test texts make new ones"
        ),
    }
    Ok(())
}

/// The prompts, and how many are asked for.
fn find(context: &Context) -> Result<(TestPrompts, usize)> {
    let absent = || Error::recipe("the recipe has no `[steer]` table");
    let count = context.recipe().steer.as_ref().ok_or_else(absent)?.prompts;
    let (data, learned) = (context.recipe().data()?, context.learned_prompts()?);
    Ok((context.dataset()?.test_prompts(data, context.seed(), count, learned), count))
}
