//! What rules on a model folder ask of its tokenizer files: the chat template as text, and what to
//! do where only other formats lie.
//!
//! Reading a vocabulary and rendering a template is left to `text`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::adapter_folder::tokenizer_folder;
use super::words::listed;
use crate::artifacts::stand_in;

/// The file that holds a folder's chat template, and the template; `None` where the folder has
/// none. As in transformers, `chat_template.jinja` wins over `tokenizer_config.json`, and of
/// several templates the one named `default` counts. The error says what is wrong with the file.
pub fn chat_template(folder: &Path) -> Result<Option<(PathBuf, String)>, String> {
    let folder = tokenizer_folder(folder);
    let path = folder.join("chat_template.jinja");
    stand_in::refuse(&path).map_err(|error| error.to_string())?;
    if path.is_file() {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
        return Ok(Some((path, text)));
    }
    for name in ["tokenizer_config.json", "chat_template.json"] {
        let path = folder.join(name);
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let config: Value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("`{}` is not JSON: {error}", path.display()))?;
        match &config["chat_template"] {
            Value::Null => {}
            Value::String(template) => return Ok(Some((path, template.clone()))),
            Value::Array(templates) => {
                let default = templates
                    .iter()
                    .find(|template| template["name"] == "default")
                    .map(|template| &template["template"]);
                if let Some(Value::String(template)) = default {
                    return Ok(Some((path, template.clone())));
                }
                let names: Vec<&str> =
                    templates.iter().filter_map(|template| template["name"].as_str()).collect();
                return Err(format!(
                    "`{}` has chat templates {} and none named `default`",
                    path.display(),
                    listed(names)
                ));
            }
            _ => {
                return Err(format!(
                    "`chat_template` in `{}` is neither text nor a list of templates",
                    path.display()
                ));
            }
        }
    }
    Ok(None)
}

/// The way out where `tokenizer.json` is missing but another format of the same vocabulary lies
/// there.
pub fn conversion_hint(folder: &Path) -> Option<String> {
    let other = ["tokenizer.model", "vocab.txt", "vocab.json"]
        .into_iter()
        .find(|name| folder.join(name).is_file())?;
    Some(format!(
        "`{other}` must be converted once, with transformers: python3 -c \"from transformers \
         import AutoTokenizer; AutoTokenizer.from_pretrained('{0}').save_pretrained('{0}')\"",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_comes_from_the_file_that_transformers_takes() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let found =
            || chat_template(folder.path()).map(|found| found.map(|(_, template)| template));
        assert_eq!(found(), Ok(None));
        write("tokenizer_config.json", r#"{"eos_token":"</s>"}"#);
        assert_eq!(found(), Ok(None));
        write("chat_template.json", r#"{"chat_template":"c"}"#);
        assert_eq!(found(), Ok(Some("c".into())));
        write(
            "tokenizer_config.json",
            r#"{"chat_template":[{"name":"rag","template":"r"},
                {"name":"default","template":"d"}]}"#,
        );
        assert_eq!(found(), Ok(Some("d".into())));
        write("tokenizer_config.json", r#"{"chat_template":[{"name":"rag","template":"r"}]}"#);
        assert!(
            found().unwrap_err().ends_with("has chat templates `rag` and none named `default`")
        );
        write("chat_template.jinja", "j");
        assert_eq!(found(), Ok(Some("j".into())));
        assert_eq!(conversion_hint(folder.path()), None);
        write("tokenizer.model", "");
        assert!(
            conversion_hint(folder.path())
                .unwrap()
                .starts_with("`tokenizer.model` must be converted once")
        );
    }
}
