//! Tokenizers for models trained from scratch. The same texts give the same file, whatever the
//! process and its threads.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Trainer,
};

use super::special_tokens::SpecialTokens;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

const END_OF_TEXT: &str = "<|endoftext|>";
const BERT_SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

impl Tokenizer {
    /// Byte-level BPE as GPT-2 has it; `<|endoftext|>` is id 0 and both BOS and EOS.
    pub fn train_bpe(
        texts: impl Iterator<Item = String> + Send,
        vocab_size: usize,
    ) -> Result<Self> {
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .show_progress(false)
            .special_tokens(vec![special(END_OF_TEXT)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect());
        let split = ByteLevel::new(false, true, true);
        let model =
            train(trainer.build(), texts, |text| pieces(&split, NormalizedString::from(text)))?;
        let byte_level = json!({
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": true
        });
        let definition = definition(
            &to_value(&model)?,
            &[END_OF_TEXT],
            Value::Null,
            byte_level.clone(),
            Value::Null,
            byte_level,
        );
        Self::from_json(
            &definition,
            SpecialTokens::of(
                &["bos_token", "eos_token", "unk_token"].map(|role| (role, END_OF_TEXT)),
            ),
        )
    }

    /// WordPiece as uncased BERT has it: `[PAD]` is id 0, texts are lower-cased and stand between
    /// `[CLS]` and `[SEP]`.
    pub fn train_wordpiece(
        texts: impl Iterator<Item = String> + Send,
        vocab_size: usize,
    ) -> Result<Self> {
        let texts: Vec<String> = texts.collect();
        let (normalizer, split) = (BertNormalizer::default(), BertPreTokenizer);
        let words = |text: &str| {
            let mut normalized = NormalizedString::from(text);
            normalizer.normalize(&mut normalized)?;
            pieces(&split, normalized)
        };
        // The library's trainer numbers the continuations `##x` in the order of a hash map, which
        // differs from process to process; given beforehand and sorted they have fixed ids, and so
        // has all that is merged from them.
        let mut letters = BTreeSet::new();
        for text in &texts {
            letters.extend(
                words(text)
                    .map_err(|error| Error::Tokenizer(error.to_string()))?
                    .iter()
                    .flat_map(|word| word.chars()),
            );
        }
        let continuations = letters.iter().map(|letter| special(&format!("##{letter}")));
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .show_progress(false)
            .special_tokens(BERT_SPECIAL.into_iter().map(special).chain(continuations).collect())
            .continuing_subword_prefix("##".into());
        let bpe = train(trainer.build(), texts.into_iter(), words)?;
        let mut model = to_value(&WordPiece::from_bpe(&bpe))?;
        model["unk_token"] = json!("[UNK]");
        let id = |token: &str| model["vocab"][token].as_u64();
        let (Some(cls), Some(sep)) = (id("[CLS]"), id("[SEP]")) else {
            return Err(Error::Tokenizer("the trained vocabulary lacks [CLS] and [SEP]".into()));
        };
        let around = |id: u64, token: &str| json!({ "id": token, "ids": [id], "tokens": [token] });
        let piece = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let template = json!({
            "type": "TemplateProcessing",
            "single": [piece("[CLS]"), sequence("A"), piece("[SEP]")],
            "pair": [piece("[CLS]"), sequence("A"), piece("[SEP]"), sequence("B"), piece("[SEP]")],
            "special_tokens": { "[CLS]": around(cls, "[CLS]"), "[SEP]": around(sep, "[SEP]") },
        });
        let lower = json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": true,
            "strip_accents": null,
            "lowercase": true
        });
        let decoder = json!({ "type": "WordPiece", "prefix": "##", "cleanup": true });
        let definition = definition(
            &model,
            &BERT_SPECIAL,
            lower,
            json!({ "type": "BertPreTokenizer" }),
            template,
            decoder,
        );
        let [pad, unk, cls, sep, mask] = BERT_SPECIAL;
        let roles = [
            ("unk_token", unk),
            ("sep_token", sep),
            ("pad_token", pad),
            ("cls_token", cls),
            ("mask_token", mask),
        ];
        Self::from_json(&definition, SpecialTokens::of(&roles))
    }
}

