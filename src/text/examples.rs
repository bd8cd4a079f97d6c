//! The texts of a data set in memory, their labels, and the prompts that they make. How files are
//! read is in `dataset.rs`.

use std::borrow::Cow;
use std::collections::HashSet;

use super::data_report::DataReport;
use crate::error::{Error, Result};
use crate::prompt::{Prompt, PromptText};
use crate::recipe::PromptRule;
use crate::sampling::Stream;

/// A row of a data set; `id` is `<split>-<row>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub id: String,
    /// Empty where the file has no such column, and prompts of its own.
    pub text: String,
    /// 1 for positive; `None` where the file does not say.
    pub label: Option<u8>,
    pub prompt: RowPrompt,
}

/// Where the prompt of a row comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum RowPrompt {
    /// The first words of its text.
    FirstWords,
    /// What the file has in a column of prompts.
    Whole(PromptText),
    /// It has none: it is too long, or the column says that of an earlier row, or asks nothing.
    LeftOut,
}

impl Example {
    /// What rows that must not part have in common.
    pub(super) fn key(&self) -> Cow<'_, str> {
        match &self.prompt {
            RowPrompt::FirstWords | RowPrompt::LeftOut => Cow::Borrowed(&self.text),
            RowPrompt::Whole(prompt) => prompt.key(),
        }
    }

    /// Its prompt: what the file has, or the first words of the text; `None` where it has too few.
    pub(super) fn prompt(&self, rule: &PromptRule, seed: u64) -> Option<PromptText> {
        match &self.prompt {
            RowPrompt::FirstWords => first_words_prompt(self, rule, seed).map(PromptText::Plain),
            RowPrompt::Whole(prompt) => Some(prompt.clone()),
            RowPrompt::LeftOut => None,
        }
    }
}

/// A split that is not asked for is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub train: Vec<Example>,
    pub validation: Vec<Example>,
    pub test: Vec<Example>,
    pub report: DataReport,
}

/// Which rows of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    /// Its name in recipes.
    pub fn key(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// The prompts that rows make, in their order; ids are those of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    pub prompts: Vec<Prompt>,
    /// Those that were passed over on the way to the last of `prompts`, for a row of an earlier
    /// split makes the same prompt.
    pub seen: Vec<Prompt>,
}

impl Dataset {
    pub fn rows(&self, split: Split) -> &[Example] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// The rows of a split for one who reads their texts.
    ///
    /// # Errors
    /// Where the file has no texts: names the place.
    pub fn texts(&self, split: Split) -> Result<&[Example]> {
        match self.report.no_text.get(split.key()) {
            None => Ok(self.rows(split)),
            Some(problem) => Err(Error::failed(problem.clone())),
        }
    }

    /// The label of each row of a split.
    ///
    /// # Errors
    /// Where one has none: what stands there, and where.
    pub fn labels(&self, split: Split) -> Result<Vec<u8>> {
        let labels: Option<Vec<u8>> = self.rows(split).iter().map(|row| row.label).collect();
        labels.ok_or_else(|| {
            let problem = self.report.no_label.get(split.key());
            Error::failed(problem.cloned().unwrap_or_else(|| "a text has no label".to_owned()))
        })
    }

    /// The prompts of the first `count` rows of `split` that make one (texts that are too short for
    /// the rule do not), fewer where there are no more. Of validation and test only those that no
    /// row of an earlier split (train, validation, test) makes, too: two texts may begin with the
    /// same words.
    pub fn prompts(&self, split: Split, rule: &PromptRule, seed: u64, count: usize) -> Prompts {
        let of = |examples: &[Example]| -> Vec<Prompt> {
            let prompts = examples
                .iter()
                .filter_map(|row| Some(Prompt::new(&row.id, row.prompt(rule, seed)?)));
            prompts.collect()
        };
        let earlier: &[Split] = match split {
            Split::Train => &[],
            Split::Validation => &[Split::Train],
            Split::Test => &[Split::Train, Split::Validation],
        };
        let known: HashSet<PromptText> = earlier
            .iter()
            .flat_map(|split| of(self.rows(*split)))
            .map(|prompt| prompt.text)
            .collect();
        let mut found = Prompts::default();
        for prompt in of(self.rows(split)) {
            if found.prompts.len() == count {
                break;
            }
            let list =
                if known.contains(&prompt.text) { &mut found.seen } else { &mut found.prompts };
            list.push(prompt);
        }
        found
    }
}

/// The first n words of a text, n between the rule's bounds and drawn from (seed, id); `None` where
/// the text has no more than the least of them, for then nothing would be left to say.
pub fn first_words_prompt(example: &Example, rule: &PromptRule, seed: u64) -> Option<String> {
    let range = rule.most_words() - rule.min_words + 1;
    let drawn = rule.min_words
        + (Stream::new(seed, "prompt", &example.id).uniform(0, 0) * range as f64) as usize;
    let words: Vec<&str> = example.text.split_whitespace().take(drawn + 1).collect();
    let count = drawn.min(words.len().saturating_sub(1));
    (count >= rule.min_words).then(|| words[..count].join(" "))
}
