//! What responses are worth: the implicit reward of guide pairs, and what judges say.

mod judge_model;
mod logps;
mod pair;
mod token_rewards;
mod weighted;

pub use judge_model::{JudgeModel, classify, lay_out};
pub use logps::response_logps;
pub use pair::{GuidePair, NoGuide, PairScorer};
pub use token_rewards::TokenRewards;
pub use weighted::WeightedPairs;
