//! The one list of metric names. The same names stand in TensorBoard, in `metrics.jsonl` and in the
//! README's table.
//!
//! What is measured on held-out data has the same name behind `validation/`, see [`held_out`]: a
//! metric of both training and validation is one constant.

/// The name under which `name` is recorded where it is measured on held-out data.
pub fn held_out(name: &str) -> String {
    format!("validation/{name}")
}

/// A row is the constant, the name, the meaning in training where there is one, and that on
/// held-out data where there is one.
macro_rules! glossary {
    ($($constant:ident = $name:literal $(: $meaning:literal)? $(, held out: $held_out:literal)?;)+) => {
        $($(#[doc = $meaning])? $(#[doc = concat!("\n\nOn held-out data: ", $held_out)])? pub const $constant: &str = $name;)+

        /// Name, and its meaning with what a healthy run shows, in the order of the README's table.
        pub const GLOSSARY: &[(&str, &str)] = &[$($(($name, $meaning),)? $((concat!("validation/", $name), $held_out),)?)+];
    };
}

glossary! {
    LOSS = "loss": "Mean training loss of the step. Pretraining and SFT: nats per token, starts \
                    near ln(vocabulary) from scratch. Gold: starts near ln 2. DPO: starts at ln 2 \
                    = 0.693 (hinge: at 1; ipo: at 1/(4 beta²)). Reward model: starts at ln 2. Must \
                    fall.", held out: "The loss on held-out data. Rising while `loss` falls is overfitting; the best one's weights are kept.";
    LEARNING_RATE = "learning_rate": "Rate of this step: rises over the warm-up, then follows the \
                                      schedule down.";
    GRAD_NORM = "grad_norm": "Norm of the gradient before clipping. Healthy: settles; a jump of \
                              ten times and more precedes a diverging loss.";
    TOKENS_PER_SECOND = "tokens_per_second": "Training tokens, padding excluded, per second since \
                                              the last line. Healthy: flat.";
    PEAK_RSS_BYTES = "peak_rss_bytes": "The most main memory the process has had, in bytes, \
                                        earlier stages included; not the accelerator's. Healthy: \
                                        flat after the first steps; steady growth is a leak.";
    ACCURACY = "accuracy": "Gold classifier: share of the step's texts whose label is predicted. \
                            0.5 is chance for two \
                            labels.", held out: "Gold classifier: accuracy on held-out texts. Everything downstream is judged by this model, so expect 0.9 and more.";
    PPO_SCORES = "objective/scores": "PPO: mean reward of a rollout from the guide pair, less \
                                      `missing_eos_penalty` where it was cut, before the \
                                      divergence is taken off. Must rise.";
    PPO_KL = "objective/kl": "PPO: mean over rollouts of Σ log π/π_initial. Starts at 0, rises and \
                              settles; tens per rollout of 50 tokens mean that the policy games \
                              the reward.";
    PPO_NON_SCORE_REWARD = "objective/non_score_reward": "PPO: what the divergence takes off a \
                                                          rollout's reward, negative.";
    PPO_RLHF_REWARD = "objective/rlhf_reward": "PPO: the sum of the two, which is what the policy \
                                                maximises. Must rise.";
    PPO_ENTROPY = "objective/entropy": "PPO: mean over rollouts of −Σ log π at the sampling \
                                        temperature. Falls slowly; a fall towards 0 is a collapse \
                                        onto one text.";
    PPO_EXPLAINED_VARIANCE = "val/explained_variance": "PPO: share of the returns' variance that \
                                                        the value head knew beforehand. From 0 or \
                                                        less towards 1.";
    PPO_POLICY_LOSS = "loss/policy_avg": "PPO: clipped policy loss per token. Small and noisy \
                                          around 0; its level means nothing.";
    PPO_VALUE_LOSS = "loss/value_avg": "PPO: clipped value loss per token. Falls, then follows the \
                                        scale of the returns.";
    PPO_APPROX_KL = "policy/approxkl_avg": "PPO: ½ (log π − log π_old)² per token, over the epochs \
                                            of one batch. Healthy: below 0.1; above, lower the \
                                            rate or set `target_kl`.";
    PPO_POLICY_CLIPFRAC = "policy/clipfrac_avg": "PPO: share of tokens whose ratio was clipped. \
                                                  Healthy: 0.05 to 0.3.";
    PPO_VALUE_CLIPFRAC = "val/clipfrac_avg": "PPO: share of tokens whose value was clipped.";
    PPO_RATIO = "val/ratio": "PPO: mean of π/π_old. Stays near 1.";
    PPO_FIRST_RATIO_ERROR = "val/first_ratio_error": "PPO: largest distance of a ratio from 1 in \
                                                      the first minibatch, before anything was \
                                                      learned. Must be 0.";
    PPO_KL_COEF = "objective/kl_coef": "PPO: what a nat of divergence costs; moves only with \
                                        `kl.target`.";
    PPO_NUM_EOS = "val/num_eos_tokens": "PPO: rollouts of the step that ended by themselves. \
                                         Falling towards 0 where answers should end: the reward \
                                         pays for length, or `missing_eos_penalty` is too small.";
    SECONDS_ROLLOUT = "seconds/rollout": "PPO: time of the step that went into sampling.";
    SECONDS_REWARD = "seconds/reward": "PPO: time of the step that the guides took.";
    SECONDS_UPDATE = "seconds/update": "PPO: time of the step that went into log-probabilities, \
                                        values and updates.";
    ROLLOUTS_PER_SECOND = "rollouts_per_second": "PPO: rollouts of the step over all of its time. \
                                                  Healthy: flat.";
    SCORE = "score", held out: "PPO: `objective/scores` on the validation prompts. Must rise with \
                                it.";
    GOLD_REWARD = "gold_reward", held out: "PPO: mean gold reward on the validation prompts. \
                                            Falling while `validation/score` rises: the policy \
                                            games the guides; stop earlier or raise `kl.coef`.";
    RESPONSE_TOKENS = "response_tokens": "PPO: mean tokens of a rollout, EOS included. Rising to \
                                          the limit with complete answers getting rare: the reward \
                                          pays for \
                                          length.", held out: "PPO: mean tokens of a response to the validation prompts.";
    COMPLETE = "complete", held out: "PPO: share of these responses that ended by themselves.";
    DISTINCT_1 = "distinct_1", held out: "PPO: distinct words over all words of these responses.";
    DISTINCT_2 = "distinct_2", held out: "PPO: distinct pairs of words over all. A fall to a third \
                                          and less is a collapse onto a few phrases.";
    PPO_STOPPED = "policy/stopped_early": "PPO: 1 where `target_kl` ended the epochs of this \
                                           batch.";
    REWARDS_CHOSEN = "rewards/chosen": "DPO: mean of beta × (log-probability of the chosen \
                                        response under the policy − under the reference). Starts \
                                        at 0. Reward model: mean reward of the chosen response, \
                                        which starts at 0 too; only differences mean \
                                        something.", held out: "`rewards/chosen` on held-out pairs.";
    REWARDS_REJECTED = "rewards/rejected": "DPO: the same for the rejected response. Starts at 0 \
                                            and ends below `rewards/chosen`; both may \
                                            fall.", held out: "`rewards/rejected` on held-out pairs.";
    REWARDS_MARGINS = "rewards/margins": "`rewards/chosen` − `rewards/rejected`. Starts at 0, must \
                                          rise.", held out: "`rewards/margins` on held-out pairs. Falling while the training margin rises is overfitting.";
    REWARDS_ACCURACIES = "rewards/accuracies": "Share of pairs with chosen above rejected. From \
                                                0.5 (0 at the very first step: ties do not count) \
                                                to 0.6–0.8; labels that are drawn at random from \
                                                the gold reward keep it from \
                                                1.", held out: "`rewards/accuracies` on held-out pairs: how well the guide pair, or the reward model, orders responses it has not seen.";
    LOGPS_CHOSEN = "logps/chosen": "DPO: mean summed log-probability of the chosen response under \
                                    the policy. A slow fall is usual, a collapse is \
                                    not.", held out: "`logps/chosen` on held-out pairs.";
    LOGPS_REJECTED = "logps/rejected": "DPO: the same for the rejected response. Falls faster than \
                                        `logps/chosen`.", held out: "`logps/rejected` on held-out pairs.";
    KL = "kl": "DPO: how far the policy is from the reference: mean over the response tokens of \
                exp(d) − 1 − d, d = log-probability under the policy − under the reference \
                (estimator k3 of KL(reference ‖ policy), on the pairs' texts, which are mostly the \
                reference's). Starts at 0 and rises. Rising on while \
                `validation/rewards/accuracies` stands still: lower the rate or raise \
                beta.", held out: "`kl` on held-out pairs.";
}

/// The glossary as a Markdown table, ending in a line break.
pub fn markdown_table() -> String {
    let mut table = "| metric | meaning |\n|---|---|\n".to_owned();
    for (name, meaning) in GLOSSARY {
        table.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_dpo_metric_has_a_validation_twin() {
        let names: BTreeSet<&str> = GLOSSARY.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), GLOSSARY.len());
        for name in names.iter().filter(|name| {
            name.starts_with("rewards/") || name.starts_with("logps/") || **name == "kl"
        }) {
            assert!(names.contains(held_out(name).as_str()), "{name}");
        }
        assert_eq!(held_out(LOSS), "validation/loss");
    }

    #[test]
    fn the_table_has_one_row_for_each_name() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), GLOSSARY.len() + 2);
        assert!(
            table.lines().all(|line| line.matches('|').count() == 3),
            "a cell must hold no bar"
        );
    }
}
