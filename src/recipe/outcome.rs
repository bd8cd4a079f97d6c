//! Which keys a result depends on, and which it does not: the one list of both, table by table.
//!
//! What a task has done stays done as long as its outcome is asked for: the values below, the
//! contents of the files it reads and the outcomes of the tasks that it builds on. A key that is
//! taken as `_` here changes nothing that is learned or said, and so may change at any time. It
//! says
//!
//! - where things lie (`source`, `id`, …): contents count in its place, and so do the outcomes of
//!   what it names;
//! - how a step is computed (`device`, `threads`, `micro_batch_size`, `activation_checkpointing`,
//!   `prompts_in_flight`): results differ by rounding, as they do from one processor to another.
//!   The precision of weights is no such key: bf16 is not f32;
//! - what is kept, and how often (`checkpoint_every`, `keep_checkpoints`, `checkpoints_gib`; PPO's
//!   `eval_every`);
//! - how far a task goes that can go on (`steer.prompts`, `steer.trace`, `run.seeds`): what is
//!   missing is done, what is more stays;
//! - when to give up (`max_skips`).
//!
//! Every table is taken apart without `..`, so that a new key does not compile until it is said on
//! which side it stands. (What counts of `[sft]`, `[dpo]` and `[direct]` beside their trainings is
//! `Recipe::sft_on` and the objectives in `training.rs`, which do the same.) What counts of a
//! method is `Method::settings`, which are all that its search and its proposal have.

use serde_json::{Value, json};

use super::{
    ChunkLen, Columns, Data, Evaluate, Gold, GoldScratch, GuidePairSource, Judge, Model, PpoTable,
    Preferences, PromptRule, RewardModelTable, Run, Scratch, ScratchTokenizer, Steer, Training,
};

impl Run {
    /// Drives data, training and preferences; the other seeds are steered and rewarded with one by
    /// one.
    pub fn seed(&self) -> u64 {
        let Self { name: _, seeds, device: _, dtype: _, threads: _ } = self;
        seeds[0]
    }
}

impl Data {
    /// Of the texts to train and to validate on, beside the contents of the files. `is_one_file`:
    /// its rows are dealt out, test first.
    pub fn texts_outcome(&self, is_one_file: bool) -> Value {
        let Self { source: _, subset: _, splits, columns, prompt: _, train, validation, test } =
            self;
        json!({
            "splits": splits,
            "columns": columns_outcome(columns),
            "train": train,
            "validation": validation,
            "test": is_one_file.then_some(test),
        })
    }

    /// Of the test texts: more of them begin with the same. Which of their prompts come first
    /// depends on those of the other splits.
    pub fn test_outcome(&self) -> Value {
        let Self { source: _, subset: _, splits, columns, prompt: _, train, validation, test: _ } =
            self;
        json!({ "splits": splits, "columns": columns_outcome(columns), "train": train, "validation": validation })
    }
}

fn columns_outcome(columns: &Columns) -> Value {
    let Columns { text, label } = columns;
    json!({ "text": text, "label": label })
}

impl PromptRule {
    pub fn outcome(&self) -> Value {
        let Self { min_words, max_words } = self;
        json!({ "min_words": min_words, "max_words": max_words })
    }
}

impl Model {
    /// Of how it is prompted; its weights have outcomes of their own.
    pub fn prompt_outcome(&self) -> Value {
        let Self { id: _, scratch: _, prompt, device: _, dtype: _, bos, chat } = self;
        json!({ "prompt": prompt, "bos": bos, "chat": chat })
    }
}

impl Scratch {
    /// The tokenizer of another model is that model's outcome.
    pub fn outcome(&self) -> Value {
        let Self { architecture, n_layer, n_head, n_embd, n_positions, tokenizer, steps: _ } = self;
        let vocab_size = match tokenizer {
            ScratchTokenizer::Bpe { vocab_size } => Some(vocab_size),
            ScratchTokenizer::SameAs { model: _ } => None,
        };
        json!({
            "architecture": architecture,
            "n_layer": n_layer,
            "n_head": n_head,
            "n_embd": n_embd,
            "n_positions": n_positions,
            "vocab_size": vocab_size,
        })
    }
}

impl Gold {
    /// Of the classifier that is made for it; what it reads is looked at where it judges.
    pub fn scratch_outcome(&self) -> Value {
        let Self { id: _, scratch, text: _, device: _, dtype: _, training: _ } = self;
        let scratch = scratch.as_ref().map(|scratch| {
            let GoldScratch {
                n_layers,
                n_heads,
                dim,
                hidden_dim,
                max_position_embeddings,
                vocab_size,
            } = scratch;
            json!({
                "n_layers": n_layers,
                "n_heads": n_heads,
                "dim": dim,
                "hidden_dim": hidden_dim,
                "max_position_embeddings": max_position_embeddings,
                "vocab_size": vocab_size,
            })
        });
        json!(scratch)
    }
}

