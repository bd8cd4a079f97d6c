//! One prompt through one method: where a concrete model meets a concrete algorithm. Shared by the steer stage and `w2s steer`.

use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::policy::LocalPolicy;
use crate::recipe::MethodTable;
use crate::sampling::{Sampling, Stream};
use crate::score::{GoldReward, Guide, GuidePair, NoGuide};
use crate::search::{Cbs, Finish, Proposer, Scorer, TraceStep};
use crate::text::Tokenizer;

/// How a response is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Base,
    BestOfN {
        n: usize,
    },
    Cbs {
        beam_width: usize,
        successors: usize,
        chunk_len: usize,
    },
    /// The guides sampled alone.
    Tuned,
    Untuned,
}

/// What all methods of a run share.
#[derive(Debug, Clone, PartialEq)]
pub struct SteerSettings {
    pub sampling: Sampling,
    pub max_new_tokens: usize,
    pub stop: Vec<String>,
    pub trace: bool,
}

/// One line of a steer journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteerLine {
    pub id: String,
    pub prompt: String,
    pub response: String,
    pub finish: Finish,
    /// The pair's score of the response; absent where no guide pair was loaded.
    pub score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold_reward: Option<f64>,
    /// Mean log-probability of the response's tokens under the model that proposed them; absent for an empty response.
    pub base_logprob_per_token: Option<f64>,
    pub response_tokens: usize,
    pub tokens: TokenCounts,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<TraceStep>>,
    /// With a trace: log π* − log π_ref of each guide token of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_rewards: Option<Vec<f32>>,
}

/// Tokens sampled from the base, and fed to each guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    pub base: u64,
    pub guide: u64,
}

impl Method {
    pub fn of(table: &MethodTable) -> Self {
        match *table {
            MethodTable::Base { .. } => Self::Base,
            MethodTable::BestOfN { n, .. } => Self::BestOfN { n },
            MethodTable::Cbs { beam_width, successors, chunk_len, .. } => Self::Cbs { beam_width, successors, chunk_len },
            MethodTable::Tuned { .. } => Self::Tuned,
            MethodTable::Untuned { .. } => Self::Untuned,
        }
    }

    /// The search that this method is.
    pub fn search(&self, max_new_tokens: usize) -> Cbs {
        match *self {
            Self::Base | Self::Tuned | Self::Untuned => Cbs::plain(max_new_tokens),
            Self::BestOfN { n } => Cbs::best_of_n(n, max_new_tokens),
            Self::Cbs { beam_width, successors, chunk_len } => Cbs { beam_width, successors, chunk_len: Some(chunk_len), max_new_tokens },
        }
    }

    /// Whether the guides' scores decide what is returned.
    pub fn compares(&self) -> bool {
        matches!(self, Self::BestOfN { .. } | Self::Cbs { .. })
    }

    pub fn settings(&self) -> Value {
        match self {
            Self::Base | Self::Tuned | Self::Untuned => json!({}),
            Self::BestOfN { n } => json!({ "n": n }),
            Self::Cbs { beam_width, successors, chunk_len } => {
                json!({ "beam_width": beam_width, "successors": successors, "chunk_len": chunk_len })
            }
        }
    }
}

/// A guide pair ready to score the responses of one base.
pub struct LoadedGuide {
    pair: GuidePair,
}

impl LoadedGuide {
    /// Compares the vocabularies by their full maps: ids pass straight through only where these are equal.
    pub fn for_base(guide: Rc<Guide>, base: &Tokenizer) -> Result<Self> {
        let same = guide.tokenizer.vocabulary() == base.vocabulary();
        Ok(Self { pair: GuidePair::new(guide, same)? })
    }
}

/// Refuses a prompt that cannot be answered within the contexts of base and guides, before any of it is computed. Across vocabularies the
/// number of guide tokens is not known beforehand; that many as the base's is what is asked for here.
pub fn check_prompt(policy: &LocalPolicy, guide: Option<&LoadedGuide>, settings: &SteerSettings, id: &str, prompt: &str) -> Result<()> {
    policy.check_prompt(id, prompt, settings.max_new_tokens)?;
    guide.map_or(Ok(()), |guide| guide.pair.check_prompt(id, prompt, settings.max_new_tokens))
}

/// Answers one prompt. The random numbers depend on (seed, id) alone.
#[expect(clippy::too_many_arguments, reason = "the parts are owned by different loops; a struct of borrows would name them once more")]
pub fn steer_prompt(
    method: &Method,
    settings: &SteerSettings,
    policy: &mut LocalPolicy,
    guide: Option<&mut LoadedGuide>,
    gold: Option<&GoldReward>,
    seed: u64,
    id: &str,
    prompt: &str,
) -> Result<SteerLine> {
    if method.compares() && guide.is_none() {
        return Err(Error::recipe("this method needs a guide pair\n\nhint: give a tuned and an untuned model"));
    }
    let started = Instant::now();
    let sampled_before = policy.sampled_tokens();
    let stream = Stream::new(seed, "steer", id);
    let search = method.search(settings.max_new_tokens);
    let mut no_guide = NoGuide;
    let mut guide = guide.map(|guide| &mut guide.pair);
    let scored_before = guide.as_ref().map_or(0, |pair| pair.scored_tokens());
    let scorer: &mut dyn Scorer = match &mut guide {
        Some(pair) => *pair,
        None => &mut no_guide,
    };
    let found = search.search(prompt, &stream, policy, scorer, settings.trace)?;
    let response = &found.best.response;
    let gold_reward = match gold {
        Some(gold) => Some(gold.rewards(&[(prompt, &response.text)])?[0]),
        None => None,
    };
    let tokens = TokenCounts {
        base: policy.sampled_tokens() - sampled_before,
        guide: guide.as_ref().map_or(0, |pair| pair.scored_tokens()) - scored_before,
    };
    let seconds = started.elapsed().as_secs_f64();
    Ok(SteerLine {
        id: id.to_owned(),
        prompt: prompt.to_owned(),
        response: response.text.clone(),
        finish: response.finish.unwrap_or(Finish::Length),
        score: guide.is_some().then_some(found.best.score),
        gold_reward,
        base_logprob_per_token: policy.mean_logprob(prompt, response)?,
        response_tokens: response.ids.len(),
        tokens,
        seconds,
        token_rewards: match &guide {
            Some(pair) if settings.trace => Some(pair.token_rewards(prompt, response)?),
            _ => None,
        },
        trace: settings.trace.then_some(found.trace),
    })
}