fn special(token: &str) -> AddedToken {
    AddedToken::from(token, true)
}

fn train(
    mut trainer: BpeTrainer,
    texts: impl Iterator<Item = String> + Send,
    words: impl Fn(&str) -> tokenizers::Result<Vec<String>> + Sync,
) -> Result<BPE> {
    let mut model = BPE::default();
    trainer
        .feed(texts, words)
        .and_then(|()| trainer.train(&mut model))
        .map_err(|error| Error::Tokenizer(error.to_string()))?;
    Ok(model)
}

fn pieces(split: &impl PreTokenizer, text: NormalizedString) -> tokenizers::Result<Vec<String>> {
    let mut pre_tokenized = PreTokenizedString::from(text);
    split.pre_tokenize(&mut pre_tokenized)?;
    let splits = pre_tokenized.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

fn to_value(model: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(model).map_err(|error| Error::Tokenizer(error.to_string()))
}

/// A `tokenizer.json`; the special tokens are the first ids.
fn definition(
    model: &Value,
    special: &[&str],
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
) -> Value {
    let added = special.iter().enumerate().map(|(id, token)| {
        json!({
            "id": id,
            "content": token,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true
        })
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::reviews::review;

    fn texts() -> Vec<String> {
        (0..150).map(|i| review(1, "train", i).text).collect()
    }

    #[test]
    fn bpe_round_trips_any_text_and_is_the_same_each_time() {
        let tokenizer = Tokenizer::train_bpe(texts().into_iter(), 600).unwrap();
        assert_eq!(
            (tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id()),
            (600, Some(0), Some(0))
        );
        for text in [
            "A film, not bad at all!",
            " leading space",
            "naïve – 日本語 🎬\n\ttabs",
            "<|endoftext|",
        ] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        let ids = tokenizer.encode("🎬").unwrap();
        assert!(ids.len() > 1);
        assert_eq!(tokenizer.decode(&ids[..ids.len() - 1]).unwrap(), "\u{FFFD}");
        let mut reversed = texts();
        reversed.reverse();
        assert_eq!(
            tokenizer.vocabulary(),
            Tokenizer::train_bpe(reversed.into_iter(), 600).unwrap().vocabulary()
        );
    }

    #[test]
    fn wordpiece_frames_and_cuts_texts_and_is_the_same_each_time() {
        let tokenizer = Tokenizer::train_wordpiece(texts().into_iter(), 500).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.pad_id()), (500, Some(0)));
        let ids = tokenizer.encode_classifier("The Film was the film", 64).unwrap();
        assert_eq!((ids[0], ids[ids.len() - 1]), (2, 3));
        let half = ids.len() / 2;
        assert_eq!(tokenizer.encode("the").unwrap(), tokenizer.encode("The").unwrap());
        let cut = tokenizer.encode_classifier("The Film was the film", half).unwrap();
        assert_eq!((cut.len(), cut[cut.len() - 1], &cut[..half - 1]), (half, 3, &ids[..half - 1]));
        let mut reversed = texts();
        reversed.reverse();
        for _ in 0..3 {
            assert_eq!(
                tokenizer.vocabulary(),
                Tokenizer::train_wordpiece(reversed.clone().into_iter(), 500).unwrap().vocabulary()
            );
        }
    }

    #[test]
    fn a_saved_tokenizer_opens_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for tokenizer in [
            Tokenizer::train_bpe(texts().into_iter(), 400).unwrap(),
            Tokenizer::train_wordpiece(texts().into_iter(), 400).unwrap(),
        ] {
            tokenizer.save(folder.path()).unwrap();
            let opened = Tokenizer::open(folder.path()).unwrap();
            assert_eq!(opened.vocabulary(), tokenizer.vocabulary());
            assert_eq!(
                (opened.bos_id(), opened.eos_id(), opened.pad_id()),
                (tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id())
            );
            let text = "A story that is never boring.";
            assert_eq!(
                opened.encode_classifier(text, 99).unwrap(),
                tokenizer.encode_classifier(text, 99).unwrap()
            );
        }
    }
}
