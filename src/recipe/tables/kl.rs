//! `[ppo.kl]`: the penalty on leaving the policy as it was at first. Estimating the divergence is
//! left to `losses`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::rules::Rules;
use crate::losses::KlEstimator;

/// The penalty on leaving the policy as it was at first, which is taken off every token's reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KlTable {
    /// What the divergence is multiplied by; 0 is no penalty.
    #[schemars(range(min = 0), extend("x-also" = ["kl_coef", "init_kl_coef"]))]
    pub coef: f64,
    /// How a token's divergence is estimated, with d = log π − log π_initial.
    #[schemars(extend("x-also" = ["kl_estimator", "kl_penalty"]))]
    pub estimator: KlEstimator,
    /// Adapts the coefficient until `objective/kl` is this (arXiv 1909.08593); left out, it is
    /// fixed.
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["target"]))]
    #[schemars(example = 6.0)]
    pub target: Option<f64>,
    /// Rollouts over which it adapts, 10,000 by default; only with `target`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 10000.0)]
    pub horizon: Option<f64>,
}

impl KlTable {
    pub fn horizon(&self) -> f64 {
        self.horizon.unwrap_or(10_000.0)
    }

    /// Where a step has `batch_size` rollouts.
    pub(super) fn rules(&self, batch_size: usize, rules: &mut Rules) {
        let horizon = self.horizon();
        if self.target.is_none() {
            if self.horizon.is_some() {
                rules.problem_hint(
                    "`ppo.kl.horizon` does nothing without `ppo.kl.target`: the coefficient is \
                     fixed",
                    "name a target, or leave `horizon` out",
                );
            }
            return;
        }
        // One step changes the coefficient by up to a fifth of batch over horizon.
        let least = 0.2 * batch_size as f64;
        if horizon > 0.0 && horizon <= least {
            rules.problem_hint(
                format!(
                    "`ppo.kl.horizon` is {horizon}, and a step of {batch_size} rollouts would take \
                     the coefficient to 0 or below"
                ),
                format!("more than {least}; 10000 is the default"),
            );
        }
        if self.coef == 0.0 {
            rules.problem_hint(
                "`ppo.kl.target` adapts `ppo.kl.coef` by factors, so it stays at its 0",
                "start from a coefficient above 0, or leave `target` out",
            );
        }
    }

    /// As `w2s check` says it.
    pub(super) fn words(&self) -> String {
        let estimator = match self.estimator {
            KlEstimator::K1 => "k1",
            KlEstimator::K3 => "k3",
        };
        let adapted = match self.target {
            None => "fixed".to_owned(),
            Some(target) => {
                let horizon = self.horizon();
                format!("adapted to a divergence of {target} with horizon {horizon}")
            }
        };
        format!("KL penalty by {estimator} with coefficient {}, {adapted}", self.coef)
    }
}

impl Default for KlTable {
    fn default() -> Self {
        Self { coef: 0.05, estimator: KlEstimator::K1, target: None, horizon: None }
    }
}
