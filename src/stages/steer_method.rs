//! One prompt through one method: where a concrete model meets a concrete algorithm. Shared by the steer stage and `w2s steer`.

use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::steer_memory::{Reader, prompts_in_flight};
use crate::error::{Error, Result};
use crate::models::Lm;
use crate::models::memory::free_bytes;
use crate::policy::{LocalPolicy, Member};
use crate::prompt::Prompt;
use crate::recipe::{Method, SamplingTable, Steer, guide_tokens, two_vocabularies};
use crate::sampling::{Sampling, Stream};
use crate::score::{GoldReward, Guide, GuidePair, NoGuide, WeightedPairs};
use crate::search::{Asked, Desk, Drive, Finish, Found, Query, Scorer, Semantics, TraceStep};
use crate::text::{PromptTemplate, Tokenizer, VocabularyDifference};

/// What all methods of a run share.
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
    /// As a recipe says them.
    pub fn of(steer: &Steer) -> Self {
        let SamplingTable { temperature, top_k, top_p } = steer.sampling;
        Self {
            sampling: Sampling::new(temperature, top_k, top_p),
            max_new_tokens: steer.max_new_tokens,
            stop: steer.stop.clone(),
            semantics: steer.semantics,
            trace: steer.trace,
            prompts_in_flight: steer.prompts_in_flight,
        }
    }
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
    /// Candidates that were longer than the guides can read and are worth what their beginnings are; absent where all were read whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_candidates: u64,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<TraceStep>>,
    /// With a trace: log π* − log π_ref of each guide token of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// Guide pairs and their weights, ready to score the responses of one base.
pub struct LoadedGuide {
    guides: Vec<(f64, Rc<Guide>)>,
    /// Of each pair, whether its vocabulary is the base's.
    same_vocabulary: Vec<bool>,
    /// How the base's vocabulary differs from that of a pair.
    difference: Option<VocabularyDifference>,
    scorer: WeightedPairs,
}

impl LoadedGuide {
    /// Compares the vocabularies by their full maps: ids pass straight through only where these are equal.
    pub fn for_base(guides: Vec<(f64, Rc<Guide>)>, base: &Tokenizer) -> Result<Self> {
        let vocabulary = base.vocabulary();
        let (mut pairs, mut same_vocabulary, mut first_difference) = (Vec::new(), Vec::new(), None);
        for (weight, guide) in &guides {
            let difference = vocabulary.difference(&guide.tokenizer.vocabulary());
            pairs.push((*weight as f32, GuidePair::new(guide.clone(), difference.is_none())?));
            same_vocabulary.push(difference.is_none());
            first_difference = first_difference.or(difference);
        }
        Ok(Self { guides, same_vocabulary, difference: first_difference, scorer: WeightedPairs::new(pairs) })
    }
}

/// What proposes the responses of `method`: the base, or where it is tilted the base with its guides.
///
/// # Errors
/// [`Error::Recipe`] where there are no guides to tilt by, or they have another vocabulary.
pub fn proposer(
    method: &Method,
    base: (Rc<Lm>, Rc<Tokenizer>, PromptTemplate),
    guide: Option<&LoadedGuide>,
    settings: &SteerSettings,
) -> Result<LocalPolicy> {
    let (lm, tokenizer, template) = base;
    let mut members = Vec::new();
    if let Some(weight) = method.proposal.tilt() {
        let guide = guide.ok_or_else(needs_guides)?;
        if let Some(difference) = &guide.difference {
            return Err(Error::recipe(two_vocabularies(&method.search, "base", "guide", &format!("two: {difference}"))));
        }
        for (pair_weight, pair) in &guide.guides {
            for (lm, sign) in [(&pair.tuned, 1.0), (&pair.untuned, -1.0)] {
                members.push(Member { lm: lm.clone(), template: pair.template.clone(), weight: sign * weight * pair_weight });
            }
        }
    }
    let base = Member { lm, template, weight: 1.0 };
    Ok(LocalPolicy::mixture(base, members, tokenizer, settings.sampling, settings.stop.clone()))
}

fn needs_guides() -> Error {
    Error::recipe("this method needs a guide pair\n\nhint: give a tuned and an untuned model")
}

/// Every model that a search feeds, with the sizes of what goes through it.
fn readers<'a>(
    method: &Method,
    settings: &SteerSettings,
    policy: &'a LocalPolicy,
    guide: Option<&'a LoadedGuide>,
    prompts: &[(String, String)],
) -> Result<Vec<Reader<'a>>> {
    // The longest text stands for the prompt with the most tokens.
    let Some((_, longest)) = prompts.iter().max_by_key(|(_, prompt)| prompt.len()) else { return Ok(Vec::new()) };
    let pairs = guide.iter().flat_map(|guide| guide.guides.iter().zip(&guide.same_vocabulary));
    let pairs = pairs.map(|((_, guide), same_vocabulary)| {
        Ok((&*guide.tuned, &*guide.untuned, guide.template.encode(&guide.tokenizer, longest)?.len(), *same_vocabulary))
    });
    Ok(readers_of(method, settings, &policy.prompt_tokens(longest)?, &pairs.collect::<Result<Vec<_>>>()?))
}

