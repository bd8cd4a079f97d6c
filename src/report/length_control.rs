//! How much of a method's gold reward is more than length: ordinary least squares of the reward on
//! the method and on the response's length.
//!
//! For one base, over all responses i of all its methods, prompts and seeds:
//!
//! > reward_i = α + Σ_m gain_m · \[method_i = m\] + slope · words_i + ε_i
//!
//! The reference method (`base`; of the guides `untuned`) has no dummy. The slope is then that of
//! reward on words within methods, and gain_m = (mean reward of m − of the reference) − slope ·
//! (mean words of m − of the reference).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::pairs::words;
use super::statistics::{mean, standard_error};

/// The methods of one base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthControl {
    pub base: String,
    pub reference: String,
    /// Reward of one more word; `None` where no method's lengths vary.
    pub slope: Option<f64>,
    /// The reference first.
    pub methods: Vec<LengthControlled>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthControlled {
    pub method: String,
    /// Means over all responses.
    pub gold_reward: f64,
    pub words: f64,
    /// `gold_reward` minus the reference's.
    pub gain: f64,
    /// What is left of `gain` at equal length; `None` where the slope is unknown and the mean
    /// lengths differ.
    pub gain_at_equal_length: Option<f64>,
    /// The standard error of `gain_at_equal_length`, paired by prompt (seeds averaged first), the
    /// slope taken as known.
    pub standard_error: Option<f64>,
}

/// The responses of one method that have a reward.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Responses {
    pub base: String,
    pub method: String,
    /// Prompt, reward, words.
    rows: Vec<(String, f64, f64)>,
}

impl Responses {
    pub fn of(base: &str, method: &str, answers: &[Answer]) -> Self {
        let row = |answer: &Answer| {
            Some((answer.id.clone(), answer.gold_reward?, words(&answer.response)))
        };
        Self {
            base: base.to_owned(),
            method: method.to_owned(),
            rows: answers.iter().filter_map(row).collect(),
        }
    }

    /// (reward, words)
    fn means(&self) -> (f64, f64) {
        let of = |value: fn(&(String, f64, f64)) -> f64| {
            mean(&self.rows.iter().map(value).collect::<Vec<_>>())
        };
        (of(|row| row.1), of(|row| row.2))
    }

    /// Mean of reward − slope · words of each prompt.
    fn by_prompt(&self, slope: f64) -> BTreeMap<&str, f64> {
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (prompt, reward, words) in &self.rows {
            values.entry(prompt).or_default().push(reward - slope * words);
        }
        values.into_iter().map(|(prompt, values)| (prompt, mean(&values))).collect()
    }
}

