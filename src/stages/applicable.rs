//! Whether a method applies to a base. What adds up logits of base and guides, or asks guides for
//! every next token of the base's, needs one vocabulary; a cell without one has no answers, and its
//! row says why. Decided by the tokenizers alone, so that every stage decides alike.

use super::cells::Cell;
use super::context::Context;
use crate::error::Result;

/// Why the method of a cell does not apply to its base; `None` where it does, and before the
/// tokenizers are there that tell.
pub fn not_applicable(context: &Context, cell: &Cell) -> Result<Option<String>> {
    if !cell.method.needs_one_vocabulary() {
        return Ok(None);
    }
    for pair in &cell.guides {
        let guide = context.models.of_guide(&pair.tuned)?;
        let Some(difference) = context.models.vocabularies_differ(&cell.base, guide)? else {
            continue;
        };
        return Ok(Some(format!(
            "the vocabularies of base `{}` and guide `{guide}` differ: {difference}",
            cell.base
        )));
    }
    Ok(None)
}
