//! Direct preference optimisation and its relatives: losses on the log-probabilities of pairs under
//! a policy and its reference.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What is minimised for a pair; h is log π/π_ref of a response summed over its tokens, and Δ =
/// h(chosen) − h(rejected).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// −(1 − ε) log σ(βΔ) − ε log σ(−βΔ): Eq. 7 of arXiv:2305.18290 at ε = 0, and with ε > 0
    /// conservative DPO (E. Mitchell, "A note on DPO with noisy preferences and relationship to
    /// IPO", 2023), where ε is the chance that a label is wrong.
    #[default]
    Sigmoid,
    /// (Δ − 1/(2β))²: Eq. 17 of arXiv:2310.12036, whose τ is β. Each h is divided by the tokens of
    /// its response, as TRL does on the advice of the paper's authors; without that the square
    /// would grow with the length.
    Ipo,
    /// max(0, 1 − βΔ): "hinge-norm" of arXiv:2309.06657.
    Hinge,
}

/// A preference loss with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DpoObjective {
    pub loss: PreferenceLoss,
    /// Commonly 0.1 to 0.5; with [`PreferenceLoss::Ipo`], which counts per token, rather 1.
    pub beta: f64,
    /// ε of [`PreferenceLoss::Sigmoid`], from 0 to below 0.5; the other losses have none.
    pub label_smoothing: f64,
}

impl DpoObjective {
    /// DPO itself: the sigmoid without label smoothing.
    pub fn plain(beta: f64) -> Self {
        Self { loss: PreferenceLoss::Sigmoid, beta, label_smoothing: 0.0 }
    }

    /// The loss of any pair where policy and reference are one.
    pub fn loss_at_start(&self) -> f64 {
        match self.loss {
            PreferenceLoss::Sigmoid => 2f64.ln(),
            PreferenceLoss::Ipo => 0.25 / (self.beta * self.beta),
            PreferenceLoss::Hinge => 1.0,
        }
    }
}

impl fmt::Display for DpoObjective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, beta, label_smoothing } = *self;
        match loss {
            PreferenceLoss::Sigmoid => {
                write!(out, "beta {beta}, sigmoid loss, label smoothing {label_smoothing}")
            }
            PreferenceLoss::Ipo => write!(out, "beta {beta}, ipo loss"),
            PreferenceLoss::Hinge => write!(out, "beta {beta}, hinge loss"),
        }
    }
}

/// All (pairs); everything but `losses` is detached.
pub struct DpoOutput {
    pub losses: Tensor,
    /// β log π/π_ref, summed over the tokens whatever the loss is.
    pub chosen_rewards: Tensor,
    pub rejected_rewards: Tensor,
    /// 1 where the chosen response has the strictly higher reward, else 0: a tie is no success.
    /// f32.
    pub accuracies: Tensor,
}

