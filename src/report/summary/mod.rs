//! `evaluate/summary.json`: one row for each base and method (`row.rs`, `reward.rs`), the paired
//! differences between rows (`comparison.rs`), and what steering gains (`weak_to_strong.rs`).
//! Lengths are controlled for in `length_control.rs`; tables and pages are drawn elsewhere in the
//! room.

mod comparison;
mod reward;
mod row;
mod weak_to_strong;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::Answer;
use super::figure::Figure;
use super::guide_gap::GuideGap;
use super::length_control::{LengthControl, Responses};
use super::pair_accuracy::PairAccuracy;
use super::ppo::PpoRow;
use super::value::Foresight;
use crate::recipe::GOLD;
use comparison::Judged;
use reward::ByPrompt;
use weak_to_strong::Place;

pub use comparison::Comparison;
pub use reward::Reward;
pub use row::{Chosen, SummaryRow};
pub use weak_to_strong::{Over, Role, WeakToStrong};

pub(super) use comparison::against;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub run: String,
    pub rows: Vec<SummaryRow>,
    /// Rows of one base, later less earlier, and rows of a base less the guides'; by the gold
    /// first, then by each other judge.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weak_to_strong: Vec<WeakToStrong>,
    /// By base: the method that gains are counted from, `base` or, of the guides, `untuned`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<String, String>,
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
    /// By base: how much the score of a beginning tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<Foresight>,
    pub gold: Value,
    /// What a reader of the numbers must know: results that show no effect because nothing was
    /// learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the rows are compared by.
    #[serde(skip)]
    measured: Vec<Measured>,
    #[serde(skip)]
    responses: Vec<Responses>,
    /// For the page.
    #[serde(skip)]
    pub figures: Vec<Figure>,
}

/// A row's rewards by prompt.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    /// Its place among the rows.
    row: usize,
    role: Role,
    /// By judge, the gold too.
    judges: BTreeMap<String, ByPrompt>,
}

impl Summary {
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            rows: Vec::new(),
            comparisons: Vec::new(),
            weak_to_strong: Vec::new(),
            references: BTreeMap::new(),
            length_control: Vec::new(),
            guide: Value::Null,
            direct: Map::new(),
            ppo: Vec::new(),
            value: Vec::new(),
            gold: Value::Null,
            notes: Vec::new(),
            measured: Vec::new(),
            responses: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Adds one base and method.
    pub fn add(
        &mut self,
        base: &str,
        method: &str,
        role: Role,
        settings: Value,
        answers: &[Answer],
    ) {
        let mut row = SummaryRow::of(base, method, settings, answers);
        let mut judges = BTreeMap::new();
        for judge in judges_of(answers) {
            let value = |answer: &Answer| match judge {
                GOLD => answer.gold_reward,
                judge => answer.judges.get(judge).copied(),
            };
            let by_prompt = ByPrompt::of(answers, value);
            let Some(reward) = Reward::of(answers, &by_prompt, value) else { continue };
            match judge {
                GOLD => row.gold_reward = Some(reward),
                judge => drop(row.judges.insert(judge.to_owned(), reward)),
            }
            judges.insert(judge.to_owned(), by_prompt);
        }
        self.measured.push(Measured { row: self.rows.len(), role, judges });
        self.rows.push(row);
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
        self.responses.push(Responses::of(base, method, answers));
    }

    /// Adds a base and a method that does not apply to it.
    pub fn add_not_applicable(&mut self, base: &str, method: &str, settings: Value, why: String) {
        self.rows.push(SummaryRow::not_applicable(base, method, settings, why));
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

    /// What each pair of guides prefers by itself, where that was measured.
    pub fn gaps(&self) -> Vec<GuideGap> {
        serde_json::from_value(self.guide["gap"].clone()).unwrap_or_default()
    }

    /// Compares all methods of `base` that were added with its method `reference`, at equal length;
    /// gains are counted from it from now on.
    pub fn control_for_length(&mut self, base: &str, reference: &str) {
        self.references.insert(base.to_owned(), reference.to_owned());
        self.length_control.extend(LengthControl::of(&self.responses, base, reference));
    }

    /// The method of `base` that gains are counted from, where it has one.
    pub fn reference(&self, base: &str) -> Option<&str> {
        let known = self.references.get(base).map(String::as_str);
        // A summary of before does not say.
        known.or_else(|| {
            let of_base = |method: &&str| {
                self.rows.iter().any(|row| row.base == base && row.method == *method)
            };
            ["base", "untuned"].into_iter().find(of_base)
        })
    }

    /// Compares all rows that were added.
    pub fn compare(&mut self) {
        let named = self.measured.iter().flat_map(|it| it.judges.keys());
        let mut judges: Vec<&String> = named.collect::<BTreeSet<_>>().into_iter().collect();
        judges.sort_by_key(|judge| *judge != GOLD);
        let mut comparisons = Vec::new();
        for judge in judges {
            let judged = |it| self.judged(it, judge);
            for (i, a) in self.measured.iter().enumerate() {
                let Some(ours) = judged(a) else { continue };
                let is_same = |b: &&Measured| self.rows[b.row].base == ours.base;
                let earlier = self.measured[..i].iter().filter(is_same);
                let guides = self
                    .measured
                    .iter()
                    .filter(|b| b.role.is_of_guides() && !a.role.is_of_guides() && !is_same(b));
                let others = earlier.chain(guides).filter_map(judged);
                comparisons.extend(others.filter_map(|b| Comparison::of(judge, ours, b)));
            }
        }
        comparison::correct(&mut comparisons);
        let places: Vec<Place> = self.measured.iter().filter_map(|it| self.place(it)).collect();
        self.weak_to_strong = weak_to_strong::weak_to_strong(&places, &comparisons);
        self.comparisons = comparisons;
    }

    fn judged<'a>(&'a self, measured: &'a Measured, judge: &str) -> Option<Judged<'a>> {
        let SummaryRow { base, method, .. } = &self.rows[measured.row];
        Some(Judged { base, method, rewards: measured.judges.get(judge)? })
    }

    fn place<'a>(&'a self, measured: &Measured) -> Option<Place<'a>> {
        let row = &self.rows[measured.row];
        Some(Place {
            base: &row.base,
            method: &row.method,
            role: measured.role,
            guide: row.settings["guide"].as_str(),
            gold_reward: row.gold_reward.as_ref()?.mean,
        })
    }
}

/// The judges that any of these answers knows.
fn judges_of(answers: &[Answer]) -> BTreeSet<&str> {
    let others = answers.iter().flat_map(|answer| answer.judges.keys().map(String::as_str));
    let gold = answers.iter().any(|answer| answer.gold_reward.is_some());
    others.chain(gold.then_some(GOLD)).collect()
}

#[cfg(test)]
mod tests;
