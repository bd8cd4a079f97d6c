//! The one list of metric names. The same names stand in TensorBoard, in `metrics.jsonl` and on the
//! page `docs/metrics.md`, which [`metrics_page`] writes.
//!
//! What is measured on held-out data has the same name behind `validation/`, see [`held_out`]: a
//! metric of both training and validation is one constant. A metric of several stages stands once,
//! in the group that has them all. What is done with a value is left to the monitor and to whoever
//! records it.

/// The name under which `name` is recorded where it is measured on held-out data.
pub fn held_out(name: &str) -> String {
    format!("validation/{name}")
}

/// Metrics of the same stages.
pub struct Group {
    pub title: &'static str,
    /// What is to be known of all of them.
    pub about: &'static str,
    pub metrics: &'static [Metric],
}

/// What one name stands for, and what a healthy run shows.
pub struct Metric {
    pub name: &'static str,
    pub training: Option<&'static str>,
    pub held_out: Option<&'static str>,
}

/// A row is the constant, the name, the meaning in training where there is one, and that on
/// held-out data where there is one.
macro_rules! glossary {
    ($($title:literal: $about:literal {
        $($constant:ident = $name:literal
            $(training: $training:literal)? $(held_out: $held_out:literal)?;)+
    })+) => {
        $($(
            $(#[doc = $training])?
            $(#[doc = concat!("\n\nOn held-out data: ", $held_out)])?
            pub const $constant: &str = $name;
        )+)+

        /// All metrics, in the order of the page.
        pub const GLOSSARY: &[Group] = &[$(Group {
            title: $title,
            about: $about,
            metrics: &[$(Metric {
                name: $name,
                training: glossary!(@meaning $($training)?),
                held_out: glossary!(@meaning $($held_out)?),
            }),+],
        }),+];
    };
    (@meaning) => { None };
    (@meaning $meaning:literal) => { Some($meaning) };
}

glossary! {
    "Every training": "Pretraining, gold classifier, SFT, reward model, DPO and direct tuning; all \
        but `loss` in PPO too." {
        LOSS = "loss"
            training: "Mean training loss of the step. Pretraining and SFT: nats per token, starts \
                near ln(vocabulary) from scratch. Gold: starts near ln 2. DPO: starts at ln 2 = \
                0.693 (hinge: at 1; ipo: at 1/(4 beta²)). Reward model: starts at ln 2. Must fall."
            held_out: "The loss on held-out data. Rising while `loss` falls is overfitting; the \
                best one's weights are kept.";
        LEARNING_RATE = "learning_rate"
            training: "Rate of this step: rises over the warm-up, then follows the schedule down.";
        GRAD_NORM = "grad_norm"
            training: "Norm of the gradient before clipping. Healthy: settles; a jump of ten times \
                and more precedes a diverging loss.";
        TOKENS_PER_SECOND = "tokens_per_second"
            training: "Training tokens, padding excluded, per second since the last line. Healthy: \
                flat.";
        PEAK_RSS_BYTES = "peak_rss_bytes"
            training: "The most main memory the process has had, in bytes, earlier stages \
                included; not the accelerator's. Healthy: flat after the first steps; steady \
                growth is a leak.";
    }

    "Gold classifier": "" {
        ACCURACY = "accuracy"
            training: "Share of the step's texts whose label is predicted. 0.5 is chance for two \
                labels."
            held_out: "Accuracy on held-out texts. Everything downstream is judged by this model, \
                so expect 0.9 and more.";
    }

    "Preference pairs": "DPO, direct tuning by DPO, and the reward model." {
        REWARDS_CHOSEN = "rewards/chosen"
            training: "DPO: mean of beta × (log-probability of the chosen response under the \
                policy − under the reference). Starts at 0. Reward model: mean reward of the \
                chosen response, which starts at 0 too; only differences mean something."
            held_out: "The same on held-out pairs.";
        REWARDS_REJECTED = "rewards/rejected"
            training: "The same for the rejected response. Starts at 0 and ends below \
                `rewards/chosen`; both may fall."
            held_out: "The same on held-out pairs.";
        REWARDS_MARGINS = "rewards/margins"
            training: "`rewards/chosen` − `rewards/rejected`. Starts at 0, must rise."
            held_out: "The same on held-out pairs. Falling while the training margin rises is \
                overfitting.";
        REWARDS_ACCURACIES = "rewards/accuracies"
            training: "Share of pairs with chosen above rejected. From 0.5 (0 at the very first \
                step: ties do not count) to 0.6–0.8; labels that are drawn at random from the gold \
                reward keep it from 1."
            held_out: "How well the guide pair, or the reward model, orders responses it has not \
                seen.";
    }

    "DPO": "Direct tuning by DPO too." {
        LOGPS_CHOSEN = "logps/chosen"
            training: "Mean summed log-probability of the chosen response under the policy. A slow \
                fall is usual, a collapse is not."
            held_out: "The same on held-out pairs.";
        LOGPS_REJECTED = "logps/rejected"
            training: "The same for the rejected response. Falls faster than `logps/chosen`."
            held_out: "The same on held-out pairs.";
        KL = "kl"
            training: "How far the policy is from the reference: mean over the response tokens of \
                exp(d) − 1 − d, d = log-probability under the policy − under the reference \
                (estimator k3 of KL(reference ‖ policy), on the pairs' texts, which are mostly the \
                reference's). Starts at 0 and rises. Rising on while \
                `validation/rewards/accuracies` stands still: lower the rate or raise beta."
            held_out: "The same on held-out pairs.";
    }

    "PPO": "A step is one batch of rollouts; held-out data are the validation prompts." {
        PPO_SCORES = "objective/scores"
            training: "Mean reward of a rollout from the guide pair, less `missing_eos_penalty` \
                where it was cut, before the divergence is taken off. Must rise.";
        SCORE = "score"
            held_out: "`objective/scores` on the validation prompts. Must rise with it.";
        GOLD_REWARD = "gold_reward"
            held_out: "Mean gold reward on the validation prompts. Falling while \
                `validation/score` rises: the policy games the guides; stop earlier or raise \
                `kl.coef`.";
        PPO_KL = "objective/kl"
            training: "Mean over rollouts of Σ log π/π_initial. Starts at 0, rises and settles; \
                tens per rollout of 50 tokens mean that the policy games the reward.";
        PPO_NON_SCORE_REWARD = "objective/non_score_reward"
            training: "What the divergence takes off a rollout's reward, negative.";
        PPO_RLHF_REWARD = "objective/rlhf_reward"
            training: "`objective/scores` + `objective/non_score_reward`, which is what the policy \
                maximises. Must rise.";
        PPO_ENTROPY = "objective/entropy"
            training: "Mean over rollouts of −Σ log π at the sampling temperature. Falls slowly; a \
                fall towards 0 is a collapse onto one text.";
        PPO_KL_COEF = "objective/kl_coef"
            training: "What a nat of divergence costs; moves only with `kl.target`.";
        PPO_POLICY_LOSS = "loss/policy_avg"
            training: "Clipped policy loss per token. Small and noisy around 0; its level means \
                nothing.";
        PPO_VALUE_LOSS = "loss/value_avg"
            training: "Clipped value loss per token. Falls, then follows the scale of the returns.";
        PPO_EXPLAINED_VARIANCE = "val/explained_variance"
            training: "Share of the returns' variance that the value head knew beforehand. From 0 \
                or less towards 1.";
        PPO_APPROX_KL = "policy/approxkl_avg"
            training: "½ (log π − log π_old)² per token, over the epochs of one batch. Healthy: \
                below 0.1; above, lower the rate or set `target_kl`.";
        PPO_POLICY_CLIPFRAC = "policy/clipfrac_avg"
            training: "Share of tokens whose ratio was clipped. Healthy: 0.05 to 0.3.";
        PPO_VALUE_CLIPFRAC = "val/clipfrac_avg"
            training: "Share of tokens whose value was clipped.";
        PPO_RATIO = "val/ratio"
            training: "Mean of π/π_old. Stays near 1.";
        PPO_FIRST_RATIO_ERROR = "val/first_ratio_error"
            training: "Largest distance of a ratio from 1 in the first minibatch, before anything \
                was learned. Must be 0.";
        PPO_STOPPED = "policy/stopped_early"
            training: "1 where `target_kl` ended the epochs of this batch.";
        PPO_NUM_EOS = "val/num_eos_tokens"
            training: "Rollouts of the step that ended by themselves. Falling towards 0 where \
                answers should end: the reward pays for length, or `missing_eos_penalty` is too \
                small.";
        RESPONSE_TOKENS = "response_tokens"
            training: "Mean tokens of a rollout, EOS included. Rising to the limit with complete \
                answers getting rare: the reward pays for length."
            held_out: "Mean tokens of a response to the validation prompts.";
        COMPLETE = "complete"
            held_out: "Share of these responses that ended by themselves.";
        DISTINCT_1 = "distinct_1"
            held_out: "Distinct words over all words of these responses.";
        DISTINCT_2 = "distinct_2"
            held_out: "Distinct pairs of words over all. A fall to a third and less is a collapse \
                onto a few phrases.";
        SECONDS_ROLLOUT = "seconds/rollout"
            training: "Time of the step that went into sampling.";
        SECONDS_REWARD = "seconds/reward"
            training: "Time of the step that the guides took.";
        SECONDS_UPDATE = "seconds/update"
            training: "Time of the step that went into log-probabilities, values and updates.";
        ROLLOUTS_PER_SECOND = "rollouts_per_second"
            training: "Rollouts of the step over all of its time. Healthy: flat.";
    }
}

/// `docs/metrics.md`: a table for each group, each metric with its held-out twin behind it.
pub fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat `metrics.jsonl` and TensorBoard record, under the same names, and what \
         a healthy run shows.\nThis page is made from `src/monitor/glossary.rs`.\n",
    );
    for Group { title, about, metrics } in GLOSSARY {
        page += &format!("\n## {title}\n\n");
        if !about.is_empty() {
            page += &format!("{about}\n\n");
        }
        page += "| metric | meaning |\n|---|---|\n";
        for Metric { name, training, held_out: validation } in *metrics {
            let twin = held_out(name);
            let rows = [(*name, training), (&twin, validation)];
            for (name, meaning) in rows {
                page.extend(meaning.map(|meaning| format!("| `{name}` | {meaning} |\n")));
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names() -> Vec<String> {
        let metrics = || GLOSSARY.iter().flat_map(|group| group.metrics);
        let trained = metrics().filter(|metric| metric.training.is_some());
        let validated = metrics().filter(|metric| metric.held_out.is_some());
        let twins = validated.map(|metric| held_out(metric.name));
        trained.map(|metric| metric.name.to_owned()).chain(twins).collect()
    }

    #[test]
    fn names_are_unique_and_every_metric_of_pairs_has_a_validation_twin() {
        let distinct: BTreeSet<String> = names().into_iter().collect();
        assert_eq!(distinct.len(), names().len());
        let of_pairs = |title: &str| ["Preference pairs", "DPO"].contains(&title);
        let pairs = GLOSSARY.iter().filter(|group| of_pairs(group.title));
        let pairs: Vec<&Metric> = pairs.flat_map(|group| group.metrics).collect();
        assert_eq!(pairs.len(), 7);
        assert!(pairs.iter().all(|metric| metric.training.is_some() && metric.held_out.is_some()));
        assert_eq!(held_out(LOSS), "validation/loss");
    }

    #[test]
    fn the_page_has_one_row_for_each_name() {
        let page = metrics_page();
        for name in names() {
            assert_eq!(page.matches(&format!("\n| `{name}` |")).count(), 1, "{name}");
        }
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), names().len() + 2 * GLOSSARY.len());
        assert!(rows.iter().all(|row| row.matches('|').count() == 3), "a cell must hold no bar");
    }
}
