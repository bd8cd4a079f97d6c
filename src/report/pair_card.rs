//! The data set card of preference pairs, `preferences/README.md`: metadata that the `datasets`
//! library reads, and the report in words.

use std::fmt::Write;
use std::path::Path;

use super::pairs::{Both, PairReport, in_words};
use crate::monitor::number::fixed;
use crate::recipe::{Pairing, PreferenceLabel, Recipe};

pub struct PairCard<'a> {
    pub recipe: &'a Recipe,
    pub train: &'a PairReport,
    pub validation: &'a PairReport,
    /// The hash of the training pairs.
    pub contents: &'a str,
}

impl PairCard<'_> {
    pub fn markdown(&self) -> String {
        // The `datasets` library takes a configuration of the same name that it has seen elsewhere
        // for this one, whatever its files hold.
        let name = format!("{}-{}", self.recipe.run.name, &self.contents[..8]);
        let mut card =
            format!("---\ntags:\n- preference\nconfigs:\n- config_name: {name}\n  data_files:\n");
        for (split, _) in self.splits() {
            // Writing to a `String` cannot fail.
            let _ = writeln!(card, "  - split: {split}\n    path: {split}.jsonl");
        }
        let _ = write!(
            card,
            "---\n\n# Preference pairs of `{}`\n\n{}",
            self.recipe.run.name,
            self.origin()
        );
        card.push_str(FIELDS);
        for (split, report) in self.splits() {
            let _ = write!(card, "\n## {split}\n\n");
            card.push_str(&split_words(report));
        }
        if self.validation.pairs == 0 {
            let _ = writeln!(card, "\nNo validation pairs: {}.", self.validation.left_out_words());
        }
        card
    }

    /// Those that hold pairs: an empty file has no columns, so it is not a split.
    fn splits(&self) -> impl Iterator<Item = (&'static str, &PairReport)> {
        [("train", self.train), ("validation", self.validation)]
            .into_iter()
            .filter(|(_, report)| report.pairs > 0)
    }

    /// What made the pairs.
    fn origin(&self) -> String {
        let Some(preferences) = &self.recipe.preferences else { return String::new() };
        let gold = self.recipe.gold.as_ref().map(|gold| {
            gold.id.as_deref().map_or_else(|| gold.source().words("a classifier of this run"), name)
        });
        let mut text = match &preferences.source {
            Some(source) => format!("Pairs of {}, which had labels already. ", name(source)),
            None => {
                let sampling = &preferences.sampling;
                let policy = preferences.policy.as_deref().unwrap_or_default();
                let model = self.recipe.models.get(policy).and_then(|model| model.id.as_deref());
                let model = model.map_or_else(|| format!("`{policy}`, a model of this run"), name);
                let pairing = match preferences.pairing {
                    Pairing::Disjoint => "each two of them a pair",
                    Pairing::All => "every two different ones a pair",
                    Pairing::BestWorst => "the ones with the highest and the lowest reward a pair",
                };
                format!(
                    "Each prompt is the beginning of a text, answered {} times by {model} \
                     (temperature {}, top-k {}, top-p {}, up to {} new tokens), {pairing}. ",
                    preferences.samples_per_prompt,
                    sampling.temperature,
                    sampling.top_k,
                    sampling.top_p,
                    preferences.max_new_tokens
                )
            }
        };
        if let Some(gold) = gold {
            let _ = write!(text, "The reward r is that of {gold}. ");
        }
        text.push_str(match preferences.label {
            PreferenceLabel::Drawn => {
                "The chosen response was drawn under the Bradley–Terry model, p(1 ≻ 2) = σ(r1 − \
                 r2); `probability` is that of the judgement made."
            }
            PreferenceLabel::Argmax => {
                "The chosen response is the one with the higher reward; ties are left out."
            }
            PreferenceLabel::Kept => "The labels are those of the source.",
        });
        let _ = writeln!(
            text,
            " Seed {}.\n",
            self.recipe.run.seeds.first().copied().unwrap_or_default()
        );
        text
    }
}

const FIELDS: &str = "Fields: `id`, `prompt` (a text, or the turns of a chat), `chosen`, \
                      `rejected`; where there is a reward `reward_chosen`, `reward_rejected` and \
                      `probability`; `relabelled` (of pairs that had labels: whether the reward \
                      turned them round); `chosen_complete` and `rejected_complete` (whether the \
                      response ended by itself, not by the token budget). Responses follow the \
                      prompt as they stand, spaces included. What was left out is listed in \
                      `*.left_out.jsonl` with its reason; `report.json` holds the numbers \
                      below.\n";

fn split_words(report: &PairReport) -> String {
    let shared = match report.pairs_of_training_prompts {
        Some(shared) if shared > 0 => {
            format!(", {shared} of them of prompts that training pairs have too")
        }
        _ => String::new(),
    };
    let mut text = format!(
        "{} pairs of {} prompts{shared}; {}.\n\n",
        report.pairs,
        report.prompts,
        report.left_out_words()
    );
    text.push_str("| | mean | std | 10 % | 50 % | 90 % |\n|---|---:|---:|---:|---:|---:|\n");
    for (what, both) in
        [("reward", &report.rewards), ("words", &report.words), ("characters", &report.characters)]
    {
        let Some(Both { chosen, rejected }) = both else { continue };
        let digits = if what == "reward" { 3 } else { 1 };
        for (which, of) in [("chosen", chosen), ("rejected", rejected)] {
            let numbers =
                [of.mean, of.std, of.p10, of.p50, of.p90].map(|number| fixed(number, digits));
            let _ = writeln!(text, "| {what}, {which} | {} |", numbers.join(" | "));
        }
    }
    text.push_str("\n| | |\n|---|---:|\n");
    let mut row = |what: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(text, "| {what} | {} |", fixed(value, 3));
        }
    };
    row("label agreement: chosen has the higher reward", report.label_agreement);
    row("labels turned round by the reward", report.relabelled);
    row("longer response chosen, where lengths differ", report.longer_chosen);
    row("correlation of words and reward, all responses", report.length_reward_correlation);
    row(
        "correlation of words and reward, differences within pairs",
        report.length_reward_correlation_within_pairs,
    );
    for (reason, count) in &report.left_out_reasons {
        let _ = writeln!(text, "| left out: {} | {count} |", in_words(*reason));
    }
    if report.rewards.is_some() {
        let _ = writeln!(text, "| kept though rewards are equal | {} |", report.tied);
    }
    text
}

/// How a folder or file is called elsewhere: its hub id where it lies in the hub's cache, else its
/// last part.
fn name(path: &str) -> String {
    let path = Path::new(path);
    let cached = path.iter().find_map(|part| {
        part.to_str()?.strip_prefix("models--").map(|id| id.replacen("--", "/", 1))
    });
    let last =
        || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("`{}`", cached.unwrap_or_else(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_called_as_elsewhere() {
        assert_eq!(name("/a/models/gpt2-small"), "`gpt2-small`");
        assert_eq!(
            name("/c/hub/models--openai-community--gpt2/snapshots/0a1b"),
            "`openai-community/gpt2`"
        );
    }
}
