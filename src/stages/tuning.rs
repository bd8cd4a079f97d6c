//! A model opened to be tuned on the preference pairs: how it reads them, is trained and saved.

use std::path::Path;
use std::rc::Rc;

use tch::{Kind, Tensor};
use tracing::{info, warn};

use super::context::Context;
use super::placements::Placement;
use super::run::write_json;
use super::sample_text::sample_text;
use super::tasks::TRAIN;
use crate::error::Result;
use crate::machine::device::training_kind;
use crate::models::{Lm, open_lora_with_tokenizer, open_trainable_with_tokenizer};
use crate::recipe::{Lora, Training};
use crate::sampling::Stream;
use crate::text::{PromptTemplate, Tokenizer, read_pairs};
use crate::train::tasks::SampleText;
use crate::train::{Fit, Sequence, Task};

/// A model opened to be tuned, and how it reads and writes.
pub struct Trainable {
    pub lm: Rc<Lm>,
    pub tokenizer: Rc<Tokenizer>,
    pub template: PromptTemplate,
}

impl Trainable {
    /// The weights in `folder`, of the recipe's `model` or descended from it, to be trained by the
    /// task called `name`: all of them, or adapters.
    pub fn open(
        context: &Context,
        model: &str,
        folder: &Path,
        name: &str,
        lora: Option<&Lora>,
    ) -> Result<Self> {
        let Placement { device, kind } = context.models.placement(model)?;
        let kind = training_kind(kind);
        let (lm, tokenizer) = match lora {
            None => open_trainable_with_tokenizer(folder, device, kind)?,
            Some(lora) => {
                let opened =
                    open_lora_with_tokenizer(folder, device, kind, lora, lora_seed(context, name))?;
                tell_lora(name, lora, &opened.0.trainable_parameters(), &opened.0.parameters());
                opened
            }
        };
        Ok(Self {
            lm: Rc::new(lm),
            tokenizer: Rc::new(tokenizer),
            template: context.models.template(model)?,
        })
    }

    /// The model in Hugging Face layout; `weights` are the f32 ones of all that was trained, by
    /// name.
    pub fn save(
        &self,
        folder: &Path,
        weights: &[(String, Tensor)],
        lora: Option<&Lora>,
    ) -> Result<()> {
        self.tokenizer.save(folder)?;
        match lora {
            None => self.lm.save_weights(folder, weights, Kind::Float),
            Some(_) => self.lm.save(folder),
        }
    }

    /// Chosen and rejected of each pair of `file`, after their prompt; `None` for a response that
    /// is empty or does not fit `max_length` tokens with it.
    pub fn read_sequences(
        &self,
        context: &Context,
        file: &str,
        max_length: usize,
    ) -> Result<Vec<[Option<Sequence>; 2]>> {
        let ends = &self.lm.model.info().eos_token_ids;
        let pairs = read_pairs(&context.run.path(file))?;
        let sequences = pairs.iter().map(|pair| {
            let sequence = |response: &str, complete: bool| {
                Sequence::of_response(
                    &self.tokenizer,
                    &self.template,
                    &pair.prompt,
                    (response, complete),
                    ends,
                    max_length,
                )
            };
            Ok([
                sequence(&pair.chosen, pair.chosen_complete)?,
                sequence(&pair.rejected, pair.rejected_complete)?,
            ])
        });
        sequences.collect()
    }

    /// A continuation of the first pair's prompt.
    pub fn sample(&self, context: &Context) -> Result<SampleText> {
        let first = read_pairs(&context.run.path(TRAIN))?.into_iter().next();
        let prompt = first.map(|pair| pair.prompt).unwrap_or_default();
        Ok(sample_text(self.lm.clone(), self.tokenizer.clone(), self.template.clone(), prompt, 48))
    }

    /// Trains to the end and saves the model in the folder that has the task's name.
    pub fn fit(
        &self,
        context: &Context,
        name: &str,
        training: &Training,
        task: &mut dyn Task,
    ) -> Result<()> {
        let checkpoint = context.run.checkpoint(name);
        let fit = Fit {
            stage: name,
            training,
            seed: context.seed(),
            run_dir: context.run.dir(),
            checkpoint: &checkpoint,
        };
        let (report, weights) = fit.run(task)?;
        let folder = context.run.path(name);
        self.save(&folder, &weights, training.lora.as_ref())?;
        write_json(&folder.join("training.json"), &report)
    }
}

/// Decides the first values of the adapters of the task called `name`.
pub fn lora_seed(context: &Context, name: &str) -> u64 {
    Stream::new(context.seed(), "lora", name).seed()
}

/// Says how many parameters the task called `name` trains by LoRA, over how many.
pub fn tell_lora(
    name: &str,
    lora: &Lora,
    trained: &[(String, Tensor)],
    frozen: &[(String, Tensor)],
) {
    let count = |parameters: &[(String, Tensor)]| {
        parameters.iter().map(|(_, tensor)| tensor.numel()).sum::<usize>()
    };
    let (trained, frozen) = (count(trained), count(frozen));
    info!(
        "{name}: LoRA of rank {}, {trained} trainable parameters over {frozen} frozen ones",
        lora.rank
    );
}

/// Says what a task on `file` does without: responses or pairs that are empty or too long for it.
pub fn warn_left_out(task: &str, file: &str, what: &str, left_out: usize, all: usize) {
    if left_out > 0 {
        warn!(
            "{task}: {left_out} of {all} {what} of {file} are empty or longer than `max_length` \
             and left out"
        );
    }
}
