//! Which files of a repository the program reads, whether a snapshot in the cache holds them all,
//! and which names are safe to write.
//!
//! Names only. safetensors come before torch's own files, and weights of other programs
//! (TensorFlow, Flax, GGUF, ONNX) are never taken.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::failure::Failure;
use crate::text::data_extension;

/// What of a repository is wanted.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    Model {
        weights: bool,
    },
    /// The data files that are chosen.
    Data(&'a Choose<'a>),
}

/// Chooses among the data files of a repository by their names; the error is what keeps it from
/// that, and the way out.
pub type Choose<'a> = dyn Fn(&[&str]) -> Result<Vec<String>, (String, String)> + 'a;

/// Everything that a model folder may hold beside its weights.
pub const MODEL_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// What a PEFT adapter has in place of a config and weights of its own.
const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
/// In the order in which they are looked for.
const WEIGHT_FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// JSON that data sets keep about themselves.
const NO_DATA: [&str; 5] =
    ["dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json"];

/// The files to fetch first: all but the shards that an index names.
pub(super) fn wanted<'a>(
    names: &BTreeSet<&'a str>,
    wanted: Wanted,
) -> Result<Vec<&'a str>, Failure> {
    if let Some((problem, hint)) = lacking(names, wanted) {
        return Err(Failure::refused(format!("the repository {problem}"), hint));
    }
    match wanted {
        Wanted::Data(choose) => {
            let chosen = choose(&data_files(names))
                .map_err(|(problem, hint)| Failure::refused(problem, hint))?;
            // Addresses are made of names as they are.
            if let Some(name) = chosen.iter().find(|name| !is_safe(name)) {
                return Err(Failure::refused(
                    format!("its file `{}` has a name that cannot be fetched", name.escape_debug()),
                    "download the data set by other means and give its local folder",
                ));
            }
            Ok(names
                .iter()
                .copied()
                .filter(|name| chosen.iter().any(|chosen| chosen == name))
                .collect())
        }
        Wanted::Model { weights } => {
            // Weights come last: where they are, all else is.
            let weights = weight_file(names).filter(|_| weights);
            let config = ADAPTER_FILES[..1].iter().copied().filter(|_| is_adapter(names));
            Ok(names
                .iter()
                .copied()
                .filter(|name| MODEL_FILES.contains(name))
                .chain(config)
                .chain(weights)
                .collect())
        }
    }
}

fn data_files<'a>(names: &BTreeSet<&'a str>) -> Vec<&'a str> {
    names.iter().copied().filter(|name| is_data(name)).collect()
}

/// What a repository, or a snapshot of it, lacks for its purpose, and the way out.
fn lacking(names: &BTreeSet<&str>, wanted: Wanted) -> Option<(&'static str, &'static str)> {
    match wanted {
        Wanted::Data(_) if data_files(names).is_empty() => Some((
            "has no data files (.parquet, .jsonl, .json, .csv and the like, also with .gz or .zst)",
            "the hub keeps many data sets as parquet too: try the same id with \
             `@refs/convert/parquet`",
        )),
        Wanted::Model { weights } if is_adapter(names) => {
            (weights && !names.contains(ADAPTER_FILES[1])).then_some((
                "is an adapter (adapter_config.json) without adapter_model.safetensors",
                "save it again by a PEFT that writes that file (`save_pretrained`)",
            ))
        }
        Wanted::Model { .. } if !names.contains("config.json") => Some((
            "has no config.json",
            "name a repository that holds a model in Hugging Face layout",
        )),
        Wanted::Model { weights: true } if weight_file(names).is_none() => Some((
            "has no weights that can be read (model.safetensors or pytorch_model.bin, whole or in \
             shards)",
            "name a repository with such weights; those for other programs (GGUF, ONNX, \
             TensorFlow, Flax) are not read",
        )),
        _ => None,
    }
}

/// Whether the files are those of an adapter. A whole model beside what is left of one is a model.
fn is_adapter(names: &BTreeSet<&str>) -> bool {
    let is_model =
        names.contains("config.json") && WEIGHT_FILES.iter().any(|file| names.contains(file));
    names.contains(ADAPTER_FILES[0]) && (names.contains(ADAPTER_FILES[1]) || !is_model)
}

