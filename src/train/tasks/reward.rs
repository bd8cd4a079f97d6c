//! A reward model learns which of two texts was chosen (Bradley–Terry), each read at its last
//! token.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::metrics::Metrics;
use super::super::sequence::Sequence;
use super::super::sequences::{PackedStates, read_last};
use super::super::task::{StepLoss, Task};
use super::rewards::{add_rewards, sum};
use crate::error::Result;
use crate::losses::bradley_terry;
use crate::models::RewardModel;
use crate::monitor::glossary;
use crate::text::Tokenizer;

/// A chosen and a rejected text, which may begin alike.
#[derive(Debug, Clone, PartialEq)]
pub struct PairTexts([Sequence; 2]);

impl PairTexts {
    /// Takes the ids of both, at least one each. What both begin with is read once.
    pub fn new(chosen: Vec<i64>, rejected: Vec<i64>) -> Self {
        let scored_from =
            chosen.iter().zip(&rejected).take_while(|(ours, theirs)| ours == theirs).count();
        Self([chosen, rejected].map(|ids| Sequence { ids, scored_from }))
    }

    /// As [`read_last`] reads them.
    fn groups(&self) -> Vec<Vec<&Sequence>> {
        let [chosen, rejected] = &self.0;
        if chosen.prompt().is_empty() {
            vec![vec![chosen], vec![rejected]]
        } else {
            vec![vec![chosen, rejected]]
        }
    }

    fn tokens(&self) -> usize {
        self.0.iter().map(|sequence| sequence.ids.len()).sum()
    }
}

pub struct RewardTask {
    pub model: RewardModel,
    pub tokenizer: Tokenizer,
    pub train: Vec<PairTexts>,
    pub validation: Vec<PairTexts>,
    /// Pairs of one forward pass where nothing is learned.
    pub batch: usize,
    pub activation_checkpointing: bool,
    /// Learning rate of the head over that of the body.
    pub head_factor: f64,
}

/// One forward pass over some pairs.
struct Forward<'a> {
    /// (pairs)
    losses: Tensor,
    /// All but the loss.
    measured: Metrics,
    states: PackedStates<'a>,
}

impl RewardTask {
    fn forward(&self, pairs: &[&PairTexts], recompute: bool) -> Result<Forward<'_>> {
        let groups: Vec<Vec<&Sequence>> = pairs.iter().flat_map(|pair| pair.groups()).collect();
        let states = read_last(self.model.body(), &groups, recompute)?;
        let rewards = self.model.rewards_of_states(&states.states).view([-1, 2]);
        let [chosen, rejected] = [0, 1].map(|side| rewards.select(1, side));
        let output = bradley_terry(&chosen, &rejected);
        let mut measured = Metrics::default();
        add_rewards(&mut measured, [&chosen, &rejected], &output.accuracies);
        Ok(Forward { losses: output.losses, measured, states })
    }
}

impl Task for RewardTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.trainable_parameters()
    }

    fn learning_rate_factor(&self, name: &str) -> f64 {
        if RewardModel::is_head(name) { self.head_factor } else { 1.0 }
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let pairs: Vec<&PairTexts> = examples.iter().map(|&i| &self.train[i]).collect();
        let Forward { losses, measured, states } =
            self.forward(&pairs, self.activation_checkpointing)?;
        let loss = losses.sum(Kind::Float);
        states.learn(&loss)?;
        let mut metrics = Metrics::default();
        metrics.add(glossary::LOSS, loss.double_value(&[]), pairs.len() as f64);
        metrics.merge(measured);
        Ok(StepLoss { metrics, tokens: pairs.iter().map(|pair| pair.tokens()).sum() })
    }

    /// The head starts at 0, and so does the difference of any two rewards.
    fn loss_at_start(&self) -> Option<f64> {
        Some(2f64.ln())
    }

    fn describe(&self, example: usize) -> Value {
        let [chosen, rejected] =
            self.train[example].0.each_ref().map(|Sequence { ids, .. }| {
                let text = self.tokenizer.decode(ids).unwrap_or_default();
                json!({ "text": text, "ids": ids })
            });
        json!({ "chosen": chosen, "rejected": rejected })
    }

    fn validate(&mut self) -> Result<Metrics> {
        let _no_grad = tch::no_grad_guard();
        let mut metrics = Metrics::default();
        let pairs: Vec<&PairTexts> = self.validation.iter().collect();
        for batch in pairs.chunks(self.batch) {
            let Forward { losses, measured, .. } = self.forward(batch, false)?;
            metrics.add(glossary::LOSS, sum(&losses), batch.len() as f64);
            metrics.merge(measured);
        }
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::*;

    fn task(folder: &str, activation_checkpointing: bool) -> RewardTask {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
        let model = RewardModel::open_trainable(&folder, Device::Cpu).unwrap();
        let tokenizer = Tokenizer::numbered(model.info().vocab_size as usize, None).unwrap();
        // Alike at first, not at all, and one that the other goes on from.
        let texts = [
            [vec![5, 6, 7, 8], vec![5, 6, 9]],
            [vec![4, 3], vec![7, 1, 1]],
            [vec![2, 2, 8], vec![2, 2]],
        ];
        let pairs: Vec<PairTexts> =
            texts.into_iter().map(|[chosen, rejected]| PairTexts::new(chosen, rejected)).collect();
        RewardTask {
            model,
            tokenizer,
            train: pairs.clone(),
            validation: pairs,
            batch: 2,
            activation_checkpointing,
            head_factor: 1.0,
        }
    }

    fn gradients(model: &RewardModel) -> Vec<(String, Tensor)> {
        model
            .parameters()
            .into_iter()
            .map(|(name, parameter)| (name, parameter.grad().copy()))
            .collect()
    }

    /// Loss and gradients by one padded forward pass over all texts.
    fn expected(RewardTask { model, train, .. }: &RewardTask) -> (f64, Vec<(String, Tensor)>) {
        let side = |side: usize| {
            model.rewards_of(
                &train.iter().map(|pair| pair.0[side].ids.as_slice()).collect::<Vec<_>>(),
            )
        };
        let loss = bradley_terry(&side(0), &side(1)).losses.sum(Kind::Float);
        loss.backward();
        (loss.double_value(&[]), gradients(model))
    }

    #[test]
    fn packed_pairs_have_the_loss_and_the_gradients_of_padded_ones() {
        for folder in ["gpt2-reward", "llama-reward"] {
            let (loss, exact) = expected(&task(folder, false));
            for recompute in [false, true] {
                let mut task = task(folder, recompute);
                let StepLoss { metrics, tokens } = task.accumulate(&[0, 1, 2]).unwrap();
                let (found, pairs) = metrics.sum(glossary::LOSS);
                assert!(
                    (found - loss).abs() < 1e-5 && (pairs, tokens) == (3.0, 17),
                    "{folder}: {found} against {loss}, {tokens}"
                );
                for ((name, found), (_, exact)) in gradients(&task.model).iter().zip(&exact) {
                    let error = (found - exact).abs().max().double_value(&[]);
                    assert!(
                        error < 2e-5 * (1.0 + exact.abs().max().double_value(&[])),
                        "{folder} {name}, recompute {recompute}: {error}"
                    );
                }
                let held_out = task.validate().unwrap();
                assert!(
                    (held_out.mean(glossary::LOSS).unwrap() - loss / 3.0).abs() < 1e-5,
                    "{folder}: batches of two and one"
                );
                assert_eq!(
                    held_out.mean(glossary::REWARDS_ACCURACIES),
                    metrics.mean(glossary::REWARDS_ACCURACIES)
                );
            }
        }
    }
}
