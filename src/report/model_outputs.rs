//! `model_outputs.json`, the file that the `alpaca_eval` package compares with reference outputs;
//! and its verdicts in a row of the summary. Running the package is left to `score`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::statistics::{mean, standard_error};

/// One row of the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelOutput<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<&'a str>,
    pub instruction: &'a str,
    pub output: &'a str,
    /// One name for all rows.
    pub generator: &'a str,
}

impl<'a> ModelOutput<'a> {
    /// White space around the response is left out, as the package leaves it out of what it samples
    /// itself: the length control counts characters.
    pub fn new(
        dataset: Option<&'a str>,
        instruction: &'a str,
        response: &'a str,
        generator: &'a str,
    ) -> Self {
        Self { dataset, instruction, output: response.trim(), generator }
    }
}

/// What the package found of the responses of one base, method and seed. Rates and errors are
/// percentages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Mean preference for our response over the reference's.
    pub win_rate: f64,
    pub standard_error: f64,
    /// The same at equal length; absent where it was not asked for or could not be had.
    pub length_controlled_win_rate: Option<f64>,
    pub length_controlled_standard_error: Option<f64>,
    /// Responses that were preferred, half of a draw counted.
    pub discrete_win_rate: Option<f64>,
    pub judged: usize,
    /// Who judged, as the package calls it.
    pub annotators: String,
    /// Preference for our response of 0 to 1, by prompt id.
    pub preferences: BTreeMap<String, f64>,
}

/// The same of all seeds of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlpacaEval {
    /// The mean of the seeds'.
    pub win_rate: f64,
    /// Over prompts, whose seeds are averaged first.
    pub standard_error: f64,
    /// The mean of the seeds'; absent where one of them lacks it.
    pub length_controlled_win_rate: Option<f64>,
    /// The mean of the seeds', each as the package has it.
    pub length_controlled_standard_error: Option<f64>,
    /// Judgements of all seeds.
    pub judged: usize,
    /// Responses of all seeds that were to be judged; 0 in a summary of before.
    #[serde(default)]
    pub asked: usize,
    pub annotators: String,
    /// The win rate of each seed.
    pub seeds: Vec<f64>,
}

impl AlpacaEval {
    /// Of `asked` responses; `None` without seeds.
    pub fn of_seeds(seeds: &[WinRate], asked: usize) -> Option<Self> {
        let annotators = seeds.first()?.annotators.clone();
        let rates: Vec<f64> = seeds.iter().map(|seed| seed.win_rate).collect();
        let of_all = |value: fn(&WinRate) -> Option<f64>| {
            let values: Option<Vec<f64>> = seeds.iter().map(value).collect();
            values.map(|values| mean(&values))
        };
        let mut by_prompt: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (prompt, preference) in seeds.iter().flat_map(|seed| &seed.preferences) {
            by_prompt.entry(prompt).or_default().push(*preference);
        }
        let units: Vec<f64> = by_prompt.values().map(|preferences| mean(preferences)).collect();
        Some(Self {
            win_rate: mean(&rates),
            standard_error: 100.0 * standard_error(&units),
            length_controlled_win_rate: of_all(|seed| seed.length_controlled_win_rate),
            length_controlled_standard_error: of_all(|seed| seed.length_controlled_standard_error),
            judged: seeds.iter().map(|seed| seed.judged).sum(),
            asked,
            annotators,
            seeds: rates,
        })
    }

    /// How many of how many responses have a verdict, where some have none.
    pub fn part(&self) -> Option<String> {
        (self.judged < self.asked).then(|| format!("{} of {}", self.judged, self.asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(preferences: &[(&str, f64)], length_controlled: Option<f64>) -> WinRate {
        let all: Vec<f64> = preferences.iter().map(|(_, preference)| *preference).collect();
        WinRate {
            win_rate: 100.0 * mean(&all),
            standard_error: 100.0 * standard_error(&all),
            length_controlled_win_rate: length_controlled,
            length_controlled_standard_error: length_controlled.map(|_| 1.0),
            discrete_win_rate: None,
            judged: all.len(),
            annotators: "judge".into(),
            preferences: preferences.iter().map(|(id, value)| ((*id).to_owned(), *value)).collect(),
        }
    }

    #[test]
    fn one_seed_is_the_packages_own_and_prompts_are_the_units_of_several() {
        let first = seed(&[("a", 0.0), ("b", 1.0)], Some(40.0));
        let one = AlpacaEval::of_seeds(std::slice::from_ref(&first), 3).unwrap();
        assert_eq!((one.win_rate, one.standard_error), (50.0, first.standard_error));
        assert_eq!((one.length_controlled_win_rate, one.judged), (Some(40.0), 2));
        assert_eq!(one.part().unwrap(), "2 of 3");
        let second = seed(&[("a", 1.0), ("b", 1.0)], None);
        let both = AlpacaEval::of_seeds(&[first, second], 4).unwrap();
        // By prompt 0.5 and 1, whose standard error is 0.25.
        assert_eq!((both.win_rate, both.standard_error), (75.0, 25.0));
        assert_eq!((both.length_controlled_win_rate, both.judged), (None, 4));
        assert_eq!(both.part(), None);
        assert_eq!(both.seeds, [50.0, 100.0]);
        assert_eq!(AlpacaEval::of_seeds(&[], 4), None);
    }

    #[test]
    fn outputs_have_no_white_space_around_them() {
        let row = ModelOutput::new(None, " i ", " an answer\n", "run/base/cbs");
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(
            text,
            r#"{"instruction":" i ","output":"an answer","generator":"run/base/cbs"}"#
        );
    }
}
