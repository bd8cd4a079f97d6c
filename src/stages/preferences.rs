//! Synthetic preferences (paper §4.1): samples of the untuned guide in pairs, labelled by the gold reward under the Bradley–Terry model,
//! p(1 ≻ 2) = σ(r1 − r2), drawn from the seed.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;
use tracing::{info, warn};

use super::context::{Context, write_json};
use super::gold;
use crate::artifacts::{Journal, interrupt};
use crate::error::{Error, Result};
use crate::monitor::Progress;
use crate::policy::LocalPolicy;
use crate::recipe::{PreferenceLabel, Preferences};
use crate::sampling::{Sampling, Stream};
use crate::score::GoldReward;
use crate::search::{Extend, Finish, Proposer, Response};
use crate::text::{Example, Pair, first_words_prompt, read_pairs};

/// Rows sampled together. Results depend on it only through float rounding, so it is fixed.
const ROWS: usize = 64;

pub const TRAIN: &str = "preferences/train.jsonl";
pub const VALIDATION: &str = "preferences/validation.jsonl";

#[derive(Debug, Serialize)]
struct Report {
    pairs: usize,
    /// Pairs left out because the two responses were equal, or one was empty.
    left_out: usize,
    /// Share of the pairs whose chosen response has the higher gold reward.
    label_agreement: f64,
    mean_reward_chosen: f64,
    mean_reward_rejected: f64,
    mean_words_chosen: f64,
    mean_words_rejected: f64,
}

pub fn run(context: &Context) -> Result<()> {
    let report = "preferences/report.json";
    context.task("preferences", &fingerprint(context)?, &[TRAIN, VALIDATION, report], |_| {
        let settings = settings(context)?;
        let dataset = context.dataset()?;
        let train = sample(context, settings, &dataset.train, settings.prompts, TRAIN)?;
        let validation = sample(context, settings, &dataset.validation, settings.validation_prompts, VALIDATION)?;
        if train.pairs == 0 {
            return Err(Error::failed(format!(
                "no preference pair is left of {} prompts: all {} were equal or empty\n\nhint: raise `preferences.sampling.temperature`",
                settings.prompts, train.left_out
            )));
        }
        info!(
            "preferences: {} pairs ({} equal or empty ones left out), labels agree with the reward in {:.3}",
            train.pairs, train.left_out, train.label_agreement
        );
        write_json(&context.path(report), &serde_json::json!({ "train": train, "validation": validation }))
    })
}

pub fn fingerprint(context: &Context) -> Result<String> {
    let settings = settings(context)?;
    let parents = [context.model_fingerprint(&settings.policy)?, gold::fingerprint(context)?, context.data_fingerprint()?];
    context.fingerprint("preferences", (settings, context.seed()), &parents)
}

fn settings(context: &Context) -> Result<&Preferences> {
    context.recipe().preferences.as_ref().ok_or_else(|| Error::recipe("the recipe has no `[preferences]` table"))
}

fn sample(context: &Context, settings: &Preferences, examples: &[Example], prompts: usize, file: &str) -> Result<Report> {
    let seed = context.seed();
    let reward = context.open_gold()?;
    let (lm, tokenizer) = context.open(&context.model_folder(&settings.policy)?, &settings.policy)?;
    let sampling = Sampling::new(settings.sampling.temperature, settings.sampling.top_k, settings.sampling.top_p);
    let mut policy = LocalPolicy::new(lm, tokenizer, context.template(&settings.policy)?, sampling, Vec::new());
    let rule = &context.recipe().data.prompt;
    let usable: Vec<(String, String)> = (examples.iter())
        .filter_map(|example| Some((example.id.clone(), first_words_prompt(example, rule, seed)?)))
        .take(prompts)
        .collect();
    if usable.is_empty() && prompts > 0 {
        return Err(Error::failed(format!(
            "{file}: no text has the {} words of a prompt and one more\n\nhint: lower `data.prompt.min_words`",
            rule.min_words
        )));
    }
    if usable.len() < prompts {
        warn!("{file}: only {} texts have the {} words of a prompt; {prompts} were asked for", usable.len(), rule.min_words);
    }
    for (id, prompt) in &usable {
        policy.check_prompt(id, prompt, settings.max_new_tokens)?;
    }
    let (mut journal, done) = Journal::<Pair>::open(context.path(file))?;
    // The last prompt of the journal may be half written, and prompts without a usable pair leave no line: from it on, all is made
    // again and only what is new is appended.
    let resume_at = done.last().and_then(|last| usable.iter().position(|(id, _)| last.id.starts_with(&format!("{id}/")))).unwrap_or(0);
    let known: HashSet<&str> = done.iter().map(|pair| pair.id.as_str()).collect();
    let group_size = (ROWS / settings.samples_per_prompt).max(1);
    let mut progress = Progress::start(file, usable.len() as u64, 0);
    for (g, group) in usable.chunks(group_size).enumerate() {
        interrupt::check()?;
        if g * group_size + group.len() <= resume_at {
            progress.advance(group.len() as u64);
            continue;
        }
        for pair in pairs_of_group(settings, seed, group, &mut policy, &reward)? {
            if !known.contains(pair.id.as_str()) {
                journal.append(&pair)?;
            }
        }
        progress.advance(group.len() as u64);
    }
    progress.finish();
    drop(journal);
    Report::of(&context.path(file), usable.len() * settings.samples_per_prompt / 2)
}

