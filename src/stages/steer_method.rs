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
use crate::search::{Cbs, Finish, Found, Query, Scorer, TraceStep};
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
    /// The directly tuned base sampled alone.
    Direct,
}

/// What all methods of a run share.
#[derive(Debug, Clone, PartialEq)]
pub struct SteerSettings {
    pub sampling: Sampling,
    pub max_new_tokens: usize,
    pub stop: Vec<String>,
    pub trace: bool,
    /// Prompts searched at once.
    pub prompts_in_flight: usize,
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

/// Tokens sampled from the base, and response tokens fed to each guide.
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
            MethodTable::Direct { .. } => Self::Direct,
        }
    }

    /// The search that this method is.
    pub fn search(&self, max_new_tokens: usize) -> Cbs {
        match *self {
            Self::Base | Self::Tuned | Self::Untuned | Self::Direct => Cbs::plain(max_new_tokens),
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
            Self::Base | Self::Tuned | Self::Untuned | Self::Direct => json!({}),
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

/// Who answers: what proposes, what compares, and what judges in the end.
pub struct Parts<'a> {
    pub policy: &'a mut LocalPolicy,
    pub guide: Option<&'a mut LoadedGuide>,
    pub gold: Option<&'a GoldReward>,
}

/// Answers (id, prompt)s; `done` gets each prompt's number and line as its response is found, which is not the order of the prompts. The random numbers of a
/// response depend on (seed, id) alone. `pause` is called between chunks.
pub fn steer_prompts(
    method: &Method,
    settings: &SteerSettings,
    parts: Parts,
    seed: u64,
    prompts: &[(String, String)],
    pause: &mut dyn FnMut() -> Result<()>,
    done: &mut dyn FnMut(usize, SteerLine) -> Result<()>,
) -> Result<()> {
    let Parts { policy, guide, gold } = parts;
    if method.compares() && guide.is_none() {
        return Err(Error::recipe("this method needs a guide pair\n\nhint: give a tuned and an untuned model"));
    }
    let streams: Vec<Stream> = prompts.iter().map(|(id, _)| Stream::new(seed, "steer", id)).collect();
    let queries: Vec<Query> = prompts.iter().zip(&streams).map(|((_, prompt), stream)| Query { prompt, stream }).collect();
    let mut no_guide = NoGuide;
    let is_guided = guide.is_some();
    let scorer: &mut dyn Scorer = match guide {
        Some(guide) => &mut guide.pair,
        None => &mut no_guide,
    };
    let search = method.search(settings.max_new_tokens);
    search.search_all(&queries, settings.prompts_in_flight, policy, scorer, settings.trace, pause, &mut |query, found| {
        let (id, prompt) = &prompts[query];
        let Found { best, trace, token_rewards, sampled, fed, seconds } = found;
        let started = Instant::now();
        let gold_reward = match gold {
            Some(gold) => Some(gold.rewards(&[(prompt, &best.response.text)])?[0]),
            None => None,
        };
        let finish = best.response.finish.unwrap_or(Finish::Length);
        let counted = best.response.ids.len() + usize::from(finish == Finish::Eos);
        let line = SteerLine {
            id: id.clone(),
            prompt: prompt.clone(),
            response: best.response.text,
            finish,
            score: is_guided.then_some(best.score),
            gold_reward,
            base_logprob_per_token: best.logprob.filter(|_| counted > 0).map(|logprob| logprob / counted as f64),
            response_tokens: best.response.ids.len(),
            tokens: TokenCounts { base: sampled, guide: fed },
            seconds: seconds + started.elapsed().as_secs_f64(),
            trace: settings.trace.then_some(trace),
            token_rewards: (settings.trace && is_guided).then_some(token_rewards),
        };
        done(query, line)
    })
}
