//! How PPO went (paper C.3, Fig. 9): of every chunk length the return on training prompts and the
//! gold reward on validation prompts over the steps, mean and spread of the seeds.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::curves::{Curve, Panel, curves_svg, smoothed};
use super::statistics::{mean, standard_deviation};
use crate::error::Result;
use crate::monitor::number::fixed;

/// Steps over which returns are averaged: one batch is noisy.
const WINDOW: usize = 10;

/// One training: a chunk length, a seed, and what was measured over its steps.
#[derive(Debug, Clone, Default)]
pub struct PpoTraining {
    pub chunk_len: String,
    /// (step, mean return of the step's rollouts: the pair's score, unscaled).
    pub returns: Vec<(f64, f64)>,
    /// (steps done, mean gold reward).
    pub gold: Vec<(f64, f64)>,
    /// Σ log π/π_initial of a rollout in the last step.
    pub kl: f64,
    /// distinct-2 on the validation prompts, before the first step and after the last.
    pub distinct_2: Option<[f64; 2]>,
    pub rollouts_per_second: f64,
}

/// All trainings of one policy with one chunk length: a number for each seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PpoRow {
    #[serde(default)]
    pub policy: String,
    pub chunk_len: String,
    pub steps: usize,
    /// Mean over the first and over the last ten steps.
    pub first_return: Vec<f64>,
    pub last_return: Vec<f64>,
    /// Steps until the mean over ten reaches the mean last return of the trainings whose reward is
    /// paid once at the end; `null` where it never does. Empty without such trainings.
    pub steps_to_sparse_return: Vec<Option<usize>>,
    /// Before the first step and after the last one.
    pub first_gold_reward: Vec<f64>,
    pub last_gold_reward: Vec<f64>,
    pub kl: Vec<f64>,
    pub first_distinct_2: Vec<f64>,
    pub last_distinct_2: Vec<f64>,
    pub rollouts_per_second: Vec<f64>,
}

/// What the report says of the PPO of one policy.
pub struct PpoReport {
    pub policy: String,
    pub rows: Vec<PpoRow>,
    /// An SVG.
    pub figure: String,
}

/// One row for each chunk length, in the order of `trainings`; `sparse` is the name of the chunk
/// length that pays once at the end.
pub fn ppo_rows(policy: &str, trainings: &[PpoTraining], sparse: &str) -> Vec<PpoRow> {
    let last_return = |training: &PpoTraining| {
        smoothed(&training.returns, WINDOW).last().map_or(f64::NAN, |(_, value)| *value)
    };
    let of_sparse: Vec<f64> =
        trainings.iter().filter(|training| training.chunk_len == sparse).map(last_return).collect();
    let target = (!of_sparse.is_empty()).then(|| mean(&of_sparse));
    let reaches = |training: &PpoTraining| {
        let target = target?;
        // The first means are over fewer steps and so noisier.
        let means = smoothed(&training.returns, WINDOW).into_iter().skip(WINDOW - 1);
        Some(means.into_iter().find(|(_, value)| *value >= target).map(|(step, _)| step as usize))
    };
    by_chunk_len(trainings)
        .into_iter()
        .map(|(chunk_len, trainings)| {
            let all = |of: &dyn Fn(&PpoTraining) -> Option<f64>| {
                trainings.iter().filter_map(|training| of(training)).collect()
            };
            PpoRow {
                policy: policy.to_owned(),
                chunk_len: chunk_len.to_owned(),
                steps: trainings.iter().map(|training| training.returns.len()).max().unwrap_or(0),
                first_return: all(&|training| {
                    smoothed(&training.returns, WINDOW).get(WINDOW - 1).map(|(_, value)| *value)
                }),
                last_return: all(&|training| Some(last_return(training))),
                steps_to_sparse_return: trainings
                    .iter()
                    .filter_map(|training| reaches(training))
                    .collect(),
                first_gold_reward: all(&|training| training.gold.first().map(|(_, value)| *value)),
                last_gold_reward: all(&|training| training.gold.last().map(|(_, value)| *value)),
                kl: all(&|training| Some(training.kl)),
                first_distinct_2: all(&|training| training.distinct_2.map(|[first, _]| first)),
                last_distinct_2: all(&|training| training.distinct_2.map(|[_, last]| last)),
                rollouts_per_second: all(&|training| Some(training.rollouts_per_second)),
            }
        })
        .collect()
}

/// The two diagrams as one SVG; the second one only where gold rewards were measured, with the mean
/// gold reward of the tuned guide alone as a level line where that is known.
pub fn ppo_figure(trainings: &[PpoTraining], tuned: Option<f64>) -> Result<String> {
    let panel = |title: &str, y: &str, runs: &dyn Fn(&PpoTraining) -> Vec<(f64, f64)>| Panel {
        title: title.to_owned(),
        x: "step".to_owned(),
        y: y.to_owned(),
        is_log_2: false,
        curves: by_chunk_len(trainings)
            .into_iter()
            .map(|(chunk_len, trainings)| Curve {
                label: format!("L = {chunk_len}"),
                runs: trainings.into_iter().map(runs).collect(),
            })
            .collect(),
    };
    let mut panels = vec![panel("Training prompts", "return, mean of ten steps", &|training| {
        smoothed(&training.returns, WINDOW)
    })];
    if trainings.iter().any(|training| !training.gold.is_empty()) {
        let mut gold =
            panel("Validation prompts", "gold reward", &|training| training.gold.clone());
        let steps = || trainings.iter().flat_map(|training| &training.gold).map(|(step, _)| *step);
        gold.curves.extend(tuned.map(|reward| Curve {
            label: "the tuned guide".to_owned(),
            runs: vec![vec![(0.0, reward), (steps().fold(0.0, f64::max), reward)]],
        }));
        panels.push(gold);
    }
    curves_svg(&panels)
}

