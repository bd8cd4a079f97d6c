//! Rules on `[models]`, `[pretrain]`, `[gold]` and `[judges]`.

use super::super::sizes::{LARGEST_SIZE, in_range};
use super::super::{
    GOLD, Model, Scratch, ScratchTokenizer, chat_template, config_folder, conversion_hint,
    hub_model,
};
use super::Rules;

/// A byte-level vocabulary holds the 256 bytes and the special tokens.
const SMALLEST_BPE: usize = 260;
const SMALLEST_WORDPIECE: usize = 100;

impl Rules<'_> {
    pub(super) fn models(&mut self) {
        for (name, model) in &self.recipe.models {
            let table = format!("models.{name}");
            self.folder_name("models", name);
            self.id_or_scratch(&table, model.id.is_some(), model.scratch.is_some());
            if let Some(id) = &model.id {
                self.model_folder(&format!("{table}.id"), id);
            }
            if let Some(scratch) = &model.scratch {
                self.scratch(&format!("{table}.scratch"), name, scratch);
            }
            if let Some(device) = &model.device {
                self.device(&format!("{table}.device"), device);
            }
            self.chat(&table, model);
        }
        self.templates();
        for (table, trouble) in self.sizes.troubles.clone() {
            self.problem(format!("`{table}.id`: {trouble}"));
        }
        let scratch = self.recipe.models.iter().find(|(_, model)| model.scratch.is_some());
        if let (Some((name, _)), None) = (scratch, &self.recipe.pretrain) {
            self.problem_hint(
                format!(
                    "`models.{name}.scratch` is to be pretrained, but there is no `[pretrain]`"
                ),
                "add `[pretrain]`; all its keys have defaults",
            );
        }
    }

    pub(super) fn templates(&mut self) {
        for (name, model) in &self.recipe.models {
            let holes = model.prompt.matches("{prompt}").count();
            if holes != 1 {
                self.problem(format!(
                    "`models.{name}.prompt` holds `{{prompt}}` {holes} times, \
                                      expected once"
                ));
            }
        }
    }

    pub(super) fn judge_texts(&mut self) {
        for judge in self.recipe.judges() {
            let (table, Some(text)) = (judge.table(), judge.text) else { continue };
            for hole in ["{prompt}", "{response}"] {
                let count = text.matches(hole).count();
                if count != 1 {
                    self.problem(format!(
                        "`{table}.text` holds `{hole}` {count} times, expected \
                                          once"
                    ));
                }
            }
        }
    }

    pub(super) fn judges(&mut self) {
        for name in self.recipe.judges.keys() {
            self.folder_name("judges", name);
            if name == GOLD {
                self.problem_hint(
                    format!(
                        "`judges.{GOLD}` has the name of the judge that `[gold]` \
                                           is"
                    ),
                    "give it another name",
                );
            }
        }
        for judge in self.recipe.judges() {
            let table = judge.table();
            if let Some(id) = judge.id {
                self.model_folder(&format!("{table}.id"), id);
            }
            if let Some(device) = judge.device {
                self.device(&format!("{table}.device"), device);
            }
        }
        self.judge_texts();
        if !self.recipe.judges.is_empty() && self.recipe.evaluate.is_none() {
            self.problem_hint(
                "`[judges]` are asked by `[evaluate]`, and there is none",
                "add `[evaluate]`; all its keys have defaults",
            );
        }
        let Some(gold) = &self.recipe.gold else { return };
        self.id_or_scratch("gold", gold.id.is_some(), gold.scratch.is_some());
        if let Some(scratch) = &gold.scratch {
            self.sizes_in_range(
                "gold.scratch",
                &[
                    ("n_layers", scratch.n_layers),
                    ("n_heads", scratch.n_heads),
                    ("dim", scratch.dim),
                    ("hidden_dim", scratch.hidden_dim),
                    ("max_position_embeddings", scratch.max_position_embeddings),
                ],
            );
            self.divides("gold.scratch", ("n_heads", scratch.n_heads), ("dim", scratch.dim));
            self.vocabulary("gold.scratch.vocab_size", scratch.vocab_size, SMALLEST_WORDPIECE);
        }
    }

    fn chat(&mut self, table: &str, model: &Model) {
        if model.chat.is_none() {
            return;
        }
        let plain = "leave `chat` out; a plain `prompt` can hold the turns as text";
        if model.scratch.is_some() {
            return self.problem_hint(
                format!(
                    "`{table}.chat` is asked of a model made from \
                                              scratch, which has no chat template"
                ),
                plain,
            );
        }
        let Some(folder) =
            model.id.as_ref().map(|id| self.folder.join(id)).filter(|folder| folder.is_dir())
        else {
            return;
        };
        match chat_template(&folder) {
            Ok(Some(_)) => {}
            Ok(None) => self.problem_hint(
                format!(
                    "`{table}.chat` is asked of `{}`, which has no chat template",
                    folder.display()
                ),
                format!("{plain}, or add a `chat_template.jinja` to the folder"),
            ),
            Err(trouble) => self.problem(format!("`{table}.chat`: {trouble}")),
        }
    }

    fn id_or_scratch(&mut self, table: &str, id: bool, scratch: bool) {
        if id && scratch {
            self.problem(format!("`{table}` has both `id` and `scratch`, expected one of them"));
        } else if !id && !scratch {
            self.problem_hint(
                format!("`{table}` has neither `id` nor `scratch`"),
                "`id` is a model folder or a hub id, `scratch` the sizes of a model to make",
            );
        }
    }

    fn model_folder(&mut self, key: &str, id: &str) {
        // What a repository on the hub holds shows when it is there; a plan is then made of the
        // folder in the cache.
        if hub_model(self.folder, id).is_some() {
            return;
        }
        let folder = self.folder.join(id);
        if id.is_empty() || !folder.is_dir() {
            let what = format!("`{key}` is `{id}`, but `{}` is not a folder", folder.display());
            if id.starts_with('~') {
                self.problem_hint(what, "`~` is not expanded in a recipe: write the whole path");
            } else {
                self.problem_hint(
                    what,
                    "paths in a recipe are relative to the recipe's folder; a \
                                         hub id is `owner/name`",
                );
            }
            return;
        }
        let places = [(config_folder(&folder), "config.json"), (folder.clone(), "tokenizer.json")];
        let missing: Vec<&str> = places
            .iter()
            .filter(|(folder, file)| !folder.join(file).is_file())
            .map(|(_, file)| *file)
            .collect();
        if !missing.is_empty() {
            let layout = "a model folder has Hugging Face layout: config.json, model.safetensors \
                          and tokenizer.json";
            let conversion = conversion_hint(&folder).filter(|_| missing == ["tokenizer.json"]);
            let adapter = "it is a PEFT adapter: its adapter_config.json must name the folder of \
                           its base model as \
                           `base_model_name_or_path`, and the tokenizer's files must lie beside it";
            let usual = if folder.join("adapter_config.json").is_file() { adapter } else { layout };
            self.problem_hint(
                format!("`{key}`: `{}` holds no {}", folder.display(), super::listed(missing)),
                conversion.unwrap_or_else(|| usual.to_owned()),
            );
        }
    }

    fn scratch(&mut self, table: &str, name: &str, scratch: &Scratch) {
        let Scratch { n_layer, n_head, n_embd, n_positions, .. } = *scratch;
        self.sizes_in_range(
            table,
            &[
                ("n_layer", n_layer),
                ("n_head", n_head),
                ("n_embd", n_embd),
                ("n_positions", n_positions),
            ],
        );
        self.divides(table, ("n_head", n_head), ("n_embd", n_embd));
        if let Some(steps) = scratch.steps {
            self.at_least_one(&format!("{table}.steps"), steps);
        }
        let owner = match &scratch.tokenizer {
            ScratchTokenizer::Bpe { vocab_size } => {
                return self.vocabulary(
                    &format!("{table}.tokenizer.vocab_size"),
                    *vocab_size,
                    SMALLEST_BPE,
                );
            }
            ScratchTokenizer::SameAs { model } => model,
        };
        let key = format!("{table}.tokenizer.model");
        if owner == name {
            return self.problem_hint(
                format!("`{key}` is the model itself"),
                "give it `kind = \
                                                                              \"bpe\"` and a \
                                                                              `vocab_size`",
            );
        }
        if !self.known_model(&key, owner) {
            return;
        }
        match self
            .recipe
            .models
            .get(owner)
            .and_then(|model| model.scratch.as_ref())
            .map(|scratch| &scratch.tokenizer)
        {
            Some(ScratchTokenizer::Bpe { .. }) => {}
            Some(ScratchTokenizer::SameAs { model }) => {
                self.problem(format!(
                    "`{key}` is `{owner}`, which itself takes the tokenizer of `{model}`; name a \
                     model with `kind = \"bpe\"`"
                ));
            }
            None => self.problem_hint(
                format!("`{key}` is `{owner}`, which is not made from scratch"),
                format!("give `{table}.tokenizer` its own `kind = \"bpe\"` and `vocab_size`"),
            ),
        }
    }

    fn sizes_in_range(&mut self, table: &str, sizes: &[(&str, i64)]) {
        for (key, size) in sizes {
            if in_range(*size).is_none() {
                self.problem(format!("`{table}.{key}` is {size}, expected 1 to {LARGEST_SIZE}"));
            }
        }
    }

    fn divides(
        &mut self,
        table: &str,
        (heads_key, heads): (&str, i64),
        (width_key, width): (&str, i64),
    ) {
        if heads > 0 && width > 0 && width % heads != 0 {
            let near = (width - width % heads, width + heads - width % heads);
            self.problem_hint(
                format!(
                    "`{table}.{heads_key}` = {heads} does not divide `{table}.{width_key}` = \
                         {width}"
                ),
                if near.0 > 0 {
                    format!("{} and {} are near", near.0, near.1)
                } else {
                    format!("{} is near", near.1)
                },
            );
        }
    }

    fn vocabulary(&mut self, key: &str, size: usize, smallest: usize) {
        if !(smallest..=LARGEST_SIZE as usize).contains(&size) {
            self.problem(format!("`{key}` is {size}, expected {smallest} to {LARGEST_SIZE}"));
        }
    }
}
