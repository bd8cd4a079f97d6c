//! `adapter_config.json` of PEFT (every key that 0.21 writes): which layers an adapter stands on,
//! with which rank and scale, and which of PEFT's variants of LoRA it is. What changes the answer
//! is followed as PEFT has it or refused by name, never ignored.

use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::adapter_options::{MERGE, Purpose, is_off, problems};
use super::json_file::read_json;
use crate::artifacts::stand_in;
use crate::error::{Error, Result};
use crate::recipe::{Lora, base_folder, hub_base};

/// The key whose value is the base's folder.
pub(super) const BASE: &str = "base_model_name_or_path";
pub(super) const CONFIG: &str = "adapter_config.json";

/// Which layers, by their names in the whole model.
enum Targets {
    /// A layer's whole name, or the last parts of it.
    Names(Vec<String>),
    /// A regular expression for the whole name.
    Pattern(Regex),
    /// Every linear layer of a block.
    All,
}

pub(super) struct AdapterConfig {
    pub rank: u64,
    pub alpha: f64,
    targets: Targets,
    excluded: Option<Targets>,
    /// Empty for all.
    layers: Vec<i64>,
    /// Before the layer's number; empty for any.
    layers_patterns: Vec<Regex>,
    /// In the file's order; the first that matches counts.
    ranks: Vec<(Regex, u64)>,
    alphas: Vec<(Regex, f64)>,
    /// α / √r instead of α / r (arXiv 2312.03732).
    rank_stabilized: bool,
}

/// The keys whose values are followed, under PEFT's names.
#[derive(Deserialize)]
struct Keys {
    peft_type: String,
    r: u64,
    lora_alpha: f64,
    target_modules: Value,
    #[serde(default)]
    exclude_modules: Value,
    #[serde(default)]
    layers_to_transform: Option<OneOrMany<i64>>,
    #[serde(default)]
    layers_pattern: Option<OneOrMany<String>>,
    #[serde(default)]
    rank_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl AdapterConfig {
    /// # Errors
    /// [`Error::Model`] with every option that PEFT would follow and this program does not.
    pub fn read(folder: &Path, purpose: Purpose) -> Result<Self> {
        let path = folder.join(CONFIG);
        let keys: Keys = serde_json::from_value(read_json(&path)?)
            .map_err(|error| Error::model(&path, error.to_string()))?;
        let mut problems = problems(
            purpose,
            &keys.peft_type,
            keys.task_type.as_deref(),
            &keys.init_lora_weights,
            &keys.rest,
        );
        if keys.r == 0 {
            problems.push("`r` is 0, expected 1 or more".to_owned());
        }
        let config = Self::of(keys, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Error::Model { path, problems }),
        }
    }

    fn of(keys: Keys, problems: &mut Vec<String>) -> Option<Self> {
        let targets = match keys.target_modules {
            Value::Null => {
                problems.push("`target_modules` is null, expected the names of layers".to_owned());
                None
            }
            value => Targets::read("target_modules", value, problems),
        };
        let excluded = match keys.exclude_modules {
            value if is_off(&value) => None,
            value => Targets::read("exclude_modules", value, problems),
        };
        let patterns = keys.layers_pattern.map(OneOrMany::into_vec).unwrap_or_default();
        let layers = keys.layers_to_transform.map(OneOrMany::into_vec).unwrap_or_default();
        if !layers.is_empty() && !matches!(targets, Some(Targets::Names(_)) | None) {
            problems.push(
                "`layers_to_transform` needs a list of names as `target_modules`, in PEFT too"
                    .to_owned(),
            );
        }
        let layers_patterns: Vec<Regex> = (patterns.iter().filter(|pattern| !pattern.is_empty()))
            .filter_map(|pattern| {
                regex(
                    "layers_pattern",
                    &format!(r"^(?:(?:^|.*?\.){pattern}\.(?P<index>\d+)\.)"),
                    pattern,
                    problems,
                )
            })
            .collect();
        let ranks = by_layer("rank_pattern", keys.rank_pattern, problems, |value| {
            let rank = value.as_u64().filter(|rank| *rank > 0);
            rank.ok_or_else(|| format!("holds the rank {value}, expected 1 or more"))
        });
        let alphas = by_layer("alpha_pattern", keys.alpha_pattern, problems, |value| {
            value.as_f64().ok_or_else(|| format!("holds {value}, expected a number"))
        });
        Some(Self {
            rank: keys.r,
            alpha: keys.lora_alpha,
            targets: targets?,
            excluded,
            layers,
            layers_patterns,
            ranks,
            alphas,
            rank_stabilized: keys.use_rslora.unwrap_or(false),
        })
    }

    /// Rank of the adapter on the layer of that name and the factor of its product, `None` where it
    /// has none; PEFT's `check_target_module_exists` and `LoraModel._create_and_replace`.
    pub fn of_layer(&self, layer: &str) -> Option<(u64, f64)> {
        if self.excluded.as_ref().is_some_and(|excluded| excluded.holds(layer))
            || !self.targets.holds(layer)
            || !self.transforms(layer)
        {
            return None;
        }
        let rank = self
            .ranks
            .iter()
            .find(|(name, _)| is_match(name, layer))
            .map_or(self.rank, |(_, rank)| *rank);
        let alpha = self
            .alphas
            .iter()
            .find(|(name, _)| is_match(name, layer))
            .map_or(self.alpha, |(_, alpha)| *alpha);
        let of_rank = rank as f64;
        Some((rank, alpha / if self.rank_stabilized { of_rank.sqrt() } else { of_rank }))
    }

