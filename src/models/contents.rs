//! The files that a model is: all that opening its folder reads, in an order that does not depend
//! on where the folder lies.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::adapter_config::{BASE, CONFIG, base_of_adapter};
use super::json_file::read_json;
use super::lora;
use super::weights::weight_files;
use crate::artifacts::fingerprint;
use crate::error::Result;
use crate::hub::MODEL_FILES;

/// What a model is, by the contents of its files alone; `hash` gives that of one of them. A page
/// about the model, or weights for other programs that lie beside its own, are no part of it, and
/// neither is the path at which an adapter finds its base: the base itself is.
pub fn contents(folder: &Path, hash: &dyn Fn(&Path) -> Result<String>) -> Result<Value> {
    let base = base_of_adapter(folder)?;
    let mut files = Map::new();
    for name in MODEL_FILES {
        let path = folder.join(name);
        if path.is_file() {
            files.insert(name.to_owned(), hash(&path)?.into());
        }
    }
    let hashes =
        |paths: Vec<PathBuf>| paths.iter().map(|path| hash(path)).collect::<Result<Vec<_>>>();
    let Some(base) = base else {
        return Ok(json!({ "files": files, "weights": hashes(weight_files(folder)?)? }));
    };
    let mut config = read_json(&folder.join(CONFIG))?;
    config[BASE] = Value::Null;
    let weights = hash(&folder.join(lora::WEIGHTS))?;
    Ok(json!({
        "files": files,
        "adapter": fingerprint(&[config]),
        "weights": weights,
        "base": contents(&base, hash)?
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::artifacts::hash_file;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    fn of(folder: &Path) -> Value {
        contents(folder, &hash_file).unwrap()
    }

    #[test]
    fn what_is_read_counts_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let [folder, other] = ["a", "elsewhere/b"].map(|name| scratch.path().join(name));
        for folder in [&folder, &other] {
            write(
                folder,
                &[
                    ("config.json", "{}"),
                    ("tokenizer.json", "{}"),
                    ("model.safetensors", "weights"),
                ],
            );
        }
        let before = of(&folder);
        assert_eq!(before, of(&other));
        assert!(!before.to_string().contains(scratch.path().to_str().unwrap()), "{before}");
        write(
            &folder,
            &[
                ("README.md", "a page"),
                ("pytorch_model.bin", "the same in another kind"),
                (".cache", ""),
            ],
        );
        assert_eq!(before, of(&folder));
        for name in [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "generation_config.json",
            "chat_template.jinja",
        ] {
            let kept = fs::read(folder.join(name)).ok();
            write(&folder, &[(name, "changed")]);
            assert_ne!(before, of(&folder), "{name}");
            kept.map_or_else(
                || fs::remove_file(folder.join(name)),
                |bytes| fs::write(folder.join(name), bytes),
            )
            .unwrap();
        }
        assert_eq!(before, of(&folder));
    }

    #[test]
    fn an_adapter_is_itself_and_its_base_wherever_that_lies() {
        let scratch = tempfile::tempdir().unwrap();
        let adapter = |base: &str| {
            let config = json!({
                "peft_type": "LORA",
                "r": 2,
                "lora_alpha": 4.0,
                "target_modules": ["c_attn"],
                "base_model_name_or_path": base
            });
            write(
                &scratch.path().join("adapter"),
                &[
                    ("adapter_config.json", &config.to_string()),
                    ("adapter_model.safetensors", "A and B"),
                ],
            );
            of(&scratch.path().join("adapter"))
        };
        for base in ["base", "moved"] {
            write(
                &scratch.path().join(base),
                &[("config.json", "{}"), ("model.safetensors", "weights")],
            );
        }
        let before = adapter("../base");
        assert_eq!(before, adapter(scratch.path().join("moved").to_str().unwrap()));
        write(&scratch.path().join("moved"), &[("model.safetensors", "other weights")]);
        assert_ne!(before, adapter("../moved"));
        write(&scratch.path().join("adapter"), &[("adapter_model.safetensors", "A and C")]);
        assert_ne!(before, of(&scratch.path().join("adapter")));
    }
}
