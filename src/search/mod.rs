//! Search over text: what proposes continuations, what scores them, and the searches between the
//! two.
//!
//! Nothing here knows a tensor. Concrete proposers live in `policy`, scorers in `score`. A search
//! is a state machine for one prompt ([`Searcher`]); one driver ([`Drive`]) carries out what the
//! searches of many prompts ask for.

#[macro_use]
mod settings;

mod beam;
mod best_of_n;
mod cbs;
mod chunk_len;
mod drive;
mod found;
mod guided_beam;
mod in_flight;
mod nodes;
mod parts;
mod response;
mod sample;
mod searcher;
mod semantics;

pub use beam::{BeamSearch, BeamSettings};
pub use best_of_n::BestOfN;
pub use cbs::{Cbs, CbsSettings};
pub use chunk_len::ChunkLen;
pub use drive::{Begin, Desk, Drive, Query};
pub use found::{Found, Hypothesis, TraceCandidate, TraceStep};
pub use guided_beam::GuidedBeamSettings;
pub use nodes::{Group, Kept, Node, Nodes};
pub use parts::{
    Extend, Extended, NextScores, NextTokens, Proposer, Scored, Scorer, Ticket, ToScore, Weighed,
};
pub use response::{Finish, Response};
pub use sample::Sample;
pub use searcher::{Ask, Continue, Live, Opened, Searcher, Told};
pub use semantics::Semantics;
pub use settings::{Asked, Key, KeyValue, Kind, SearchSettings};

searches! {
    Sample(Sample),
    BestOfN(BestOfN),
    Cbs(CbsSettings),
    Beam(BeamSettings),
    GuidedBeam(GuidedBeamSettings),
}
