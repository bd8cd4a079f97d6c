//! What the values of a recipe mean together: every broken rule is reported, nothing is repaired
//! and no weights are read.

mod lora;
mod models;
mod ppo;
mod preferences;
mod stages;
mod steer;

use std::path::Path;

pub(super) use self::steer::is_one_model;
use super::{DeviceName, Model, PromptRule, Recipe, SplitNames, hub_dataset, listed, nearest};

pub(super) const BUILTIN: &str = "builtin:reviews";

/// Tokens that a word of a prompt is taken to need at most, on average.
const TOKENS_PER_WORD: usize = 3;

/// The same for a model's `prompt` around it, which is longer and so nearer to the usual 1.3.
const TOKENS_PER_TEMPLATE_WORD: usize = 2;

/// Tokens that a chat template puts around a user's turn, at most.
const CHAT_TOKENS: usize = 64;

/// Every broken rule, each as `file: what` with a hint where there is a way out; paths in the
/// recipe are relative to `recipe_path`.
pub fn validate(recipe: &Recipe, recipe_path: &Path) -> Vec<String> {
    let mut rules = Rules::new(recipe, recipe_path);
    rules.run();
    rules.data();
    rules.models();
    rules.judges();
    rules.stages();
    rules.ppo();
    rules.lora();
    rules.steer();
    rules.problems
}

/// What is wrong with a recipe that steers, whatever its data, sizes and folders are: the rules of
/// `w2s steer`.
pub fn steer_problems(recipe: &Recipe) -> Vec<String> {
    let sizes = super::plan::Sizes {
        models: Default::default(),
        gold: None,
        judges: Default::default(),
        troubles: Vec::new(),
    };
    let mut rules =
        Rules { recipe, place: String::new(), folder: Path::new(""), sizes, problems: Vec::new() };
    rules.run();
    rules.templates();
    rules.judge_texts();
    if let Some(steer) = &recipe.steer {
        rules.steer_settings(steer);
    }
    rules.problems
}

/// A generous number of tokens for a prompt as `model` reads it.
pub fn prompt_bound(rule: &PromptRule, model: &Model) -> usize {
    let system = model.chat.as_ref().and_then(|chat| chat.system.as_deref()).unwrap_or_default();
    let words = model
        .prompt
        .replace("{prompt}", " ")
        .split_whitespace()
        .chain(system.split_whitespace())
        .count();
    let chat = if model.chat.is_some() { CHAT_TOKENS } else { 0 };
    let around = TOKENS_PER_TEMPLATE_WORD * words + chat + usize::from(model.bos != Some(false));
    TOKENS_PER_WORD.saturating_mul(rule.max_words).saturating_add(around)
}

struct Rules<'a> {
    recipe: &'a Recipe,
    /// What problems begin with: the file.
    place: String,
    /// The folder of the recipe.
    folder: &'a Path,
    sizes: super::plan::Sizes,
    problems: Vec<String>,
}

impl<'a> Rules<'a> {
    fn new(recipe: &'a Recipe, path: &'a Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        Self {
            recipe,
            place: format!("{}: ", path.display()),
            folder,
            sizes: super::plan::Sizes::of(recipe, folder),
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, what: impl AsRef<str>) {
        self.problems.push(format!("{}{}", self.place, what.as_ref()));
    }

    fn problem_hint(&mut self, what: impl AsRef<str>, hint: impl AsRef<str>) {
        self.problems.push(format!("{}{}\n\nhint: {}", self.place, what.as_ref(), hint.as_ref()));
    }

    fn at_least_one(&mut self, key: &str, value: usize) {
        if value == 0 {
            self.problem(format!("`{key}` is 0, expected 1 or more"));
        }
    }

    fn positive(&mut self, key: &str, value: f64) {
        if !(value > 0.0 && value.is_finite()) {
            self.problem(format!("`{key}` is {value}, expected a number above 0"));
        }
    }

    fn not_negative(&mut self, key: &str, value: f64) {
        if !(value >= 0.0 && value.is_finite()) {
            self.problem(format!("`{key}` is {value}, expected 0 or more"));
        }
    }

    /// Letters, digits, `.`, `_` and `-`: a folder of that name is the same on every system and
    /// needs no quotes.
    fn folder_name(&mut self, key: &str, name: &str) {
        let plain = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
        };
        if name.is_empty()
            || name.len() > 100
            || name.starts_with(['.', '-'])
            || !name.chars().all(plain)
        {
            self.problem_hint(
                format!("`{key}`: `{name}` cannot name a folder"),
                "1 to 100 letters, digits, `.`, `_` or `-`, and neither `.` nor `-` first",
            );
        }
    }

