//! A language model together with its tokenizer, checked to belong together. Either alone is opened
//! by `folder.rs` and by `text`.

use std::collections::BTreeSet;
use std::path::Path;

use tch::{Device, Kind};

use super::adapter_options::Purpose;
use super::generation_config::eos_token_ids;
use super::lora::check as check_adapter;
use super::weights::Headers;
use super::{Lm, LmConfig, RewardHead, RewardModel, base_of_adapter};
use crate::error::{Error, Result};
use crate::recipe::Lora;
use crate::text::Tokenizer;

/// [`Lm::open`], [`Lm::packed`], and the folder's tokenizer.
///
/// # Errors
/// [`Error::Model`] also where the tokenizer has ids that the embedding has not, or no
/// end-of-sequence token is known.
pub fn open_with_tokenizer(folder: &Path, device: Device, kind: Kind) -> Result<(Lm, Tokenizer)> {
    let tokenizer = check(folder, true)?;
    let mut lm = Lm::open(folder, device, kind)?.packed();
    settle_eos(folder, &mut lm, &tokenizer)?;
    Ok((lm, tokenizer))
}

/// [`Lm::open_trainable`] and the folder's tokenizer, with the same checks.
pub fn open_trainable_with_tokenizer(
    folder: &Path,
    device: Device,
    kind: Kind,
) -> Result<(Lm, Tokenizer)> {
    let tokenizer = check(folder, true)?;
    let mut lm = Lm::open_trainable(folder, device, kind)?;
    settle_eos(folder, &mut lm, &tokenizer)?;
    Ok((lm, tokenizer))
}

/// [`Lm::open_lora`] and the folder's tokenizer, with the same checks.
pub fn open_lora_with_tokenizer(
    folder: &Path,
    device: Device,
    kind: Kind,
    lora: &Lora,
    seed: u64,
) -> Result<(Lm, Tokenizer)> {
    let tokenizer = check(folder, true)?;
    let mut lm = Lm::open_lora(folder, device, kind, lora, seed)?;
    settle_eos(folder, &mut lm, &tokenizer)?;
    Ok((lm, tokenizer))
}

/// [`RewardModel::from_lm`] and the folder's tokenizer, with the same checks but for the
/// end-of-sequence token, which it does not need.
pub fn reward_model_with_tokenizer(
    folder: &Path,
    device: Device,
    kind: Kind,
) -> Result<(RewardModel, Tokenizer)> {
    let tokenizer = check(folder, false)?;
    Ok((RewardModel::from_lm(folder, device, kind)?, tokenizer))
}

/// [`RewardModel::lora_on_lm`] and the folder's tokenizer, with the checks of
/// [`reward_model_with_tokenizer`].
pub fn lora_reward_model_with_tokenizer(
    folder: &Path,
    device: Device,
    kind: Kind,
    lora: &Lora,
    seed: u64,
) -> Result<(RewardModel, Tokenizer)> {
    let tokenizer = check(folder, false)?;
    Ok((RewardModel::lora_on_lm(folder, device, kind, lora, seed)?, tokenizer))
}

/// Whether the folder holds a language model that can be opened, as far as config, tokenizer and
/// the headers of the weights tell. One that `generates` or is scored needs an end-of-sequence
/// token.
pub fn check_lm_folder(folder: &Path, generates: bool) -> Result<()> {
    check(folder, generates).map(drop)
}

/// The ids that end the sequences of the language model in `folder`, in the order of
/// [`crate::models::LmInfo::eos_token_ids`] once it is opened.
pub fn end_token_ids(folder: &Path, tokenizer: &Tokenizer) -> Result<Vec<i64>> {
    let base = base_of_adapter(folder)?;
    let home = base.as_deref().unwrap_or(folder);
    Ok(own_first(eos_token_ids(home, &LmConfig::read(home)?)?, tokenizer))
}

/// The tokenizer of a model folder, and how many tokens the model reads; its weights are not looked
/// at.
pub fn tokenizer_and_context(folder: &Path) -> Result<(Tokenizer, usize)> {
    let base = base_of_adapter(folder)?;
    let base = base.as_deref().unwrap_or(folder);
    let tokenizer = Tokenizer::open(folder)?;
    Ok((tokenizer, LmConfig::read(base)?.info(Vec::new()).context as usize))
}

/// [`check_lm_folder`] of several that generate; the error names all that cannot be opened.
pub fn check_lm_folders<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let different: BTreeSet<&Path> = folders.into_iter().collect();
    Error::several(different.into_iter().map(|folder| check_lm_folder(folder, true)))
}

/// [`check_lm_folder`] of a folder whose weights are not there yet: its config and its tokenizer.
pub fn check_lm_config(folder: &Path) -> Result<()> {
    let base = base_of_adapter(folder)?;
    let (config, tokenizer) =
        (LmConfig::read(base.as_deref().unwrap_or(folder)), Tokenizer::open(folder));
    let rows = match (&config, &tokenizer) {
        (Ok(config), Ok(tokenizer)) => {
            check_vocabulary(folder, tokenizer, config.vocab_size()).err()
        }
        _ => None,
    };
    Error::all(folder, config.err().into_iter().chain(tokenizer.err()).chain(rows))
}

