//! What an answer says: the line of a steer journal, and of `w2s steer --json`. Whoever writes it
//! down is the desk's business.

use serde::{Deserialize, Serialize};

use crate::prompt::{Prompt, PromptText};
use crate::search::{Finish, Found, TraceStep};

/// One line of a steer journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteerLine {
    pub id: String,
    pub prompt: PromptText,
    pub response: String,
    pub finish: Finish,
    /// The pair's score of the response; absent where no guide pair was loaded.
    pub score: Option<f32>,
    /// Mean log-probability of the response's tokens under the model that proposed them; absent for
    /// an empty response.
    pub base_logprob_per_token: Option<f64>,
    pub response_tokens: usize,
    pub tokens: TokenCounts,
    /// Candidates that were longer than the guides can read and are worth what their beginnings
    /// are; absent where all were read whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_candidates: u64,
    /// The search's own: this prompt's share of it.
    pub seconds: f64,
    /// What of `seconds` went by in the guides while they scored; absent where none did. Guides
    /// that are mixed into the base (`eft`, `tilt`) take part in what is sampled, and that time is
    /// not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<TraceStep>>,
    /// log π* − log π_ref of each guide token of the response, its EOS included where it ended by
    /// it; absent where there are none to tell: no guides, or pairs of several vocabularies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_rewards: Option<Vec<f32>>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Tokens sampled from the base, and response tokens fed to each guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    pub base: u64,
    pub guide: u64,
}

impl SteerLine {
    /// What was found for `prompt`. Without guides there is no score, and the search tree is told
    /// where it was asked for.
    pub fn new(prompt: Prompt, found: Found, is_guided: bool, with_trace: bool) -> Self {
        let Found { best, trace, token_rewards, sampled, fed, cut, seconds, guide_seconds } = found;
        let finish = best.response.finish.unwrap_or(Finish::Length);
        let counted = best.response.ids.len() + usize::from(finish == Finish::Eos);
        Self {
            id: prompt.id,
            prompt: prompt.text,
            response: best.response.text,
            finish,
            score: is_guided.then_some(best.score),
            base_logprob_per_token: best
                .logprob
                .filter(|_| counted > 0)
                .map(|logprob| logprob / counted as f64),
            response_tokens: best.response.ids.len(),
            tokens: TokenCounts { base: sampled, guide: fed },
            cut_candidates: cut,
            seconds,
            guide_seconds: is_guided.then_some(guide_seconds),
            trace: with_trace.then_some(trace),
            token_rewards: Some(token_rewards).filter(|rewards| is_guided && !rewards.is_empty()),
        }
    }
}
