//! Proximal policy optimisation of a language model on rewards of its tokens (arXiv 1707.06347, and
//! 1909.08593 for language): the update from one batch of rollouts. Rollouts and rewards are the
//! caller's.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::super::adamw::AdamW;
use super::super::metrics::Metrics;
use super::super::sequence::Sequence;
use super::super::sequences::{PackedStates, alone, read_predicting, sequence_logps_at};
use super::super::token_logps::TokenLogps;
use super::super::watchdog::not_finite;
use super::rewards::sum;
use super::value::Value;
use crate::error::{Error, Result};
use crate::losses::{ClippedLoss, KlEstimator, approx_kl, gae, ppo_policy, ppo_value, whiten};
use crate::models::Lm;
use crate::monitor::glossary;

/// How a batch of rollouts becomes updates of the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct PpoSettings {
    /// The temperature of the rollouts, and of all log-probabilities.
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
    /// The weight of the value loss beside the policy's.
    pub vf_coef: f64,
    pub kl_estimator: KlEstimator,
    /// The rest of a batch is left where a minibatch's approximate divergence from the policy that
    /// sampled it exceeds this.
    pub target_kl: Option<f64>,
    pub max_grad_norm: f64,
    pub activation_checkpointing: bool,
}

/// One sampled response and what its tokens earned.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The response is scored; its EOS is part of it where the policy drew one.
    pub sequence: Sequence,
    /// The reward of each response token, paid where it is due.
    pub rewards: Vec<f64>,
}

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

    /// Updates policy and value from one batch, with `kl_coef` of the divergence from the reference
    /// taken off each token's reward. `order` gives the order in which an epoch visits the
    /// rollouts. Gives means over the batch under TRL's names.
    ///
    /// # Errors
    /// If a reward, the policy's loss or the norm of its gradient is not finite, or rewards and
    /// tokens differ in count.
    pub fn update(
        &self,
        optimizer: &mut AdamW,
        rollouts: &[Rollout],
        kl_coef: f64,
        rate: f64,
        order: &dyn Fn(usize) -> Vec<usize>,
    ) -> Result<Metrics> {
        check(rollouts)?;
        // 1. What the policy that sampled them, the values and the reference say of the rollouts.
        let mut known = self.look(rollouts, &order(0))?;
        // 2. Rewards less the divergence, and from them advantages and returns.
        let mut metrics = self.advantages(rollouts, &mut known, kl_coef);
        // 3. Epochs of minibatches, until the policy has left too far.
        let (mut norms, mut updates, mut first_ratio_error, mut stopped) = (0.0, 0.0, None, 0.0);
        'epochs: for epoch in 0..self.settings.epochs {
            for minibatch in order(epoch).chunks(self.settings.minibatch_size) {
                let Learned { norm, divergence, ratio_error } =
                    self.learn_minibatch(optimizer, rollouts, &known, minibatch, &mut metrics)?;
                first_ratio_error.get_or_insert(ratio_error);
                if self.settings.target_kl.is_some_and(|most| divergence > most) {
                    stopped = 1.0;
                    break 'epochs;
                }
                optimizer.step(rate)?;
                (norms, updates) = (norms + norm, updates + 1.0);
            }
        }
        metrics.set(glossary::PPO_FIRST_RATIO_ERROR, first_ratio_error.unwrap_or(0.0));
        metrics.set(glossary::PPO_STOPPED, stopped);
        metrics.add(glossary::GRAD_NORM, norms, f64::max(updates, 1.0));
        Ok(metrics)
    }

    /// Gives the rollouts that are `known` their advantages and returns, and what they come from as
    /// means over the rollouts.
    fn advantages(&self, rollouts: &[Rollout], known: &mut [Known], kl_coef: f64) -> Metrics {
        let (mut kls, mut shaped) = (0.0, 0.0);
        for (known, rollout) in known.iter_mut().zip(rollouts) {
            let kl: Vec<f32> = (known.logps.iter().zip(&known.reference))
                .map(|(logp, reference)| self.settings.kl_estimator.estimate(*logp, *reference))
                .collect();
            let rewards: Vec<f64> = rollout
                .rewards
                .iter()
                .zip(&kl)
                .map(|(reward, kl)| reward - kl_coef * f64::from(*kl))
                .collect();
            kls += known
                .logps
                .iter()
                .zip(&known.reference)
                .map(|(logp, reference)| f64::from(logp - reference))
                .sum::<f64>();
            shaped -= kl_coef * kl.iter().map(|kl| f64::from(*kl)).sum::<f64>();
            (known.advantages, known.returns) =
                gae(&rewards, &known.values, self.settings.gamma, self.settings.lam);
        }
        whiten(known.iter_mut().flat_map(|known| known.advantages.iter_mut()));

        let count = rollouts.len() as f64;
        let score = rollouts.iter().flat_map(|rollout| &rollout.rewards).sum::<f64>() / count;
        let entropy =
            -known.iter().flat_map(|known| &known.logps).map(|logp| f64::from(*logp)).sum::<f64>();
        let values = known.iter().flat_map(|known| known.values.iter().zip(&known.returns));
        let explained = explained_variance(
            &values
                .map(|(value, target)| (f64::from(*value), f64::from(*target)))
                .collect::<Vec<_>>(),
        );
        let mut metrics = Metrics::default();
        metrics.set(glossary::PPO_SCORES, score);
        metrics.add(glossary::PPO_KL, kls, count);
        metrics.add(glossary::PPO_NON_SCORE_REWARD, shaped, count);
        metrics.set(glossary::PPO_RLHF_REWARD, score + shaped / count);
        metrics.add(glossary::PPO_ENTROPY, entropy, count);
        metrics.set(glossary::PPO_EXPLAINED_VARIANCE, explained);
        metrics
    }

    /// The gradients of a minibatch, in micro-batches. What is measured is added to `metrics`,
    /// which hold it of the minibatches before.
    fn learn_minibatch(
        &self,
        optimizer: &mut AdamW,
        rollouts: &[Rollout],
        known: &[Known],
        minibatch: &[usize],
        metrics: &mut Metrics,
    ) -> Result<Learned> {
        let before =
            [glossary::PPO_POLICY_LOSS, glossary::PPO_APPROX_KL].map(|name| metrics.sum(name).0);
        let tokens = minibatch.iter().map(|&i| rollouts[i].sequence.scored()).sum::<usize>() as f64;
        let mut ratio_error: f64 = 0.0;
        optimizer.zero_gradients();
        for micro_batch in minibatch.chunks(self.settings.micro_batch_size) {
            ratio_error = ratio_error.max(self.learn(rollouts, known, micro_batch, metrics)?);
            if minibatch.len() > micro_batch.len() {
                optimizer.add_gradients()?;
            }
        }
        let norm = optimizer.finish_gradients(tokens, self.settings.max_grad_norm)?;
        let mean = |name: &str, before: f64| (metrics.sum(name).0 - before) / tokens;
        if let Some(complaint) = not_finite(mean(glossary::PPO_POLICY_LOSS, before[0]), norm) {
            return Err(Error::failed(format!("policy {complaint}")));
        }
        Ok(Learned { norm, divergence: mean(glossary::PPO_APPROX_KL, before[1]), ratio_error })
    }

    /// Log-probabilities and values of all rollouts under the policy that sampled them, and
    /// log-probabilities under the reference. The policy reads them in the micro-batches of the
    /// first epoch and with gradients on, so that the first ratio is 1 to the bit.
    fn look(&self, rollouts: &[Rollout], order: &[usize]) -> Result<Vec<Known>> {
        let mut known = vec![Known::default(); rollouts.len()];
        for minibatch in order.chunks(self.settings.minibatch_size) {
            for micro_batch in minibatch.chunks(self.settings.micro_batch_size) {
                let tokens = self.read_logps(&self.policy, rollouts, micro_batch)?;
                let logps = Vec::<f32>::try_from(tokens.logps.detach())?;
                let values = match self.value.body() {
                    None => self.value.of_states(&tokens.states).detach(),
                    Some(body) => tch::no_grad(|| {
                        Ok::<_, Error>(
                            self.value
                                .of_states(&self.read_values(body, rollouts, micro_batch)?.states),
                        )
                    })?,
                };
                let values = Vec::<f32>::try_from(values)?;
                drop(tokens);
                let reference = Vec::<f32>::try_from(
                    tch::no_grad(|| self.read_logps(&self.reference, rollouts, micro_batch))?.logps,
                )?;
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

    fn read_logps<'a>(
        &self,
        lm: &'a Lm,
        rollouts: &[Rollout],
        which: &[usize],
    ) -> Result<TokenLogps<'a>> {
        Ok(sequence_logps_at(
            &lm.model,
            &of(rollouts, which),
            self.settings.activation_checkpointing,
            self.settings.temperature,
        )?
        .0)
    }

    fn read_values<'a>(
        &self,
        body: &'a Lm,
        rollouts: &[Rollout],
        which: &[usize],
    ) -> Result<PackedStates<'a>> {
        read_predicting(&body.model, &of(rollouts, which), self.settings.activation_checkpointing)
    }

    /// Adds the gradients of the summed losses of a micro-batch, and what is measured of its
    /// tokens; gives the largest distance of a ratio from 1.
    fn learn(
        &self,
        rollouts: &[Rollout],
        known: &[Known],
        which: &[usize],
        metrics: &mut Metrics,
    ) -> Result<f64> {
        let tokens = self.read_logps(&self.policy, rollouts, which)?;
        let device = tokens.states.device();
        let gather = |of: fn(&Known) -> &[f32]| {
            Tensor::from_slice(
                &which.iter().flat_map(|&i| of(&known[i]).iter().copied()).collect::<Vec<f32>>(),
            )
            .to_device(device)
        };
        let (old_logps, old_values, returns) = (
            gather(|known| &known.logps),
            gather(|known| &known.values),
            gather(|known| &known.returns),
        );
        let policy = ppo_policy(
            &tokens.logps,
            &old_logps,
            &gather(|known| &known.advantages),
            self.settings.cliprange,
        );
        let policy_loss = policy.losses.sum(Kind::Float);
        let logps = tokens.logps.detach();
        let of_states = |states: &Tensor| {
            ppo_value(
                &self.value.of_states(states),
                &old_values,
                &returns,
                self.settings.cliprange_value,
            )
        };
        let value_loss =
            |value: &ClippedLoss| value.losses.sum(Kind::Float) * self.settings.vf_coef;
        let value = match self.value.body() {
            None => {
                let value = of_states(&tokens.states);
                tokens.learn_with(&policy_loss, Some(&value_loss(&value)))?;
                value
            }
            // One graph after the other.
            Some(body) => {
                tokens.learn(&policy_loss)?;
                let read = self.read_values(body, rollouts, which)?;
                let value = of_states(&read.states);
                read.learn(&value_loss(&value))?;
                value
            }
        };
        let ratio = (&logps - &old_logps).exp();
        let mut add = |name, values: &Tensor| metrics.add(name, sum(values), ratio.numel() as f64);
        add(glossary::PPO_POLICY_LOSS, &policy.losses);
        add(glossary::PPO_VALUE_LOSS, &value.losses);
        add(glossary::PPO_APPROX_KL, &approx_kl(&logps, &old_logps));
        add(glossary::PPO_POLICY_CLIPFRAC, &policy.clipped);
        add(glossary::PPO_VALUE_CLIPFRAC, &value.clipped);
        add(glossary::PPO_RATIO, &ratio);
        Ok((ratio - 1.0).abs().max().double_value(&[]))
    }
}

