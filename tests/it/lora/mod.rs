//! LoRA: adapters on the golden models, the folders they are saved in, and a run of the real
//! program that tunes by it.

mod adapters;
mod killed;
mod peft;

use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::models::Lm;
use w2s::recipe::{Lora, LoraSave};
use w2s::train::{AdamW, AdamWSettings};

use crate::common::{recipe, w2s};
use crate::golden::{folder, ids, logits, values};

const CPU: Device = Device::Cpu;

const ALL_LLAMA: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

const MODELS: [(&str, &[&str]); 4] = [
    ("gpt2", &["c_attn"]),
    ("gpt2", &["c_attn", "c_proj", "c_fc"]),
    ("llama", &["q_proj", "v_proj"]),
    ("qwen2", &ALL_LLAMA),
];

fn lora(targets: &[&str], save: LoraSave) -> Lora {
    Lora {
        rank: 4,
        alpha: 6.0,
        targets: targets.iter().map(|target| target.to_string()).collect(),
        save,
    }
}

fn open(name: &str, settings: &Lora, kind: Kind) -> Lm {
    Lm::open_lora(&folder(name), CPU, kind, settings, 5).unwrap()
}

/// A few steps of cross-entropy on the ids themselves, large enough to show.
fn train(lm: &Lm, ids: &Tensor, steps: usize) {
    let mut optimizer = AdamW::new(lm.trainable_parameters(), AdamWSettings::with_decay(0.0));
    for _ in 0..steps {
        optimizer.zero_gradients();
        let logps = logits(lm, ids).log_softmax(-1, Kind::Float);
        let targets = ids.narrow(1, 1, ids.size()[1] - 1).unsqueeze(-1);
        (-logps.narrow(1, 0, ids.size()[1] - 1).gather(-1, &targets, false).mean(Kind::Float))
            .backward();
        optimizer.finish_gradients(1.0, f64::INFINITY).unwrap();
        optimizer.step(0.02).unwrap();
    }
}

/// Logits without a graph.
fn plain(lm: &Lm, ids: &Tensor) -> Tensor {
    tch::no_grad(|| logits(lm, ids))
}

fn golden_ids(name: &str) -> Tensor {
    ids(&values(name))
}

fn json_of(adapter: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(adapter.join("adapter_config.json")).unwrap()).unwrap()
}

/// The smoke recipe tuned by LoRA: the guide's SFT saved merged and its DPO as an adapter, the
/// bases' both as adapters.
fn run(out: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        "pretrain.training.steps=20",
        "gold.training.steps=4",
        "ppo.training.steps=1",
        "sft.lora={rank=4}",
        "dpo.lora={rank=2, alpha=8, targets=['attn.c_proj','c_fc'], save='adapter'}",
        "reward_model.lora={rank=3, save='adapter'}",
        "reward_model.training.activation_checkpointing=true",
        "reward_model.training.checkpoint_every=1",
        "dpo.training.learning_rate=2e-2",
        "dpo.training.epochs=6",
        "dpo.training.checkpoint_every=2",
        "direct.lora={rank=4, save='adapter'}",
        "direct.models=['base']",
        "direct.dpo.learning_rate=2e-2",
        "direct.dpo.checkpoint_every=3",
        "steer.bases=['base']",
        "steer.prompts=3",
        "steer.method=[{kind='cbs', beam_width=2, successors=2, chunk_len=5}, {kind='direct'}]",
    ] {
        command.args(["--set", set]);
    }
    command.args(arguments);
    command
}
