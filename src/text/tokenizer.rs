//! A tokenizer folder: `tokenizer.json`, and which of its tokens begin, end and pad, from `tokenizer_config.json`,
//! `special_tokens_map.json` or `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::vocabulary::Vocabulary;
use crate::artifacts::atomic;
use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
}

/// Token strings by role.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SpecialTokens {
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub unk: Option<String>,
    pub pad: Option<String>,
    pub cls: Option<String>,
    pub sep: Option<String>,
    pub mask: Option<String>,
}

impl SpecialTokens {
    fn roles(&self) -> [(&'static str, &Option<String>); 7] {
        [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("unk_token", &self.unk),
            ("pad_token", &self.pad),
            ("cls_token", &self.cls),
            ("sep_token", &self.sep),
            ("mask_token", &self.mask),
        ]
    }
}

impl Tokenizer {
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "reading the tokenizer"))?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| Error::data(&path, None, format!("not a tokenizer: {error}")))?;
        // What a file stores of these was for somebody's batches; ours are padded and cut by those who know why.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let mut special = SpecialTokens::default();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = folder.join(name);
            if path.exists() {
                fill_special(&mut special, &read_json(&path)?);
            }
        }
        let mut tokenizer = Self { inner, special };
        let config = folder.join("config.json");
        if config.exists() {
            tokenizer.fill_from_ids(&read_json(&config)?);
        }
        Ok(tokenizer)
    }

    pub(super) fn from_json(definition: &Value, special: SpecialTokens) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(definition.to_string()).map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Self { inner, special })
    }

    /// Where no tokenizer file names a role, the model's config may, by id.
    fn fill_from_ids(&mut self, config: &Value) {
        let token = |name: &str| self.inner.id_to_token(u32::try_from(config[name].as_u64()?).ok()?);
        let (bos, eos, pad) = (token("bos_token_id"), token("eos_token_id"), token("pad_token_id"));
        self.special.bos = self.special.bos.take().or(bos);
        self.special.eos = self.special.eos.take().or(eos);
        self.special.pad = self.special.pad.take().or(pad);
    }

    /// Ids of the text alone: no special tokens are added.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|error| Error::Tokenizer(format!("cannot tokenize `{text}`: {error}")))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// Ids with the special tokens that the post-processor adds, such as BOS.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<i64>> {
        self.encode_classifier(text, usize::MAX)
    }

    /// Ids with the special tokens that the post-processor adds ([CLS] … [SEP]), cut to `max_length` with those kept.
    pub fn encode_classifier(&self, text: &str, max_length: usize) -> Result<Vec<i64>> {
        let failed = |error: tokenizers::Error| Error::Tokenizer(format!("cannot tokenize `{text}`: {error}"));
        let encoding = self.inner.encode_fast(text, true).map_err(failed)?;
        let ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        if ids.len() <= max_length {
            return Ok(ids);
        }
        let after = encoding.get_special_tokens_mask().iter().rev().take_while(|&&special| special == 1).count().min(max_length);
        Ok([&ids[..max_length - after], &ids[ids.len() - after..]].concat())
    }

    /// The text of all ids together, special tokens left out. Ids that end inside a multi-byte character end in U+FFFD.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        self.inner.decode(&ids, true).map_err(|error| Error::Tokenizer(format!("cannot decode: {error}")))
    }

    /// As [`Self::decode`], special tokens included.
    pub fn decode_with_special(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        self.inner.decode(&ids, false).map_err(|error| Error::Tokenizer(format!("cannot decode: {error}")))
    }

    /// Added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The largest id of any token, added ones included; -1 if there is none.
    pub fn largest_id(&self) -> i64 {
        self.inner.get_vocab(true).into_values().max().map_or(-1, i64::from)
    }

    pub fn bos_id(&self) -> Option<i64> {
        self.id_of(&self.special.bos)
    }

    pub fn eos_id(&self) -> Option<i64> {
        self.id_of(&self.special.eos)
    }

    pub fn pad_id(&self) -> Option<i64> {
        self.id_of(&self.special.pad)
    }

    fn id_of(&self, token: &Option<String>) -> Option<i64> {
        self.inner.token_to_id(token.as_ref()?).map(i64::from)
    }

    /// The full map of ids to tokens, added ones included.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::new(self.inner.get_vocab(true))
    }

    /// Writes `tokenizer.json` and a `tokenizer_config.json` with which transformers opens it.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let definition = self.inner.to_string(true).map_err(|error| Error::Tokenizer(error.to_string()))?;
        atomic::write(&folder.join("tokenizer.json"), definition.as_bytes())?;
        let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false });
        for (role, token) in self.special.roles() {
            if let Some(token) = token {
                config[role] = json!(token);
            }
        }
        let text = serde_json::to_string_pretty(&config).map_err(|error| Error::Tokenizer(error.to_string()))?;
        atomic::write(&folder.join("tokenizer_config.json"), format!("{text}\n").as_bytes())
    }
}

/// A role's token is a string, or an object with `content`.
fn fill_special(special: &mut SpecialTokens, fields: &Value) {
    let token = |role: &str| {
        let value = &fields[role];
        value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
    };
    let SpecialTokens { bos, eos, unk, pad, cls, sep, mask } = special;
    for (role, slot) in [
        ("bos_token", bos),
        ("eos_token", eos),
        ("unk_token", unk),
        ("pad_token", pad),
        ("cls_token", cls),
        ("sep_token", sep),
        ("mask_token", mask),
    ] {
        *slot = slot.take().or_else(|| token(role));
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "reading"))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::data(path, Some(error.line()), format!("not valid JSON: {error}")))
}
