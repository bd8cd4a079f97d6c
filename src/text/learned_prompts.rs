//! Prompts that a judge or a guide learns from pairs, and what is left of a test split without
//! them: what is measured on prompts that were learned says little of new ones.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::examples::{Dataset, Split};
use super::pair_files::{self, PairRows};
use crate::error::Result;
use crate::prompt::{Prompt, PromptText};
use crate::recipe::{Data, Recipe};

/// What passes a whole test prompt over that a training or validation row has, too.
const ROWS: &str = "the training or validation rows of `[data]`";

/// The prompts of the pairs that a recipe learns from, for training and for validation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LearnedPrompts {
    /// By the table that names the pairs.
    by_table: Vec<(&'static str, HashSet<String>)>,
}

/// The prompts of a test split, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestPrompts {
    /// As many as are asked for, or all there are.
    pub prompts: Vec<Prompt>,
    /// Those that were passed over on the way to the last of `prompts`, for training or validation
    /// texts begin with the same words: short prompts do so by chance.
    pub seen: Vec<Prompt>,
    /// How many were passed over for good on that way, by whose they are.
    pub learned: BTreeMap<String, usize>,
}

impl LearnedPrompts {
    /// Reads all pairs of the recipe that are there already.
    ///
    /// # Errors
    /// Those of [`pair_files::load`].
    pub fn read(recipe: &Recipe, seed: u64) -> Result<Self> {
        let mut learned = Self::default();
        for source in recipe.pair_sources() {
            learned.add(source.table, &pair_files::load(&source, seed)?);
        }
        Ok(learned)
    }

    /// Takes the prompts of pairs that `table` names.
    pub fn add(&mut self, table: &'static str, pairs: &PairRows) {
        let rows = pairs.train.iter().chain(&pairs.validation);
        let prompts = rows.filter(|row| !row.prompt.is_empty());
        self.by_table.push((table, prompts.map(|row| key(&row.prompt).into_owned()).collect()));
    }

    /// The table whose pairs have the prompt.
    fn table_of(&self, key: &str) -> Option<&'static str> {
        self.by_table.iter().find(|(_, prompts)| prompts.contains(key)).map(|(table, _)| *table)
    }
}

impl Dataset {
    /// The first `count` test prompts that nobody learns from. Those of `learned` pairs are passed
    /// over, and whole prompts that a training or validation row has. Those that are the first
    /// words of texts are kept apart where another split's texts begin with them.
    pub fn test_prompts(
        &self,
        data: &Data,
        seed: u64,
        count: usize,
        learned: &LearnedPrompts,
    ) -> TestPrompts {
        let prompts = |split: Split| {
            let rows = self.rows(split).iter();
            rows.filter_map(|row| Some(Prompt::new(&row.id, row.prompt(&data.prompt, seed)?)))
        };
        let earlier = [Split::Train, Split::Validation].into_iter().flat_map(prompts);
        let earlier: HashSet<String> =
            earlier.map(|prompt| key(&prompt.text).into_owned()).collect();
        let is_whole = data.columns.prompt.is_some();
        let mut found = TestPrompts::default();
        for prompt in prompts(Split::Test) {
            if found.prompts.len() == count {
                break;
            }
            let key = key(&prompt.text);
            let whose = match learned.table_of(&key) {
                Some(table) => Some(format!("the pairs of `{table}`")),
                None if earlier.contains(&*key) && is_whole => Some(ROWS.to_owned()),
                None => None,
            };
            if let Some(whose) = whose {
                *found.learned.entry(whose).or_default() += 1;
            } else if earlier.contains(&*key) {
                found.seen.push(prompt);
            } else {
                found.prompts.push(prompt);
            }
        }
        found
    }
}

impl TestPrompts {
    /// What is to be said where fewer prompts are left than `steer.prompts` asks for.
    pub fn too_few(&self, data: &Data, asked: usize) -> Option<String> {
        let left = self.prompts.len() + self.seen.len();
        if left >= asked {
            return None;
        }
        if self.learned.is_empty() {
            return Some(data.too_few_prompts(left, asked));
        }
        let all = left + self.learned.values().sum::<usize>();
        let whose =
            self.learned.iter().map(|(whose, count)| format!("{count} are prompts of {whose}"));
        Some(format!(
            "of {all} test prompts {left} are left that nobody learns from, and `steer.prompts` \
             asks for {asked}: {}\n\nhint: lower it, raise `data.test`, or take test prompts that \
             the pairs do not have",
            whose.collect::<Vec<_>>().join(", ")
        ))
    }
}

/// What two prompts have in common that ask the same: the text without white space around it; of a
/// chat of one turn, what the user says.
fn key(prompt: &PromptText) -> Cow<'_, str> {
    let asked = match prompt {
        PromptText::Plain(text) => Some(text.as_str()),
        PromptText::Chat(_) => prompt.single_turn(),
    };
    match asked {
        Some(text) => Cow::Borrowed(text.trim()),
        None => Cow::Owned(prompt.to_string().trim().to_owned()),
    }
}
