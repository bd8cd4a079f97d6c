//! What transformers' tokenizer classes make of a `tokenizer.json`. Most take it as it is.
//! `GPT2Tokenizer`, `Qwen2Tokenizer` and `LlamaTokenizer` take vocabulary, merges and
//! post-processor from it, and bring normalizer, pre-tokenizer and decoder of their own, which heed
//! `add_prefix_space` of `tokenizer_config.json`, and special tokens that no file needs to name. As
//! in transformers 5, whose `AutoTokenizer` chooses the class by `tokenizer_class` and the config's
//! `model_type`.
//!
//! `add_bos_token` and `add_eos_token` mean nothing there beside a `tokenizer.json`: its
//! post-processor alone says what is added to a text.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use crate::error::{Error, Result};

const SPACE: &str = "\u{2581}";

/// How `Qwen2Tokenizer` splits words.
const QWEN2_WORDS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| \
                           ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TokenizerClass {
    /// `tokenizer.json` as it is.
    Plain,
    Gpt2,
    Qwen2,
    Llama,
}

impl TokenizerClass {
    /// `named` by the folder, of a model of this type.
    pub fn of(
        named: Option<&str>,
        model_type: Option<&str>,
        tokenizer: &tokenizers::Tokenizer,
    ) -> Self {
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
            return Self::Plain;
        }
        let by_name = match named.map(|name| name.strip_suffix("Fast").unwrap_or(name)) {
            None => None,
            Some("GPT2Tokenizer") => Some(Self::Gpt2),
            Some("Qwen2Tokenizer") => Some(Self::Qwen2),
            // Byte-level vocabularies of that name, Llama 3's, are read as they are.
            Some("LlamaTokenizer") if !is_byte_level(tokenizer) => Some(Self::Llama),
            Some(_) => Some(Self::Plain),
        };
        match model_type {
            // Whatever the folder names.
            Some("qwen2") => Self::Qwen2,
            Some("mistral") => Self::Plain,
            Some("gpt2") => by_name.unwrap_or(Self::Gpt2),
            _ => by_name.unwrap_or(Self::Plain),
        }
    }

    /// The special tokens that the class has where the folder's files are silent.
    pub fn special(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Plain => &[],
            Self::Gpt2 => &[
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("unk_token", "<|endoftext|>"),
            ],
            Self::Qwen2 => &[
                ("eos_token", "<|endoftext|>"),
                ("unk_token", "<|endoftext|>"),
                ("pad_token", "<|endoftext|>"),
            ],
            Self::Llama => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
        }
    }

    /// Gives `tokenizer` the class's own parts; `config` is `tokenizer_config.json`.
    pub fn rebuild(
        self,
        tokenizer: &mut tokenizers::Tokenizer,
        config: &Map<String, Value>,
    ) -> Result<()> {
        let flag = |key: &str, otherwise: bool| {
            config.get(key).and_then(Value::as_bool).unwrap_or(otherwise)
        };
        let byte_level = |add_prefix_space: bool, use_regex: bool| {
            json!({
                "type": "ByteLevel",
                "add_prefix_space": add_prefix_space,
                "trim_offsets": true,
                "use_regex": use_regex
            })
        };
        let (normalizer, pre_tokenizer, decoder) = match self {
            Self::Plain => return Ok(()),
            Self::Gpt2 => (
                Value::Null,
                byte_level(flag("add_prefix_space", false), true),
                byte_level(true, true),
            ),
            Self::Qwen2 => {
                let words = json!({
                    "type": "Split",
                    "pattern": { "Regex": QWEN2_WORDS },
                    "behavior": "Isolated",
                    "invert": false
                });
                let bytes = byte_level(flag("add_prefix_space", false), false);
                (
                    json!({ "type": "NFC" }),
                    json!({ "type": "Sequence", "pretokenizers": [words, bytes] }),
                    byte_level(true, true),
                )
            }
            Self::Llama => {
                let prepends = flag("add_prefix_space", true);
                let scheme = match (prepends, flag("legacy", false)) {
                    (false, _) => "never",
                    (true, true) => "always",
                    (true, false) => "first",
                };
                let mut decoders = vec![
                    json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
                    json!({ "type": "ByteFallback" }),
                    json!({ "type": "Fuse" }),
                ];
                if prepends {
                    decoders
                        .push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
                }
                let spaces = json!({
                    "type": "Metaspace",
                    "replacement": SPACE,
                    "prepend_scheme": scheme,
                    "split": false
                });
                (Value::Null, spaces, json!({ "type": "Sequence", "decoders": decoders }))
            }
        };
        let normalizer: Option<NormalizerWrapper> = part(normalizer)?;
        tokenizer
            .with_normalizer(normalizer)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        tokenizer.with_pre_tokenizer(part::<PreTokenizerWrapper>(pre_tokenizer)?);
        tokenizer.with_decoder(part::<DecoderWrapper>(decoder)?);
        Ok(())
    }
}

fn part<T: DeserializeOwned>(definition: Value) -> Result<Option<T>> {
    serde_json::from_value(definition).map_err(|error| Error::Tokenizer(error.to_string()))
}

fn is_byte_level(tokenizer: &tokenizers::Tokenizer) -> bool {
    match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(_)) => true,
        Some(PreTokenizerWrapper::Sequence(parts)) => {
            parts.as_ref().iter().any(|part| matches!(part, PreTokenizerWrapper::ByteLevel(_)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use TokenizerClass::{Gpt2, Llama, Plain, Qwen2};

    /// What `AutoTokenizer` of transformers 5.24 made of these names and model types.
    #[test]
    fn the_class_is_chosen_by_name_and_model_type() {
        let tokenizer = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/golden/tokenizers")
                .join(name)
                .join("tokenizer.json");
            tokenizers::Tokenizer::from_file(path).unwrap()
        };
        let [bytes, marks] = ["llama-31", "llama-2"].map(tokenizer);
        let class = |named, model_type| TokenizerClass::of(named, Some(model_type), &bytes);
        assert_eq!(
            [
                class(None, "gpt2"),
                class(Some("GPT2TokenizerFast"), "gpt2"),
                class(Some("PreTrainedTokenizerFast"), "gpt2")
            ],
            [Gpt2, Gpt2, Plain]
        );
        assert_eq!(
            [class(None, "qwen2"), class(Some("PreTrainedTokenizerFast"), "qwen2")],
            [Qwen2, Qwen2]
        );
        assert_eq!(
            [
                class(Some("LlamaTokenizer"), "llama"),
                class(Some("PreTrainedTokenizerFast"), "llama")
            ],
            [Plain, Plain]
        );
        let class = |named, model_type| TokenizerClass::of(named, Some(model_type), &marks);
        assert_eq!(
            [
                class(Some("LlamaTokenizer"), "llama"),
                class(Some("LlamaTokenizerFast"), "llama"),
                class(None, "llama")
            ],
            [Llama, Llama, Plain]
        );
        assert_eq!(
            [class(Some("LlamaTokenizer"), "mistral"), class(None, "mistral")],
            [Plain, Plain]
        );
        assert_eq!(TokenizerClass::of(Some("LlamaTokenizer"), None, &marks), Llama);
    }
}
