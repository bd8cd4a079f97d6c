//! Responses of the policy as it stands and what they earn: sampled by the engine of the search,
//! rewarded by the guide pair. What is learned of them is left to `learner.rs`.

use std::rc::Rc;
use std::time::Instant;

use tracing::warn;

use super::cell::PpoCell;
use super::records::{RolloutLine, Seconds};
use crate::error::Result;
use crate::losses::pay_by_chunk;
use crate::policy::LocalPolicy;
use crate::prompt::{Prompt, PromptText};
use crate::recipe::SAMPLED_ROWS;
use crate::sampling::{Sampling, Stream};
use crate::score::TokenRewards;
use crate::search::{Extend, Extended, Finish, Proposer};
use crate::stages::context::Context;
use crate::stages::tuning::Trainable;
use crate::text::{PromptTemplate, Tokenizer};
use crate::train::Sequence;
use crate::train::tasks::Rollout;

pub struct Sampler<'a> {
    cell: &'a PpoCell<'a>,
    policy: LocalPolicy,
    rewards: TokenRewards,
    tokenizer: Rc<Tokenizer>,
    template: PromptTemplate,
}

/// A batch of responses.
#[derive(Default)]
pub struct Batch {
    pub rollouts: Vec<Rollout>,
    /// One line for each rollout.
    pub lines: Vec<RolloutLine>,
    /// Without those of the update.
    pub seconds: Seconds,
}

impl<'a> Sampler<'a> {
    pub fn open(context: &Context, cell: &'a PpoCell, model: &Trainable) -> Result<Self> {
        let sampling = Sampling::new(cell.table.temperature, 0, 1.0);
        let policy = LocalPolicy::new(
            model.lm.clone(),
            model.tokenizer.clone(),
            model.template.clone(),
            sampling,
            Vec::new(),
        );
        let guide = context
            .models
            .guide(&cell.pair, &mut |folder, name| context.models.open(folder, name))?;
        let rewards = TokenRewards::new(guide, model.tokenizer.clone())?;
        Ok(Self {
            cell,
            policy,
            rewards,
            tokenizer: model.tokenizer.clone(),
            template: model.template.clone(),
        })
    }

    /// A response to each prompt, drawn from the streams that `purpose` and `step` name.
    pub fn sample(&mut self, purpose: &str, step: usize, prompts: &[&Prompt]) -> Result<Batch> {
        let mut batch = Batch::default();
        for prompts in prompts.chunks(SAMPLED_ROWS) {
            self.sample_rows(purpose, step, prompts, &mut batch)?;
        }
        Ok(batch)
    }

    fn sample_rows(
        &mut self,
        purpose: &str,
        step: usize,
        prompts: &[&Prompt],
        batch: &mut Batch,
    ) -> Result<()> {
        let table = self.cell.table;
        let started = Instant::now();
        let texts: Vec<&PromptText> = prompts.iter().map(|prompt| &prompt.text).collect();
        let streams: Vec<Stream> = prompts
            .iter()
            .map(|prompt| Stream::new(self.cell.seed, purpose, &format!("{step}/{}", prompt.id)))
            .collect();
        let nodes = self.policy.open_rows(&texts)?;
        let requests: Vec<Extend> = (nodes.iter().zip(&streams))
            .map(|(node, stream)| Extend {
                node: node.clone(),
                stream: stream.clone(),
                slot: 0,
                max_tokens: table.max_new_tokens,
            })
            .collect();
        let responses = self.policy.extend(&requests)?;
        nodes.iter().for_each(|root| self.policy.release(root));
        batch.seconds.rollout += started.elapsed().as_secs_f64();

        let started = Instant::now();
        let judged: Vec<_> =
            responses.iter().map(|extended| (&extended.response, extended.end.is_some())).collect();
        let was_cut = self.rewards.cut() > 0;
        let rewards = self.rewards.rewards(&texts, &judged)?;
        if self.rewards.cut() > 0 && !was_cut {
            warn!(
                "{}: a response of step {step} is longer than the guides can read; of such \
                 responses, here and later, the beginning earns its score and the rest nothing",
                self.cell.task
            );
        }
        for ((Prompt { id, text: prompt }, extended), mut rewards) in
            prompts.iter().copied().zip(&responses).zip(rewards)
        {
            let guide_score = rewards.iter().sum();
            rewards.iter_mut().for_each(|reward| *reward *= table.scale);
            let mut paid = pay_by_chunk(&rewards, self.cell.chunk_len.tokens());
            let Extended { response, end, .. } = extended;
            if let (None, Some(last)) = (end, paid.last_mut()) {
                *last -= table.missing_eos_penalty;
            }
            let mut ids = self.template.encode(&self.tokenizer, prompt)?;
            let scored_from = ids.len();
            ids.extend(response.ids.iter().chain(end));
            batch.lines.push(RolloutLine {
                step,
                id: id.clone(),
                prompt: prompt.clone(),
                response: response.text.clone(),
                finish: response.finish.unwrap_or(Finish::Length),
                tokens: paid.len(),
                score: paid.iter().sum(),
                guide_score,
            });
            batch.rollouts.push(Rollout { sequence: Sequence { ids, scored_from }, rewards: paid });
        }
        batch.seconds.reward += started.elapsed().as_secs_f64();
        Ok(())
    }
}
