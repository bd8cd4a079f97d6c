//! What came out: the summary's numbers, its tables, curves, and the HTML page; what preference
//! pairs are like, and their data set card; files for other programs. Nothing here asks a model;
//! who writes the files is left to the stages.

mod answer;
mod axis;
mod curves;
mod divergence;
mod figure;
mod figures;
mod guide_gap;
mod html;
mod inspect;
mod iso_time;
mod length_control;
mod model_outputs;
mod multiply_adds;
mod pair_accuracy;
mod pair_card;
mod pairs;
mod ppo;
mod served;
mod statistics;
mod summary;
mod sweeps;
mod table;
mod value;

pub use answer::Answer;
pub use curves::{Curve, Panel, curves_svg, smoothed};
pub use divergence::{Divergence, DivergenceKind};
pub use figure::Figure;
pub use figures::figures;
pub use guide_gap::{GuideGap, MeasuredGuides};
pub use html::{Sample, html};
pub use inspect::{InspectLog, InspectSample};
pub use length_control::{LengthControl, LengthControlled};
pub use model_outputs::{AlpacaEval, ModelOutput, WinRate};
pub use multiply_adds::MultiplyAdds;
pub use pair_accuracy::{PairAccuracy, PairOutcome};
pub use pair_card::PairCard;
pub use pairs::PairReport;
pub use ppo::{PpoReport, PpoRow, PpoTraining, ppo_figure, ppo_rows};
pub use served::Served;
pub use statistics::{distinct, mean};
pub use summary::{Chosen, Comparison, Reward, Role, Summary, SummaryRow, WeakToStrong};
pub use table::{Compared, compare, compared, table};
pub use value::{Foresight, Scored};
