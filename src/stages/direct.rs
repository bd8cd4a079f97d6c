//! Direct tuning (paper §5): the steered bases themselves go through SFT and DPO on the guide's preference pairs, to be compared with search.

use super::context::{Context, Task};
use super::tuning::Tuning;
use super::{dpo, sft};
use crate::error::{Error, Result};

pub fn run(context: &Context) -> Result<()> {
    for tuning in tunings(context)? {
        if tuning.sft.is_some() {
            sft::run(context, &tuning)?;
        }
        dpo::run(context, &tuning)?;
    }
    Ok(())
}

pub fn tasks(context: &Context) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for tuning in tunings(context)? {
        if tuning.sft.is_some() {
            tasks.push(sft::task(context, &tuning)?);
        }
        tasks.push(dpo::task(context, &tuning)?);
    }
    Ok(tasks)
}

fn tunings(context: &Context) -> Result<Vec<Tuning<'_>>> {
    context.plan.training.direct.keys().map(|model| tuning(context, model)).collect()
}

/// Of one model of the recipe.
pub fn tuning<'a>(context: &'a Context, model: &'a str) -> Result<Tuning<'a>> {
    let training = context.plan.training.direct.get(model);
    let training = training.ok_or_else(|| Error::recipe(format!("the recipe does not tune `{model}` directly")))?;
    Ok(Tuning {
        model,
        sft_task: format!("direct/{model}/sft"),
        dpo_task: format!("direct/{model}/dpo"),
        sft: training.sft.as_ref().map(|training| (context.recipe().sft_on(), training)),
        dpo: Some((training.objective, &training.dpo)),
    })
}
