//! Reward models: the head that is put on a language model, and the stage through the real program:
//! it learns the pairs, and what it leaves is a gold reward and a model of transformers.

mod gold;
mod heads;
mod stage;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::models::RewardModel;
use w2s::prompt::PromptText;
use w2s::recipe::{Lora, LoraSave};
use w2s::score::JudgeModel;
use w2s::text::Pair;

use crate::common::{recipe, w2s};
use crate::golden;

const CPU: Device = Device::Cpu;

/// The smoke recipe with more pairs and little else. Its gold is hardly trained, but orders texts
/// all the same, without noise.
fn run(out: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        "data.validation=200",
        "models.base.scratch.steps=1",
        "models.other.scratch.steps=1",
        "pretrain.training.steps=20",
        "gold.training.steps=100",
        "sft.training.steps=8",
        "preferences.prompts=300",
        "preferences.validation_prompts=100",
        "preferences.samples_per_prompt=4",
        "preferences.label=argmax",
        "reward_model.training.epochs=2",
        "reward_model.training.learning_rate=1e-3",
        "reward_model.head_learning_rate=1e-2",
        "reward_model.training.eval_every=20",
    ] {
        command.args(["--set", set]);
    }
    for stage in ["pretrain", "gold", "preferences", "sft", "reward_model"] {
        command.args(["--only", stage]);
    }
    command.args(arguments);
    command
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the judge in `folder` says of chosen and rejected.
fn rewards(folder: &Path, pairs: &[Pair]) -> [Vec<f64>; 2] {
    let gold =
        JudgeModel::open(folder, CPU, Kind::Float, None).unwrap_or_else(|error| panic!("{error}"));
    let chosen: Vec<(&PromptText, &str)> =
        pairs.iter().map(|pair| (&pair.prompt, pair.chosen.as_str())).collect();
    let rejected: Vec<(&PromptText, &str)> =
        pairs.iter().map(|pair| (&pair.prompt, pair.rejected.as_str())).collect();
    [chosen, rejected].map(|answers| {
        answers.chunks(64).flat_map(|answers| gold.rewards(answers).unwrap()).collect()
    })
}

fn head(out: &Path) -> Tensor {
    let model = RewardModel::open(&out.join("reward_model"), CPU, Kind::Float).unwrap();
    model.parameters().into_iter().find(|(name, _)| RewardModel::is_head(name)).unwrap().1
}

/// A reward model on a golden language model whose adapters and head are far from zero.
fn adapted(name: &str, targets: &[&str]) -> RewardModel {
    let targets = targets.iter().map(|target| target.to_string()).collect();
    let settings = Lora { rank: 2, alpha: 5.0, targets, save: LoraSave::Adapter };
    let model =
        RewardModel::lora_on_lm(&golden::folder(name), CPU, Kind::Float, &settings, 1).unwrap();
    tch::no_grad(|| {
        for (number, (_, parameter)) in model.trainable_parameters().into_iter().enumerate() {
            let wave =
                Tensor::arange(parameter.numel() as i64, (Kind::Float, CPU)) * 0.7 + number as f64;
            parameter.shallow_clone().copy_(&(wave.sin() * 0.5).view(parameter.size().as_slice()));
        }
    });
    model
}