/// What is small comes first, so that it is said before gigabytes are read, and all of it at once.
/// An adapter's config and weights are its base's.
/// `generates` asks for an end-of-sequence token.
fn check(folder: &Path, generates: bool) -> Result<Tokenizer> {
    let base = base_of_adapter(folder)?;
    let home = base.as_deref().unwrap_or(folder);
    let config = LmConfig::read(home);
    let tokenizer = Tokenizer::open(folder);
    let headers = Headers::open(home);
    let mut misfits = Vec::new();
    if let (Ok(config), Ok(tokenizer)) = (&config, &tokenizer) {
        misfits.extend(check_vocabulary(folder, tokenizer, config.vocab_size()).err());
        let ends = eos_token_ids(home, config)
            .and_then(|ids| end_ids(folder, ids, tokenizer, config.vocab_size()));
        misfits.extend(ends.err().filter(|_| generates));
    }
    if let Ok(headers) = &headers {
        let head = RewardHead::of(headers).filter(|_| headers.shape("lm_head.weight").is_none());
        misfits.extend(match (head, &config) {
            (Some(head), _) => Some(Error::model(folder, head.is_no_lm(headers))),
            (None, Ok(config)) => Lm::check_weights(home, config, headers).err(),
            (None, Err(_)) => headers.whole().err(),
        });
    }
    if let (Some(_), Ok(config)) = (&base, &config) {
        misfits.extend(check_adapter(folder, config, Purpose::Language).err());
    }
    Error::and_all(folder, tokenizer, config.err().into_iter().chain(headers.err()).chain(misfits))
}

/// Refuses a tokenizer with ids that would be read and that the `vocab_size` rows of the embedding
/// have not. A token that was added beyond them, for padding, is told where a text holds it.
pub fn check_vocabulary(folder: &Path, tokenizer: &Tokenizer, vocab_size: i64) -> Result<()> {
    let common = tokenizer.largest_common_id();
    if common >= vocab_size {
        let largest = common.max(tokenizer.largest_id());
        return Err(Error::model(
            folder,
            format!(
                "the tokenizer has ids up to {largest}, the embedding of config.json has \
                 {vocab_size} rows (`vocab_size`)\n\nhint: is the tokenizer that of another model?"
            ),
        ));
    }
    let framing = tokenizer.added()?.concat().into_iter().chain(tokenizer.bos_id());
    match framing.into_iter().find(|id| *id >= vocab_size) {
        None => Ok(()),
        Some(id) => Err(Error::model(
            folder,
            format!(
                "the tokenizer puts `{}` (id {id}) around texts, the embedding of config.json has \
                 {vocab_size} rows (`vocab_size`)\n\nhint: is the tokenizer that of another model?",
                tokenizer.token(id).unwrap_or_default()
            ),
        )),
    }
}

/// Has the model end at the ids that [`end_ids`] settles on, after a look at both vocabularies.
fn settle_eos(folder: &Path, lm: &mut Lm, tokenizer: &Tokenizer) -> Result<()> {
    let vocab_size = lm.model.info().vocab_size;
    check_vocabulary(folder, tokenizer, vocab_size)?;
    lm.model.set_eos(end_ids(
        folder,
        lm.model.info().eos_token_ids.clone(),
        tokenizer,
        vocab_size,
    )?);
    Ok(())
}

/// Sequences end at any of the ids that the model's configs name, or else at the tokenizer's; the
/// tokenizer's own comes first, because that is the one that ends what is scored and learned.
fn own_first(mut ids: Vec<i64>, tokenizer: &Tokenizer) -> Vec<i64> {
    match tokenizer.eos_id() {
        Some(own) if ids.is_empty() => ids.push(own),
        Some(own) => ids.sort_by_key(|id| *id != own),
        None => {}
    }
    ids
}

/// [`own_first`], of which there must be one, and all among the `vocab_size` rows of the embedding.
fn end_ids(
    folder: &Path,
    ids: Vec<i64>,
    tokenizer: &Tokenizer,
    vocab_size: i64,
) -> Result<Vec<i64>> {
    let mut problems = Vec::new();
    let ids = own_first(ids, tokenizer);
    if ids.is_empty() {
        problems.push(
            "there is no end-of-sequence token: neither generation_config.json, config.json nor \
             tokenizer_config.json names one\n\n\
             hint: set `eos_token_id` in config.json; without it no response would ever be complete"
                .to_owned(),
        );
    }
    if let Some(id) = ids.iter().find(|id| !(0..vocab_size).contains(*id)) {
        problems.push(format!(
            "the end-of-sequence id {id} is not among the {vocab_size} of the embedding"
        ));
    }
    if problems.is_empty() {
        Ok(ids)
    } else {
        Err(Error::Model { path: folder.to_owned(), problems })
    }
}
