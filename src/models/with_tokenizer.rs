//! A language model together with its tokenizer, checked to belong together.

use std::path::Path;

use tch::{Device, Kind};

use super::folder::generation_eos;
use super::lora::base_of_adapter;
use super::{Lm, LmConfig, RewardHead, RewardModel, weights};
use crate::error::{Error, Result};
use crate::recipe::Lora;
use crate::text::Tokenizer;

/// [`Lm::open`] and the folder's tokenizer.
///
/// # Errors
/// [`Error::Model`] also where the tokenizer has ids that the embedding has not, or no end-of-sequence token is known.
pub fn open_with_tokenizer(folder: &Path, device: Device, kind: Kind) -> Result<(Lm, Tokenizer)> {
    let tokenizer = check(folder)?;
    let mut lm = Lm::open(folder, device, kind)?;
    fit(folder, &mut lm, &tokenizer)?;
    Ok((lm, tokenizer))
}

/// [`Lm::open_trainable`] and the folder's tokenizer, with the same checks.
pub fn open_trainable_with_tokenizer(folder: &Path, device: Device, kind: Kind) -> Result<(Lm, Tokenizer)> {
    let tokenizer = check(folder)?;
    let mut lm = Lm::open_trainable(folder, device, kind)?;
    fit(folder, &mut lm, &tokenizer)?;
    Ok((lm, tokenizer))
}

/// [`Lm::open_lora`] and the folder's tokenizer, with the same checks.
pub fn open_lora_with_tokenizer(folder: &Path, device: Device, kind: Kind, lora: &Lora, seed: u64) -> Result<(Lm, Tokenizer)> {
    let tokenizer = check(folder)?;
    let mut lm = Lm::open_lora(folder, device, kind, lora, seed)?;
    fit(folder, &mut lm, &tokenizer)?;
    Ok((lm, tokenizer))
}

/// [`RewardModel::from_lm`] and the folder's tokenizer, with the same checks but for the end-of-sequence token, which it does not need.
pub fn reward_model_with_tokenizer(folder: &Path, device: Device, kind: Kind) -> Result<(RewardModel, Tokenizer)> {
    let tokenizer = check(folder)?;
    Ok((RewardModel::from_lm(folder, device, kind)?, tokenizer))
}

/// Whether the folder holds a language model that can be opened, as far as config, tokenizer and the headers of the weights tell.
pub fn check_lm_folder(folder: &Path) -> Result<()> {
    check(folder).map(drop)
}

/// The ids that end the sequences of the language model in `folder`, in the order of [`crate::models::LmInfo::eos_token_ids`] once it is opened.
pub fn end_token_ids(folder: &Path, tokenizer: &Tokenizer) -> Result<Vec<i64>> {
    let base = base_of_adapter(folder)?;
    let folder = base.as_deref().unwrap_or(folder);
    let ids = match generation_eos(folder)? {
        Some(ids) => ids,
        None => LmConfig::read(folder)?.eos_token_ids(),
    };
    Ok(own_first(ids, tokenizer))
}

/// The tokenizer of a model folder, and how many tokens the model reads; its weights are not looked at.
pub fn tokenizer_and_context(folder: &Path) -> Result<(Tokenizer, usize)> {
    let base = base_of_adapter(folder)?;
    let base = base.as_deref().unwrap_or(folder);
    let tokenizer = Tokenizer::open(if folder.join("tokenizer.json").is_file() { folder } else { base })?;
    Ok((tokenizer, LmConfig::read(base)?.info(Vec::new()).context as usize))
}

/// What is small comes first, so that it is said before gigabytes are read. An adapter's config and weights are its base's, and so is its
/// tokenizer unless it brings one.
fn check(folder: &Path) -> Result<Tokenizer> {
    let base = base_of_adapter(folder)?;
    let weights_folder = base.as_deref().unwrap_or(folder);
    let config = LmConfig::read(weights_folder)?;
    let tokenizer = Tokenizer::open(if folder.join("tokenizer.json").is_file() { folder } else { weights_folder })?;
    check_vocabulary(folder, &tokenizer, config.vocab_size())?;
    let names = weights::tensor_names(weights_folder)?;
    let head = RewardHead::of(&names).filter(|_| !names.contains("lm_head.weight"));
    match head {
        None => Ok(tokenizer),
        Some(head) => Err(Error::model(
            folder,
            format!("is a reward model (it has `{}`), not a language model\n\nhint: it can be the `gold`", head.tensor()),
        )),
    }
}

/// Refuses a tokenizer with ids that the `vocab_size` rows of the embedding have not.
pub fn check_vocabulary(folder: &Path, tokenizer: &Tokenizer, vocab_size: i64) -> Result<()> {
    let largest = tokenizer.largest_id();
    if largest < vocab_size {
        return Ok(());
    }
    Err(Error::model(
        folder,
        format!(
            "the tokenizer has ids up to {largest}, the embedding of config.json has {vocab_size} rows (`vocab_size`)\n\n\
             hint: is the tokenizer that of another model?"
        ),
    ))
}

/// Sequences end at any of the ids that the model's configs name, or else at the tokenizer's; the tokenizer's own comes first, because
/// that is the one that ends what is scored and learned.
fn own_first(mut ids: Vec<i64>, tokenizer: &Tokenizer) -> Vec<i64> {
    match tokenizer.eos_id() {
        Some(own) if ids.is_empty() => ids.push(own),
        Some(own) => ids.sort_by_key(|id| *id != own),
        None => {}
    }
    ids
}

/// Whether tokenizer and model belong together; settles which ids end sequences.
fn fit(folder: &Path, lm: &mut Lm, tokenizer: &Tokenizer) -> Result<()> {
    let vocab_size = lm.model.info().vocab_size;
    check_vocabulary(folder, tokenizer, vocab_size)?;
    let mut problems = Vec::new();
    let ids = own_first(lm.model.info().eos_token_ids.clone(), tokenizer);
    if ids.is_empty() {
        problems.push(
            "there is no end-of-sequence token: neither generation_config.json, config.json nor tokenizer_config.json names one\n\n\
             hint: set `eos_token_id` in config.json; without it no response would ever be complete"
                .to_owned(),
        );
    }
    if let Some(id) = ids.iter().find(|id| !(0..vocab_size).contains(*id)) {
        problems.push(format!("the end-of-sequence id {id} is not among the {vocab_size} of the embedding"));
    }
    if !problems.is_empty() {
        return Err(Error::Model { path: folder.to_owned(), problems });
    }
    lm.model.set_eos(ids);
    Ok(())
}
