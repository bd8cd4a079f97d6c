//! Settings from the command line by a recipe's own tables and rules, so that neither refuses what
//! the other takes: flags give the values of a recipe's keys, and what is wrong with a key is said
//! of its flag.

use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::recipe::{Recipe, default_value, sentence, steer_problems};

/// What the help says of a flag that stands for the key at `path`.
pub(super) fn key_help(path: &str) -> String {
    let said = sentence(path).unwrap_or_default();
    match default_value(path) {
        Some(value) => format!("{said} [default: {}]", value.trim_matches('"')),
        None => said,
    }
}

/// A recipe that steers `models.base` with one method, under way.
pub(super) struct Settings {
    recipe: Value,
    words: Words,
}

/// What recipes call something, and what it is called here.
#[derive(Debug, Clone)]
pub(super) struct Words(Vec<(String, String)>);

impl Words {
    pub fn translated(&self, problem: String) -> String {
        self.0.iter().fold(problem, |text, (key, flag)| text.replace(key, flag))
    }
}

impl Settings {
    pub fn new(kind: &str) -> Self {
        // What a recipe's hint says of its own keys.
        let hint = (
            "add `[dpo]`, or name two models as `steer.tuned` and `steer.untuned`",
            "give --tuned and --untuned",
        );
        let mut settings = Self { recipe: Value::Table(Table::new()), words: Words(Vec::new()) };
        settings.word(hint.0, hint.1);
        // Rows and prompts that the shell does not take from anywhere.
        let unasked = [
            ("run.name", "steer".into()),
            ("data.source", "builtin:reviews".into()),
            ("steer.prompts", 1.into()),
        ];
        let sizes = ["data.train", "data.validation", "data.test"].map(|key| (key, 1.into()));
        for (key, value) in unasked.into_iter().chain(sizes) {
            settings.put(key, value);
        }
        settings.put("steer.bases", vec!["base"].into());
        settings.put("steer.method.0.kind", kind.into());
        settings
    }

    /// `flag` stands for `key`, a path into tables and lists; without a value the key has its
    /// default.
    pub fn flag(&mut self, flag: impl Into<String>, key: &str, value: Option<impl Into<Value>>) {
        self.word(format!("`{key}`"), flag);
        if let Some(value) = value {
            self.put(key, value.into());
        }
    }

    /// What recipes call `recipe` is `shell` here.
    pub fn word(&mut self, recipe: impl Into<String>, shell: impl Into<String>) {
        self.words.0.push((recipe.into(), shell.into()));
    }

    pub fn put(&mut self, key: &str, value: Value) {
        let parts: Vec<&str> = key.split('.').collect();
        let mut here = &mut self.recipe;
        for (depth, part) in parts.iter().enumerate() {
            let is_list = parts.get(depth + 1).is_some_and(|next| next.parse::<usize>().is_ok());
            let empty =
                || if is_list { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
            here = match here {
                Value::Array(items) => {
                    let index = part.parse().unwrap_or(items.len());
                    while items.len() <= index {
                        items.push(empty());
                    }
                    &mut items[index]
                }
                Value::Table(table) => table.entry(*part).or_insert_with(empty),
                _ => return,
            };
        }
        *here = value;
    }

    /// The recipe, what its rules say against it, and the words of both.
    ///
    /// # Errors
    /// [`Error::Recipe`] where a value is not of its key's kind.
    pub fn check(self) -> Result<(Recipe, Vec<String>, Words)> {
        let Self { recipe, words } = self;
        let recipe: Recipe = recipe.try_into().map_err(|error| {
            Error::recipe(words.translated(error.to_string().trim_end().to_owned()))
        })?;
        let mut problems: Vec<String> =
            steer_problems(&recipe).into_iter().map(|problem| words.translated(problem)).collect();
        // One flag may stand for several keys.
        problems.dedup();
        Ok((recipe, problems, words))
    }
}
