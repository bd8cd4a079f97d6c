//! A tokenizer folder: `tokenizer.json`, which of its tokens begin, end and pad, and its chat
//! template. Ids and texts are those of transformers' `AutoTokenizer` on the same folder.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, Encoding, Token};

use super::chat::ChatTemplate;
use super::continuation::Continuing;
use super::encoding::{ids_of, text_of};
use super::json_file::read_json;
use super::special_tokens::SpecialTokens;
use super::tokenizer_class::TokenizerClass;
use super::vocabulary::Vocabulary;
use crate::artifacts::{atomic, stand_in};
use crate::error::{Error, Result};
use crate::recipe::{chat_template, config_folder, conversion_hint, tokenizer_folder};

/// What a saved `tokenizer_config.json` takes over beside the special tokens and the chat template.
const KEPT: [&str; 6] = [
    "model_max_length",
    "padding_side",
    "truncation_side",
    "split_special_tokens",
    "model_input_names",
    "add_prefix_space",
];

#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    /// As the tokenizer's own files name them.
    special: SpecialTokens,
    /// Where those name none: the ids that the model's configs give for BOS, EOS and padding.
    fallback: [Option<i64>; 3],
    kept: Map<String, Value>,
    /// Rows of the embedding of the model beside it, where there is one.
    rows: Option<i64>,
    /// Where it was opened; empty for one just trained.
    folder: PathBuf,
    /// Where the chat template lies and its text, or what is wrong with it.
    chat_source: Result<Option<(PathBuf, String)>, String>,
    chat: OnceLock<ChatTemplate>,
    continuing: OnceLock<Continuing>,
}

