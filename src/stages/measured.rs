//! What evaluation adds to the rows of a summary beside rewards: the log-probability under the base
//! and the divergence from it, the arithmetic that the answers took, and how much the score of a
//! beginning tells. What models say of responses was asked before, by `likelihood.rs`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use super::cells::{Cell, Source, cells};
use super::context::Context;
use super::likelihood::{LikelihoodLine, said, sampling};
use super::source_folder::source_folder;
use super::test_prompts::test_prompts;
use crate::artifacts::journal;
use crate::engine::SteerLine;
use crate::error::Result;
use crate::models::{LmConfig, Work, base_of_adapter, tokenizer_and_context};
use crate::prompt::Prompt;
use crate::recipe::{ChunkLen, GOLD, Method, Plan, Proposal};
use crate::report::{Answer, Divergence, Foresight, MultiplyAdds, Scored, SummaryRow};
use crate::sampling::Sampling;
use crate::search::Search;

/// Guide tokens between two looks at a score, where the recipe's chunk lengths say no other number.
const CHUNK_LEN: usize = 5;

pub struct Measured<'a> {
    context: &'a Context,
    prompts: Vec<Prompt>,
    /// By where they lie and how they are prompted.
    readers: HashMap<(PathBuf, String), Rc<Reads>>,
}

/// What a model takes to read: its arithmetic, and the tokens of each prompt by the prompts' ids.
struct Reads {
    work: Work,
    prompts: HashMap<String, f64>,
}

impl Reads {
    /// `tokens` more behind a prompt, in the mean `depth` deep.
    fn multiply_adds(&self, prompt: &str, tokens: f64, depth: f64) -> f64 {
        let prompt = self.prompts.get(prompt).copied().unwrap_or(0.0);
        self.work.multiply_adds(prompt, tokens, depth)
    }
}

impl<'a> Measured<'a> {
    pub fn new(context: &'a Context) -> Result<Self> {
        Ok(Self { context, prompts: test_prompts(context)?, readers: HashMap::new() })
    }

    /// Puts the log-probability under the base in the place of that under the model that was
    /// sampled, where these are two.
    pub fn correct(&self, cell: &Cell, answers: &mut [Answer]) -> Result<()> {
        if matches!(cell.source, Source::Model(_)) {
            return Ok(());
        }
        let lines = self.said(cell)?;
        for answer in answers {
            let Some(line) = lines.get(&(answer.seed, answer.id.clone())) else { continue };
            answer.base_logprob_per_token =
                (line.tokens > 0).then(|| line.base_logprob / line.tokens as f64);
        }
        Ok(())
    }

    /// Adds the divergence and the arithmetic of a cell's answers to its row.
    pub fn measure(&mut self, cell: &Cell, answers: &[Answer], row: &mut SummaryRow) -> Result<()> {
        row.kl = self.divergence(cell, answers)?;
        row.multiply_adds = self.multiply_adds(cell, answers)?;
        Ok(())
    }

    fn said(&self, cell: &Cell) -> Result<HashMap<(u64, String), LikelihoodLine>> {
        let mut all = HashMap::new();
        if !cell.has_likelihood(&self.context.plan) {
            return Ok(all);
        }
        for &seed in &self.context.recipe().run.seeds {
            let said = said(self.context, cell, seed)?.into_iter();
            all.extend(said.map(|(id, line)| ((seed, id), line)));
        }
        Ok(all)
    }

    /// Greedy answers are no samples of a distribution.
    fn divergence(&self, cell: &Cell, answers: &[Answer]) -> Result<Option<Divergence>> {
        if answers.is_empty() || sampling(self.context, cell)? == Sampling::Greedy {
            return Ok(None);
        }
        if cell.has_likelihood(&self.context.plan) {
            let lines = self.said(cell)?;
            let of = |answer: &Answer| {
                let line = lines.get(&(answer.seed, answer.id.clone()))?;
                Some((line.tokens, line.kl?))
            };
            return Ok(Divergence::exact(&answers.iter().filter_map(of).collect::<Vec<_>>()));
        }
        let tokens = answers.iter().map(said_tokens).sum::<f64>() / answers.len() as f64;
        Ok(match (cell.method.proposal, &cell.method.search) {
            (Proposal::Base | Proposal::Untuned, Search::Sample(_)) => Some(Divergence::NONE),
            (Proposal::Base, Search::BestOfN(best)) => Some(Divergence::best_of(best.n, tokens)),
            _ => None,
        })
    }

