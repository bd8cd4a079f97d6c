//! The plan in words: what `w2s check` prints. Nothing is left at an unseen default.

mod ppo;
mod words;

use std::fmt::{self, Write};

use super::estimate::product;
use super::warnings::GuideRoom;
use super::{
    Evaluate, Gold, GuidePairSource, HubId, Length, LoraSave, Model, Plan, Preferences, Proposal,
    RewardModelTable, RewardStart, Schedule, ScratchTokenizer, SplitNames, Steer, Training,
    bytes_in_words, memory_estimate,
};
use crate::search::Semantics;
use words::{epochs_in_words, grouped, loss_on_words, sampling_words};

impl Plan {
    /// Stages, every resolved setting, derived sizes and a memory estimate, as text of several
    /// paragraphs.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        self.write_run(out)?;
        if !self.recipe.models.is_empty() {
            writeln!(out, "\nmodels")?;
            for (name, model) in &self.recipe.models {
                self.write_model(out, name, model)?;
            }
        }
        writeln!(out, "\nstages")?;
        for (index, stage) in self.stages.iter().enumerate() {
            write!(out, "  {} {stage}: ", index + 1)?;
            stage.table(&self.recipe).map_or(Ok(()), |table| table.words(self, out))?;
        }
        self.write_memory(out)?;
        let warnings = self.warnings();
        if warnings.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nwarnings")?;
        warnings.iter().try_for_each(|warning| writeln!(out, "  {warning}"))
    }

    fn write_run(&self, out: &mut String) -> fmt::Result {
        let (run, data) = (&self.recipe.run, &self.recipe.data);
        let seeds = run.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let threads =
            run.threads.map_or("all threads that the machine allows".to_owned(), |threads| {
                format!("{threads} threads")
            });
        let dtype = format!("{:?}", run.dtype).to_lowercase();
        writeln!(
            out,
            "run {}\n  seeds {seeds}; device {}; dtype {dtype}; {threads}",
            run.name, run.device
        )?;
        let rows = |rows: usize| if rows == 0 { "all".to_owned() } else { grouped(rows as u64) };
        // A local path is absolute in a plan, so what still reads like an id is one.
        let hub = if HubId::parse(&data.source).is_some() {
            " (a hub data set; a run fetches it \
                                                             first)"
        } else {
            ""
        };
        let subset =
            data.subset.iter().map(|subset| format!(", subset {subset}")).collect::<String>();
        writeln!(out, "\ndata {}{subset}{hub}", data.source)?;
        write_splits(out, "  ", &data.splits.named())?;
        writeln!(
            out,
            "  rows: train {}, validation {}, test {}",
            rows(data.train),
            rows(data.validation),
            rows(data.test)
        )?;
        writeln!(out, "  columns: text `{}`, label `{}`", data.columns.text, data.columns.label)?;
        writeln!(
            out,
            "  prompt: the first {} to {} words of a text",
            data.prompt.min_words, data.prompt.max_words
        )
    }

    fn write_model(&self, out: &mut String, name: &str, model: &Model) -> fmt::Result {
        write!(out, "  {name}: ")?;
        if let Some(sizes) = self.models.get(name) {
            let parameters = grouped(sizes.parameters);
            write!(
                out,
                "{parameters} parameters, {} layers × {} wide, {} heads, ",
                sizes.n_layer, sizes.hidden_size, sizes.n_head
            )?;
            write!(out, "context {}, vocabulary {}", sizes.context, grouped(sizes.vocab_size))?;
        }
        match (&model.id, model.scratch.as_ref().map(|scratch| &scratch.tokenizer)) {
            (Some(id), _) => writeln!(out, ", from {id}")?,
            (None, Some(ScratchTokenizer::SameAs { model })) => writeln!(
                out,
                " (the tokenizer of \
                                                                               {model}), from \
                                                                               scratch"
            )?,
            (None, _) => writeln!(out, " (its own byte-level BPE), from scratch")?,
        }
        write!(out, "    prompt {:?}", model.prompt)?;
        match model.chat.as_ref().map(|chat| &chat.system) {
            None => {}
            Some(None) => write!(out, " as the user's turn of the chat template")?,
            Some(Some(system)) => write!(
                out,
                " as the user's turn of the chat template, after the \
                                               system's {system:?}"
            )?,
        }
        let bos = match (model.bos, &model.chat) {
            (Some(true), _) => "after BOS",
            (_, Some(_)) => "BOS as the template has it",
            (None, None) => "BOS as the tokenizer has it",
            (Some(false), None) => "without BOS",
        };
        writeln!(out, ", {bos}")
    }

    pub(super) fn write_pretrain(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "makes the models from scratch, on windows of the training texts")?;
        for (name, training) in &self.training.pretrain {
            write!(out, "     {name}: ")?;
            write_training(out, training, None, 1)?;
        }
        Ok(())
    }

    pub(super) fn write_gold(&self, out: &mut String, gold: &Gold) -> fmt::Result {
        let parameters = self.gold.as_ref().map_or(0, |sizes| sizes.parameters);
        let context = self.gold.as_ref().map_or(0, |sizes| sizes.context);
        match &gold.id {
            Some(id) => writeln!(
                out,
                "classifier from {id}, {} parameters, context {context}",
                grouped(parameters)
            ),
            None => {
                writeln!(
                    out,
                    "trains a classifier of {} parameters, context {context}, with its own \
                     WordPiece vocabulary",
                    grouped(parameters)
                )?;
                write!(out, "     ")?;
                self.training
                    .gold
                    .iter()
                    .try_for_each(|training| write_training(out, training, self.texts(), 1))
            }
        }
    }

    pub(super) fn write_preferences(
        &self,
        out: &mut String,
        preferences: &Preferences,
    ) -> fmt::Result {
        let Preferences { prompts, validation_prompts, samples_per_prompt, max_new_tokens, .. } =
            preferences;
        let label = match preferences.label {
            super::PreferenceLabel::Drawn => "drawn with probability σ(r1 − r2)",
            super::PreferenceLabel::Argmax => "the higher reward",
            super::PreferenceLabel::Kept => "as the source has it",
        };
        if let Some(source) = &preferences.source {
            let count =
                |pairs: usize| if pairs == 0 { "all".to_owned() } else { grouped(pairs as u64) };
            let super::PairColumns { prompt, chosen, rejected } = &preferences.columns;
            writeln!(
                out,
                "pairs of {source}, columns `{prompt}`, `{chosen}`, `{rejected}`; chosen \
                           is {label}"
            )?;
            write_splits(out, "     ", &preferences.splits.named())?;
            let (train, validation) =
                (count(preferences.train_pairs), count(preferences.validation_pairs));
            return writeln!(out, "     pairs: train {train}, validation {validation}");
        }
        let all = product(&[
            prompts.saturating_add(*validation_prompts) as u64,
            *samples_per_prompt as u64,
        ]);
        let policy = preferences.policy.as_deref().unwrap_or_default();
        let pairing = match preferences.pairing {
            super::Pairing::Disjoint => "",
            super::Pairing::All => ", every two of them a pair",
            super::Pairing::BestWorst => ", the best and the worst a pair",
        };
        write!(
            out,
            "({prompts} + {validation_prompts} validation) prompts × {samples_per_prompt} \
                     samples of {policy}"
        )?;
        writeln!(out, "{pairing}, judged by gold")?;
        write!(
            out,
            "     up to {max_new_tokens} new tokens each, {} in all; ",
            grouped(product(&[all, *max_new_tokens as u64]))
        )?;
        writeln!(out, "{}; chosen is {label}", sampling_words(&preferences.sampling))?;
        let validation_pairs = validation_prompts.saturating_mul(preferences.pairs_per_prompt());
        let pairs = prompts.saturating_mul(preferences.pairs_per_prompt());
        writeln!(out, "     at most {pairs} pairs and {validation_pairs} for validation")
    }

    pub(super) fn write_sft(&self, out: &mut String) -> fmt::Result {
        let model = self.recipe.guide_model().unwrap_or_default();
        writeln!(
            out,
            "{model} on both answers of every pair; {}",
            loss_on_words(self.recipe.sft_on())
        )?;
        write!(out, "     ")?;
        let Some(training) = &self.training.sft else { return Ok(()) };
        write_training(out, training, self.pairs().map(|pairs| pairs.saturating_mul(2)), 1)?;
        self.write_lora(out, self.recipe.guide_model().unwrap_or_default(), training)
    }

    pub(super) fn write_reward_model(
        &self,
        out: &mut String,
        table: &RewardModelTable,
    ) -> fmt::Result {
        let start = match table.from {
            RewardStart::Model => {
                format!("models.{}", self.recipe.reward_model_base().unwrap_or_default())
            }
            RewardStart::Sft => "sft/".to_owned(),
        };
        writeln!(
            out,
            "a scalar head on {start}; learning rate of the head {:e}",
            table.head_learning_rate
        )?;
        write!(out, "     ")?;
        let Some(training) = &self.training.reward_model else { return Ok(()) };
        write_training(out, training, self.pairs(), 2)?;
        self.write_lora(out, self.recipe.reward_model_base().unwrap_or_default(), training)
    }

    pub(super) fn write_dpo(&self, out: &mut String) -> fmt::Result {
        let objective =
            self.recipe.dpo.as_ref().map(|dpo| dpo.objective().to_string()).unwrap_or_default();
        let start = self.reference().map(|source| source.to_string()).unwrap_or_default();
        writeln!(out, "from {start}, which stays the reference; {objective}")?;
        write!(out, "     ")?;
        let Some(training) = &self.training.dpo else { return Ok(()) };
        write_training(out, training, self.pairs(), 2)?;
        self.write_lora(out, self.recipe.guide_model().unwrap_or_default(), training)
    }

    pub(super) fn write_direct(&self, out: &mut String) -> fmt::Result {
        let models: Vec<&str> = self.training.direct.keys().map(String::as_str).collect();
        writeln!(out, "{}, each on the same pairs", models.join(", "))?;
        for (name, training) in &self.training.direct {
            if let Some(sft) = &training.sft {
                write!(
                    out,
                    "     {name}, SFT on both answers, {}: ",
                    loss_on_words(self.recipe.sft_on())
                )?;
                write_training(out, sft, self.pairs().map(|pairs| pairs.saturating_mul(2)), 1)?;
            }
            write!(out, "     {name}, DPO with {}: ", training.objective)?;
            write_training(out, &training.dpo, self.pairs(), 2)?;
            self.write_lora(out, name, &training.dpo)?;
        }
        Ok(())
    }

    fn write_lora(&self, out: &mut String, model: &str, training: &Training) -> fmt::Result {
        let (Some(lora), Some(sizes)) = (&training.lora, self.models.get(model)) else {
            return Ok(());
        };
        let (trained, all) = (lora.parameters(sizes), sizes.parameters);
        let share = 100.0 * trained as f64 / all as f64;
        write!(
            out,
            "       LoRA of rank {}, alpha {}, on {}: ",
            lora.rank,
            lora.alpha,
            lora.targets.join(", ")
        )?;
        write!(
            out,
            "{} trainable parameters over {} frozen ones ({share:.2} %); ",
            grouped(trained),
            grouped(all)
        )?;
        writeln!(
            out,
            "saved {}",
            if lora.save == LoraSave::Adapter { "as a PEFT adapter" } else { "merged" }
        )
    }

    pub(super) fn write_steer(&self, out: &mut String, steer: &Steer) -> fmt::Result {
        let pair = |pair: &GuidePairSource| {
            format!("{} over {} with weight {}", pair.tuned, pair.untuned, pair.weight)
        };
        let guides = self.guide_pairs().iter().map(pair).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "{}; guides: {}",
            steer.bases.join(", "),
            if guides.is_empty() { "none" } else { &guides }
        )?;
        for guide in self.recipe.guide_models() {
            self.write_guide_room(
                out,
                guide,
                &steer.bases.iter().map(String::as_str).collect::<Vec<_>>(),
                steer.max_new_tokens,
            )?;
        }
        write!(
            out,
            "     {} prompts, {} at once, up to {} new tokens; ",
            steer.prompts, steer.prompts_in_flight, steer.max_new_tokens
        )?;
        write!(out, "{}; ", sampling_words(&steer.sampling))?;
        let stop = if steer.stop.is_empty() {
            "no stop strings".to_owned()
        } else {
            format!("stops at {:?}", steer.stop)
        };
        let semantics = match steer.semantics {
            Semantics::Paper => "",
            Semantics::Official => "; semantics of the official release",
        };
        writeln!(
            out,
            "{stop}; {}{semantics}",
            if steer.trace { "with trace" } else { "no trace" }
        )?;
        let (bases, seeds) = (steer.bases.len() as u64, self.recipe.run.seeds.len() as u64);
        let mut all = 0_u64;
        for method in &steer.method {
            let samples =
                product(&[method.search.settings().rows() as u64, method.names().len() as u64]);
            // PPO trains one of them.
            let bases = if method.proposes(|proposal| matches!(proposal, Proposal::Ppo { .. })) {
                1
            } else {
                bases
            };
            let sampled = product(&[
                bases,
                seeds,
                steer.prompts as u64,
                samples,
                steer.max_new_tokens as u64,
            ]);
            all = all.saturating_add(sampled);
            write!(out, "     {}: {}", method.names().join(", "), method.words())?;
            write!(
                out,
                "; bases {bases} × seeds {seeds} × prompts {} × samples {samples} × tokens {}",
                steer.prompts, steer.max_new_tokens
            )?;
            writeln!(out, " = {}", grouped(sampled))?;
        }
        writeln!(out, "     at most {} sampled tokens in all", grouped(all))
    }

    /// What a guide reads of responses in another vocabulary, where only a run knows how many
    /// tokens they become.
    pub(super) fn write_evaluate(&self, out: &mut String, evaluate: &Evaluate) -> fmt::Result {
        let others: Vec<&str> = self.recipe.judges.keys().map(String::as_str).collect();
        let beside = if others.is_empty() {
            String::new()
        } else {
            format!(", and those of {}", super::listed(others))
        };
        writeln!(
            out,
            "gold reward of every response{beside}; {} examples of each method in \
                       report.html",
            evaluate.examples
        )?;
        for (name, judge) in &self.recipe.judges {
            let parameters = self.judges.get(name).map_or(0, |sizes| sizes.parameters);
            let text =
                judge.text.as_ref().map_or_else(String::new, |text| format!(", reads {text:?}"));
            writeln!(out, "     {name}: {}, {} parameters{text}", judge.id, grouped(parameters))?;
        }
        Ok(())
    }

    pub(super) fn write_guide_room(
        &self,
        out: &mut String,
        guide: &str,
        bases: &[&str],
        new_tokens: usize,
    ) -> fmt::Result {
        let Some(GuideRoom { prompt, room, expected }) = self.guide_room(guide, bases, new_tokens)
        else {
            return Ok(());
        };
        if expected == new_tokens {
            return Ok(());
        }
        write!(
            out,
            "     {guide} reads {room} tokens behind a prompt of up to {prompt}, {:.1} for each \
             new token: ",
            room as f64 / new_tokens as f64
        )?;
        writeln!(out, "of a response that takes more the beginning is scored")
    }

    fn write_memory(&self, out: &mut String) -> fmt::Result {
        let stages = memory_estimate(self);
        if stages.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nmemory, at most, beside the program itself")?;
        for memory in stages {
            writeln!(
                out,
                "  {} ({}): {}",
                memory.stage,
                memory.model,
                bytes_in_words(memory.bytes())
            )?;
            for part in &memory.parts {
                writeln!(
                    out,
                    "    {}: {} = {}",
                    part.name,
                    part.arithmetic,
                    bytes_in_words(part.bytes)
                )?;
            }
        }
        Ok(())
    }
}