    /// Whether `name` is a model of the recipe.
    fn known_model(&mut self, key: &str, name: &str) -> bool {
        if self.recipe.models.contains_key(name) {
            return true;
        }
        let names = || self.recipe.models.keys().map(String::as_str);
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.recipe.models.is_empty() => format!("add a table `[models.{name}]`"),
            None => format!("models here: {}", listed(names())),
        };
        self.problem_hint(format!("`{key}` is `{name}`, but there is no `[models.{name}]`"), hint);
        false
    }

    fn device(&mut self, key: &str, device: &str) {
        if DeviceName::parse(device).is_none() {
            self.problem(format!("`{key}` is `{device}`, expected `cpu`, `cuda` or `cuda:N`"));
        }
    }

    fn run(&mut self) {
        let run = &self.recipe.run;
        self.folder_name("run.name", &run.name);
        if run.seeds.is_empty() {
            self.problem("`run.seeds` is empty, expected one seed or more");
        }
        if let Some(twice) = first_twice(&run.seeds) {
            self.problem(format!("`run.seeds` holds {twice} twice"));
        }
        self.device("run.device", &run.device);
        if run.threads == Some(0) {
            self.problem_hint(
                "`run.threads` is 0, expected 1 or more",
                "leave it out to use all \
                                                                         that the machine allows",
            );
        }
    }

    fn data(&mut self) {
        let data = &self.recipe.data;
        let sizes = [
            ("data.train", data.train),
            ("data.validation", data.validation),
            ("data.test", data.test),
        ];
        if let Some(name) = data.source.strip_prefix("builtin:") {
            if data.source != BUILTIN {
                self.problem_hint(
                    format!(
                        "`data.source` is `{}`, but there is no built-in corpus `{name}`",
                        data.source
                    ),
                    format!("the built-in corpus is `{BUILTIN}`"),
                );
            }
            for (key, _) in sizes.iter().filter(|(_, size)| *size == 0) {
                self.problem(format!(
                    "`{key}` is 0, but the built-in corpus has no end: give its \
                                      size"
                ));
            }
        } else if hub_dataset(self.folder, &data.source).is_none() {
            let path = self.folder.join(&data.source);
            if data.source.is_empty() || !path.exists() {
                let hint = if data.source.starts_with('~') {
                    "`~` is not expanded in a recipe: write the whole path".to_owned()
                } else if data.source.is_empty() {
                    format!(
                        "a file, a folder with train, validation and test files, a hub data \
                             set `owner/name`, or `{BUILTIN}`"
                    )
                } else {
                    "paths in a recipe are relative to the recipe's folder; --set data.source=PATH \
                     chooses another, and a hub data set is \
                     `owner/name`"
                        .to_owned()
                };
                self.problem_hint(
                    format!(
                        "`data.source` is `{}`, but `{}` does not exist",
                        data.source,
                        path.display()
                    ),
                    hint,
                );
            } else if path.is_file() {
                for (key, _) in sizes[1..].iter().filter(|(_, size)| *size == 0) {
                    self.problem(format!(
                        "`{key}` is 0, but one file is split by size: only \
                                          `data.train` may be 0 and take the rest"
                    ));
                }
            }
        }
        self.subset();
        let is_folder = hub_dataset(self.folder, &data.source).is_some()
            || self.folder.join(&data.source).is_dir();
        self.splits("data", &data.source, is_folder, &data.splits.named());
        for (key, column) in
            [("data.columns.text", &data.columns.text), ("data.columns.label", &data.columns.label)]
        {
            if column.is_empty() {
                self.problem(format!("`{key}` is empty"));
            }
        }
        if data.columns.text == data.columns.label {
            self.problem(format!(
                "`data.columns.text` and `data.columns.label` are both `{}`",
                data.columns.text
            ));
        }
        self.at_least_one("data.prompt.min_words", data.prompt.min_words);
        if data.prompt.min_words > data.prompt.max_words {
            let PromptRule { min_words, max_words } = data.prompt;
            self.problem(format!(
                "`data.prompt.min_words` = {min_words} is more than \
                                  `data.prompt.max_words` = {max_words}"
            ));
        }
    }

    /// Names of splits, each for one split alone.
    fn splits(
        &mut self,
        table: &str,
        source: &str,
        is_folder: bool,
        splits: &[(&str, &SplitNames)],
    ) {
        if !splits.is_empty()
            && !is_folder
            && (source.starts_with("builtin:") || self.folder.join(source).is_file())
        {
            self.problem_hint(
                format!(
                    "`{table}.splits` chooses files of a folder, but `{table}.source` is \
                         `{source}`"
                ),
                format!("leave it out, or name the folder as `{table}.source`"),
            );
        }
        let mut taken: Vec<(&str, &str)> = Vec::new();
        for (split, SplitNames(names)) in splits {
            let key = format!("{table}.splits.{split}");
            if names.is_empty() || names.iter().any(String::is_empty) {
                self.problem_hint(
                    format!("`{key}` has an empty name or none"),
                    "the name of a split's files without number and ending: `train_prefs` for \
                     `train_prefs-00000-of-00001.parquet`",
                );
            }
            for name in names {
                match taken.iter().find(|(_, known)| known == name) {
                    Some((other, _)) => self.problem(format!(
                        "`{key}` is `{name}`, which \
                                                              `{table}.splits.{other}` names too"
                    )),
                    None => taken.push((split, name)),
                }
            }
        }
    }

    fn subset(&mut self) {
        let data = &self.recipe.data;
        let (Some(subset), source) = (&data.subset, self.folder.join(&data.source)) else { return };
        if !source.is_dir() {
            if data.source.starts_with("builtin:") || source.exists() {
                self.problem(
                    "`data.subset` names a folder below `data.source`, which is not a \
                              folder",
                );
            }
        } else if subset.is_empty() || !source.join(subset).is_dir() {
            let names = subfolders(&source);
            let hint = match nearest(subset, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => {
                    "leave it out: there is no folder below `data.source`".to_owned()
                }
                None => format!("folders there: {}", listed(names.iter().map(String::as_str))),
            };
            self.problem_hint(
                format!(
                    "`data.subset` is `{subset}`, but `{}` has no such folder",
                    source.display()
                ),
                hint,
            );
        }
    }
}

/// The first item that stands in the list before, too.
fn first_twice<T: PartialEq>(items: &[T]) -> Option<&T> {
    items
        .iter()
        .enumerate()
        .find(|(index, item)| items[..*index].contains(item))
        .map(|(_, item)| item)
}

/// Names of the folders below one, in order.
fn subfolders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}
