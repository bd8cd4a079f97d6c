//! `[data]`: the texts, their splits, and the prompts made of them. Its rules are in
//! `data_rules.rs`; reading the files is left to `text`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::hub_id::HubId;
use super::super::words::grouped;
use super::Recipe;
use super::splits::{self, DataSplits};
use crate::error::{Error, Result};

/// Words of the longest prompt that is a text's first words, where the recipe names no number.
const FIRST_WORDS: usize = 8;

/// The texts. What is held out was not seen in training: where the program splits, rows of equal
/// text stay together, and a prompt that a training text makes too is none of the other splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `builtin:reviews`, a file (`.jsonl[.gz]`, `.json`, `.csv`, `.parquet`), a folder with such
    /// files for each split, or a hub data set `owner/name[@revision]`.
    #[schemars(extend("x-also" = ["dataset_name", "dataset", "path"]))]
    #[schemars(example = &"builtin:reviews")]
    pub source: String,
    /// A folder below `source`, where that holds several data sets.
    #[schemars(extend("x-also" = ["dataset_config", "config_name"]))]
    #[schemars(example = &"plain_text")]
    pub subset: Option<String>,
    #[serde(default)]
    pub splits: DataSplits,
    /// The order in which the rows of a split's files are taken.
    #[serde(default)]
    pub order: RowOrder,
    #[serde(default)]
    pub columns: Columns,
    #[serde(default)]
    pub prompt: PromptRule,
    /// Rows to train on; 0 takes all there are (not of `builtin:`). Left out where no stage learns
    /// from texts or from their prompts.
    #[schemars(example = 2000)]
    pub train: Option<usize>,
    /// Rows to validate on; 0 takes all there are (not of `builtin:`, nor of a single file). Goes
    /// with `train`.
    #[schemars(example = 200)]
    pub validation: Option<usize>,
    /// Rows whose prompts are steered; 0 takes all there are (not of `builtin:`, nor of a single
    /// file that is split). Where nothing is trained on, a single file is the test split, from its
    /// first row on.
    #[schemars(example = 500)]
    pub test: Option<usize>,
}

/// The order in which the rows of a split's files are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// As they stand there.
    #[default]
    File,
    /// By the hash of their text or whole prompt, for files that are sorted, as by label: so few
    /// rows of them are like all. A single file that is split is always taken so.
    Hash,
}

/// The columns of the data files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The column that holds the text, which `[pretrain]` and a gold classifier learn from; it may
    /// be that of the prompts.
    #[schemars(extend("x-also" = ["dataset_text_field"]))]
    pub text: String,
    /// The column that holds the label, 1 for positive; read where a classifier is made or
    /// measured.
    pub label: String,
    /// The column that holds whole prompts, texts or turns of a chat, instead of the first words of
    /// the texts.
    #[schemars(example = &"instruction")]
    pub prompt: Option<String>,
}

/// A prompt is the first words of a text; how many is drawn between the two bounds from the seed.
/// With `columns.prompt` it is what the column holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptRule {
    /// Words of the shortest prompt.
    #[schemars(range(min = 1))]
    pub min_words: usize,
    /// Words of the longest prompt: left out, 8 of a text's first ones, and any number of a whole
    /// prompt.
    #[schemars(range(min = 1), example = 300)]
    pub max_words: Option<usize>,
    /// What every whole prompt ends with. It is put behind those without it, after a blank line
    /// where the prompt has one and on a new line where it has none, or after the white space that
    /// it begins with itself.
    #[schemars(example = &"TL;DR:")]
    pub end: Option<String>,
    /// What becomes of whole prompts with more than `max_words`.
    pub long: LongPrompts,
}

/// What becomes of whole prompts that are too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LongPrompts {
    /// They are passed over for the next.
    #[default]
    LeaveOut,
    /// Their first words are taken, and `end` behind them; a chat is passed over.
    Cut,
}

impl Default for Columns {
    fn default() -> Self {
        Self { text: "text".into(), label: "label".into(), prompt: None }
    }
}

impl Default for PromptRule {
    fn default() -> Self {
        Self { min_words: 4, max_words: None, end: None, long: LongPrompts::default() }
    }
}

impl Recipe {
    /// The data of whoever reads it.
    ///
    /// # Errors
    /// Where the recipe has none.
    pub fn data(&self) -> Result<&Data> {
        self.data.as_ref().ok_or_else(|| Error::recipe("the recipe has no `[data]` table"))
    }
}

impl Data {
    /// The values that the texts to train and to validate on depend on, beside the contents of the
    /// files. `is_one_file`: its rows are dealt out, test first.
    pub fn texts_outcome(&self, is_one_file: bool) -> Value {
        let Self {
            source: _,
            subset: _,
            splits,
            order,
            columns,
            prompt: _,
            train,
            validation,
            test,
        } = self;
        order.outcome(json!({
            "splits": splits,
            "columns": columns.outcome(),
            "train": train,
            "validation": validation,
            "test": is_one_file.then_some(test),
        }))
    }

    /// The same for the test texts: more of them begin with the same. Which of their prompts come
    /// first depends on those of the other splits.
    pub fn test_outcome(&self) -> Value {
        let Self {
            source: _,
            subset: _,
            splits,
            order,
            columns,
            prompt: _,
            train,
            validation,
            test: _,
        } = self;
        order.outcome(json!({
            "splits": splits,
            "columns": columns.outcome(),
            "train": train,
            "validation": validation,
        }))
    }

