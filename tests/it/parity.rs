//! SFT and DPO hold their ground against TRL's trainers: the same model, data, order and settings
//! give the same loss at every step.

use std::rc::Rc;

use crate::golden;
use serde::Deserialize;
use tch::{Device, Kind};
use w2s::losses::DpoObjective;
use w2s::models::Lm;
use w2s::monitor::{Progress, glossary};
use w2s::recipe::{Length, Schedule, Training};
use w2s::sampling::Stream;
use w2s::text::Tokenizer;
use w2s::train::tasks::{DpoTask, LanguageTask, PairSequences, SampleText, fill_reference};
use w2s::train::{Checkpoint, Fit, Sequence, Task};

/// What tests/golden/training.py wrote.
#[derive(Deserialize)]
struct Golden {
    settings: Settings,
    pairs: Vec<[Vec<i64>; 3]>,
    sft: Vec<f64>,
    dpo: Vec<f64>,
}

#[derive(Deserialize)]
struct Settings {
    learning_rate: f64,
    warmup_ratio: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    beta: f64,
    steps: usize,
    batch_size: usize,
}

const STAGE: &str = "parity";
const SEED: u64 = 1;

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(golden::folder("training.json")).unwrap()).unwrap()
}

fn model() -> Rc<Lm> {
    Rc::new(Lm::open_trainable(&golden::folder("gpt2"), Device::Cpu, Kind::Float).unwrap())
}

fn tokenizer(lm: &Lm) -> Rc<Tokenizer> {
    Rc::new(Tokenizer::numbered(lm.model.info().vocab_size as usize, None).unwrap())
}

fn no_sample() -> SampleText {
    Box::new(|| Ok(None))
}

/// The pairs where our order of examples visits them as TRL did.
fn in_our_order(golden: &Golden) -> Vec<PairSequences> {
    let order = Stream::new(SEED, STAGE, "epoch-0").permutation(golden.pairs.len());
    let mut placed: Vec<Option<PairSequences>> = golden.pairs.iter().map(|_| None).collect();
    for ([prompt, chosen, rejected], place) in golden.pairs.iter().zip(order) {
        let sequence = |response: &[i64]| Sequence {
            ids: [prompt, response].concat(),
            scored_from: prompt.len(),
        };
        placed[place] = Some(PairSequences::new(sequence(chosen), sequence(rejected)));
    }
    placed.into_iter().map(Option::unwrap).collect()
}

/// The loss of every step, of the metrics that a run leaves.
fn losses(golden: &Golden, micro_batch_size: usize, task: &mut dyn Task) -> Vec<f64> {
    let Settings {
        learning_rate,
        warmup_ratio,
        weight_decay,
        max_grad_norm,
        steps,
        batch_size,
        ..
    } = golden.settings;
    let training = Training {
        length: Length::Epochs(1.0),
        batch_size,
        micro_batch_size,
        learning_rate,
        schedule: Schedule::Cosine,
        warmup_ratio,
        weight_decay,
        max_grad_norm,
        eval_every: 1000,
        checkpoint_every: 1000,
        ..Training::sft()
    };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::at(folder.path().join("checkpoint.safetensors"));
    Fit {
        stage: STAGE,
        training: &training,
        seed: SEED,
        run_dir: folder.path(),
        checkpoint: &checkpoint,
    }
    .run(task)
    .unwrap();
    let metrics = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let values: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<f64> =
        values.iter().filter_map(|value| value.get(glossary::LOSS)?.as_f64()).collect();
    assert_eq!(losses.len(), steps, "{}", values[0]);
    losses
}

fn assert_equal(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (ours - theirs).abs() < 1e-4 * theirs.abs().max(1.0),
            "step {step}: {ours} against TRL's {theirs}"
        );
    }
    assert!(
        theirs.iter().any(|loss| (loss - theirs[0]).abs() > 0.1),
        "nothing was learned, so nothing is shown"
    );
}

#[test]
fn sft_has_the_losses_of_trls_trainer() {
    let golden = golden();
    for micro_batch_size in [4, 2] {
        let lm = model();
        let mut task = LanguageTask {
            tokenizer: tokenizer(&lm),
            lm,
            train: in_our_order(&golden).into_iter().map(|pair| pair.chosen).collect(),
            validation: Vec::new(),
            batch: 4,
            activation_checkpointing: micro_batch_size == 2,
            sample: no_sample(),
        };
        assert_equal(&losses(&golden, micro_batch_size, &mut task), &golden.sft);
    }
}

#[test]
fn dpo_has_the_losses_of_trls_trainer() {
    let golden = golden();
    for micro_batch_size in [4, 1] {
        let policy = model();
        let mut train = in_our_order(&golden);
        fill_reference(&policy, &mut train, 7, &mut Progress::start("reference", 1, 0)).unwrap();
        let mut task = DpoTask {
            tokenizer: tokenizer(&policy),
            policy,
            train,
            validation: Vec::new(),
            objective: DpoObjective::plain(golden.settings.beta),
            batch: 4,
            activation_checkpointing: micro_batch_size == 1,
            sample: no_sample(),
        };
        assert_equal(&losses(&golden, micro_batch_size, &mut task), &golden.dpo);
    }
}