    /// Whether `layers_to_transform` lets the layer be adapted; one that is a target by its whole
    /// name always is.
    fn transforms(&self, layer: &str) -> bool {
        let Targets::Names(names) = &self.targets else { return true };
        if self.layers.is_empty() || names.iter().any(|name| name == layer) {
            return true;
        }
        let index = if self.layers_patterns.is_empty() {
            // The first number that follows two names.
            let parts: Vec<&str> = layer.split('.').collect();
            let is_number =
                |part: &&&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            parts
                .iter()
                .take(parts.len() - 1)
                .skip(2)
                .find(is_number)
                .map(|part| (*part).to_owned())
        } else {
            let found = self
                .layers_patterns
                .iter()
                .find_map(|pattern| pattern.captures(layer).ok().flatten());
            found.and_then(|captures| Some(captures.name("index")?.as_str().to_owned()))
        };
        index
            .and_then(|index| index.parse().ok())
            .is_some_and(|index: i64| self.layers.contains(&index))
    }

    /// The first of `others`, which are no linear layers of blocks, that is a target all the same.
    pub fn stray<'a>(&self, others: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let is_all = matches!(self.targets, Targets::All);
        others.into_iter().filter(|_| !is_all).find(|other| self.of_layer(other).is_some())
    }

    /// The names in `target_modules` that `layers` do not have.
    pub fn idle_targets<'a>(&'a self, layers: &'a [String]) -> impl Iterator<Item = &'a String> {
        let names = if let Targets::Names(names) = &self.targets { &names[..] } else { &[] };
        names.iter().filter(|target| !layers.iter().any(|layer| Lora::matches(target, layer)))
    }
}

impl Targets {
    fn read(key: &str, value: Value, problems: &mut Vec<String>) -> Option<Self> {
        match value {
            Value::String(text) if text == "all-linear" && key == "target_modules" => {
                Some(Self::All)
            }
            Value::String(text) => {
                regex(key, &format!("^(?:{text})$"), &text, problems).map(Self::Pattern)
            }
            value => match serde_json::from_value(value) {
                Ok(names) => Some(Self::Names(names)),
                Err(_) => {
                    problems.push(format!(
                        "`{key}` is neither a list of names nor a regular expression"
                    ));
                    None
                }
            },
        }
    }

    fn holds(&self, layer: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| Lora::matches(name, layer)),
            Self::Pattern(pattern) => is_match(pattern, layer),
            Self::All => true,
        }
    }
}

fn regex(key: &str, whole: &str, written: &str, problems: &mut Vec<String>) -> Option<Regex> {
    Regex::new(whole)
        .map_err(|error| {
            problems.push(format!(
                "`{key}`: `{written}` is no regular expression that can be read here: \
                 {error}\n\n{MERGE}"
            ))
        })
        .ok()
}

/// The values of the layers that the names in `table`, the value of `key`, stand for.
fn by_layer<T>(
    key: &str,
    table: Option<Map<String, Value>>,
    problems: &mut Vec<String>,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Vec<(Regex, T)> {
    let mut rows = Vec::new();
    for (name, value) in table.unwrap_or_default() {
        let whole = format!(r"^(?:.*\.)?(?:{name})$");
        rows.extend(regex(key, &whole, &name, problems).map(|regex| (regex, value)));
    }
    let mut values = Vec::new();
    for (regex, value) in rows {
        match read(&value) {
            Ok(value) => values.push((regex, value)),
            Err(wrong) => problems.push(format!("`{key}` {wrong}")),
        }
    }
    values
}

/// A pattern that takes too long does not match; the tensors then tell that they are not expected.
fn is_match(pattern: &Regex, layer: &str) -> bool {
    pattern.is_match(layer).unwrap_or(false)
}

/// The folder of the model that the adapter in `folder` belongs to, `None` if `folder` holds no
/// adapter.
///
/// # Errors
/// [`Error::Model`] where the base is not there or an adapter itself.
pub fn base_of_adapter(folder: &Path) -> Result<Option<PathBuf>> {
    let path = folder.join(CONFIG);
    stand_in::refuse(&path)?;
    if !path.is_file() {
        return Ok(None);
    }
    let config = read_json(&path)?;
    let name = config.get(BASE).and_then(Value::as_str).unwrap_or_default();
    let Some(base) = base_folder(folder) else {
        return Err(Error::model(&path, no_base(folder, name)));
    };
    if base.join(CONFIG).is_file() {
        return Err(Error::model(
            &path,
            format!("`{BASE}` is `{name}`, which is an adapter itself\n\nhint: merge that one"),
        ));
    }
    Ok(Some(base))
}

/// What is said of an adapter whose base, called `name`, is not here.
fn no_base(folder: &Path, name: &str) -> String {
    if let Some(id) = hub_base(folder) {
        return format!(
            "`{BASE}` is `{name}`, which is no folder here and not in the hub's cache\n\nhint: \
             fetch it where there is a network, by naming the adapter in a recipe or by \
             `w2s doctor {id}`, or write the full path of its folder"
        );
    }
    let whence = match Path::new(name).is_relative() && !name.is_empty() {
        true => format!(", seen from {} or from where the program runs", folder.display()),
        false => String::new(),
    };
    format!(
        "`{BASE}` is `{name}`, which is no folder here{whence}\n\nhint: if the base model was \
         moved or renamed, write there where it lies now: its full path, the way to it from the \
         adapter's folder, or its hub id `owner/name`"
    )
}

#[cfg(test)]
mod tests;
