//! The gold classifier: trained from scratch on the labelled texts, or opened from a folder; its
//! held-out accuracy is measured either way. A reward model that is trained as the gold is
//! `gold_reward.rs`'s; what a judge says of responses is asked in `judging.rs`.

use serde_json::json;
use tracing::{info, warn};

use super::context::Context;
use super::gold_reward;
use super::run::write_json;
use super::tasks::GOLD_REPORT;
use crate::error::{Error, Result};
use crate::models::{Classifier, ClassifierConfig, DistilBertConfig};
use crate::recipe::GOLD;
use crate::sampling::Stream;
use crate::score::{Judge, ToJudge};
use crate::text::{Dataset, Example, Split, Tokenizer};
use crate::train::Fit;
use crate::train::tasks::ClassifierTask;

/// Texts in one forward pass where nothing is learned.
const BATCH: usize = 64;

/// The accuracy on held-out texts, of the judge as it is.
pub fn measure(context: &Context) -> Result<()> {
    if let Some(table) = context.recipe().gold_reward_model() {
        return gold_reward::measure(context, table);
    }
    let dataset = context.dataset()?;
    let held_out = if dataset.test.is_empty() { Split::Validation } else { Split::Test };
    let reward = context.models.open_gold()?;
    let mut accuracy = None;
    match &reward {
        Judge::Model(model) if model.is_classifier() => match labelled(dataset, held_out) {
            Ok((texts, labels)) => {
                let found = model.accuracy(&texts, &labels, BATCH)?;
                info!("gold: accuracy {found:.4} on {} held-out texts", texts.len());
                accuracy = Some(found);
            }
            // Nothing that follows depends on it.
            Err(error) => {
                let why = error.to_string();
                let why = why.split("\n\nhint").next().unwrap_or_default();
                warn!("gold: its accuracy is not measured, for not all texts have labels: {why}");
            }
        },
        Judge::Model(_) => info!("gold: a reward model, whose sign says nothing of labels"),
        Judge::Program(_) | Judge::Server(_) => {
            let reward = trial(&reward)?;
            info!("gold: gives {reward} for a first text; its sign may say nothing of labels");
        }
    }
    write_json(
        &context.run.path(GOLD_REPORT),
        &json!({ "accuracy": accuracy, "texts": dataset.rows(held_out).len() }),
    )
}

/// What a judge that is not here says of a text of ours: one that says nothing useful must not show
/// after all has been answered.
fn trial(judge: &Judge) -> Result<f64> {
    let prompt = "I saw this film".into();
    let rewards = judge.rewards(&[ToJudge::new("trial", &prompt, " and liked it.")])?;
    rewards.first().copied().ok_or_else(|| Error::failed("the gold gives no reward"))
}

/// The texts of a split and their labels.
fn labelled(dataset: &Dataset, split: Split) -> Result<(Vec<String>, Vec<u8>)> {
    let texts = dataset.texts(split)?.iter().map(|example| example.text.clone()).collect();
    Ok((texts, dataset.labels(split)?))
}

/// Makes the judge.
pub fn train(context: &Context) -> Result<()> {
    if let Some(table) = context.recipe().gold_reward_model() {
        return gold_reward::train(context, table);
    }
    let scratch = context.recipe().gold.as_ref().and_then(|gold| gold.scratch.as_ref());
    let scratch = scratch.ok_or_else(|| Error::recipe("`[gold]` is not made from scratch"))?;
    let folder = context.run.path("gold");
    let dataset = context.dataset()?;
    let training = context
        .plan
        .training
        .gold
        .clone()
        .ok_or_else(|| Error::recipe("a scratch gold classifier needs training settings"))?;
    let tokenizer = if folder.join("tokenizer_config.json").exists() {
        Tokenizer::open(&folder)?
    } else {
        Tokenizer::train_wordpiece(
            dataset.texts(Split::Train)?.iter().map(|example| example.text.clone()),
            scratch.vocab_size,
        )?
    };
    tokenizer.save(&folder)?;
    let config = DistilBertConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        max_position_embeddings: scratch.max_position_embeddings,
        dim: scratch.dim,
        n_layers: scratch.n_layers,
        n_heads: scratch.n_heads,
        hidden_dim: scratch.hidden_dim,
        ..DistilBertConfig::default()
    };
    let classifier = Classifier::new(
        ClassifierConfig::DistilBert(config),
        Stream::new(context.seed(), "init", "gold").seed(),
        context.models.placements().judge(GOLD)?.device,
    )?;
    let (validation, validation_labels) = labelled(dataset, Split::Validation)?;
    let mut task = ClassifierTask {
        classifier,
        tokenizer,
        train: dataset
            .train
            .iter()
            .zip(dataset.labels(Split::Train)?)
            .map(|(example, label)| (crop(example, context.seed()), label))
            .collect(),
        validation: validation.into_iter().zip(validation_labels).collect(),
        max_length: training.max_length,
    };
    let checkpoint = context.run.checkpoint("gold");
    let fit = Fit {
        stage: "gold",
        training: &training,
        seed: context.seed(),
        run_dir: context.run.dir(),
        checkpoint: &checkpoint,
    };
    let (report, _) = fit.run(&mut task)?;
    task.classifier.save(&folder)?;
    write_json(&folder.join("training.json"), &report)
}

/// Two of three texts are cut to a run of their sentences: the reward is asked of a prompt and its
/// continuation, which seldom reach a review's end, and which words carry the label is learned much
/// faster from a sentence than from a page.
fn crop(example: &Example, seed: u64) -> String {
    let stream = Stream::new(seed, "gold/crop", &example.id);
    let sentences: Vec<&str> = example
        .text
        .split_inclusive(['.', '!', '?'])
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
        .collect();
    if sentences.len() < 2 || stream.uniform(0, 0) < 1.0 / 3.0 {
        return example.text.clone();
    }
    let start = (stream.uniform(1, 0) * sentences.len() as f64) as usize;
    let count = 1 + (stream.uniform(2, 0) * (sentences.len() - start) as f64) as usize;
    sentences[start..start + count].join(" ")
}