    /// The values that prompts depend on, beside the texts and the seed.
    pub fn prompt_outcome(&self) -> Value {
        let PromptRule { min_words, max_words, end, long } = &self.prompt;
        if self.columns.prompt.is_none() {
            return json!({ "min_words": min_words, "max_words": self.prompt.most_words() });
        }
        let mut outcome = json!({ "min_words": min_words, "max_words": FIRST_WORDS });
        if self.prompt != PromptRule::default() {
            outcome["whole"] = json!({ "max_words": max_words, "end": end, "long": long });
        }
        outcome
    }

    /// What is said of a split without any prompt, and the way out.
    pub fn no_prompts(&self) -> (String, &'static str) {
        let least = self.prompt.min_words;
        match self.columns.prompt {
            None => (
                format!("no text has the {least} words of a prompt and one more"),
                "lower `data.prompt.min_words`",
            ),
            Some(_) => ("no prompt is short enough".to_owned(), "raise `data.prompt.max_words`"),
        }
    }

    /// `texts make prompts`, and of which lengths.
    pub fn that_make_prompts(&self) -> String {
        match (&self.columns.prompt, self.prompt.max_words.filter(|_| self.prompt.leaves_out())) {
            (None, _) => format!("texts make prompts of {} words or more", self.prompt.min_words),
            (Some(_), None) => "rows have prompts".to_owned(),
            (Some(_), Some(most)) => format!("rows have prompts of {most} words or less"),
        }
    }

    /// What is said where it makes fewer prompts than `steer.prompts` asks for.
    pub fn too_few_prompts(&self, found: usize, asked: usize) -> String {
        let raise = match self.test {
            Some(0) | None => "",
            Some(_) => ", or raise `data.test`",
        };
        let what = match self.columns.prompt {
            Some(_) => match self.prompt.max_words.filter(|_| self.prompt.leaves_out()) {
                None => format!("there are only {found} test prompts"),
                Some(most) => {
                    format!("there are only {found} test prompts of {most} words or less")
                }
            },
            None => {
                let least = self.prompt.min_words;
                format!("only {found} test texts have the {least} words of a prompt and one more")
            }
        };
        format!("{what}; `steer.prompts` asks for {asked}\n\nhint: lower it{raise}")
    }

    pub(in crate::recipe) fn words(&self, out: &mut String) -> fmt::Result {
        let Self { source, subset, splits, order, columns, prompt, train, validation, test } = self;
        let rows = |rows: Option<usize>| match rows {
            None => "none".to_owned(),
            Some(0) => "all".to_owned(),
            Some(rows) => grouped(rows as u64),
        };
        // A local path is absolute in a plan, so what still reads like an id is one.
        let hub = match HubId::parse(source) {
            Some(_) => " (a hub data set; a run fetches it first)",
            None => "",
        };
        let subset = subset.iter().map(|subset| format!(", subset {subset}")).collect::<String>();
        writeln!(out, "\ndata {source}{subset}{hub}")?;
        splits::words(out, "  ", &splits.named())?;
        let [train, validation, test] = [*train, *validation, *test].map(rows);
        let order = match order {
            RowOrder::File => "",
            RowOrder::Hash => ", in the order of their hashes",
        };
        writeln!(out, "  rows: train {train}, validation {validation}, test {test}{order}")?;
        let Columns { text, label, prompt: column } = columns;
        writeln!(out, "  columns: text `{text}`, label `{label}`")?;
        if let Some(column) = column {
            return writeln!(
                out,
                "  prompt: what column `{column}` holds{}",
                prompt.of_whole_words()
            );
        }
        let (least, most) = (prompt.min_words, prompt.most_words());
        writeln!(out, "  prompt: the first {least} to {most} words of a text")
    }
}

impl RowOrder {
    /// `values` with this one, where it is not the usual one.
    fn outcome(self, mut values: Value) -> Value {
        if self != Self::default() {
            values["order"] = json!(self);
        }
        values
    }
}

impl Columns {
    /// The columns that are read.
    pub fn names(&self) -> Vec<&str> {
        [&self.text, &self.label].into_iter().chain(&self.prompt).map(String::as_str).collect()
    }

    fn outcome(&self) -> Value {
        let Self { text, label, prompt } = self;
        let mut outcome = json!({ "text": text, "label": label });
        if let Some(prompt) = prompt {
            outcome["prompt"] = json!(prompt);
        }
        outcome
    }
}

impl PromptRule {
    /// The most words of a prompt that is a text's first words.
    pub fn most_words(&self) -> usize {
        self.max_words.unwrap_or(FIRST_WORDS)
    }

    /// Whether whole prompts that are too long are no prompts.
    pub fn leaves_out(&self) -> bool {
        self.long == LongPrompts::LeaveOut
    }

    /// What is made of whole prompts, behind a word on where they are.
    fn of_whole_words(&self) -> String {
        let end = self.end.as_deref().map(|end| format!(", which ends in {end:?}"));
        let most = self.max_words.map(|most| match self.long {
            LongPrompts::LeaveOut => format!("; those of more than {most} words are left out"),
            LongPrompts::Cut => format!("; those of more than {most} words are cut"),
        });
        [end, most].into_iter().flatten().collect()
    }
}
