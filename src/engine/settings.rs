//! What all answers of an engine share.

use crate::recipe::{Answering, SamplingTable, Steer};
use crate::sampling::Sampling;
use crate::search::{Asked, Semantics};

#[derive(Debug, Clone, PartialEq)]
pub struct SteerSettings {
    pub sampling: Sampling,
    pub max_new_tokens: usize,
    pub stop: Vec<String>,
    pub semantics: Semantics,
    pub trace: bool,
    /// Prompts searched at once.
    pub prompts_in_flight: usize,
}

impl SteerSettings {
    /// As a recipe says them, and what it says of the model that answers.
    pub fn of(steer: &Steer, answering: Answering) -> Self {
        let Answering { sampling, stop, max_new_tokens } = answering;
        let SamplingTable { temperature, top_k, top_p } = sampling;
        Self {
            sampling: Sampling::new(temperature, top_k, top_p),
            max_new_tokens,
            stop,
            semantics: steer.semantics,
            trace: steer.trace,
            prompts_in_flight: steer.prompts_in_flight,
        }
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            max_new_tokens: self.max_new_tokens,
            semantics: self.semantics,
            with_trace: self.trace,
        }
    }
}