/// The same of (a model that is sampled, tokens of its prompt) and of (tuned guide, untuned guide, tokens of their prompt, whether their
/// vocabulary is the base's).
pub(super) fn readers_of<'a>(
    method: &Method,
    settings: &SteerSettings,
    sampled: &[(&'a Lm, usize)],
    pairs: &[(&'a Lm, &'a Lm, usize, bool)],
) -> Vec<Reader<'a>> {
    let new_tokens = settings.max_new_tokens;
    let search = method.search.settings();
    let (rows, chunk) = (search.rows(), search.chunk(new_tokens));
    let mut readers = Vec::new();
    for (index, &(lm, prompt_tokens)) in sampled.iter().enumerate() {
        let name = if index == 0 { "base".to_owned() } else { format!("guide {index} of the mixture") };
        readers.push(Reader { name, lm, prompt_tokens, new_tokens, rows, chunk: 1, is_sampled: true });
    }
    for (index, &(tuned, untuned, prompt_tokens, same_vocabulary)) in pairs.iter().enumerate() {
        // What does not fit is not read.
        let context = tuned.model.info().context.min(untuned.model.info().context) as usize;
        let new_tokens = guide_tokens(new_tokens, same_vocabulary).min(context.saturating_sub(prompt_tokens));
        for (name, lm) in [("tuned", tuned), ("untuned", untuned)] {
            let name = format!("{name} guide {}", index + 1);
            readers.push(Reader { name, lm, prompt_tokens, new_tokens, rows, chunk: chunk.min(new_tokens), is_sampled: false });
        }
    }
    readers
}

/// Prompts some of whose candidates were longer than the guides can read.
#[derive(Default)]
struct Cuts {
    prompts: usize,
    candidates: u64,
}

impl Cuts {
    /// Says it of the first prompt at once, because it may concern all that follow.
    fn note(&mut self, id: &str, cut: u64) {
        if cut > 0 && self.prompts == 0 {
            warn!("prompt `{id}`: {cut} candidates are longer than the guides can read; each is worth what its beginning is");
        }
        self.prompts += usize::from(cut > 0);
        self.candidates += cut;
    }

    fn tell(&self, asked: usize) {
        if self.prompts > 1 {
            warn!(
                "{} of {asked} prompts had candidates that are longer than the guides can read, {} in all; their lines count them as `cut_candidates`",
                self.prompts, self.candidates
            );
        }
    }
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
    if method.needs_guides() && guide.is_none() {
        return Err(needs_guides());
    }
    let in_flight = {
        let readers = readers(method, settings, policy, guide.as_deref(), prompts)?;
        prompts_in_flight(settings.prompts_in_flight.min(prompts.len()), &readers, free_bytes)?
    };
    let mut cuts = Cuts::default();
    let mut no_guide = NoGuide;
    let is_guided = guide.is_some();
    let scorer: &mut dyn Scorer = match guide {
        Some(guide) => &mut guide.scorer,
        None => &mut no_guide,
    };
    let mut answer = |query: usize, found: Found| {
        let (id, prompt) = &prompts[query];
        let Found { best, trace, token_rewards, sampled, fed, cut, seconds } = found;
        cuts.note(id, cut);
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
            cut_candidates: cut,
            seconds: seconds + started.elapsed().as_secs_f64(),
            trace: settings.trace.then_some(trace),
            token_rewards: (settings.trace && is_guided).then_some(token_rewards),
        };
        done(query, line)
    };
    let &SteerSettings { max_new_tokens, semantics, trace: with_trace, .. } = settings;
    let asked = Asked { max_new_tokens, semantics, with_trace };
    let mut desk = Answers { seed, prompts: prompts.iter(), pause, done: &mut answer };
    Drive { proposer: policy, scorer, in_flight }.run(&|opened| method.search.settings().begin(&asked, opened), &mut desk)?;
    cuts.tell(prompts.len());
    Ok(())
}

/// Hands out prompts in their order.
struct Answers<'a> {
    seed: u64,
    prompts: std::slice::Iter<'a, (String, String)>,
    pause: &'a mut dyn FnMut() -> Result<()>,
    done: &'a mut dyn FnMut(usize, Found) -> Result<()>,
}

impl Desk for Answers<'_> {
    fn next(&mut self, _in_flight: usize) -> Option<Query> {
        let (id, text) = self.prompts.next()?;
        Some(Query { prompt: Prompt::new(id, text), stream: Stream::new(self.seed, "steer", id) })
    }

    fn pause(&mut self) -> Result<()> {
        (self.pause)()
    }

    fn done(&mut self, number: usize, found: Found) -> Result<()> {
        (self.done)(number, found)
    }

    fn lost(&mut self, _number: usize, error: Error) -> Result<()> {
        Err(error)
    }
}
