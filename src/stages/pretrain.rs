//! Pretrains the recipe's scratch models on the training texts: tokenizer, then causal language model.

use std::rc::Rc;

use tracing::info;

use super::context::{Context, Task, write_json};
use super::sample_text::sample_text;
use crate::error::{Error, Result};
use crate::models::{Gpt2Config, Lm, LmConfig, TokenIds};
use crate::recipe::{Scratch, ScratchTokenizer, Training};
use crate::sampling::Stream;
use crate::text::{Example, Tokenizer, first_words_prompt};
use crate::train::tasks::LanguageTask;
use crate::train::{Fit, Sequence};

pub fn run(context: &Context) -> Result<()> {
    // Models whose tokenizer another one shares come first.
    let mut scratch: Vec<(&String, &Scratch)> =
        context.recipe().models.iter().filter_map(|(name, model)| Some((name, model.scratch.as_ref()?))).collect();
    scratch.sort_by_key(|(_, scratch)| matches!(scratch.tokenizer, ScratchTokenizer::SameAs { .. }));
    for (name, scratch) in scratch {
        let folder = format!("models/{name}");
        context.task(&task(context, name)?, &[&folder], |_| pretrain(context, name, scratch))?;
    }
    Ok(())
}

pub fn tasks(context: &Context) -> Result<Vec<Task>> {
    let scratch = context.recipe().models.iter().filter(|(_, model)| model.scratch.is_some());
    scratch.map(|(name, _)| task(context, name)).collect()
}

fn task(context: &Context, name: &str) -> Result<Task> {
    Ok(Task::new(format!("pretrain/{name}"), fingerprint(context, name)?))
}

pub fn fingerprint(context: &Context, name: &str) -> Result<String> {
    let model = context.model(name)?;
    let mut parents = vec![context.texts_fingerprint()?];
    if let Some(ScratchTokenizer::SameAs { model }) = model.scratch.as_ref().map(|scratch| &scratch.tokenizer) {
        parents.push(fingerprint(context, model)?);
    }
    let scratch = model.scratch.as_ref().map(Scratch::outcome);
    context.fingerprint(&format!("pretrain/{name}"), (scratch, model.bos, training(context, name)?.outcome()), &parents)
}

fn training<'a>(context: &'a Context, name: &str) -> Result<&'a Training> {
    context.plan.training.pretrain.get(name).ok_or_else(|| Error::recipe("scratch models need a `[pretrain]` table"))
}

fn pretrain(context: &Context, name: &str, scratch: &Scratch) -> Result<()> {
    let folder = context.model_folder(name)?;
    let dataset = context.dataset()?;
    let tokenizer = match &scratch.tokenizer {
        ScratchTokenizer::SameAs { model } => Tokenizer::open(&context.model_folder(model)?)?,
        ScratchTokenizer::Bpe { .. } if folder.join("tokenizer_config.json").exists() => Tokenizer::open(&folder)?,
        ScratchTokenizer::Bpe { vocab_size } => {
            Tokenizer::train_bpe(dataset.train.iter().map(|example| example.text.clone()), *vocab_size)?
        }
    };
    tokenizer.save(&folder)?;
    let tokenizer = Rc::new(tokenizer);
    let training = training(context, name)?;
    let template = context.template(name)?;
    let sequences = |examples: &[Example]| -> Result<Vec<Sequence>> {
        let windows = examples.iter().map(|example| Sequence::windows(&tokenizer, &template, &example.text, training.max_length));
        Ok(windows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    let vocab_size = tokenizer.vocab_size() as i64;
    let config = Gpt2Config {
        vocab_size,
        n_positions: scratch.n_positions,
        n_embd: scratch.n_embd,
        n_layer: scratch.n_layer,
        n_head: scratch.n_head,
        bos_token_id: tokenizer.bos_id(),
        eos_token_id: tokenizer.eos_id().map(TokenIds::One),
        ..Gpt2Config::default()
    };
    let seed = Stream::new(context.seed(), "init", name).seed();
    let lm = Rc::new(Lm::new(LmConfig::Gpt2(config), seed, context.placement(name)?.device)?);
    let first = dataset.validation.first().or(dataset.train.first()).ok_or_else(|| Error::failed("the data set is empty"))?;
    let prompt = first_words_prompt(first, &context.recipe().data.prompt, context.seed()).unwrap_or_default();
    let mut task = LanguageTask {
        train: sequences(&dataset.train)?,
        validation: sequences(&dataset.validation)?,
        batch: training.batch_size,
        activation_checkpointing: training.activation_checkpointing,
        sample: sample_text(lm.clone(), tokenizer.clone(), template, prompt, (training.max_length / 2).min(48)),
        lm,
        tokenizer,
    };
    let parameters: usize = task.lm.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
    info!("pretrain/{name}: {parameters} parameters, {} windows of up to {} tokens", task.train.len(), training.max_length);
    let stage = format!("pretrain/{name}");
    let checkpoint = context.checkpoint(&stage);
    let fit = Fit { stage: &stage, training, seed: context.seed(), run_dir: context.run_dir(), checkpoint: &checkpoint };
    let (report, _) = fit.run(&mut task)?;
    task.lm.save(&folder)?;
    write_json(&folder.join("training.json"), &report)
}
