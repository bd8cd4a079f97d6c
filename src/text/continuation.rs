//! Responses continue a prompt (unless it is empty), but SentencePiece-like tokenizers treat every
//! text as a beginning: they put a space in front when they encode, and take the first one away
//! when they decode. Here a text is encoded and decoded as it stands after other text.
//!
//! That is done behind an anchor, a short text that keeps its own tokens whatever follows it.
//! Byte-level tokenizers with `add_prefix_space` encode it without that; tokenizers without either
//! habit need nothing.

use serde_json::Value;
use tokenizers::PreTokenizerWrapper;

use super::encoding::{ids_of, text_of};
use crate::error::{Error, Result};

/// How a tokenizer encodes and decodes what continues other text.
#[derive(Debug, Clone)]
pub(super) enum Continuing {
    /// As any text.
    Plain,
    Behind(Anchor),
    /// Encoded by the same tokenizer without its space before every text.
    Unprefixed(Box<tokenizers::Tokenizer>),
}

impl Continuing {
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Result<Self> {
        if let Some(anchor) = Anchor::of(tokenizer)? {
            return Ok(Self::Behind(anchor));
        }
        let failed = |error: serde_json::Error| Error::Tokenizer(error.to_string());
        let mut words = serde_json::to_value(tokenizer.get_pre_tokenizer()).map_err(failed)?;
        if !without_prefix_space(&mut words) {
            return Ok(Self::Plain);
        }
        let mut unprefixed = tokenizer.clone();
        let words: PreTokenizerWrapper = serde_json::from_value(words).map_err(failed)?;
        unprefixed.with_pre_tokenizer(Some(words));
        Ok(Self::Unprefixed(Box::new(unprefixed)))
    }

    /// Ids of a text that continues other text; `tokenizer` is the one that this was made of.
    pub fn encode(&self, tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<i64>> {
        match self {
            Self::Plain => {}
            Self::Behind(anchor) => {
                let all = ids_of(tokenizer, &format!("{}{text}", anchor.text))?;
                if let Some(ids) = all.strip_prefix(&anchor.ids[..]) {
                    return Ok(ids.to_vec());
                }
            }
            Self::Unprefixed(unprefixed) => return ids_of(unprefixed, text),
        }
        ids_of(tokenizer, text)
    }

    /// The text of ids that continue others, special tokens left out.
    pub fn decode(&self, tokenizer: &tokenizers::Tokenizer, ids: &[i64]) -> Result<String> {
        if let Self::Behind(anchor) = self {
            let text = text_of(tokenizer, &[&anchor.ids[..], ids].concat(), true)?;
            if let Some(text) = text.strip_prefix(&anchor.text) {
                return Ok(text.to_owned());
            }
        }
        text_of(tokenizer, ids, true)
    }
}

/// Takes `add_prefix_space` off a pre-tokenizer, or the parts of one; whether there was any.
fn without_prefix_space(words: &mut Value) -> bool {
    let prefixes = words["type"] == "ByteLevel" && words["add_prefix_space"] == true;
    if prefixes {
        words["add_prefix_space"] = Value::Bool(false);
    }
    let parts = words.get_mut("pretokenizers").and_then(Value::as_array_mut);
    parts.into_iter().flatten().fold(prefixes, |any, part| without_prefix_space(part) || any)
}

/// A text whose tokens stay the same in front of any other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Anchor {
    ids: Vec<i64>,
    /// What its ids decode to.
    text: String,
}

/// A line break never joins another token where it falls back to its byte; the others are for
/// vocabularies without one.
const CANDIDATES: [&str; 4] = ["\n", "\t", "|", "="];
const SPACE: char = '\u{2581}';