    /// Each token goes once through the weights that multiply it: the base's sampled tokens with
    /// their logits, the tokens that guides were fed with theirs, and each prompt once through each
    /// model. Positions behind the prompt are taken as the mean of the chosen response's. Guides
    /// that propose read what is sampled too.
    fn multiply_adds(&mut self, cell: &Cell, answers: &[Answer]) -> Result<Option<MultiplyAdds>> {
        let Some(first) = answers.first() else { return Ok(None) };
        let count = answers.len() as f64;
        let depth = |answer: &Answer| (said_tokens(answer) + 1.0) / 2.0;
        let recipe = self.context.recipe();
        let is_served = matches!(cell.source, Source::Model(_)) && recipe.api(&cell.base).is_some();
        let base = if is_served {
            None
        } else {
            let reads = self.reads(source_folder(self.context, cell, first.seed)?, &cell.base)?;
            let of = |answer: &Answer| {
                reads.multiply_adds(&answer.id, answer.base_tokens as f64, depth(answer))
            };
            Some(answers.iter().map(of).sum::<f64>() / count)
        };
        let mut guide = Some(0.0);
        let proposes = cell.method.proposal.tilt().is_some_and(|weight| weight != 0.0);
        for pair in &cell.guides {
            let prompt_of = self.context.models.of_guide(&pair.tuned)?.to_owned();
            for source in [&pair.tuned, &pair.untuned] {
                if recipe.api(self.context.models.of_guide(source)?).is_some() {
                    guide = None;
                    continue;
                }
                let reads = self.reads(self.context.models.guide_folder(source)?, &prompt_of)?;
                let of = |answer: &Answer| {
                    let of =
                        |tokens: u64| reads.multiply_adds(&answer.id, tokens as f64, depth(answer));
                    of(answer.guide_tokens) + if proposes { of(answer.base_tokens) } else { 0.0 }
                };
                let sum = answers.iter().map(of).sum::<f64>() / count;
                guide = guide.map(|guide| guide + sum);
            }
        }
        let parts = MultiplyAdds { base, guide };
        Ok(parts.base.or(parts.guide).map(|_| parts))
    }

    /// What the model in `folder` takes to read, prompted as the recipe's model `prompt_of` is.
    fn reads(&mut self, folder: PathBuf, prompt_of: &str) -> Result<Rc<Reads>> {
        let key = (folder, prompt_of.to_owned());
        if let Some(known) = self.readers.get(&key) {
            return Ok(known.clone());
        }
        let folder = &key.0;
        let base = base_of_adapter(folder)?;
        let config = LmConfig::read(base.as_deref().unwrap_or(folder))?;
        let (tokenizer, _) = tokenizer_and_context(folder)?;
        let template = self.context.models.template(prompt_of)?;
        let tokens = self.prompts.iter().map(|Prompt { id, text }| {
            Ok((id.clone(), template.encode(&tokenizer, text)?.len() as f64))
        });
        let prompts = tokens.collect::<Result<HashMap<_, _>>>()?;
        let reads = Rc::new(Reads { work: Work::of(&config), prompts });
        self.readers.insert(key, reads.clone());
        Ok(reads)
    }

    /// How much the score of a beginning tells, of plain samples of a base that guides scored.
    pub fn foresight(&self, cell: &Cell, answers: &[Answer]) -> Result<Option<Foresight>> {
        if cell.method != Method::sampled(Proposal::Base) {
            return Ok(None);
        }
        let mut rewards: HashMap<(u64, String), Vec<f32>> = HashMap::new();
        for &seed in &self.context.recipe().run.seeds {
            let file = self.context.run.path(&cell.journal(seed));
            let lines = journal::complete_lines::<SteerLine>(&file)?.into_iter();
            rewards
                .extend(lines.filter_map(|(line, _)| Some(((seed, line.id), line.token_rewards?))));
        }
        let scored = answers.iter().filter_map(|answer| {
            let token_rewards = rewards.remove(&(answer.seed, answer.id.clone()))?;
            let gold = answer.gold_reward.map(|reward| (GOLD.to_owned(), reward));
            let judges: BTreeMap<String, f64> =
                answer.judges.clone().into_iter().chain(gold).collect();
            Some(Scored { id: answer.id.clone(), token_rewards, judges })
        });
        let scored: Vec<Scored> = scored.collect();
        let chunk_len = chunk_len(&self.context.plan)?;
        Ok(Foresight::of(&cell.base, &cell.method_name, chunk_len, &scored))
    }
}

/// Tokens of a response, and one for its end where it has one.
fn said_tokens(answer: &Answer) -> f64 {
    answer.response_tokens as f64 + f64::from(u8::from(answer.complete))
}

/// The one chunk length of all chunk-level beam searches of the recipe, or else 5.
fn chunk_len(plan: &Plan) -> Result<usize> {
    let mut lengths: Vec<usize> = cells(plan)?
        .iter()
        .filter_map(|cell| match &cell.method.search {
            Search::Cbs(settings) => match settings.chunk_len {
                ChunkLen::Tokens(tokens) => Some(tokens),
                ChunkLen::Whole => None,
            },
            _ => None,
        })
        .collect();
    lengths.dedup();
    Ok(match lengths[..] {
        [one] => one,
        _ => CHUNK_LEN,
    })
}
