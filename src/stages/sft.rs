//! Supervised fine-tuning of the guide on both responses of each pair; the result is DPO's reference and the untuned guide.

use std::rc::Rc;

use super::context::{Context, write_json};
use super::language_task::{LanguageTask, SamplePrompt};
use super::preferences::{self, TRAIN, VALIDATION};
use crate::error::{Error, Result};
use crate::models::open_trainable_with_tokenizer;
use crate::text::{Pair, read_pairs};
use crate::train::{Fit, Sequence};

pub fn run(context: &Context) -> Result<()> {
    context.task("sft", &fingerprint(context)?, &["sft"], |_| train(context))
}

pub fn fingerprint(context: &Context) -> Result<String> {
    let parents = [context.model_fingerprint(model(context)?)?, preferences::fingerprint(context)?];
    context.fingerprint("sft", (&context.plan.training.sft, context.seed()), &parents)
}

fn model(context: &Context) -> Result<&str> {
    context.recipe().guide_model().ok_or_else(|| Error::recipe("the recipe has no model to tune"))
}

fn train(context: &Context) -> Result<()> {
    let training = context.plan.training.sft.clone().ok_or_else(|| Error::recipe("the recipe has no `[sft]` table"))?;
    let model = model(context)?;
    let source = context.model_folder(model)?;
    let (lm, tokenizer) = open_trainable_with_tokenizer(&source, context.placement(model)?.device)?;
    let (lm, tokenizer) = (Rc::new(lm), Rc::new(tokenizer));
    let template = context.template(model)?;
    let eos = lm.model.info().eos_token_ids.first().copied();
    let sequences = |file: &str| -> Result<(Vec<Pair>, Vec<Sequence>)> {
        let pairs = read_pairs(&context.path(file))?;
        let both = pairs.iter().flat_map(|pair| {
            [(&pair.chosen, pair.chosen_complete), (&pair.rejected, pair.rejected_complete)].map(|(response, complete)| {
                Sequence::of_response(&tokenizer, &template, &pair.prompt, response, eos.filter(|_| complete), training.max_length)
            })
        });
        let sequences = both.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        Ok((pairs, sequences))
    };
    let (pairs, train) = sequences(TRAIN)?;
    let (_, validation) = sequences(VALIDATION)?;
    let sample = SamplePrompt {
        prompt: pairs.first().map(|pair| pair.prompt.clone()).unwrap_or_default(),
        tokenizer: tokenizer.clone(),
        template: template.clone(),
        max_new_tokens: 48,
    };
    let mut task = LanguageTask { lm, train, validation, batch: training.micro_batch_size, sample };
    let checkpoint = context.checkpoint("sft");
    let fit = Fit { stage: "sft", training: &training, seed: context.seed(), run_dir: context.run_dir(), checkpoint: &checkpoint };
    let report = fit.run(&mut task)?;
    let folder = context.path("sft");
    tokenizer.save(&folder)?;
    task.lm.save(&folder)?;
    write_json(&folder.join("training.json"), &report)
}
