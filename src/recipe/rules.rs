//! What the values of a recipe mean together: where the tables tell what is wrong, and the rules
//! that several of them share. Every broken rule is reported, nothing is repaired and no weights
//! are read. What one key alone may be is left to `ranges`, asking all tables to `planning`.

use std::path::Path;

use super::adapter_folder::{base_folder, config_folder, tokenizer_folder};
use super::hub_id::hub_model;
use super::plan::StageTraining;
use super::sizes::Sizes;
use super::tables::{ChunkLen, ChunkLens, DeviceName, Recipe, Training, TrainingTable};
use super::tokenizer_folder::conversion_hint;
use super::words::{listed, nearest};
use crate::artifacts::stand_in;

/// A recipe whose tables are asked, and the problems that they tell.
pub struct Rules<'a> {
    pub recipe: &'a Recipe,
    /// The folder of the recipe, from which its paths start.
    pub folder: &'a Path,
    pub sizes: &'a Sizes,
    pub training: &'a StageTraining,
    /// What problems begin with: the file.
    pub(super) place: String,
    pub(super) problems: Vec<String>,
}

impl Rules<'_> {
    /// Tells what is wrong; keys stand in backticks.
    pub fn problem(&mut self, what: impl AsRef<str>) {
        self.problems.push(format!("{}{}", self.place, what.as_ref()));
    }

    /// The same with a way out.
    pub fn problem_hint(&mut self, what: impl AsRef<str>, hint: impl AsRef<str>) {
        let (what, hint) = (what.as_ref(), hint.as_ref());
        self.problems.push(format!("{}{what}\n\nhint: {hint}", self.place));
    }

    /// Tells what `tell` does but for what has been told.
    pub fn once(&mut self, tell: impl FnOnce(&mut Self)) {
        let told = self.problems.len();
        tell(self);
        let mut own = self.problems.split_off(told);
        own.retain(|problem| !self.problems.contains(problem));
        self.problems.extend(own);
    }

    pub(super) fn at_least_one(&mut self, key: &str, value: usize) {
        if value == 0 {
            self.problem(format!("`{key}` is 0, expected 1 or more"));
        }
    }

    /// Letters, digits, `.`, `_` and `-`: a folder of that name is the same on every system and
    /// needs no quotes.
    pub(super) fn folder_name(&mut self, key: &str, name: &str) {
        let plain = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
        };
        let (length, first) = (name.len(), name.starts_with(['.', '-']));
        if length == 0 || length > 100 || first || !name.chars().all(plain) {
            self.problem_hint(
                format!("`{key}`: `{name}` cannot name a folder"),
                "1 to 100 letters, digits, `.`, `_` or `-`, and neither `.` nor `-` first",
            );
        }
    }

    /// Whether `name` is a model of the recipe; tells it where it is not.
    pub fn known_model(&mut self, key: &str, name: &str) -> bool {
        if self.recipe.models.contains_key(name) {
            return true;
        }
        let names = || self.recipe.models.keys().map(String::as_str);
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.recipe.models.is_empty() => format!("add a table `[models.{name}]`"),
            None => format!("models here: {}", listed(names())),
        };
        let what = format!("`{key}` is `{name}`, but there is no `[models.{name}]`");
        self.problem_hint(what, hint);
        false
    }

    pub(super) fn device(&mut self, key: &str, device: &str) {
        if DeviceName::parse(device).is_none() {
            self.problem(format!("`{key}` is `{device}`, expected `cpu`, `cuda` or `cuda:N`"));
        }
    }

    /// Where a model comes from: `id`, `scratch` or `api`, as far as each is given.
    pub(super) fn one_origin(&mut self, table: &str, given: [bool; 3]) {
        let keys = ["id", "scratch", "api"].into_iter().zip(given);
        let keys: Vec<&str> = keys.filter(|(_, given)| *given).map(|(key, _)| key).collect();
        match keys.as_slice() {
            [_] => {}
            [] => self.problem_hint(
                format!("`{table}` has none of `id`, `scratch` and `api`"),
                "`id` is a model folder or a hub id, `scratch` the sizes of a model to make, `api` \
                 the address of one that is served",
            ),
            given => self.problem(format!(
                "`{table}` has {}, expected one of them",
                listed(given.iter().copied())
            )),
        }
    }

    /// A folder with a tokenizer, or a hub id.
    pub(super) fn tokenizer_folder(&mut self, key: &str, id: &str) {
        if hub_model(self.folder, id).is_some() {
            return;
        }
        let folder = self.folder.join(id);
        if !tokenizer_folder(&folder).join("tokenizer.json").is_file() {
            self.problem_hint(
                format!("`{key}`: `{}` holds no tokenizer.json", folder.display()),
                "a folder, relative to the recipe's, or a hub id `owner/name`",
            );
        }
    }

    pub(super) fn model_folder(&mut self, key: &str, id: &str) {
        // What a repository on the hub holds shows when it is there; a plan is then made of the
        // folder in the cache.
        if hub_model(self.folder, id).is_some() {
            return;
        }
        let folder = self.folder.join(id);
        // An adapter whose base is not here is told, or its base fetched, where it is opened.
        let is_adapter = folder.join("adapter_config.json").is_file();
        if is_adapter && base_folder(&folder).is_none() {
            return;
        }
        if let Err(stands_in) = stand_in::refuse(&folder) {
            return self.problem(format!("`{key}`: {stands_in}"));
        }
        if id.is_empty() || !folder.is_dir() {
            let what = format!("`{key}` is `{id}`, but `{}` is not a folder", folder.display());
            return self.problem_hint(
                what,
                match id.starts_with('~') {
                    true => "`~` is not expanded in a recipe: write the whole path",
                    false => {
                        "paths in a recipe are relative to the recipe's folder; a hub id is \
                         `owner/name`"
                    }
                },
            );
        }
        let places = [
            (config_folder(&folder), "config.json"),
            (tokenizer_folder(&folder), "tokenizer.json"),
        ];
        let missing: Vec<&str> = (places.iter())
            // A link to nowhere is told by whoever opens it.
            .filter(|(folder, file)| {
                let path = folder.join(file);
                !path.is_file() && !path.is_symlink()
            })
            .map(|(_, file)| *file)
            .collect();
        if missing.is_empty() {
            return;
        }
        let conversion = conversion_hint(&folder).filter(|_| missing == ["tokenizer.json"]);
        let usual = match is_adapter {
            true => {
                "it is a PEFT adapter: its adapter_config.json must name the folder of its base \
                 model, or its hub id, as `base_model_name_or_path`"
            }
            false => {
                "a model folder has Hugging Face layout: config.json, model.safetensors and \
                 tokenizer.json"
            }
        };
        self.problem_hint(
            format!("`{key}`: `{}` holds no {}", folder.display(), listed(missing)),
            conversion.unwrap_or_else(|| usual.to_owned()),
        );
    }

    pub(super) fn divides(
        &mut self,
        table: &str,
        (heads_key, heads): (&str, i64),
        (width_key, width): (&str, i64),
    ) {
        if heads > 0 && width > 0 && width % heads != 0 {
            let (less, more) = (width - width % heads, width + heads - width % heads);
            self.problem_hint(
                format!(
                    "`{table}.{heads_key}` = {heads} does not divide `{table}.{width_key}` = \
                     {width}"
                ),
                match less > 0 {
                    true => format!("{less} and {more} are near"),
                    false => format!("{more} is near"),
                },
            );
        }
    }

    /// Prompts come from a split, so it must have that many rows (0 rows: as many as the source
    /// has; that it is not there at all has its own rule).
    pub(super) fn prompts(
        &mut self,
        key: &str,
        prompts: usize,
        (split_key, rows): (&str, Option<usize>),
    ) {
        self.at_least_one(key, prompts);
        if let Some(rows) = rows.filter(|rows| *rows > 0 && prompts > *rows) {
            self.problem(format!("`{key}` = {prompts} is more than `{split_key}` = {rows}"));
        }
    }

    /// Tokens that a model of the recipe sees, where its sizes are known.
    pub(super) fn context(&self, model: &str) -> Option<u64> {
        self.sizes.models.get(model).map(|sizes| sizes.context)
    }

    /// Prompt and response must fit what the model can see.
    pub(super) fn fits_context(&mut self, key: &str, model: &str, new_tokens: usize) {
        let prompt = self.recipe.prompt_bound(model).filter(|_| self.recipe.bounds_prompts());
        let (Some(context), Some(prompt)) = (self.context(model), prompt) else { return };
        // One more for the end-of-sequence token.
        let needed = prompt.saturating_add(new_tokens).saturating_add(1);
        if needed as u64 > context {
            self.problem_hint(
                format!(
                    "`{key}`: a prompt of up to {prompt} tokens, {new_tokens} new ones and an end \
                     token make {needed}, but `models.{model}` sees {context}"
                ),
                format!(
                    "lower `{key}` or `data.prompt.max_words`, or take a model with a longer \
                     context"
                ),
            );
        }
    }

    /// A guide that scores must have room for a token behind the prompt, or every response is worth
    /// 0.
    pub(super) fn reads_prompts(&mut self, model: &str) {
        let prompt = self.recipe.prompt_bound(model).filter(|_| self.recipe.bounds_prompts());
        let (Some(context), Some(prompt)) = (self.context(model), prompt) else { return };
        if prompt as u64 >= context {
            let what = format!(
                "`data.prompt.max_words`: a prompt of up to {prompt} tokens leaves the guide \
                 `models.{model}`, which sees {context}, no token of a response"
            );
            let hint = "lower it, or take a guide with a longer context";
            self.once(|rules| rules.problem_hint(what, hint));
        }
    }

    /// A batch is made of parts of one size; that neither is 0 has its own rule.
    pub(super) fn equal_parts(
        &mut self,
        (part_key, part): (&str, usize),
        (whole_key, whole): (&str, usize),
    ) {
        if part > 0 && whole > 0 && !whole.is_multiple_of(part) {
            let divisors = (1..=whole.min(1024)).filter(|divisor| whole.is_multiple_of(*divisor));
            let divisors: Vec<String> = divisors.map(|divisor| divisor.to_string()).collect();
            self.problem_hint(
                format!("`{part_key}` = {part} does not divide `{whole_key}` = {whole}"),
                format!("use one of {}", divisors.join(", ")),
            );
        }
    }

    /// What is `given` in a `training` table at `key`, which was settled as `training`.
    pub(super) fn training_table(&mut self, key: &str, given: &TrainingTable, training: &Training) {
        if given.steps.is_some() && given.epochs.is_some() {
            self.problem(format!("`{key}` has both `steps` and `epochs`, expected one of them"));
        }
        if given.micro_batch_size.or(given.batch_size).is_some() {
            let micro_batch = format!("{key}.micro_batch_size");
            let batch = format!("{key}.batch_size");
            self.equal_parts(
                (&micro_batch, training.micro_batch_size),
                (&batch, training.batch_size),
            );
        }
    }

    pub(super) fn length_fits(
        &mut self,
        key: &str,
        training: &Training,
        model: &str,
        context: Option<u64>,
    ) {
        let length = training.max_length;
        if let Some(context) = context.filter(|context| length as u64 > *context) {
            self.problem(format!(
                "`{key}.max_length` = {length} is more than the {context} tokens that `{model}` \
                 sees"
            ));
        }
    }

    pub(super) fn chunk_lens(&mut self, key: &str, ChunkLens(lengths): &ChunkLens) {
        if lengths.is_empty() {
            self.problem_hint(
                format!("`{key}` is empty, expected one chunk length or more"),
                "a number of tokens, or \"inf\"",
            );
        }
        if lengths.contains(&ChunkLen::Tokens(0)) {
            self.problem_hint(
                format!("`{key}` holds 0, expected 1 or more"),
                "\"inf\" makes the whole response one chunk",
            );
        }
        if let Some(twice) = first_twice(lengths) {
            self.problem(format!("`{key}` holds {twice} twice"));
        }
    }

    pub(super) fn is_scratch(&self, model: &str) -> bool {
        self.recipe.models.get(model).is_some_and(|model| model.scratch.is_some())
    }

    pub(super) fn have_two_tokenizers(&self, one: &str, other: &str) -> bool {
        let recipe = self.recipe;
        let both_known = [one, other].iter().all(|model| recipe.models.contains_key(*model));
        both_known && recipe.tokenizer_owner(one) != recipe.tokenizer_owner(other)
    }
}

/// The first item that stands in the list before, too.
pub(super) fn first_twice<T: PartialEq>(items: &[T]) -> Option<&T> {
    let mut all = items.iter().enumerate();
    all.find(|(index, item)| items[..*index].contains(item)).map(|(_, item)| item)
}
