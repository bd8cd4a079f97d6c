//! Which weight of EFT is best: by the prompts that the summary is about, which is the paper's
//! EFT (β*) and too high for what a choice made beforehand would give; and beside it the one chosen
//! on validation prompts.

use super::cell_prompts::CellPrompts;
use super::cells::{Cell, Purpose, cells};
use super::context::Context;
use super::judging::gold_rewards;
use super::validation_cells::sweeps;
use crate::error::Result;
use crate::report::{Chosen, Summary, mean};

/// Marks both rows of every sweep, which may be one.
pub fn mark(context: &Context, summary: &mut Summary) -> Result<()> {
    let (cells, prompts) = (cells(&context.plan)?, CellPrompts::new(context));
    let is_asked = context.recipe().chooses_weights();
    for sweep in sweeps(&cells) {
        let tested: Vec<Option<f64>> = sweep.iter().map(|cell| tested(summary, cell)).collect();
        let Some(best) = first_best(&tested) else { continue };
        note(summary, sweep[best], Chosen::Test);
        let validated = sweep.iter().map(|cell| match is_asked {
            true => validated(context, &prompts, cell),
            false => Ok(None),
        });
        match first_best(&validated.collect::<Result<Vec<_>>>()?) {
            Some(best) => note(summary, sweep[best], Chosen::Validation),
            None if context.recipe().measures_guides() => {
                summary.notes.push(without_choice(context, &sweep[best].base));
            }
            None => {}
        }
    }
    Ok(())
}

/// The mean gold reward of a cell on the prompts of the summary.
fn tested(summary: &Summary, cell: &Cell) -> Option<f64> {
    let row = summary.rows.iter().find(|row| is_of(cell, &row.base, &row.method))?;
    Some(row.gold_reward.as_ref()?.mean)
}

/// The same on validation prompts.
fn validated(context: &Context, prompts: &CellPrompts, cell: &Cell) -> Result<Option<f64>> {
    let cell = Cell { purpose: Purpose::Choice, ..cell.clone() };
    let prompts = prompts.of(&cell)?;
    let rewards = gold_rewards(context, &cell, context.seed(), &prompts)?;
    let rewards: Vec<f64> =
        prompts.iter().filter_map(|prompt| rewards.get(&prompt.id)).copied().collect();
    Ok((!rewards.is_empty()).then(|| mean(&rewards)))
}

fn note(summary: &mut Summary, cell: &Cell, by: Chosen) {
    let rows = summary.rows.iter_mut();
    for row in rows.filter(|row| is_of(cell, &row.base, &row.method)) {
        row.chosen.push(by);
    }
}

fn is_of(cell: &Cell, base: &str, method: &str) -> bool {
    (cell.base.as_str(), cell.method_name.as_str()) == (base, method)
}

/// Why no weight of a base was chosen on validation prompts.
fn without_choice(context: &Context, base: &str) -> String {
    let why = match context.recipe().has_validation_texts() {
        true => "none of their prompts fits",
        false => "the recipe has none (`data.validation`)",
    };
    format!(
        "{base}: no weight of eft is chosen on validation texts, for {why}; the one that is marked \
         as best was chosen by what it is judged on, so its reward is too high for what a choice \
         made beforehand would give"
    )
}

/// The place of the highest of these means, of equal ones the first; `None` where there is none.
fn first_best(means: &[Option<f64>]) -> Option<usize> {
    let known = means.iter().enumerate().filter_map(|(place, mean)| Some((place, (*mean)?)));
    let best = known.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_highest_means_is_best() {
        for (means, best) in [
            (&[][..], None),
            (&[None, None], None),
            (&[Some(-2.0), None, Some(-1.0), Some(-1.0)], Some(2)),
            (&[Some(1.0), Some(1.0)], Some(0)),
            (&[None, Some(f64::NEG_INFINITY)], Some(1)),
        ] {
            assert_eq!(first_best(means), best, "{means:?}");
        }
    }
}
