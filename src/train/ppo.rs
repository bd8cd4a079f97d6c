//! Proximal policy optimisation of a language model on rewards of its tokens (arXiv 1707.06347, and 1909.08593 for language): the update from
//! one batch of rollouts. Rollouts and rewards are the caller's.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::sequences::{Packed, read_packed};
use super::{AdamW, Sequence, TokenLogps, Value, sequence_logps_at};
use crate::error::{Error, Result};
use crate::losses::{KlEstimator, approx_kl, gae, ppo_policy, ppo_value, whiten};
use crate::models::Lm;
use crate::monitor::glossary;

/// How a batch of rollouts becomes updates of the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct PpoSettings {
    /// Of the rollouts, and of all log-probabilities.
    pub temperature: f64,
    /// Passes over one batch of rollouts.
    pub epochs: usize,
    /// Rollouts of one update of the weights, and of one forward pass.
    pub minibatch_size: usize,
    pub micro_batch_size: usize,
    pub gamma: f64,
    pub lam: f64,
    /// ε of the policy's ratio, and of the value's move.
    pub cliprange: f64,
    pub cliprange_value: f64,
    /// Of the value loss beside the policy's.
    pub vf_coef: f64,
    pub kl_estimator: KlEstimator,
    /// The rest of a batch is left where a minibatch's approximate divergence from the policy that sampled it exceeds this.
    pub target_kl: Option<f64>,
    pub max_grad_norm: f64,
    pub activation_checkpointing: bool,
}

/// One sampled response and what its tokens earned.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The response is scored; its EOS is part of it where the policy drew one.
    pub sequence: Sequence,
    /// Of each response token, paid where it is due.
    pub rewards: Vec<f64>,
}

/// What one update did: means over the batch under TRL's names, in their order.
pub type Metrics = Vec<(&'static str, f64)>;

pub struct Ppo<'a> {
    pub settings: &'a PpoSettings,
    pub policy: Rc<Lm>,
    /// The policy as it was at first, frozen.
    pub reference: Rc<Lm>,
    pub value: Value,
}

/// What is known of one rollout when the updates begin.
#[derive(Debug, Clone, Default)]
struct Known {
    logps: Vec<f32>,
    values: Vec<f32>,
    reference: Vec<f32>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
}

