//! The rules of `[data]`, and which stages read which of its splits.

use super::super::hub_id::hub_dataset;
use super::super::rules::Rules;
use super::super::stage::Texts;
use super::data::{Columns, Data, LongPrompts, PromptRule};
use super::{Recipe, Stage, splits};
use crate::artifacts::stand_in;

const BUILTIN: &str = "builtin:reviews";

impl Data {
    /// Tells what is wrong with the texts, and what is missing of them.
    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        self.source_rules(rules);
        splits::subset_rules(rules, ("data", &self.source), self.subset.as_deref());
        let is_folder = hub_dataset(rules.folder, &self.source).is_some()
            || rules.folder.join(&self.source).is_dir();
        splits::rules(rules, ("data", &self.source), is_folder, &self.splits.named());
        self.split_rules(rules);
        let Columns { text, label, prompt } = &self.columns;
        let columns = [("text", Some(text)), ("label", Some(label)), ("prompt", prompt.as_ref())];
        for (key, _) in columns.iter().filter(|(_, column)| column.is_some_and(String::is_empty)) {
            rules.problem(format!("`data.columns.{key}` is empty"));
        }
        if text == label {
            rules
                .problem(format!("`data.columns.text` and `data.columns.label` are both `{text}`"));
        }
        match prompt {
            Some(_) => self.whole_prompt_rules(rules),
            None => self.first_words_rules(rules),
        }
    }

    fn first_words_rules(&self, rules: &mut Rules) {
        let (least, most) = (self.prompt.min_words, self.prompt.most_words());
        if least > most {
            rules.problem(format!(
                "`data.prompt.min_words` = {least} is more than `data.prompt.max_words` = {most}"
            ));
        }
        let of_whole = [
            ("end", self.prompt.end.is_some()),
            ("long", self.prompt.long != LongPrompts::default()),
        ];
        for (key, _) in of_whole.into_iter().filter(|(_, given)| *given) {
            rules.problem_hint(
                format!(
                    "`data.prompt.{key}` is about whole prompts, but prompts are the first words \
                     of texts"
                ),
                "name a column of prompts as `data.columns.prompt`, or leave it out",
            );
        }
    }

    fn whole_prompt_rules(&self, rules: &mut Rules) {
        let PromptRule { min_words, max_words, end, long } = &self.prompt;
        if *min_words != PromptRule::default().min_words {
            rules.problem_hint(
                "`data.prompt.min_words` counts the words of a text that make a prompt, but \
                 `data.columns.prompt` names a column of whole prompts",
                "leave out one or the other",
            );
        }
        if *long == LongPrompts::Cut && max_words.is_none() {
            rules.problem_hint(
                "`data.prompt.long` is `cut`, but no prompt is too long without \
                 `data.prompt.max_words`",
                "say how many words a prompt may have",
            );
        }
        let words = end.as_deref().map(|end| end.split_whitespace().count());
        match (words, max_words) {
            (Some(0), _) => rules.problem("`data.prompt.end` is empty"),
            (Some(words), Some(most)) if words >= *most => rules.problem(format!(
                "`data.prompt.max_words` = {most} leaves no word before the {words} of \
                 `data.prompt.end`"
            )),
            _ => {}
        }
    }

    fn sizes(&self) -> [(&'static str, Option<usize>); 3] {
        [("train", self.train), ("validation", self.validation), ("test", self.test)]
    }

    /// What is read must be asked for.
    fn split_rules(&self, rules: &mut Rules) {
        let Readers { training, test } = Readers::of(rules.recipe);
        let readers = [&training, &training, &test];
        for ((split, size), readers) in self.sizes().into_iter().zip(readers) {
            if let (None, Some(reader)) = (size, readers.first()) {
                rules.problem_hint(
                    format!("missing key `data.{split}`: {reader} reads that split"),
                    "give its rows; 0 takes all there are in files",
                );
            }
        }
        if training.is_empty() && self.train.is_some() != self.validation.is_some() {
            rules.problem_hint(
                "`data.train` and `data.validation` go together, but one of them is missing",
                "give both, or neither where no stage learns from texts",
            );
        }
    }

    fn source_rules(&self, rules: &mut Rules) {
        if let Some(name) = self.source.strip_prefix("builtin:") {
            if self.source != BUILTIN {
                rules.problem_hint(
                    format!(
                        "`data.source` is `{}`, but there is no built-in corpus `{name}`",
                        self.source
                    ),
                    format!("the built-in corpus is `{BUILTIN}`"),
                );
            }
            for (split, _) in self.sizes().iter().filter(|(_, size)| *size == Some(0)) {
                rules.problem(format!(
                    "`data.{split}` is 0, but the built-in corpus has no end: give its size"
                ));
            }
        } else if hub_dataset(rules.folder, &self.source).is_none() {
            let path = rules.folder.join(&self.source);
            if let Err(stands_in) = stand_in::refuse(&path) {
                rules.problem(format!("`data.source`: {stands_in}"));
            } else if self.source.is_empty() || !path.exists() {
                let what = format!(
                    "`data.source` is `{}`, but `{}` does not exist",
                    self.source,
                    path.display()
                );
                rules.problem_hint(what, self.source_hint());
            } else if path.is_file() && self.train.is_some() {
                for (split, _) in self.sizes()[1..].iter().filter(|(_, size)| *size == Some(0)) {
                    rules.problem(format!(
                        "`data.{split}` is 0, but one file is split by size: only `data.train` \
                         may be 0 and take the rest"
                    ));
                }
            }
        }
    }

    fn source_hint(&self) -> String {
        if self.source.starts_with('~') {
            "`~` is not expanded in a recipe: write the whole path".to_owned()
        } else if self.source.is_empty() {
            format!(
                "a file, a folder with train, validation and test files, a hub data set \
                 `owner/name`, or `{BUILTIN}`"
            )
        } else {
            "paths in a recipe are relative to the recipe's folder; --set data.source=PATH chooses \
             another, and a hub data set is `owner/name`"
                .to_owned()
        }
    }
}

/// What reads the texts, as messages name it.
struct Readers {
    /// Training and validation texts, or their prompts.
    training: Vec<String>,
    /// The prompts of test texts.
    test: Vec<String>,
}

impl Readers {
    fn of(recipe: &Recipe) -> Self {
        let reading = |texts: Texts| {
            let reads = |stage: &Stage| {
                stage.table(recipe).is_some_and(|table| table.texts(recipe) == texts)
            };
            Stage::ALL.into_iter().filter(reads).map(|stage| format!("`[{stage}]`")).collect()
        };
        Self { training: reading(Texts::Training), test: reading(Texts::Test) }
    }
}

/// The rule of a recipe that has no `[data]`.
pub fn without_data(rules: &mut Rules) {
    let Readers { training, test } = Readers::of(rules.recipe);
    let readers = [training, test].concat();
    if !readers.is_empty() {
        let hint = "give `source`, and the rows of the splits: `train` and `validation` to learn \
                    from, `test` to steer";
        let readers = readers.join(", ");
        rules.problem_hint(format!("missing table `[data]`, which is read by {readers}"), hint);
    }
}