/// The rows as an HTML table.
pub(super) fn ppo_table(rows: &[PpoRow]) -> String {
    let mut table =
        "<table><tr><th>L</th><th class=\"n\">steps</th><th class=\"n\">return</th><th \
         class=\"n\">steps to the return of L = inf</th><th class=\"n\">gold reward</th><th \
         class=\"n\">kl</th><th class=\"n\">distinct-2</th><th class=\"n\">rollouts/s</th></tr>\n"
            .to_owned();
    for row in rows {
        let change = |first: &[f64], last: &[f64]| {
            if last.is_empty() {
                "–".to_owned()
            } else {
                format!("{} → {}", spread(first), spread(last))
            }
        };
        let steps = |steps: &Option<usize>| {
            steps.map_or_else(|| "never".to_owned(), |steps| steps.to_string())
        };
        let reached = row.steps_to_sparse_return.iter().map(steps).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            table,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td \
             class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td \
             class=\"n\">{}</td><td class=\"n\">{:.1}</td></tr>",
            row.chunk_len,
            row.steps,
            change(&row.first_return, &row.last_return),
            if reached.is_empty() { "–" } else { &reached },
            change(&row.first_gold_reward, &row.last_gold_reward),
            spread(&row.kl),
            change(&row.first_distinct_2, &row.last_distinct_2),
            mean(&row.rollouts_per_second)
        );
    }
    table.push_str("</table>\n");
    table
}

/// Mean, and standard deviation of several.
fn spread(values: &[f64]) -> String {
    match values {
        [] => "–".to_owned(),
        [one] => fixed(*one, 2),
        many => format!("{} ± {}", fixed(mean(many), 2), fixed(standard_deviation(many), 2)),
    }
}

/// The trainings of each chunk length, in the order in which these come first.
fn by_chunk_len(trainings: &[PpoTraining]) -> Vec<(&str, Vec<&PpoTraining>)> {
    let mut groups: Vec<(&str, Vec<&PpoTraining>)> = Vec::new();
    for training in trainings {
        match groups.iter_mut().find(|(chunk_len, _)| *chunk_len == training.chunk_len) {
            Some((_, group)) => group.push(training),
            None => groups.push((&training.chunk_len, vec![training])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rises from `from` by `slope` a step for 40 steps.
    fn training(chunk_len: &str, from: f64, slope: f64) -> PpoTraining {
        PpoTraining {
            chunk_len: chunk_len.to_owned(),
            returns: (1..=40)
                .map(|step| (f64::from(step), from + slope * f64::from(step)))
                .collect(),
            gold: vec![(0.0, from), (40.0, from + 1.0)],
            kl: 3.0,
            distinct_2: Some([0.5, 0.4]),
            rollouts_per_second: 20.0,
        }
    }

    #[test]
    fn rows_by_hand() {
        let trainings = [
            training("5", 0.0, 0.2),
            training("5", 0.5, 0.2),
            training("inf", 0.0, 0.1),
            training("inf", 0.3, 0.1),
        ];
        let rows = ppo_rows("base", &trainings, "inf");
        assert_eq!(rows.iter().map(|row| row.chunk_len.as_str()).collect::<Vec<_>>(), ["5", "inf"]);
        // Means of the last ten steps are 4.5 steps behind: 35.5 · 0.1 = 3.55 and 3.85, 3.7
        // together; 0.2 · (s − 4.5) ≥ 3.7 from s = 23 on.
        assert!(
            (rows[1].last_return[0] - 3.55).abs() < 1e-9
                && (rows[0].first_return[0] - 5.5 * 0.2).abs() < 1e-9
        );
        assert_eq!(rows[0].steps_to_sparse_return, [Some(23), Some(21)]);
        assert_eq!(rows[1].steps_to_sparse_return, [None, Some(39)]);
        assert_eq!(
            (rows[0].first_gold_reward.as_slice(), rows[0].last_gold_reward.as_slice()),
            (&[0.0, 0.5][..], &[1.0, 1.5][..])
        );
        assert!(ppo_rows("base", &trainings[..2], "inf")[0].steps_to_sparse_return.is_empty());
        let table = ppo_table(&rows);
        assert!(
            table.contains("23, 21")
                && table.contains("never, 39")
                && table.contains("0.25 ± 0.35 → 1.25 ± 0.35"),
            "{table}"
        );
    }

    #[test]
    fn gold_has_a_panel_where_it_was_measured() {
        let mut trainings = [training("5", 0.0, 0.2), training("inf", 0.0, 0.1)];
        let both = ppo_figure(&trainings, None).unwrap();
        assert!(both.contains("L = inf") && both.contains("gold reward"));
        assert!(!both.contains("the tuned guide"));
        let with_tuned = ppo_figure(&trainings, Some(2.0)).unwrap();
        assert!(with_tuned.contains("the tuned guide"));
        trainings.iter_mut().for_each(|training| training.gold.clear());
        assert!(!ppo_figure(&trainings, Some(2.0)).unwrap().contains("gold reward"));
    }
}