impl Ppo<'_> {
    /// Everything that learns, by name.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.policy.trainable_parameters().into_iter().chain(self.value.parameters()).collect()
    }

    /// Updates policy and value from one batch, with `kl_coef` of the divergence from the reference taken off each token's reward.
    /// `order` gives the order in which an epoch visits the rollouts.
    ///
    /// # Errors
    /// If a reward is no number, or rewards and tokens differ in count.
    pub fn update(
        &self,
        optimizer: &mut AdamW,
        rollouts: &[Rollout],
        kl_coef: f64,
        rate: f64,
        order: &dyn Fn(usize) -> Vec<usize>,
    ) -> Result<Metrics> {
        for (number, rollout) in rollouts.iter().enumerate() {
            if rollout.rewards.len() != rollout.sequence.scored() || rollout.rewards.iter().any(|reward| !reward.is_finite()) {
                let (rewards, tokens) = (&rollout.rewards, rollout.sequence.scored());
                return Err(Error::failed(format!("rollout {number} of {tokens} tokens has the rewards {rewards:?}")));
            }
        }
        let mut known = self.look(rollouts, &order(0))?;
        let (mut kls, mut shaped) = (0.0, 0.0);
        for (known, rollout) in known.iter_mut().zip(rollouts) {
            let kl: Vec<f32> = (known.logps.iter().zip(&known.reference))
                .map(|(logp, reference)| self.settings.kl_estimator.estimate(*logp, *reference))
                .collect();
            let rewards: Vec<f64> = rollout.rewards.iter().zip(&kl).map(|(reward, kl)| reward - kl_coef * f64::from(*kl)).collect();
            kls += known.logps.iter().zip(&known.reference).map(|(logp, reference)| f64::from(logp - reference)).sum::<f64>();
            shaped -= kl_coef * kl.iter().map(|kl| f64::from(*kl)).sum::<f64>();
            (known.advantages, known.returns) = gae(&rewards, &known.values, self.settings.gamma, self.settings.lam);
        }
        whiten(known.iter_mut().flat_map(|known| known.advantages.iter_mut()));
        let mut sums = Sums::default();
        'epochs: for epoch in 0..self.settings.epochs {
            for minibatch in order(epoch).chunks(self.settings.minibatch_size) {
                let before = sums.clone();
                optimizer.zero_gradients();
                let tokens: usize = minibatch.iter().map(|&i| rollouts[i].sequence.scored()).sum();
                for micro_batch in minibatch.chunks(self.settings.micro_batch_size) {
                    self.learn(rollouts, &known, micro_batch, &mut sums)?;
                    if minibatch.len() > micro_batch.len() {
                        optimizer.add_gradients()?;
                    }
                }
                let norm = optimizer.finish_gradients(tokens as f64, self.settings.max_grad_norm)?;
                let loss = (sums.policy_loss - before.policy_loss) / tokens as f64;
                if !(norm.is_finite() && loss.is_finite()) {
                    return Err(Error::failed(format!("policy loss {loss} and gradient norm {norm}")));
                }
                if epoch == 0 && before.tokens == 0.0 {
                    sums.first_ratio_error = sums.ratio_error;
                }
                let divergence = (sums.divergence - before.divergence) / tokens as f64;
                if self.settings.target_kl.is_some_and(|most| divergence > most) {
                    sums.stopped += 1.0;
                    break 'epochs;
                }
                optimizer.step(rate)?;
                sums.norm += norm;
                sums.updates += 1.0;
            }
        }
        let count = rollouts.len() as f64;
        let score = rollouts.iter().flat_map(|rollout| &rollout.rewards).sum::<f64>() / count;
        let entropy = -known.iter().flat_map(|known| &known.logps).map(|logp| f64::from(*logp)).sum::<f64>() / count;
        let values = known.iter().flat_map(|known| known.values.iter().zip(&known.returns));
        let explained = explained_variance(&values.map(|(value, target)| (f64::from(*value), f64::from(*target))).collect::<Vec<_>>());
        let mut metrics = vec![
            (glossary::PPO_SCORES, score),
            (glossary::PPO_KL, kls / count),
            (glossary::PPO_NON_SCORE_REWARD, shaped / count),
            (glossary::PPO_RLHF_REWARD, score + shaped / count),
            (glossary::PPO_ENTROPY, entropy),
            (glossary::PPO_EXPLAINED_VARIANCE, explained),
        ];
        metrics.extend(sums.metrics());
        Ok(metrics)
    }

    /// Log-probabilities and values of all rollouts under the policy that sampled them, and log-probabilities under the reference. The policy reads
    /// them in the micro-batches of the first epoch and with gradients on, so that the first ratio is 1 to the bit.
    fn look(&self, rollouts: &[Rollout], order: &[usize]) -> Result<Vec<Known>> {
        let mut known = vec![Known::default(); rollouts.len()];
        for minibatch in order.chunks(self.settings.minibatch_size) {
            for micro_batch in minibatch.chunks(self.settings.micro_batch_size) {
                let tokens = self.read(&self.policy, rollouts, micro_batch)?;
                let logps = Vec::<f32>::try_from(tokens.logps.detach())?;
                let values = match self.value.body() {
                    None => self.value.of_states(&tokens.states).detach(),
                    Some(body) => {
                        tch::no_grad(|| Ok::<_, Error>(self.value.of_states(&self.read_values(body, rollouts, micro_batch)?.states)))?
                    }
                };
                let values = Vec::<f32>::try_from(values)?;
                drop(tokens);
                let reference = Vec::<f32>::try_from(tch::no_grad(|| self.read(&self.reference, rollouts, micro_batch))?.logps)?;
                let mut start = 0;
                for &rollout in micro_batch {
                    let end = start + rollouts[rollout].sequence.scored();
                    let cut = |of: &[f32]| of[start..end].to_vec();
                    let (logps, values, reference) = (cut(&logps), cut(&values), cut(&reference));
                    known[rollout] = Known { logps, values, reference, ..Known::default() };
                    start = end;
                }
            }
        }
        Ok(known)
    }

    fn read<'a>(&self, lm: &'a Lm, rollouts: &[Rollout], which: &[usize]) -> Result<TokenLogps<'a>> {
        Ok(sequence_logps_at(&lm.model, &alone(rollouts, which), self.settings.activation_checkpointing, self.settings.temperature)?.0)
    }

    fn read_values<'a>(&self, body: &'a Lm, rollouts: &[Rollout], which: &[usize]) -> Result<Packed<'a>> {
        read_packed(&body.model, &alone(rollouts, which), self.settings.activation_checkpointing)
    }

    /// Adds the gradients of the summed losses of a micro-batch.
    fn learn(&self, rollouts: &[Rollout], known: &[Known], which: &[usize], sums: &mut Sums) -> Result<()> {
        let tokens = self.read(&self.policy, rollouts, which)?;
        let device = tokens.states.device();
        let gather = |of: fn(&Known) -> &[f32]| {
            Tensor::from_slice(&which.iter().flat_map(|&i| of(&known[i]).iter().copied()).collect::<Vec<f32>>()).to_device(device)
        };
        let (old_logps, old_values, returns) =
            (gather(|known| &known.logps), gather(|known| &known.values), gather(|known| &known.returns));
        let policy = ppo_policy(&tokens.logps, &old_logps, &gather(|known| &known.advantages), self.settings.cliprange);
        let logps = tokens.logps.detach();
        policy.losses.sum(Kind::Float).f_backward()?;
        let of_states = |states: &Tensor| ppo_value(&self.value.of_states(states), &old_values, &returns, self.settings.cliprange_value);
        let value = match self.value.body() {
            None => {
                let value = of_states(&tokens.states);
                tokens.backward_with(&(value.losses.sum(Kind::Float) * self.settings.vf_coef))?;
                value
            }
            // One graph after the other.
            Some(body) => {
                tokens.backward()?;
                let read = self.read_values(body, rollouts, which)?;
                let value = of_states(&read.states);
                (value.losses.sum(Kind::Float) * self.settings.vf_coef).f_backward()?;
                read.pass.backward()?;
                value
            }
        };
        let ratio = (&logps - &old_logps).exp();
        sums.tokens += ratio.numel() as f64;
        for (sum, values) in [
            (&mut sums.policy_loss, &policy.losses),
            (&mut sums.value_loss, &value.losses),
            (&mut sums.policy_clipped, &policy.clipped),
            (&mut sums.value_clipped, &value.clipped),
            (&mut sums.divergence, &approx_kl(&logps, &old_logps)),
            (&mut sums.ratio, &ratio),
        ] {
            *sum += values.detach().sum(Kind::Double).double_value(&[]);
        }
        sums.ratio_error = sums.ratio_error.max((ratio - 1.0).abs().max().double_value(&[]));
        Ok(())
    }
}

