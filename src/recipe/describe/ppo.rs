//! `[ppo]` in words.

use std::fmt::{self, Write};

use super::super::estimate::product;
use super::super::{ChunkLen, KlTable, Plan, ValueSource};
use super::words::grouped;
use super::write_optimisation;
use crate::losses::KlEstimator;

impl Plan {
    pub(in crate::recipe) fn write_ppo(&self, out: &mut String) -> fmt::Result {
        let (Some(ppo), Some(training)) = (&self.recipe.ppo, &self.training.ppo) else {
            return Ok(());
        };
        let pair = self.ppo_pair().map(|pair| format!("{} over {}", pair.tuned, pair.untuned));
        let chunks = ppo.chunk_len.0.iter().map(ChunkLen::to_string).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "{}; rewarded by {} with scale {}, at the end of each chunk of {chunks} tokens",
            ppo.policy,
            pair.unwrap_or_default(),
            ppo.scale
        )?;

        for guide in self.recipe.ppo_guide_models() {
            self.write_guide_room(out, guide, &[&ppo.policy], ppo.max_new_tokens)?;
        }
        let [lengths, seeds] =
            [ppo.chunk_len.0.len(), self.recipe.run.seeds.len()].map(|count| count as u64);
        let trainings = product(&[lengths, seeds]);
        let [steps, batch] =
            [training.steps(ppo.prompts), training.batch_size].map(|count| count as u64);
        let rollouts = product(&[trainings, steps, batch]);
        write!(
            out,
            "     chunk lengths {lengths} × seeds {seeds} = {trainings} trainings; {} steps of {} \
             rollouts each, ",
            grouped(steps),
            grouped(batch)
        )?;
        writeln!(out, "{} rollouts in all", grouped(rollouts))?;
        write!(
            out,
            "     {} prompts and {} for validation; up to {} new tokens, ",
            ppo.prompts, ppo.validation_prompts, ppo.max_new_tokens
        )?;
        writeln!(
            out,
            "temperature {}; missing-EOS penalty {}",
            ppo.temperature, ppo.missing_eos_penalty
        )?;

        let minibatch = ppo.minibatch(training.batch_size);
        let minibatches = training.batch_size / minibatch;
        let updates = product(&[ppo.ppo_epochs as u64, minibatches as u64]);
        write!(
            out,
            "     {} epochs × {minibatches} minibatches of {minibatch} = {} updates a step",
            ppo.ppo_epochs,
            grouped(updates)
        )?;
        writeln!(
            out,
            ", {} rollouts in a forward pass of up to {} tokens each",
            training.micro_batch_size, training.max_length
        )?;
        let value = match ppo.value {
            ValueSource::Head => "a value head on the policy's states",
            ValueSource::Model => "a value model that starts as a copy of the policy",
        };
        writeln!(
            out,
            "     {value}, value coefficient {}, learning rate of the head {:e}",
            ppo.vf_coef, ppo.head_learning_rate
        )?;
        let most = ppo.target_kl.map_or("off".to_owned(), |most| most.to_string());
        writeln!(
            out,
            "     gamma {}, lambda {}; clip {}, value clip {}, target KL {most}",
            ppo.gamma, ppo.lam, ppo.cliprange, ppo.cliprange_value
        )?;
        writeln!(out, "     {}", kl_words(&ppo.kl))?;
        write_optimisation(out, training)?;
        match ppo.validation_prompts {
            0 => write!(out, "; no validation")?,
            _ => write!(out, "; validated every {} steps", training.eval_every)?,
        }
        writeln!(out, ", checkpoint every {}", training.checkpoint_every)?;
        self.write_lora(out, &ppo.policy, training)?;

        // The policy as it was counts, and what is left of the steps.
        let validations = steps.div_ceil(training.eval_every as u64).saturating_add(1);
        let answers = product(&[trainings, validations, ppo.validation_prompts as u64]);
        let sampled = product(&[rollouts.saturating_add(answers), ppo.max_new_tokens as u64]);
        writeln!(
            out,
            "     at most {} sampled tokens in all, validation included",
            grouped(sampled)
        )
    }
}

fn kl_words(kl: &KlTable) -> String {
    let estimator = match kl.estimator {
        KlEstimator::K1 => "k1",
        KlEstimator::K3 => "k3",
    };
    let adapted = kl.target.map_or("fixed".to_owned(), |target| {
        format!(
            "adapted to a divergence of {target} \
                                                               with horizon {}",
            kl.horizon()
        )
    });
    format!("KL penalty by {estimator} with coefficient {}, {adapted}", kl.coef)
}
