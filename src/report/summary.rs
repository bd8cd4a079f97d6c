//! `evaluate/summary.json`: one row for each base and method, and the paired differences between
//! the methods of a base. Lengths are controlled for in `length_control.rs`; tables and pages are
//! drawn elsewhere in the room.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::Answer;
use super::length_control::{LengthControl, Responses};
use super::pair_accuracy::PairAccuracy;
use super::ppo::PpoRow;
use super::served::Served;
use super::statistics::{distinct, mean, standard_deviation, standard_error};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub run: String,
    pub rows: Vec<SummaryRow>,
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// For each base with a reference method; see [`Self::control_for_length`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub length_control: Vec<LengthControl>,
    pub guide: Value,
    /// By base: how its direct tuning went.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub direct: Map<String, Value>,
    /// By chunk length: how PPO went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ppo: Vec<PpoRow>,
    pub gold: Value,
    /// What a reader of the numbers must know: results that show no effect because nothing was
    /// learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Gold reward by (base, method), then by prompt, the mean over seeds; for the comparisons.
    #[serde(skip)]
    by_prompt: Vec<(String, String, BTreeMap<String, f64>)>,
    #[serde(skip)]
    responses: Vec<Responses>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    pub base: String,
    pub method: String,
    pub settings: Value,
    /// Why the method does not apply to the base; there are no answers then, and all numbers are 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_applicable: Option<String>,
    /// By which prompts the setting is the best of its sweep: "test" for those that the row is
    /// about, "validation" for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<String>,
    pub gold_reward: Option<Reward>,
    /// What judges beside the gold say, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, Reward>,
    /// Mean score by the guide pair.
    pub score: Option<f64>,
    pub base_logprob_per_token: Option<f64>,
    pub response_tokens: f64,
    pub complete_fraction: f64,
    pub distinct_2: f64,
    /// Mean tokens for one prompt.
    pub tokens: Tokens,
    /// Mean seconds for one prompt.
    pub seconds: f64,
    pub prompts: usize,
    /// What all answers of the row have cost, where others serve the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    pub base: f64,
    pub guide: f64,
}

/// Over all responses: mean, standard deviation, 95 % interval half-width (prompts are the
/// independent units: seeds of one prompt are averaged first), and the mean of each seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    pub mean: f64,
    pub std: f64,
    pub ci95: f64,
    pub seeds: Vec<f64>,
}

/// Mean gold reward of method `a` minus that of `b` on the same base and prompts, and the standard
/// error of that paired difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub base: String,
    pub a: String,
    pub b: String,
    pub difference: f64,
    pub standard_error: f64,
    pub prompts: usize,
}