/// One line on the files that are chosen by name; none where they are told by their own.
fn write_splits(out: &mut String, indent: &str, splits: &[(&str, &SplitNames)]) -> fmt::Result {
    if splits.is_empty() {
        return Ok(());
    }
    let words: Vec<String> =
        splits.iter().map(|(split, names)| format!("{split} of {names}")).collect();
    writeln!(out, "{indent}splits: {}", words.join(", "))
}

/// One line on the optimisation; `examples` where their number is known before the run.
fn write_training(
    out: &mut String,
    training: &Training,
    examples: Option<usize>,
    texts: u64,
) -> fmt::Result {
    match (training.length, examples) {
        (Length::Steps(steps), _) => write!(out, "{} steps", grouped(steps as u64))?,
        (Length::Epochs(epochs), Some(examples)) => {
            write!(
                out,
                "{} of {} examples = {} steps",
                epochs_in_words(epochs),
                grouped(examples as u64),
                grouped(training.steps(examples) as u64)
            )?;
        }
        (Length::Epochs(epochs), None) => {
            write!(out, "{} (steps follow from the data)", epochs_in_words(epochs))?
        }
    }
    let Training { batch_size, micro_batch_size, max_length, .. } = *training;
    let tokens = product(&[batch_size as u64, texts, max_length as u64]);
    let of = if texts == 1 { String::new() } else { format!("{texts} texts of ") };
    write!(out, ", batch {batch_size} = {} × {micro_batch_size}, ", batch_size / micro_batch_size)?;
    writeln!(out, "{of}up to {max_length} tokens: {} tokens a step", grouped(tokens))?;
    write_optimisation(out, training)?;
    writeln!(
        out,
        "; validated every {} steps, checkpoint every {}",
        training.eval_every, training.checkpoint_every
    )?;
    let doubt = examples.and_then(|examples| training.doubt(examples));
    doubt.into_iter().try_for_each(|doubt| writeln!(out, "       warning: {doubt}"))
}