/// What the gradients of one minibatch came to.
struct Learned {
    norm: f64,
    /// The approximate divergence from the policy that sampled, per token.
    divergence: f64,
    /// The largest distance of a ratio from 1.
    ratio_error: f64,
}

/// Refuses rewards that are not finite, or not one for each token.
fn check(rollouts: &[Rollout]) -> Result<()> {
    let is_bad = |Rollout { sequence, rewards }: &Rollout| {
        rewards.len() != sequence.scored() || rewards.iter().any(|reward| !reward.is_finite())
    };
    match rollouts.iter().enumerate().find(|(_, rollout)| is_bad(rollout)) {
        None => Ok(()),
        Some((number, Rollout { sequence, rewards })) => {
            let tokens = sequence.scored();
            Err(Error::failed(format!(
                "rollout {number} of {tokens} tokens has the rewards {rewards:?}"
            )))
        }
    }
}

/// Each of these rollouts as a group of its own.
fn of<'a>(rollouts: &'a [Rollout], which: &[usize]) -> Vec<Vec<&'a Sequence>> {
    alone(&which.iter().map(|&i| &rollouts[i].sequence).collect::<Vec<_>>())
}

/// 1 − Var(target − value) / Var(target): 1 where the values say all, 0 or less where they say
/// nothing.
fn explained_variance(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len().max(1) as f64;
    let variance = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mean = pairs.iter().map(of).sum::<f64>() / count;
        pairs.iter().map(|pair| (of(pair) - mean).powi(2)).sum::<f64>() / count
    };
    let all = variance(&|pair| pair.1);
    if all == 0.0 { 0.0 } else { 1.0 - variance(&|pair| pair.1 - pair.0) / all }
}
