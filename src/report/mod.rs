//! What came out: the summary's numbers, its tables, curves, and the HTML page; what preference
//! pairs are like, and their data set card. Nothing here asks a model; who writes the files is left
//! to the stages.

mod answer;
mod axis;
mod curves;
mod guide_gap;
mod html;
mod length_control;
mod pair_accuracy;
mod pair_card;
mod pairs;
mod ppo;
mod served;
mod statistics;
mod summary;
mod table;

pub use answer::Answer;
pub use curves::{Curve, Panel, curves_svg, smoothed};
pub use guide_gap::{GuideGap, MeasuredGuides};
pub use html::{Sample, html};
pub use length_control::{LengthControl, LengthControlled};
pub use pair_accuracy::{PairAccuracy, PairOutcome};
pub use pair_card::PairCard;
pub use pairs::PairReport;
pub use ppo::{PpoReport, PpoRow, PpoTraining, ppo_figure, ppo_rows};
pub use served::Served;
pub use statistics::{distinct, mean};
pub use summary::{Comparison, Reward, Summary, SummaryRow};
pub use table::{compare, table};