impl Judge<'_> {
    /// Of what it reads; its weights have outcomes of their own.
    pub fn outcome(&self) -> Value {
        let Self { name: _, id: _, text, device: _, dtype: _ } = self;
        json!(text)
    }
}

impl Preferences {
    pub fn outcome(&self) -> Value {
        let Self {
            policy: _,
            source,
            splits,
            columns,
            train_pairs,
            validation_pairs,
            prompts,
            validation_prompts,
            samples_per_prompt,
            pairing,
            label,
            sampling,
            max_new_tokens,
        } = self;
        let of_file = source
            .as_ref()
            .map(|_| json!({ "splits": splits, "columns": columns, "train_pairs": train_pairs, "validation_pairs": validation_pairs }));
        let sampled = json!({
            "prompts": prompts,
            "validation_prompts": validation_prompts,
            "samples_per_prompt": samples_per_prompt,
            "pairing": pairing,
            "sampling": sampling,
            "max_new_tokens": max_new_tokens,
        });
        json!({ "label": label, "pairs": of_file.unwrap_or(sampled) })
    }
}

impl Training {
    /// Of the weights that are kept: where there is validation, the best of those that were
    /// validated.
    pub fn outcome(&self) -> Value {
        let Self {
            length,
            batch_size,
            micro_batch_size: _,
            learning_rate,
            schedule,
            warmup_ratio,
            weight_decay,
            max_grad_norm,
            activation_checkpointing: _,
            max_length,
            eval_every,
            checkpoint_every: _,
            keep_checkpoints: _,
            checkpoints_gib: _,
            early_stop,
            spike_factor,
            // A training that comes to its end has passed over the same batches whatever the limit.
            max_skips: _,
            lora,
        } = self;
        json!({
            "length": length,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "warmup_ratio": warmup_ratio,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "max_length": max_length,
            "eval_every": eval_every,
            "early_stop": early_stop,
            "spike_factor": spike_factor,
            "lora": lora,
        })
    }
}

impl RewardModelTable {
    /// With its settled `training`.
    pub fn outcome(&self, training: &Training) -> Value {
        let Self { model: _, from: _, head_learning_rate, training: _, lora: _ } = self;
        json!({ "head_learning_rate": head_learning_rate, "training": training.outcome() })
    }
}

impl PpoTable {
    /// Of one training with chunks of this length and the settled `training`; other lengths beside
    /// it change nothing.
    pub fn outcome(&self, chunk_len: ChunkLen, training: &Training) -> Value {
        let Self {
            policy: _,
            tuned: _,
            untuned: _,
            chunk_len: _,
            scale,
            prompts,
            // What is measured on the way is part of the result; how often is not.
            validation_prompts,
            max_new_tokens,
            temperature,
            ppo_epochs,
            minibatch_size,
            gamma,
            lam,
            cliprange,
            cliprange_value,
            vf_coef,
            value,
            head_learning_rate,
            kl,
            missing_eos_penalty,
            target_kl,
            training: _,
            lora: _,
        } = self;
        // The last weights are kept.
        let mut training = training.outcome();
        training["eval_every"] = Value::Null;
        json!({
            "chunk_len": chunk_len,
            "scale": scale,
            "prompts": [prompts, validation_prompts],
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "ppo_epochs": ppo_epochs,
            "minibatch_size": minibatch_size,
            "gamma": gamma,
            "lam": lam,
            "cliprange": [cliprange, cliprange_value],
            "vf_coef": vf_coef,
            "value": value,
            "head_learning_rate": head_learning_rate,
            "kl": kl,
            "missing_eos_penalty": missing_eos_penalty,
            "target_kl": target_kl,
            "training": training,
        })
    }
}

impl Steer {
    /// Of the answer to a prompt, by any method and base, with the guides' weights.
    pub fn outcome(&self, pairs: &[GuidePairSource]) -> Value {
        let Self {
            bases: _,
            tuned: _,
            untuned: _,
            guide: _,
            prompts: _,
            max_new_tokens,
            sampling,
            stop,
            semantics,
            prompts_in_flight: _,
            trace: _,
            method: _,
        } = self;
        let weights: Vec<f64> = pairs.iter().map(|pair| pair.weight).collect();
        json!({ "max_new_tokens": max_new_tokens, "sampling": sampling, "stop": stop, "semantics": semantics, "weights": weights })
    }
}

impl Evaluate {
    /// Of the page, which alone shows them.
    pub fn outcome(&self) -> Value {
        let Self { examples } = self;
        json!(examples)
    }
}