impl Anchor {
    /// The anchor that this tokenizer needs, if it needs one.
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Result<Option<Self>> {
        let marks = |ids: &[i64]| {
            ids.first()
                .and_then(|&id| tokenizer.id_to_token(u32::try_from(id).ok()?))
                .is_some_and(|token| token.starts_with(SPACE))
        };
        if !marks(&ids_of(tokenizer, "x")?) {
            return Ok(None);
        }
        for candidate in CANDIDATES {
            let ids = ids_of(tokenizer, candidate)?;
            let text = text_of(tokenizer, &ids, true)?;
            let follows = |after: &str, spaced: bool| -> Result<bool> {
                let all = ids_of(tokenizer, &format!("{candidate}{after}"))?;
                Ok(all.strip_prefix(&ids[..]).is_some_and(|rest| marks(rest) == spaced)
                    && text_of(tokenizer, &all, true)? == format!("{text}{after}"))
            };
            if text == candidate && follows("x", false)? && follows(" x", true)? {
                return Ok(Some(Self { ids, text }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::special_tokens::SpecialTokens;
    use super::super::tokenizer::Tokenizer;
    use super::*;

    /// A BPE as llama's: spaces are marked, one is put in front of every text, unknown characters
    /// fall back to bytes.
    fn llama_like() -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let letters = "\u{2581}abcdefghijklmnopqrstuvwxyz".chars().map(String::from);
        for token in
            ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes).chain(letters)
        {
            let id = vocab.len();
            vocab.insert(token, json!(id));
        }
        for (id, token) in ["\u{2581}\u{2581}", "\u{2581}g", "oo"].iter().enumerate() {
            vocab.insert((*token).to_owned(), json!(300 + id));
        }
        let definition = json!({
            "version": "1.0",
            "added_tokens": [],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" }
            ] },
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 }
            ] },
            "model": {
                "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                "vocab": vocab,
                "merges": [["\u{2581}", "\u{2581}"], ["\u{2581}", "g"], ["o", "o"]]
            }
        });
        Tokenizer::from_json(&definition, SpecialTokens::default()).unwrap()
    }

    #[test]
    fn a_continuation_keeps_its_own_spaces() {
        let tokenizer = llama_like();
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(" good").unwrap()[1..]).unwrap(),
            "good",
            "the habit that is worked around"
        );
        for text in
            [" good", "good", "  good", "", " ", "é", " é film", "\n", "\ngood", "ood film\n\n"]
        {
            let ids = tokenizer.encode_continuation(text).unwrap();
            assert_eq!(tokenizer.decode_continuation(&ids).unwrap(), text, "{text:?}");
            let whole = tokenizer.encode(&format!("a{text}")).unwrap();
            assert_eq!(whole[2..], ids, "{text:?}: as it stands after other text");
        }
        let cut = &tokenizer.encode_continuation(" é").unwrap()[..2];
        assert_eq!(tokenizer.decode_continuation(cut).unwrap(), " \u{FFFD}", "half a character");
    }

    #[test]
    fn a_space_before_every_text_is_not_put_before_a_continuation() {
        let folder = tempfile::tempdir().unwrap();
        let plain =
            Tokenizer::train_bpe(["good film good film".to_owned()].into_iter(), 270).unwrap();
        plain.save(folder.path()).unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"model_type":"gpt2"}"#).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"add_prefix_space":true}"#)
            .unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        assert_eq!(tokenizer.encode("good").unwrap(), plain.encode(" good").unwrap());
        for text in ["good", " good", ". Good", "\n film", ""] {
            let ids = tokenizer.encode_continuation(text).unwrap();
            assert_eq!(ids, plain.encode(text).unwrap(), "{text:?}");
            assert_eq!(tokenizer.decode_continuation(&ids).unwrap(), text);
        }
    }

    #[test]
    fn byte_level_tokenizers_need_no_anchor() {
        let tokenizer =
            Tokenizer::train_bpe(["good film good film".to_owned()].into_iter(), 270).unwrap();
        assert!(matches!(Continuing::of(&tokenizer.inner).unwrap(), Continuing::Plain));
        for text in [" good", "good", "\n film"] {
            assert_eq!(
                tokenizer.encode_continuation(text).unwrap(),
                tokenizer.encode(text).unwrap()
            );
            assert_eq!(
                tokenizer.decode_continuation(&tokenizer.encode(text).unwrap()).unwrap(),
                text
            );
        }
    }
}
