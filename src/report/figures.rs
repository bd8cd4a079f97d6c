//! The figures of a summary, drawn. What they show is decided in `value.rs` and `sweeps.rs`, how
//! the page has them in `figure.rs`.

use super::curves::curves_svg;
use super::figure::Figure;
use super::summary::Summary;
use super::sweeps::sweeps;
use crate::error::Result;

const VALUE: &str = "Pearson's r of the guides' score after so many tokens of a plain sample with \
    their final score and with what judges say. Where it is high early, choosing after few tokens \
    loses little.";

const SWEEP: &str = "Means over responses; bands reach one standard deviation of the seeds to each \
    side. Where the score by the guides still rises and the gold reward does not, the guides are \
    over-optimised.";

/// All figures of a summary.
pub fn figures(summary: &Summary) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for value in &summary.value {
        figures.push(Figure {
            name: format!("value-{}", value.base),
            title: format!("What a beginning tells of its end: {}", value.base),
            words: format!("<p>{VALUE}</p>\n"),
            svg: curves_svg(&value.panels())?,
        });
    }
    for (number, sweep) in sweeps(summary).iter().enumerate() {
        let mut grids = sweep.grids();
        for (what, panels) in sweep.panels() {
            figures.push(Figure {
                name: format!("{what}-{}-{}", sweep.base, number + 1),
                title: format!("Chunk-level beam search of {} over {what}", sweep.base),
                words: format!("<p>{SWEEP}</p>\n{}", std::mem::take(&mut grids)),
                svg: curves_svg(&panels)?,
            });
        }
    }
    Ok(figures)
}