/// The file that is, or lists, the weights.
pub(super) fn weight_file(names: &BTreeSet<&str>) -> Option<&'static str> {
    if is_adapter(names) {
        return Some(ADAPTER_FILES[1]);
    }
    WEIGHT_FILES.into_iter().find(|file| names.contains(file))
}

pub(super) fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

fn is_data(path: &str) -> bool {
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    let name = path.rsplit('/').next().unwrap_or(path);
    !hidden
        && !NO_DATA.contains(&name)
        && data_extension(name).is_some_and(|extension| name.len() > extension.len())
}

/// The shards that an index file in `snapshot` names, each once; they lie beside it.
pub(super) fn shards(snapshot: &Path, index: &str) -> Result<Vec<String>, Failure> {
    let hint = "the repository is damaged: tell its owner, or name another revision";
    let bytes = std::fs::read(snapshot.join(index))
        .map_err(|error| Failure::local(&snapshot.join(index), "reading", error))?;
    let parsed: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::refused(format!("its {index} is not JSON: {error}"), hint))?;
    let Some(map) = parsed["weight_map"].as_object() else {
        return Err(Failure::refused(format!("its {index} has no table `weight_map`"), hint));
    };
    let mut names = BTreeSet::new();
    for shard in map.values() {
        match shard.as_str().filter(|name| is_safe(name) && !name.contains('/')) {
            Some(name) => names.insert(name.to_owned()),
            None => {
                return Err(Failure::refused(
                    format!("its {index} names {shard}, which is no file beside it"),
                    hint,
                ));
            }
        };
    }
    Ok(names.into_iter().collect())
}

/// Refuses a list of names in which one leads out of its folder.
pub(super) fn refuse_unsafe<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    for name in names {
        let leads_out = name.starts_with('/')
            || name.contains(['\\', '\0'])
            || name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if leads_out {
            return Err(Failure::refused(
                format!(
                    "it lists a file named `{}`, which could lie outside its folder",
                    name.escape_debug()
                ),
                "nothing was written; do not use this repository",
            ));
        }
    }
    Ok(())
}

/// A relative path of plain letters, digits, `.`, `_`, `-`, `+` and `=`, which never climbs.
pub(super) fn is_safe(path: &str) -> bool {
    let plain = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '+' | '=')
    };
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.chars().all(plain))
}

/// The first thing that keeps the snapshot folder from being used as it is; `None` if it is whole.
pub(super) fn incomplete(snapshot: &Path, wanted: Wanted) -> Option<String> {
    let mut found = Vec::new();
    list(snapshot, "", &mut found);
    let names: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    if let Some((problem, _)) = lacking(&names, wanted) {
        return Some(problem.to_owned());
    }
    let needed = match wanted {
        Wanted::Model { weights: false } => Vec::new(),
        Wanted::Model { weights: true } => {
            match weight_file(&names).filter(|file| is_index(file)) {
                Some(index) => match shards(snapshot, index) {
                    Ok(shards) => shards,
                    Err(failure) => return Some(failure.to_string()),
                },
                None => Vec::new(),
            }
        }
        Wanted::Data(choose) => match choose(&data_files(&names)) {
            Ok(chosen) => chosen.iter().flat_map(|name| siblings(name)).collect(),
            Err((problem, _)) => return Some(format!("will not do: {problem}")),
        },
    };
    needed.iter().find(|name| !names.contains(name.as_str())).map(|name| format!("lacks {name}"))
}

/// Files below a folder by their relative paths. Links to nowhere are no files.
fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        if path.is_file() {
            found.push(format!("{prefix}{name}"));
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, &format!("{prefix}{name}/"), found);
        }
    }
}