/// Each of these rollouts as a group of its own.
fn alone<'a>(rollouts: &'a [Rollout], which: &[usize]) -> Vec<Vec<&'a Sequence>> {
    which.iter().map(|&i| vec![&rollouts[i].sequence]).collect()
}

/// Over the updates of one batch.
#[derive(Debug, Clone, Default)]
struct Sums {
    tokens: f64,
    policy_loss: f64,
    value_loss: f64,
    policy_clipped: f64,
    value_clipped: f64,
    divergence: f64,
    ratio: f64,
    /// The largest distance of a ratio from 1, and that within the first minibatch.
    ratio_error: f64,
    first_ratio_error: f64,
    norm: f64,
    updates: f64,
    stopped: f64,
}

impl Sums {
    fn metrics(&self) -> Metrics {
        let per_token = |sum: f64| sum / self.tokens.max(1.0);
        vec![
            (glossary::PPO_POLICY_LOSS, per_token(self.policy_loss)),
            (glossary::PPO_VALUE_LOSS, per_token(self.value_loss)),
            (glossary::PPO_APPROX_KL, per_token(self.divergence)),
            (glossary::PPO_POLICY_CLIPFRAC, per_token(self.policy_clipped)),
            (glossary::PPO_VALUE_CLIPFRAC, per_token(self.value_clipped)),
            (glossary::PPO_RATIO, per_token(self.ratio)),
            (glossary::PPO_FIRST_RATIO_ERROR, self.first_ratio_error),
            (glossary::PPO_STOPPED, self.stopped),
            (glossary::GRAD_NORM, self.norm / self.updates.max(1.0)),
        ]
    }
}

/// 1 − Var(target − value) / Var(target): 1 where the values say all, 0 or less where they say nothing.
fn explained_variance(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len().max(1) as f64;
    let variance = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mean = pairs.iter().map(of).sum::<f64>() / count;
        pairs.iter().map(|pair| (of(pair) - mean).powi(2)).sum::<f64>() / count
    };
    let all = variance(&|pair| pair.1);
    if all == 0.0 { 0.0 } else { 1.0 - variance(&|pair| pair.1 - pair.0) / all }
}