/// `objective` for each pair. `policy` and `reference` hold the log-probabilities of the chosen and
/// of the rejected response, summed over their tokens, and `tokens` how many those are, at least 1;
/// (pairs) each, of one float kind, in which the results are too.
pub fn dpo(
    objective: &DpoObjective,
    policy: [&Tensor; 2],
    reference: [&Tensor; 2],
    tokens: [&Tensor; 2],
) -> DpoOutput {
    let DpoObjective { loss, beta, label_smoothing } = *objective;
    let ratios = [0, 1].map(|side| policy[side] - reference[side]);
    let [chosen, rejected] = ratios.each_ref().map(|ratio| ratio * beta);
    let margins = &chosen - &rejected;
    let losses = match loss {
        PreferenceLoss::Sigmoid => {
            -(margins.log_sigmoid() * (1.0 - label_smoothing)
                + (-margins).log_sigmoid() * label_smoothing)
        }
        PreferenceLoss::Ipo => {
            (&ratios[0] / tokens[0] - &ratios[1] / tokens[1] - 0.5 / beta).square()
        }
        PreferenceLoss::Hinge => (-margins + 1.0).relu(),
    };
    let (chosen_rewards, rejected_rewards) = (chosen.detach(), rejected.detach());
    let accuracies = chosen_rewards.gt_tensor(&rejected_rewards).to_kind(Kind::Float);
    DpoOutput { losses, chosen_rewards, rejected_rewards, accuracies }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(PreferenceLoss, f64); 4] = [
        (PreferenceLoss::Sigmoid, 0.0),
        (PreferenceLoss::Sigmoid, 0.1),
        (PreferenceLoss::Ipo, 0.0),
        (PreferenceLoss::Hinge, 0.0),
    ];

    fn double(value: f64) -> Tensor {
        Tensor::from_slice(&[value])
    }

    /// One pair in f64: responses of 2 and 4 tokens, reference log-probabilities −3 and −3.5.
    fn output(
        loss: PreferenceLoss,
        beta: f64,
        label_smoothing: f64,
        policy: [&Tensor; 2],
    ) -> DpoOutput {
        let [ref_chosen, ref_rejected, two, four] = [-3.0, -3.5, 2.0, 4.0].map(double);
        dpo(
            &DpoObjective { loss, beta, label_smoothing },
            policy,
            [&ref_chosen, &ref_rejected],
            [&two, &four],
        )
    }

    #[test]
    fn a_pair_by_hand() {
        // h = −2 + 3 = 1 and −4 + 3.5 = −0.5, so βΔ = 0.75; the means per token are 0.5 and −0.125.
        let log_sigmoid = |x: f64| -(-x).exp().ln_1p();
        let expected = [
            -log_sigmoid(0.75),
            -0.9 * log_sigmoid(0.75) - 0.1 * log_sigmoid(-0.75),
            (0.625 - 1.0) * (0.625 - 1.0),
            0.25,
        ];
        for ((loss, smoothing), expected) in ALL.into_iter().zip(expected) {
            let output = output(loss, 0.5, smoothing, [&double(-2.0), &double(-4.0)]);
            let value = output.losses.double_value(&[0]);
            assert!(
                (value - expected).abs() < 1e-12,
                "{loss:?} {smoothing}: {value}, expected {expected}"
            );
            let rewards = [&output.chosen_rewards, &output.rejected_rewards, &output.accuracies]
                .map(|tensor| tensor.double_value(&[0]));
            assert_eq!(rewards, [0.5, -0.25, 1.0]);
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        for (loss, smoothing) in ALL {
            // The last margin is beyond the hinge, and so far out that a naive log(sigmoid) loses
            // its gradient.
            for (beta, chosen, rejected) in
                [(0.5, -2.0, -4.0), (0.1, -9.0, -1.0), (2.0, -2.0, -45.0)]
            {
                let at = |chosen: f64, rejected: f64| {
                    output(loss, beta, smoothing, [&double(chosen), &double(rejected)])
                        .losses
                        .double_value(&[0])
                };
                let policy = [chosen, rejected].map(|logp| double(logp).set_requires_grad(true));
                output(loss, beta, smoothing, [&policy[0], &policy[1]])
                    .losses
                    .sum(Kind::Double)
                    .backward();
                let gradients = policy.each_ref().map(|logp| logp.grad().double_value(&[0]));
                let step = 1e-5;
                let numeric = [
                    (at(chosen + step, rejected) - at(chosen - step, rejected)) / (2.0 * step),
                    (at(chosen, rejected + step) - at(chosen, rejected - step)) / (2.0 * step),
                ];
                for (gradient, numeric) in gradients.into_iter().zip(numeric) {
                    assert!(
                        (gradient - numeric).abs() < 1e-8,
                        "{loss:?} {smoothing} {beta} {chosen}: {gradient} against {numeric}"
                    );
                }
            }
        }
    }

    #[test]
    fn equal_models_give_ln_two_and_no_success() {
        let reference = [double(-3.0), double(-3.5)];
        let output = output(PreferenceLoss::Sigmoid, 0.1, 0.0, reference.each_ref());
        assert!((output.losses.double_value(&[0]) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(output.accuracies.double_value(&[0]), 0.0);
    }

    #[test]
    fn smoothing_has_its_least_where_the_model_believes_what_the_labels_are_worth() {
        // σ(βΔ) = 1 − ε: no margin beyond it pays.
        let best = 9f64.ln();
        let at = |margin: f64| {
            output(PreferenceLoss::Sigmoid, 1.0, 0.1, [&double(margin - 3.0), &double(-3.5)])
                .losses
                .double_value(&[0])
        };
        assert!(at(best) < at(best + 0.1) && at(best) < at(best - 0.1));
    }
}
