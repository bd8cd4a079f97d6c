//! Pairs of samples: the untuned guide answers each prompt several times, the gold reward judges.

use tracing::{info, warn};

use super::journal::{Labelled, label_all};
use super::verdict::{pair_up, verdict};
use crate::error::{Error, Result};
use crate::policy::LocalPolicy;
use crate::prompt::{Prompt, PromptText};
use crate::recipe::Preferences;
use crate::sampling::{Sampling, Stream};
use crate::score::{Judge, ToJudge};
use crate::search::{Extend, Finish, Proposer, Response};
use crate::stages::context::Context;
use crate::stages::prompt_room::{Asked, Model};
use crate::stages::tasks::{TRAIN, VALIDATION};
use crate::text::{LeftOut, Pair, Prompts, Reason, Split};

pub fn run(context: &Context, settings: &Preferences) -> Result<()> {
    let name = settings
        .policy
        .as_deref()
        .ok_or_else(|| Error::recipe("`[preferences]` has no `policy` to sample from"))?;
    let reward = context.models.open_gold()?;
    let (lm, tokenizer) = context.models.open(&context.models.folder(name)?, name)?;
    let sampling = Sampling::new(
        settings.sampling.temperature,
        settings.sampling.top_k,
        settings.sampling.top_p,
    );
    let mut policy =
        LocalPolicy::new(lm, tokenizer, context.models.template(name)?, sampling, Vec::new());
    for (file, split, count) in splits(settings) {
        let prompts = prompts(context, split, count, file)?;
        let group_size = settings.prompts_at_once();
        label_all(
            context,
            file,
            &prompts,
            |prompt| &prompt.id,
            group_size,
            |group| label_group(settings, context.seed(), group, &mut policy, &reward),
        )?;
    }
    Ok(())
}

/// The prompts of the stage, and what reads them.
pub fn asked(context: &Context, settings: &Preferences, policy: &str) -> Result<Asked> {
    let mut asked =
        Asked { prompts: Vec::new(), new_tokens: settings.max_new_tokens, models: Vec::new() };
    for (_, split, count) in splits(settings) {
        asked.prompts.extend(context.prompts(split, count)?.prompts);
    }
    asked.models.push(Model {
        name: policy.to_owned(),
        folder: context.models.folder(policy)?,
        samples: true,
    });
    Ok(asked)
}

/// Each file, the split that its prompts are from, and how many are asked for.
fn splits(settings: &Preferences) -> [(&'static str, Split, usize); 2] {
    [
        (TRAIN, Split::Train, settings.prompts),
        (VALIDATION, Split::Validation, settings.validation_prompts),
    ]
}

/// The prompts of the first `count` texts that are long enough for one, of validation without the
/// prompts that training texts make too.
fn prompts(context: &Context, split: Split, count: usize, file: &str) -> Result<Vec<Prompt>> {
    let data = context.recipe().data()?;
    let Prompts { prompts, seen } = context.prompts(split, count)?;
    let passed_over = match seen.len() {
        0 => String::new(),
        seen => format!("; {seen} texts are passed over, for training texts make the same prompts"),
    };
    if prompts.is_empty() && count > 0 {
        let (what, hint) = if seen.is_empty() {
            data.no_prompts()
        } else {
            (
                "no prompt is left that training texts do not make too".to_owned(),
                "raise `data.prompt.min_words`, or give more validation texts",
            )
        };
        return Err(Error::failed(format!("{file}: {what}{passed_over}\n\nhint: {hint}")));
    }
    if prompts.len() < count {
        warn!(
            "{file}: only {} {}; {count} were asked for{passed_over}",
            prompts.len(),
            data.that_make_prompts()
        );
    } else if !seen.is_empty() {
        info!("{file}: {count} prompts{passed_over}");
    }
    Ok(prompts)
}

/// Samples for all prompts of a group in one batch, then rewards, labels and pairs.
fn label_group(
    settings: &Preferences,
    seed: u64,
    group: &[Prompt],
    policy: &mut LocalPolicy,
    reward: &Judge,
) -> Result<Vec<Labelled>> {
    let samples = settings.samples_per_prompt;
    let prompts: Vec<&PromptText> = group.iter().map(|prompt| &prompt.text).collect();
    let nodes = policy.open_rows(&prompts)?;
    let streams: Vec<Stream> =
        group.iter().map(|prompt| Stream::new(seed, "preferences", &prompt.id)).collect();
    let requests: Vec<Extend> = (0..group.len() * samples)
        .map(|i| Extend {
            node: nodes[i / samples].clone(),
            stream: streams[i / samples].clone(),
            slot: (i % samples) as u64,
            max_tokens: settings.max_new_tokens,
        })
        .collect();
    let responses: Vec<Response> =
        policy.extend(&requests)?.into_iter().map(|extended| extended.response).collect();
    nodes.iter().for_each(|root| policy.release(root));
    let mut all = Vec::new();
    let by_prompt = || group.iter().zip(responses.chunks(samples));
    let asked = by_prompt().map(|(Prompt { id, text }, responses)| {
        let ids = (0..samples).map(|number| format!("{id}/{number}"));
        ids.zip(responses).map(|(id, answer)| ToJudge::new(id, text, &answer.text)).collect()
    });
    let rewards = reward.rewards_by_prompt(asked.collect())?;
    for ((Prompt { id, text: prompt }, responses), rewards) in by_prompt().zip(rewards) {
        let texts: Vec<&str> = responses.iter().map(|response| response.text.as_str()).collect();
        let coin = Stream::new(seed, "preferences/label", id);
        for (k, pair) in pair_up(settings.pairing, &texts, &rewards).into_iter().enumerate() {
            let judgement = pair.and_then(|(a, b)| {
                let verdict = verdict(
                    settings.label,
                    Some((rewards[a], rewards[b])),
                    coin.uniform(k as u64, 0),
                )
                .ok_or(Reason::Tied)?;
                Ok((if verdict.first_wins { (a, b) } else { (b, a) }, verdict.probability))
            });
            let id = format!("{id}/{k}");
            all.push(match judgement {
                Err(reason) => Labelled::LeftOut(LeftOut { id, reason }),
                Ok(((chosen, rejected), probability)) => Labelled::Kept(Box::new(Pair {
                    id,
                    prompt: prompt.clone(),
                    chosen: responses[chosen].text.clone(),
                    rejected: responses[rejected].text.clone(),
                    reward_chosen: Some(rewards[chosen]),
                    reward_rejected: Some(rewards[rejected]),
                    probability,
                    relabelled: None,
                    chosen_complete: responses[chosen].finish == Some(Finish::Eos),
                    rejected_complete: responses[rejected].finish == Some(Finish::Eos),
                })),
            });
        }
    }
    Ok(all)
}