impl LengthControl {
    /// `None` where the reference or everything beside it has no rewards.
    pub(super) fn of(all: &[Responses], base: &str, reference: &str) -> Option<Self> {
        let of_base: Vec<&Responses> = all
            .iter()
            .filter(|responses| responses.base == base && !responses.rows.is_empty())
            .collect();
        let (mut first, others): (Vec<&Responses>, Vec<&Responses>) =
            of_base.into_iter().partition(|responses| responses.method == reference);
        let start = first.pop().filter(|_| !others.is_empty())?;
        let (mut squares, mut products) = (0.0, 0.0);
        for responses in others.iter().chain([&start]) {
            let (mean_reward, mean_words) = responses.means();
            for (_, reward, words) in &responses.rows {
                squares += (words - mean_words).powi(2);
                products += (words - mean_words) * (reward - mean_reward);
            }
        }
        let slope = (squares > 0.0).then(|| products / squares);
        let (start_reward, start_words) = start.means();
        let row = |responses: &&Responses| {
            let (gold_reward, words) = responses.means();
            let gain = gold_reward - start_reward;
            // With all lengths equal any slope says the same.
            let known = slope.or((words == start_words).then_some(0.0));
            let paired = known.map(|slope| {
                let reference = start.by_prompt(slope);
                let differences = responses
                    .by_prompt(slope)
                    .into_iter()
                    .filter_map(|(prompt, value)| Some(value - reference.get(prompt)?));
                standard_error(&differences.collect::<Vec<_>>())
            });
            LengthControlled {
                method: responses.method.clone(),
                gold_reward,
                words,
                gain,
                gain_at_equal_length: known.map(|slope| gain - slope * (words - start_words)),
                standard_error: paired.filter(|error| error.is_finite()),
            }
        };
        let methods = std::iter::once(&start).chain(&others).map(row).collect();
        Some(Self { base: base.to_owned(), reference: reference.to_owned(), slope, methods })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(method: &str, rows: &[(&str, f64, f64)]) -> Responses {
        let rows = rows
            .iter()
            .map(|&(prompt, reward, words)| (prompt.to_owned(), reward, words))
            .collect();
        Responses { base: "m".into(), method: method.into(), rows }
    }

    /// The normal equations of the regression that the module states, solved by elimination:
    /// another way to the same numbers.
    fn least_squares(groups: &[Responses]) -> Vec<f64> {
        let n = groups.len() + 1;
        let mut system = vec![vec![0.0; n + 1]; n];
        for (g, group) in groups.iter().enumerate() {
            for (_, reward, words) in &group.rows {
                let mut x = vec![0.0; n];
                (x[0], x[n - 1]) = (1.0, *words);
                if g > 0 {
                    x[g] = 1.0;
                }
                for (row, equation) in system.iter_mut().enumerate() {
                    (0..n).for_each(|column| equation[column] += x[row] * x[column]);
                    equation[n] += x[row] * reward;
                }
            }
        }
        for pivot in 0..n {
            let scale = system[pivot][pivot];
            system[pivot].iter_mut().for_each(|value| *value /= scale);
            for row in (0..n).filter(|row| *row != pivot) {
                let factor = system[row][pivot];
                (0..=n).for_each(|column| system[row][column] -= factor * system[pivot][column]);
            }
        }
        system.into_iter().map(|equation| equation[n]).collect()
    }

    #[test]
    fn gains_are_those_of_the_regression() {
        let groups = [
            responses(
                "base",
                &[("x", 1.0, 10.0), ("y", 2.0, 14.0), ("x", 1.5, 9.0), ("y", 0.0, 11.0)],
            ),
            responses(
                "cbs",
                &[("x", 4.0, 20.0), ("y", 5.5, 23.0), ("x", 3.5, 18.0), ("y", 6.0, 25.0)],
            ),
            responses(
                "eft",
                &[("x", 2.0, 8.0), ("y", 2.5, 9.0), ("x", 3.0, 12.0), ("y", 1.0, 7.0)],
            ),
        ];
        let expected = least_squares(&groups);
        let shuffled = [groups[1].clone(), groups[0].clone(), groups[2].clone()];
        let control = LengthControl::of(&shuffled, "m", "base").unwrap();
        assert!((control.slope.unwrap() - expected[3]).abs() < 1e-9, "{control:?} {expected:?}");
        let names: Vec<&str> = control.methods.iter().map(|row| row.method.as_str()).collect();
        assert_eq!(names, ["base", "cbs", "eft"]);
        assert_eq!(
            (control.methods[0].gain, control.methods[0].gain_at_equal_length),
            (0.0, Some(0.0))
        );
        for (row, expected) in control.methods[1..].iter().zip(&expected[1..3]) {
            assert!(
                (row.gain_at_equal_length.unwrap() - expected).abs() < 1e-9,
                "{row:?} {expected}"
            );
            assert!((row.gain - expected).abs() > 0.1, "length must matter here: {row:?}");
        }
    }

    #[test]
    fn a_reward_that_is_length_alone_leaves_no_gain() {
        let base = responses("base", &[("x", 1.0, 2.0), ("y", 2.0, 4.0)]);
        let longer = responses("cbs", &[("x", 5.0, 10.0), ("y", 4.0, 8.0)]);
        let control = LengthControl::of(&[base.clone(), longer], "m", "base").unwrap();
        let row = &control.methods[1];
        assert_eq!(
            (row.gain, row.gain_at_equal_length, row.standard_error),
            (3.0, Some(0.0), Some(0.0))
        );
        // Prompts x and y gain 1 and 3 at equal lengths: mean 2, standard error 1.
        let better = responses("cbs", &[("x", 2.0, 2.0), ("y", 5.0, 4.0)]);
        let row = LengthControl::of(&[base, better], "m", "base").unwrap().methods[1].clone();
        assert_eq!((row.gain_at_equal_length, row.standard_error), (Some(2.0), Some(1.0)));
    }

    #[test]
    fn lengths_that_do_not_vary_have_no_slope() {
        let base = responses("base", &[("x", 1.0, 5.0), ("y", 2.0, 5.0)]);
        let gain = |words: f64| {
            let other = responses("cbs", &[("x", 3.0, words), ("y", 4.0, words)]);
            let control = LengthControl::of(&[base.clone(), other], "m", "base").unwrap();
            assert_eq!(control.slope, None);
            control.methods[1].gain_at_equal_length
        };
        assert_eq!((gain(5.0), gain(6.0)), (Some(2.0), None));
        assert!(
            LengthControl::of(std::slice::from_ref(&base), "m", "base").is_none(),
            "nothing to compare"
        );
        assert!(LengthControl::of(&[base], "m", "untuned").is_none());
    }
}
