//! What a pair would add for every token that may come next: the log-ratios of the whole
//! vocabulary, of one forward pass for all of it.

use tch::Kind;

use super::{ModelState, PairScorer};
use crate::error::{Error, Result};
use crate::kernels::vocabulary_rows::log_sum_exp;
use crate::models::Lm;
use crate::search::{NextScores, Scored, ToScore, Weighed};

/// Rows of the (rows, vocab) logits that exist at once.
const SLICE: i64 = 64;

impl NextScores for PairScorer {
    fn weigh(&mut self, requests: &[ToScore]) -> Result<Vec<Weighed>> {
        let _no_grad = tch::no_grad_guard();
        if !self.reads.same_vocabulary {
            return Err(Error::failed(
                "guides of another vocabulary do not know the base's next tokens",
            ));
        }
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.read(requests, true)?;
        read.into_iter()
            .map(|(scored, next)| self.weighed(scored, &next.unwrap_or_default()))
            .collect()
    }
}

impl PairScorer {
    /// What can be read no more adds nothing.
    fn weighed(&mut self, scored: Scored, next: &[f32]) -> Result<Weighed> {
        let kept = self.nodes.get(&scored.node).ok_or_else(super::pruned)?;
        let read = kept.batch.prompt.length as usize + kept.row.ids.len();
        let is_full = read >= self.reads.context;
        let worth = |id: usize| if is_full { 0.0 } else { next.get(id).copied().unwrap_or(0.0) };
        let end = worth(usize::try_from(self.reads.ends[0]).unwrap_or(usize::MAX));
        let is_token = self.tokens(next.len());
        let next = is_token.iter().enumerate();
        let next = next.map(|(id, is)| if *is { worth(id) } else { f32::NEG_INFINITY }).collect();
        Ok(Weighed { scored, next, end })
    }

    /// Which ids below `width` are tokens: embeddings may have more rows.
    fn tokens(&mut self, width: usize) -> &[bool] {
        let tokenizer = &self.pair.tokenizer;
        let is_token = |id: usize| tokenizer.token(id as i64).is_some();
        self.is_token.get_or_insert_with(|| (0..width).map(is_token).collect())
    }

    /// The log-ratios of all tokens behind each row, those of all groups one after the other.
    pub(super) fn next_ratios(
        &self,
        tuned: &[ModelState],
        untuned: &[ModelState],
    ) -> Result<Vec<Vec<f32>>> {
        let [tuned, untuned] =
            [next_logps(&self.pair.tuned, tuned)?, next_logps(&self.pair.untuned, untuned)?];
        let ratio = |(tuned, untuned): (Vec<f32>, Vec<f32>)| {
            tuned.into_iter().zip(untuned).map(|(tuned, untuned)| tuned - untuned).collect()
        };
        Ok(tuned.into_iter().zip(untuned).map(ratio).collect())
    }
}

/// The log-probabilities of all tokens behind each row.
fn next_logps(lm: &Lm, states: &[ModelState]) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    for ModelState { last, .. } in states {
        let (rows, _) = last.size2()?;
        for start in (0..rows).step_by(SLICE as usize) {
            // (rows, vocab), in the weights' kind
            let logits = lm.model.logits(&last.narrow(0, start, SLICE.min(rows - start)));
            let (_, vocab) = logits.size2()?;
            let sums = log_sum_exp(&logits)?;
            let numbers =
                Vec::<f32>::try_from(logits.f_to_kind(Kind::Float)?.f_contiguous()?.f_view(-1)?)?;
            let rows = numbers.chunks(vocab as usize).zip(sums);
            all.extend(rows.map(|(row, sum)| row.iter().map(|logit| logit - sum).collect()));
        }
    }
    Ok(all)
}
