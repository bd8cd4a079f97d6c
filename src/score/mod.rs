//! What responses are worth: the implicit reward of guide pairs, and what judges say.

mod guide_pair;
mod judge_model;
mod logps;
mod no_guide;
mod pair;
mod token_rewards;
mod weighted;

pub use guide_pair::GuidePair;
pub use judge_model::{JudgeModel, classify, lay_out};
pub use logps::response_logps;
pub use no_guide::NoGuide;
pub use pair::PairScorer;
pub use token_rewards::TokenRewards;
pub use weighted::WeightedPairs;