/// Samples for all prompts of a group in one batch, then rewards, labels and pairs.
fn pairs_of_group(
    settings: &Preferences,
    seed: u64,
    group: &[(String, String)],
    policy: &mut LocalPolicy,
    reward: &GoldReward,
) -> Result<Vec<Pair>> {
    let samples = settings.samples_per_prompt;
    let prompts: Vec<&str> = group.iter().map(|(_, prompt)| prompt.as_str()).collect();
    let nodes = policy.open_rows(&prompts)?;
    let streams: Vec<Stream> = group.iter().map(|(id, _)| Stream::new(seed, "preferences", id)).collect();
    let requests: Vec<Extend> = (0..group.len() * samples)
        .map(|i| Extend {
            node: nodes[i / samples],
            stream: &streams[i / samples],
            slot: (i % samples) as u64,
            max_tokens: settings.max_new_tokens,
        })
        .collect();
    let responses: Vec<Response> = policy.extend(&requests)?.into_iter().map(|extended| extended.response).collect();
    policy.retain(&[]);
    let mut pairs = Vec::new();
    for (i, (id, prompt)) in group.iter().enumerate() {
        let responses = &responses[i * samples..(i + 1) * samples];
        let answers: Vec<(&str, &str)> = responses.iter().map(|response| (prompt.as_str(), response.text.as_str())).collect();
        let rewards = reward.rewards(&answers)?;
        let coin = Stream::new(seed, "preferences/label", id);
        for k in 0..samples / 2 {
            let (a, b) = (2 * k, 2 * k + 1);
            let (first, second) = (&responses[a], &responses[b]);
            if first.text == second.text || first.text.trim().is_empty() || second.text.trim().is_empty() {
                continue;
            }
            let probability = 1.0 / (1.0 + (rewards[b] - rewards[a]).exp());
            let first_wins = match settings.label {
                PreferenceLabel::Drawn => coin.uniform(k as u64, 0) < probability,
                PreferenceLabel::Argmax => rewards[a] >= rewards[b],
            };
            let (chosen, rejected) = if first_wins { (a, b) } else { (b, a) };
            let complete = |i: usize| responses[i].finish == Some(Finish::Eos);
            pairs.push(Pair {
                id: format!("{id}/{k}"),
                prompt: prompt.clone(),
                chosen: responses[chosen].text.clone(),
                rejected: responses[rejected].text.clone(),
                reward_chosen: rewards[chosen],
                reward_rejected: rewards[rejected],
                probability: Some(if first_wins { probability } else { 1.0 - probability }),
                chosen_complete: complete(chosen),
                rejected_complete: complete(rejected),
            });
        }
    }
    Ok(pairs)
}

impl Report {
    /// Of a finished file, for which `asked` pairs were sampled.
    fn of(file: &Path, asked: usize) -> Result<Self> {
        let pairs = read_pairs(file)?;
        let mean = |value: &dyn Fn(&Pair) -> f64| pairs.iter().map(value).sum::<f64>() / pairs.len().max(1) as f64;
        let words = |text: &str| text.split_whitespace().count() as f64;
        Ok(Self {
            pairs: pairs.len(),
            left_out: asked - pairs.len(),
            label_agreement: mean(&|pair| f64::from(u8::from(pair.reward_chosen > pair.reward_rejected))),
            mean_reward_chosen: mean(&|pair| pair.reward_chosen),
            mean_reward_rejected: mean(&|pair| pair.reward_rejected),
            mean_words_chosen: mean(&|pair| words(&pair.chosen)),
            mean_words_rejected: mean(&|pair| words(&pair.rejected)),
        })
    }
}
