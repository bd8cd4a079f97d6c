//! What responses are worth: the implicit reward of guide pairs, and what judges say. Which
//! responses are kept is left to `search`.

mod alpaca_eval;
mod guide;
mod guide_ids;
mod guide_pair;
mod judge;
mod judge_model;
mod likelihood;
mod logps;
mod new_states;
mod no_guide;
mod pair;
mod program;
mod reading;
mod served;
mod served_pair;
mod server;
mod to_judge;
mod token_rewards;
mod weighted;

pub use alpaca_eval::{AlpacaEvalProgram, Judged, Outputs};
pub use guide::Guide;
pub use guide_pair::GuidePair;
pub use judge::Judge;
pub use judge_model::{JudgeModel, classify};
pub use likelihood::{Answered, Likelihood, Reader, Said};
pub use logps::response_logps;
pub use no_guide::NoGuide;
pub use pair::PairScorer;
pub use program::Program;
pub use reading::Reading;
pub use served::{Kept, ServedGuide};
pub use served_pair::{Half, ServedPair, ServedScorer};
pub use server::Server;
pub use to_judge::ToJudge;
pub use token_rewards::TokenRewards;
pub use weighted::WeightedPairs;