/// How the weights are stepped, without the end of the line.
fn write_optimisation(out: &mut String, training: &Training) -> fmt::Result {
    let schedule = match training.schedule {
        Schedule::Cosine => "cosine",
        Schedule::Linear => "linear",
        Schedule::Constant => "constant",
    };
    write!(
        out,
        "       learning rate {:e} {schedule} after warm-up {}",
        training.learning_rate, training.warmup_ratio
    )?;
    write!(
        out,
        ", weight decay {}, gradient norm up to {}",
        training.weight_decay, training.max_grad_norm
    )?;
    if training.activation_checkpointing {
        write!(out, ", activation checkpointing")?;
    }
    let Training { early_stop, spike_factor, max_skips, keep_checkpoints, checkpoints_gib, .. } =
        training;
    let optional = [
        early_stop.map(|count| format!("early stop after {count} validations")),
        spike_factor.map(|factor| format!("a spike is {factor} times the median loss")),
        Some(max_skips).filter(|count| **count > 0).map(|count| {
            format!(
                "up to {count} bad batches \
                                                                         are skipped"
            )
        }),
        Some(keep_checkpoints)
            .filter(|count| **count > 1)
            .map(|count| format!("{count} checkpoints are kept")),
        checkpoints_gib.map(|gib| format!("checkpoints take up to {gib} GiB")),
    ];
    for words in optional.into_iter().flatten() {
        write!(out, ", {words}")?;
    }
    Ok(())
}