impl Tokenizer {
    /// That of a model folder; an adapter without one has its base's.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = &*tokenizer_folder(folder);
        let path = folder.join("tokenizer.json");
        stand_in::refuse(&path)?;
        if let Some(hint) = conversion_hint(folder).filter(|_| !path.exists()) {
            return Err(Error::data(&path, None, format!("there is no such file\n\nhint: {hint}")));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "reading the tokenizer"))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| Error::data(&path, None, format!("not a tokenizer: {error}")))?;
        // The file's padding and truncation were set for other batches than ours, which are padded
        // and cut where they are made.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let mut config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        let model_folder = config_folder(folder);
        let model = read_json(&model_folder.join("config.json"))?.unwrap_or_default();
        let text = |fields: &Map<String, Value>, key: &str| {
            fields.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        let named = text(&config, "tokenizer_class").or_else(|| text(&model, "tokenizer_class"));
        let class =
            TokenizerClass::of(named.as_deref(), text(&model, "model_type").as_deref(), &inner);
        class.rebuild(&mut inner, &config)?;
        for (role, token) in
            class.special().iter().filter(|(_, token)| inner.token_to_id(token).is_some())
        {
            config.entry(*role).or_insert_with(|| json!(token));
        }
        let known = inner.get_added_tokens_decoder();
        let (special, added) =
            SpecialTokens::read(folder, &config, &known.values().collect::<Vec<&AddedToken>>())?;
        inner.add_tokens(added).map_err(|error| {
            Error::data(folder, None, format!("its special tokens cannot be added: {error}"))
        })?;
        inner.set_encode_special_tokens(
            config.get("split_special_tokens").and_then(Value::as_bool).unwrap_or(false),
        );
        let generation =
            read_json(&model_folder.join("generation_config.json"))?.unwrap_or_default();
        let id = |fields: &Map<String, Value>, key: &str| {
            let value = fields.get(key)?;
            let id = value
                .as_u64()
                .or_else(|| value.get(0)?.as_u64())
                .and_then(|id| u32::try_from(id).ok())?;
            inner.id_to_token(id).map(|_| i64::from(id))
        };
        let bos = id(&generation, "bos_token_id").or_else(|| id(&model, "bos_token_id"));
        let fallback = [bos, id(&model, "eos_token_id"), id(&model, "pad_token_id")];
        let kept = KEPT
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), config.get(key)?.clone())))
            .collect();
        let chat_source = chat_template(folder);
        Ok(Self {
            inner,
            special,
            fallback,
            kept,
            rows: model.get("vocab_size").and_then(Value::as_i64),
            folder: folder.to_owned(),
            chat_source,
            chat: OnceLock::new(),
            continuing: OnceLock::new(),
        })
    }

    pub(super) fn from_json(definition: &Value, special: SpecialTokens) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(definition.to_string())
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        let (kept, folder, chat_source) = (Map::new(), PathBuf::new(), Ok(None));
        Ok(Self {
            inner,
            special,
            fallback: [None; 3],
            kept,
            rows: None,
            folder,
            chat_source,
            chat: OnceLock::new(),
            continuing: OnceLock::new(),
        })
    }

    /// A tokenizer of numbered words (`t0 t1 …`), one for each id of a model that has none; `eos`
    /// is the id that ends sequences.
    pub fn numbered(vocab_size: usize, eos: Option<i64>) -> Result<Self> {
        let vocab: Map<String, Value> =
            (0..vocab_size).map(|id| (format!("t{id}"), json!(id))).collect();
        let definition = json!({
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "t0" }
        });
        let mut tokenizer = Self::from_json(&definition, SpecialTokens::default())?;
        tokenizer.fallback[1] = eos;
        Ok(tokenizer)
    }

    /// Ids of the text alone: no special tokens are added, but those that stand in the text are
    /// found.
    ///
    /// # Errors
    /// Also where the model has no embedding of one of them.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        ids_of(&self.inner, text).and_then(|ids| self.readable(ids))
    }

    /// `ids` unless the model has no embedding of one of them.
    fn readable(&self, ids: Vec<i64>) -> Result<Vec<i64>> {
        let beyond = |rows: i64| ids.iter().copied().find(|&id| id >= rows).map(|id| (rows, id));
        match self.rows.and_then(beyond) {
            None => Ok(ids),
            Some((rows, id)) => Err(Error::Tokenizer(format!(
                "a text holds `{}` (id {id}), and the embedding of the model in {} has {rows} \
                 rows, none for it\n\nhint: take it out of the text",
                self.token(id).unwrap_or_default(),
                self.folder.display()
            ))),
        }
    }

    /// What the post-processor puts before and after a text: BOS, or [CLS] and [SEP].
    pub fn added(&self) -> Result<[Vec<i64>; 2]> {
        let text = Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0);
        let framed = self
            .inner
            .post_process(text, None, true)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        let before =
            framed.get_special_tokens_mask().iter().take_while(|&&special| special == 1).count();
        let ids = |ids: &[u32]| ids.iter().map(|&id| i64::from(id)).collect();
        Ok([
            ids(&framed.get_ids()[..before]),
            ids(framed.get_ids().get(before + 1..).unwrap_or_default()),
        ])
    }

    /// Ids with the special tokens that the post-processor adds, such as BOS. Where the text brings
    /// them itself they do not stand twice.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<i64>> {
        self.encode_classifier(text, usize::MAX)
    }

    /// [`Self::encode_with_special`] ([CLS] … [SEP]), cut to `max_length` with those kept.
    pub fn encode_classifier(&self, text: &str, max_length: usize) -> Result<Vec<i64>> {
        let [before, after] = self.added()?;
        let mut ids = behind(before, self.encode(text)?);
        if !ids.ends_with(&after) {
            ids.extend(&after);
        }
        if ids.len() > max_length {
            let kept = after.len().min(max_length);
            ids = [&ids[..max_length - kept], &ids[ids.len() - kept..]].concat();
        }
        Ok(ids)
    }

    /// A text without the tokens of `ends`, and white space behind them, that stand at its end, and
    /// whether there were any: then it is complete. Those that stand within a text are read as the
    /// tokens they are.
    pub fn split_end<'a>(&self, text: &'a str, ends: &[i64]) -> (&'a str, bool) {
        let is_found = |token: &String| {
            !token.is_empty() && self.inner.get_added_vocabulary().is_special_token(token)
        };
        let ends: Vec<String> = match self.inner.get_encode_special_tokens() {
            true => Vec::new(),
            false => ends.iter().filter_map(|&id| self.token(id)).filter(is_found).collect(),
        };
        let mut left = text;
        while let Some(before) =
            ends.iter().find_map(|end| left.trim_end().strip_suffix(end.as_str()))
        {
            left = before;
        }
        (left, left.len() < text.len())
    }

    /// The text of all ids together, special tokens left out. Ids that end inside a multi-byte
    /// character end in U+FFFD.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        text_of(&self.inner, ids, true)
    }

    /// As [`Self::decode`], special tokens included.
    pub fn decode_with_special(&self, ids: &[i64]) -> Result<String> {
        text_of(&self.inner, ids, false)
    }

    /// How continuations are encoded and decoded; found out once.
    fn continuing(&self) -> Result<&Continuing> {
        if let Some(known) = self.continuing.get() {
            return Ok(known);
        }
        let found = Continuing::of(&self.inner)?;
        Ok(self.continuing.get_or_init(|| found))
    }

    /// Ids of a response: a continuation, unless the prompt is empty, so that it `begins` the text.
    pub fn encode_response(&self, text: &str, begins: bool) -> Result<Vec<i64>> {
        if begins { self.encode(text) } else { self.encode_continuation(text) }
    }

    /// The text of the ids of a response, special tokens left out.
    pub fn decode_response(&self, ids: &[i64], begins: bool) -> Result<String> {
        if begins { self.decode(ids) } else { self.decode_continuation(ids) }
    }

    /// Ids of a text that continues other text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<i64>> {
        self.continuing()?.encode(&self.inner, text).and_then(|ids| self.readable(ids))
    }

    /// The text of ids that continue others, special tokens left out.
    pub fn decode_continuation(&self, ids: &[i64]) -> Result<String> {
        self.continuing()?.decode(&self.inner, ids)
    }

    /// Added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// A model's embedding needs a row for every id up to this one; ids may have gaps, so it can
    /// exceed [`Self::vocab_size`]. -1 if there are no tokens.
    pub fn largest_id(&self) -> i64 {
        self.inner.get_vocab(true).into_values().max().map_or(-1, i64::from)
    }

    /// The same of the tokens that any text may become: those that were added, such as one for
    /// padding, stand in a text only where it spells them out.
    pub fn largest_common_id(&self) -> i64 {
        self.inner.get_vocab(false).into_values().max().map_or(-1, i64::from)
    }

    pub fn bos_id(&self) -> Option<i64> {
        self.id_of("bos_token").or(self.fallback[0])
    }

    pub fn eos_id(&self) -> Option<i64> {
        self.id_of("eos_token").or(self.fallback[1])
    }

    pub fn pad_id(&self) -> Option<i64> {
        self.id_of("pad_token").or(self.fallback[2])
    }

    fn id_of(&self, role: &str) -> Option<i64> {
        self.inner.token_to_id(self.special.get(role)?).map(i64::from)
    }

    /// The string of one id, as the vocabulary has it.
    pub fn token(&self, id: i64) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    /// The full map of ids to tokens, added ones included, but for those added ones that the model
    /// beside it neither reads nor writes.
    pub fn vocabulary(&self) -> Vocabulary {
        let (mut ids, common) = (self.inner.get_vocab(true), self.largest_common_id());
        let rows = self.rows.unwrap_or(i64::MAX).max(common + 1);
        ids.retain(|_, id| i64::from(*id) < rows);
        Vocabulary::new(ids)
    }

    /// The folder's chat template, compiled on the first call; `None` where it has none.
    pub fn chat_template(&self) -> Result<Option<&ChatTemplate>> {
        if let Some(chat) = self.chat.get() {
            return Ok(Some(chat));
        }
        let Some((path, source)) =
            self.chat_source.as_ref().map_err(|trouble| Error::Tokenizer(trouble.clone()))?
        else {
            return Ok(None);
        };
        let chat = ChatTemplate::new(path, source, &self.special.roles)?;
        Ok(Some(self.chat.get_or_init(|| chat)))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// This tokenizer with a padding token of which a model of `vocab_size` has an embedding: its
    /// own if it has one, or else the end token. Other programs ask for one to score texts in
    /// batches.
    pub fn padding_within(mut self, vocab_size: i64) -> Self {
        const ROLE: &str = "pad_token";
        let own = self.pad_id().filter(|&id| id < vocab_size);
        if let Some(token) = own.or(self.eos_id()).and_then(|id| self.token(id)) {
            self.special.roles.retain(|(role, _)| role != ROLE);
            self.special.roles.push((ROLE.to_owned(), token));
        }
        self
    }

    /// Writes `tokenizer.json` and a `tokenizer_config.json` with which transformers opens it.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let definition =
            self.inner.to_string(true).map_err(|error| Error::Tokenizer(error.to_string()))?;
        atomic::write(&folder.join("tokenizer.json"), definition.as_bytes())?;
        // Without `model_input_names` transformers 4 also makes `token_type_ids`: DistilBERT and
        // Llama refuse them, and GPT-2 adds the embedding of token 0 to every token.
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "model_input_names": ["input_ids", "attention_mask"]
        });
        for (key, value) in &self.kept {
            config[key] = value.clone();
        }
        // A BOS that only the model's config names stays there: whoever reads this folder would put
        // it before every prompt.
        for (role, id) in [("eos_token", self.eos_id()), ("pad_token", self.pad_id())] {
            if let Some(token) = id.and_then(|id| self.token(id)) {
                config[role] = json!(token);
            }
        }
        for (role, token) in &self.special.roles {
            config[role] = json!(token);
        }
        if !self.special.extra.is_empty() {
            config["additional_special_tokens"] = json!(self.special.extra);
        }
        if let Ok(Some((_, template))) = &self.chat_source {
            config["chat_template"] = json!(template);
        }
        let text = serde_json::to_string_pretty(&config)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        atomic::write(&folder.join("tokenizer_config.json"), format!("{text}\n").as_bytes())
    }
}

/// `ids` after `before`, unless they begin with it.
pub(super) fn behind(before: Vec<i64>, ids: Vec<i64>) -> Vec<i64> {
    if ids.starts_with(&before) { ids } else { [before, ids].concat() }
}
