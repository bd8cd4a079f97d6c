//! What responses are worth: the guide pair's implicit reward, and the gold classifier.

mod gold;
mod logps;
mod pair;
mod token_rewards;
mod weighted;

pub use gold::{GoldReward, classify, lay_out};
pub use logps::response_logps;
pub use pair::{Guide, GuidePair, NoGuide};
pub use token_rewards::TokenRewards;
pub use weighted::WeightedPairs;
