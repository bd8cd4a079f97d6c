//! Direct preference optimisation of a policy on pairs, against what its reference says of them.

use std::rc::Rc;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::metrics::Metrics;
use super::super::task::{StepLoss, Task};
use super::super::token_logps::TokenLogps;
use super::language::SampleText;
use super::reference::{PairSequences, pair_logps};
use super::rewards::{add_rewards, sum};
use crate::error::Result;
use crate::losses::{DpoObjective, dpo, kl};
use crate::models::Lm;
use crate::monitor::glossary;
use crate::text::Tokenizer;

pub struct DpoTask {
    pub policy: Rc<Lm>,
    /// For examples as people read them.
    pub tokenizer: Rc<Tokenizer>,
    pub train: Vec<PairSequences>,
    pub validation: Vec<PairSequences>,
    pub objective: DpoObjective,
    /// Pairs of one forward pass where nothing is learned.
    pub batch: usize,
    pub activation_checkpointing: bool,
    pub sample: SampleText,
}

/// One forward pass over some pairs.
struct Forward<'a> {
    /// (pairs)
    losses: Tensor,
    /// All but the loss.
    measured: Metrics,
    tokens: TokenLogps<'a>,
}

impl DpoTask {
    fn forward(&self, pairs: &[&PairSequences], recompute: bool) -> Result<Forward<'_>> {
        let (tokens, [chosen, rejected]) = pair_logps(&self.policy, pairs, recompute)?;
        let tensor = |values: Vec<f32>| Tensor::from_slice(&values).to_device(chosen.device());
        let of_pairs = |of: &dyn Fn(&PairSequences) -> f32| {
            tensor(pairs.iter().map(|pair| of(pair)).collect())
        };
        let reference =
            [of_pairs(&|pair| pair.reference.chosen), of_pairs(&|pair| pair.reference.rejected)];
        let counts = [
            of_pairs(&|pair| pair.chosen.scored() as f32),
            of_pairs(&|pair| pair.rejected.scored() as f32),
        ];
        let output =
            dpo(&self.objective, [&chosen, &rejected], reference.each_ref(), counts.each_ref());

        let (mut measured, count) = (Metrics::default(), pairs.len() as f64);
        add_rewards(
            &mut measured,
            [&output.chosen_rewards, &output.rejected_rewards],
            &output.accuracies,
        );
        measured.add(glossary::LOGPS_CHOSEN, sum(&chosen), count);
        measured.add(glossary::LOGPS_REJECTED, sum(&rejected), count);
        // In f64: small differences keep their digits.
        let reference =
            tensor(pairs.iter().flat_map(|pair| pair.reference.tokens.iter().copied()).collect());
        let kl = kl(&tokens.logps.detach().to_kind(Kind::Double), &reference.to_kind(Kind::Double));
        measured.add(glossary::KL, sum(&kl), kl.numel() as f64);
        Ok(Forward { losses: output.losses, measured, tokens })
    }
}

impl Task for DpoTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.policy.trainable_parameters()
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let pairs: Vec<&PairSequences> = examples.iter().map(|&i| &self.train[i]).collect();
        let Forward { losses, measured, tokens } =
            self.forward(&pairs, self.activation_checkpointing)?;
        let loss = losses.sum(Kind::Float);
        tokens.learn(&loss)?;
        let mut metrics = Metrics::default();
        metrics.add(glossary::LOSS, loss.double_value(&[]), pairs.len() as f64);
        metrics.merge(measured);
        Ok(StepLoss {
            metrics,
            tokens: pairs.iter().map(|pair| pair.chosen.ids.len() + pair.rejected.ids.len()).sum(),
        })
    }

    fn loss_at_start(&self) -> Option<f64> {
        Some(self.objective.loss_at_start())
    }

    fn describe(&self, example: usize) -> Value {
        let PairSequences { chosen, rejected, .. } = &self.train[example];
        json!({
            "chosen": chosen.describe(&self.tokenizer),
            "rejected": rejected.describe(&self.tokenizer)
        })
    }

    fn validate(&mut self) -> Result<Metrics> {
        let _no_grad = tch::no_grad_guard();
        let mut metrics = Metrics::default();
        let pairs: Vec<&PairSequences> = self.validation.iter().collect();
        for batch in pairs.chunks(self.batch) {
            let Forward { losses, measured, .. } = self.forward(batch, false)?;
            metrics.add(glossary::LOSS, sum(&losses), batch.len() as f64);
            metrics.merge(measured);
        }
        Ok(metrics)
    }

    fn sample(&mut self) -> Result<Option<String>> {
        (self.sample)()
    }
}