impl Summary {
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            rows: Vec::new(),
            comparisons: Vec::new(),
            length_control: Vec::new(),
            guide: Value::Null,
            direct: Map::new(),
            ppo: Vec::new(),
            gold: Value::Null,
            notes: Vec::new(),
            by_prompt: Vec::new(),
            responses: Vec::new(),
        }
    }

    /// Adds one base and method, and compares it with the same base's earlier ones.
    pub fn add(&mut self, base: &str, method: &str, settings: Value, answers: &[Answer]) {
        let by_prompt = mean_by_prompt(answers, gold);
        for (_, other, rewards) in self.by_prompt.iter().filter(|(known, ..)| known == base) {
            let differences: Vec<f64> = by_prompt
                .iter()
                .filter_map(|(id, reward)| Some(reward - rewards.get(id)?))
                .collect();
            if !differences.is_empty() {
                self.comparisons.push(Comparison {
                    base: base.to_owned(),
                    a: method.to_owned(),
                    b: other.clone(),
                    difference: mean(&differences),
                    standard_error: standard_error(&differences),
                    prompts: differences.len(),
                });
            }
        }
        let over =
            |value: &dyn Fn(&Answer) -> f64| mean(&answers.iter().map(value).collect::<Vec<_>>());
        self.rows.push(SummaryRow {
            base: base.to_owned(),
            method: method.to_owned(),
            settings,
            not_applicable: None,
            chosen: Vec::new(),
            gold_reward: reward(answers, gold),
            judges: judges(answers),
            score: mean_of(answers, |answer| answer.score),
            base_logprob_per_token: mean_of(answers, |answer| answer.base_logprob_per_token),
            response_tokens: over(&|answer| answer.response_tokens as f64),
            complete_fraction: over(&|answer| f64::from(u8::from(answer.complete))),
            distinct_2: distinct(2, answers.iter().map(|answer| answer.response.as_str())),
            tokens: Tokens {
                base: over(&|answer| answer.base_tokens as f64),
                guide: over(&|answer| answer.guide_tokens as f64),
            },
            seconds: over(&|answer| answer.seconds),
            prompts: answers
                .iter()
                .map(|answer| &answer.id)
                .collect::<std::collections::HashSet<_>>()
                .len(),
            served: None,
        });
        let note = format!(
            "{base}: every score is 0, so the guides chose nothing: tuned and untuned are the same \
             as they were loaded"
        );
        if !answers.is_empty()
            && answers.iter().all(|answer| answer.score == Some(0.0))
            && !self.notes.contains(&note)
        {
            self.notes.push(note);
        }
        self.by_prompt.push((base.to_owned(), method.to_owned(), by_prompt));
        self.responses.push(Responses::of(base, method, answers));
    }

    /// Adds a base and a method that does not apply to it.
    pub fn add_not_applicable(&mut self, base: &str, method: &str, settings: Value, why: String) {
        self.rows.push(SummaryRow {
            base: base.to_owned(),
            method: method.to_owned(),
            settings,
            not_applicable: Some(why),
            chosen: Vec::new(),
            gold_reward: None,
            judges: BTreeMap::new(),
            score: None,
            base_logprob_per_token: None,
            response_tokens: 0.0,
            complete_fraction: 0.0,
            distinct_2: 0.0,
            tokens: Tokens { base: 0.0, guide: 0.0 },
            seconds: 0.0,
            prompts: 0,
            served: None,
        });
    }

    /// Notes that `stage` learned nothing, where its `training.json` says so.
    pub fn note_training(&mut self, stage: &str, training: &Value) {
        let held_out = training["validation"]
            .as_array()
            .and_then(|values| values.first()?.as_array()?.get(1)?.as_f64());
        if training["changed"] == Value::Bool(false) {
            self.notes.push(format!(
                "{stage}: nothing was learned, the result is bit for bit what training started from"
            ));
        } else if let (Some(loss), Some(start)) = (held_out, training["loss_at_start"].as_f64())
            && loss >= start
        {
            self.notes.push(format!(
                "{stage}: the held-out loss {loss:.4} is no lower than {start:.4}, what it is \
                 before training"
            ));
        }
    }

    /// How often the gold is right about held-out pairs, where it is a reward model of this run.
    pub fn gold_accuracy(&self) -> Option<PairAccuracy> {
        serde_json::from_value(self.gold.clone()).ok()
    }

    /// Compares all methods of `base` that were added with its method `reference`, at equal length.
    pub fn control_for_length(&mut self, base: &str, reference: &str) {
        self.length_control.extend(LengthControl::of(&self.responses, base, reference));
    }
}

fn mean_of(answers: &[Answer], value: impl Fn(&Answer) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = answers.iter().filter_map(value).collect();
    (!values.is_empty()).then(|| mean(&values))
}

fn gold(answer: &Answer) -> Option<f64> {
    answer.gold_reward
}

/// What the judges beside the gold say of all answers.
fn judges(answers: &[Answer]) -> BTreeMap<String, Reward> {
    let names: BTreeSet<&String> = answers.iter().flat_map(|answer| answer.judges.keys()).collect();
    let of = |name: &String| {
        Some((name.clone(), reward(answers, |answer| answer.judges.get(name).copied())?))
    };
    names.into_iter().filter_map(of).collect()
}

fn mean_by_prompt(
    answers: &[Answer],
    value: impl Fn(&Answer) -> Option<f64>,
) -> BTreeMap<String, f64> {
    let mut rewards: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for answer in answers {
        if let Some(reward) = value(answer) {
            rewards.entry(answer.id.clone()).or_default().push(reward);
        }
    }
    rewards.into_iter().map(|(id, rewards)| (id, mean(&rewards))).collect()
}

