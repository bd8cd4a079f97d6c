//! Pretrains the recipe's scratch models on the training texts: tokenizer, then causal language
//! model. The steps are in `train`.

use std::path::Path;
use std::rc::Rc;

use tracing::info;

use super::context::Context;
use super::run::write_json;
use super::sample_text::sample_text;
use crate::error::{Error, Result};
use crate::models::{Gpt2Config, Lm, LmConfig, TokenIds};
use crate::recipe::{Scratch, ScratchTokenizer};
use crate::sampling::Stream;
use crate::text::{Dataset, Example, Split, Tokenizer, first_words_prompt};
use crate::train::tasks::LanguageTask;
use crate::train::{Fit, Sequence};

/// Makes the recipe's model `name`.
pub fn train(context: &Context, name: &str) -> Result<()> {
    let scratch = context.recipe().models.get(name).and_then(|model| model.scratch.as_ref());
    let scratch = scratch
        .ok_or_else(|| Error::recipe(format!("`models.{name}` is not made from scratch")))?;
    let training = context.plan.training.pretrain.get(name);
    let training =
        training.ok_or_else(|| Error::recipe("scratch models need a `[pretrain]` table"))?;
    let folder = context.models.folder(name)?;
    let dataset = context.dataset()?;
    let tokenizer = tokenizer(context, scratch, &folder, dataset)?;
    tokenizer.save(&folder)?;
    let tokenizer = Rc::new(tokenizer);
    let template = context.models.template(name)?;
    let sequences = |examples: &[Example]| -> Result<Vec<Sequence>> {
        let windows = examples.iter().map(|example| {
            Sequence::windows(&tokenizer, &template, &example.text, training.max_length)
        });
        Ok(windows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    let lm = Rc::new(untrained(context, name, scratch, &tokenizer)?);
    let prompt = sample_prompt(context, dataset)?;
    let mut task = LanguageTask {
        train: sequences(dataset.texts(Split::Train)?)?,
        validation: sequences(dataset.texts(Split::Validation)?)?,
        batch: training.batch_size,
        activation_checkpointing: training.activation_checkpointing,
        sample: sample_text(
            lm.clone(),
            tokenizer.clone(),
            template,
            prompt.into(),
            (training.max_length / 2).min(48),
        ),
        lm,
        tokenizer,
    };
    let parameters: usize = task.lm.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
    info!(
        "pretrain/{name}: {parameters} parameters, {} windows of up to {} tokens",
        task.train.len(),
        training.max_length
    );
    let stage = format!("pretrain/{name}");
    let checkpoint = context.run.checkpoint(&stage);
    let fit = Fit {
        stage: &stage,
        training,
        seed: context.seed(),
        run_dir: context.run.dir(),
        checkpoint: &checkpoint,
    };
    let (report, _) = fit.run(&mut task)?;
    task.lm.save(&folder)?;
    write_json(&folder.join("training.json"), &report)
}

/// The tokenizer that the recipe names: another model's, the one that an earlier attempt left, or a
/// new one.
fn tokenizer(
    context: &Context,
    scratch: &Scratch,
    folder: &Path,
    dataset: &Dataset,
) -> Result<Tokenizer> {
    Ok(match &scratch.tokenizer {
        ScratchTokenizer::SameAs { model } => Tokenizer::open(&context.models.folder(model)?)?,
        ScratchTokenizer::Bpe { .. } if folder.join("tokenizer_config.json").exists() => {
            Tokenizer::open(folder)?
        }
        ScratchTokenizer::Bpe { vocab_size } => Tokenizer::train_bpe(
            dataset.texts(Split::Train)?.iter().map(|example| example.text.clone()),
            *vocab_size,
        )?,
    })
}

/// A model of the recipe's sizes, its values decided by the seed.
fn untrained(
    context: &Context,
    name: &str,
    scratch: &Scratch,
    tokenizer: &Tokenizer,
) -> Result<Lm> {
    let config = Gpt2Config {
        vocab_size: tokenizer.vocab_size() as i64,
        n_positions: scratch.n_positions,
        n_embd: scratch.n_embd,
        n_layer: scratch.n_layer,
        n_head: scratch.n_head,
        bos_token_id: tokenizer.bos_id(),
        eos_token_id: tokenizer.eos_id().map(TokenIds::One),
        ..Gpt2Config::default()
    };
    let seed = Stream::new(context.seed(), "init", name).seed();
    Lm::new(LmConfig::Gpt2(config), seed, context.models.placement(name)?.device)
}

/// The beginning of a held-out text, which the model continues for people to look at.
fn sample_prompt(context: &Context, dataset: &Dataset) -> Result<String> {
    let first = dataset.validation.first().or(dataset.train.first());
    let first = first.ok_or_else(|| Error::failed("the data set is empty"))?;
    let rule = &context.recipe().data()?.prompt;
    Ok(first_words_prompt(first, rule, context.seed()).unwrap_or_default())
}
