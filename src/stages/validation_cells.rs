//! Cells that are no rows of the summary, made from the plan alone: guides that answer alone before
//! they steer, and the weights of EFT on validation prompts. What comes of them is told by `gap.rs`
//! and `choice.rs`.

use super::cells::{Cell, Purpose, Source};
use crate::error::{Error, Result};
use crate::recipe::{GuideSource, Method, Plan, Proposal};
use crate::text::Split;

/// One for each guide of a pair that is measured.
pub fn gap_cells(plan: &Plan) -> Result<Vec<Cell>> {
    plan.measured_guides().iter().map(|guide| gap_cell(plan, guide)).collect()
}

/// The guide alone, which nobody scores: sampled as `[steer]` says, for prompts of the validation
/// split, or of the test split where there is none.
pub fn gap_cell(plan: &Plan, guide: &GuideSource) -> Result<Cell> {
    let base = plan.model_of(guide);
    let base = base.ok_or_else(|| Error::recipe("the recipe has no model to tune"))?.to_owned();
    let split = if plan.recipe.has_validation_texts() { Split::Validation } else { Split::Test };
    Ok(Cell {
        base,
        method_name: guide.to_string().trim_end_matches('/').replace('/', "-"),
        method: Method::sampled(Proposal::Tuned),
        source: Source::Guide(guide.clone()),
        guides: Vec::new(),
        purpose: Purpose::Gap(split),
    })
}

/// The same cell on validation prompts, where it is one of several weights of EFT among `cells` and
/// one of these is chosen there.
pub fn choice_cell(plan: &Plan, cell: &Cell, cells: &[Cell]) -> Option<Cell> {
    let is_swept = || sweeps(cells).iter().flatten().any(|swept| *swept == cell);
    let is_asked = plan.recipe.chooses_weights() && is_swept();
    is_asked.then(|| Cell { purpose: Purpose::Choice, ..cell.clone() })
}

/// The weights of EFT that one is chosen of: those of one base and the same guides, where there are
/// two or more.
pub fn sweeps(cells: &[Cell]) -> Vec<Vec<&Cell>> {
    let mut sweeps: Vec<Vec<&Cell>> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.method.is_eft()) {
        let is_of = |sweep: &&mut Vec<&Cell>| {
            sweep.iter().all(|other| (&other.base, &other.guides) == (&cell.base, &cell.guides))
        };
        match sweeps.iter_mut().find(is_of) {
            Some(sweep) => sweep.push(cell),
            None => sweeps.push(vec![cell]),
        }
    }
    sweeps.retain(|sweep| sweep.len() > 1);
    sweeps
}