fn reward(answers: &[Answer], value: impl Fn(&Answer) -> Option<f64>) -> Option<Reward> {
    let all: Vec<f64> = answers.iter().filter_map(&value).collect();
    if all.is_empty() {
        return None;
    }
    let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for answer in answers {
        seeds.entry(answer.seed).or_default().extend(value(answer));
    }
    let units: Vec<f64> = mean_by_prompt(answers, &value).into_values().collect();
    Some(Reward {
        mean: mean(&all),
        std: standard_deviation(&all),
        ci95: 1.96 * standard_error(&units),
        seeds: seeds.values().map(|rewards| mean(rewards)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(seed: u64, id: &str, reward: f64) -> Answer {
        Answer {
            seed,
            id: id.into(),
            prompt: "p".into(),
            response: "a b c".into(),
            complete: seed == 1,
            score: None,
            gold_reward: Some(reward),
            judges: BTreeMap::from([("kind".to_owned(), 2.0 * reward)]),
            base_logprob_per_token: None,
            response_tokens: 3,
            base_tokens: 3,
            guide_tokens: 0,
            seconds: 1.0,
        }
    }

    #[test]
    fn rows_and_paired_comparisons_by_hand() {
        let mut summary = Summary::new("test");
        summary.add(
            "m",
            "base",
            Value::Null,
            &[answer(1, "x", 0.0), answer(1, "y", 2.0), answer(2, "x", 2.0), answer(2, "y", 4.0)],
        );
        summary.add(
            "m",
            "cbs",
            Value::Null,
            &[answer(1, "x", 5.0), answer(1, "y", 5.0), answer(2, "x", 5.0), answer(2, "y", 9.0)],
        );
        let reward = summary.rows[0].gold_reward.clone().unwrap();
        assert_eq!((reward.mean, reward.seeds), (2.0, vec![1.0, 3.0]));
        assert!(
            (reward.ci95 - 1.96 * 1.0).abs() < 1e-12,
            "prompts x: 1, y: 3 have the standard error 1"
        );
        let kind = &summary.rows[0].judges["kind"];
        assert_eq!(
            (kind.mean, &kind.seeds[..]),
            (4.0, &[2.0, 6.0][..]),
            "another judge has its own numbers"
        );
        // per prompt: x 5 − 1 = 4, y 7 − 3 = 4
        let comparison = &summary.comparisons[0];
        assert_eq!(
            (comparison.a.as_str(), comparison.b.as_str(), comparison.prompts),
            ("cbs", "base", 2)
        );
        assert_eq!((comparison.difference, comparison.standard_error), (4.0, 0.0));
        assert_eq!(summary.rows[0].complete_fraction, 0.5);
        assert_eq!(summary.rows[0].prompts, 2);
        assert!(summary.notes.is_empty());
    }

    #[test]
    fn what_learned_or_chose_nothing_is_noted() {
        let scored = |score: f64| Answer { score: Some(score), ..answer(1, "x", 0.0) };
        let mut summary = Summary::new("test");
        summary.add("m", "cbs", Value::Null, &[scored(0.0), scored(0.1)]);
        summary.add("m", "base", Value::Null, &[answer(1, "x", 0.0)]);
        summary.note_training("sft", &serde_json::json!({ "changed": true }));
        summary.note_training("dpo", &Value::Null);
        let of_pairs = |loss: f64| {
            serde_json::json!({
                "changed": true,
                "loss_at_start": 2f64.ln(),
                "validation": [["validation/loss", loss]]
            })
        };
        summary.note_training("dpo", &of_pairs(0.69));
        assert_eq!(summary.notes, Vec::<String>::new());
        for method in ["best_of_n", "tuned"] {
            summary.add("m", method, Value::Null, &[scored(0.0), scored(0.0)]);
        }
        summary.note_training("dpo", &serde_json::json!({ "changed": false }));
        summary.note_training("direct/m/dpo", &of_pairs(0.7));
        assert_eq!(summary.notes.len(), 3);
        assert!(
            summary.notes[2]
                .starts_with("direct/m/dpo: the held-out loss 0.7000 is no lower than 0.6931")
        );
        assert!(
            summary.notes[0].starts_with("m: every score is 0")
                && summary.notes[1].starts_with("dpo: nothing was learned")
        );
    }
}