/// All parts of the file that `train-00001-of-00003.parquet` is one of; empty for names without
/// numbers.
fn siblings(path: &str) -> Vec<String> {
    const MOST: usize = 100_000;
    let numbered = || {
        let at = path.rfind("-of-")?;
        let digits = path[at + 4..].bytes().take_while(u8::is_ascii_digit).count();
        let start = path[..at].rfind('-')? + 1;
        let parts: usize =
            path[at + 4..at + 4 + digits].parse().ok().filter(|parts| *parts <= MOST)?;
        let width = at - start;
        path[start..at].parse::<usize>().ok()?;
        let (head, tail) = (&path[..start], &path[at..]);
        Some((0..parts).map(|index| format!("{head}{index:0width$}{tail}")).collect())
    };
    numbered().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], what: Wanted) -> Result<Vec<String>, String> {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        wanted(&names, what)
            .map(|names| names.into_iter().map(str::to_owned).collect())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn one_kind_of_weights_is_taken_and_the_best_there_is() {
        let all = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "tf_model.h5",
            "onnx/model.onnx",
            "README.md",
            "tokenizer.json",
        ];
        let model = Wanted::Model { weights: true };
        assert_eq!(
            chosen(&all, model).unwrap(),
            ["config.json", "tokenizer.json", "model.safetensors"]
        );
        assert_eq!(
            chosen(&all, Wanted::Model { weights: false }).unwrap(),
            ["config.json", "tokenizer.json"]
        );
        let sharded = [
            "config.json",
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "model-00001-of-00001.safetensors",
        ];
        assert_eq!(
            chosen(&sharded, model).unwrap(),
            ["config.json", "model.safetensors.index.json"]
        );
        assert_eq!(
            chosen(&["config.json", "pytorch_model.bin"], model).unwrap(),
            ["config.json", "pytorch_model.bin"]
        );
        assert!(
            chosen(&["config.json", "model.gguf"], model)
                .unwrap_err()
                .contains("no weights that can be read")
        );
        assert!(chosen(&["model.safetensors"], model).unwrap_err().contains("no config.json"));
    }

    #[test]
    fn data_is_told_from_what_is_said_about_it() {
        let names = [
            "README.md",
            "dataset_infos.json",
            ".hidden/x.csv",
            "data/train-00000-of-00001.parquet",
            "x.jsonl.gz",
            "y.json",
            "z.json.zst",
            "notes.txt",
            ".csv",
        ];
        let all: &Choose = &|names| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(
            chosen(&names, Wanted::Data(all)).unwrap(),
            ["data/train-00000-of-00001.parquet", "x.jsonl.gz", "y.json", "z.json.zst"]
        );
        assert!(
            chosen(&["README.md", "imdb.py"], Wanted::Data(all))
                .unwrap_err()
                .contains("no data files")
        );
        let odd = ["my data.csv", "y.json"];
        assert!(
            chosen(&odd, Wanted::Data(all))
                .unwrap_err()
                .contains("`my data.csv` has a name that cannot be fetched")
        );
        let some: &Choose = &|names| {
            Ok(names
                .iter()
                .filter(|name| name.starts_with('y'))
                .map(|name| (*name).to_owned())
                .collect())
        };
        assert_eq!(chosen(&odd, Wanted::Data(some)).unwrap(), ["y.json"]);
        let none: &Choose = &|_| Err(("a problem".to_owned(), "a way out".to_owned()));
        assert_eq!(chosen(&odd, Wanted::Data(none)).unwrap_err(), "a problem");
    }

    #[test]
    fn names_that_climb_are_refused() {
        for name in ["../x", "a/../x", "/etc/x", "a//x", "a\\x", "./x", "", "a/"] {
            assert!(refuse_unsafe([name].into_iter()).is_err(), "{name}");
            assert!(!is_safe(name), "{name}");
        }
        assert!(refuse_unsafe(["my picture.png", "ü.md"].into_iter()).is_ok(), "never fetched");
    }

    #[test]
    fn a_numbered_file_names_its_siblings() {
        assert_eq!(
            siblings("data/train-00001-of-00002.parquet"),
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
        );
        for name in [
            "train.parquet",
            "best-of-breed.csv",
            "of-3.csv",
            "a-x-of-3.csv",
            "a-1-of-99999999999999999999.csv",
        ] {
            assert!(siblings(name).is_empty(), "{name}");
        }
    }
}
