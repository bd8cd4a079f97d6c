//! Prompts in their shapes, and choices in the shape of OpenAI's older route.

use serde_json::{Value, json};

use super::error;
use super::model::{Drawn, End, Model, Told};
use super::server::{Answers, Server};
use crate::common::loopback::Reply;

/// A list of token ids.
pub fn ids(value: &Value) -> Option<Vec<i64>> {
    let all = value.as_array()?;
    all.iter().map(Value::as_i64).collect()
}

/// The prompts of a request as ids: a text, ids, or lists of them. Ids that the model does not
/// know, and prompts that leave no room for an answer, are refused.
pub fn prompts(
    server: &Server,
    prompt: &Value,
    adds_special: bool,
) -> Result<Vec<Vec<i64>>, Reply> {
    let one = |prompt: &Value| match prompt {
        Value::String(text) => Some(server.encode(text, adds_special)),
        prompt => ids(prompt).filter(|ids| !ids.is_empty()),
    };
    let all = match prompt {
        Value::Array(several) if several.iter().any(|one| !one.is_number()) => {
            several.iter().map(one).collect()
        }
        prompt => one(prompt).map(|prompt| vec![prompt]),
    };
    let all: Vec<Vec<i64>> =
        all.ok_or_else(|| error(400, "invalid_prompt", "the prompt has no known shape"))?;
    let largest = server.model.tokenizer.vocab_size() as i64;
    for prompt in &all {
        if prompt.iter().any(|id| !(0..largest).contains(id)) {
            return Err(error(400, "invalid_token", "Token id is out of vocabulary"));
        }
        if prompt.len() >= server.model.context {
            let message = format!(
                "This model's maximum context length is {} tokens. However, your prompt has {}.",
                server.model.context,
                prompt.len()
            );
            return Err(error(400, "context_length_exceeded", &message));
        }
    }
    Ok(all)
}

pub fn finish(drawn: &Drawn) -> &'static str {
    if drawn.end == End::Limit { "length" } else { "stop" }
}

/// The same of what makes up the text alone: neither an end token nor those of a stop string.
pub fn text_logprobs(model: &Model, drawn: &Drawn, echo: Option<&[i64]>) -> Value {
    let fits = |count: &usize| drawn.text.starts_with(&model.text(&drawn.ids[..*count]));
    let count = match drawn.end {
        End::Limit => drawn.ids.len(),
        _ => (0..drawn.ids.len()).rev().find(fits).unwrap_or(0),
    };
    let (ids, logprobs) = (drawn.ids[..count].to_vec(), drawn.logprobs[..count].to_vec());
    let (end, text) = (drawn.end.clone(), drawn.text.clone());
    legacy_logprobs(model, &Drawn { ids, logprobs, end, text, whole: String::new() }, echo)
}

/// OpenAI's older shape of log-probabilities; those of the prompt too where `echo` is some.
pub fn legacy_logprobs(model: &Model, drawn: &Drawn, echo: Option<&[i64]>) -> Value {
    let mut all: Vec<(i64, Option<Told>)> = Vec::new();
    if let Some(prompt) = echo {
        all.extend(prompt.iter().copied().zip(model.logprobs(prompt)));
    }
    let drawn = drawn.ids.iter().zip(&drawn.logprobs);
    all.extend(drawn.map(|(&id, &logprob)| (id, Some((logprob, (id, logprob))))));
    let name = |id: i64| model.tokenizer.decode_with_special(&[id]).unwrap();
    let mut offsets = vec![0];
    for (id, _) in &all {
        offsets.push(offsets[offsets.len() - 1] + name(*id).chars().count());
    }
    offsets.pop();
    json!({
        "tokens": all.iter().map(|(id, _)| name(*id)).collect::<Vec<_>>(),
        "token_logprobs": all.iter().map(|(_, told)| told.map(|told| told.0)).collect::<Vec<_>>(),
        "top_logprobs": all.iter().map(|(_, told)| told.map(|(_, (first, logprob))| {
            json!({ name(first): logprob })
        })).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// What was used, as an honest server counts it.
pub fn usage(all: &[Answers]) -> Value {
    let prompt: usize = all.iter().map(|answers| answers.prompt.len()).sum();
    let completion: usize = all.iter().map(Answers::completion_tokens).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    })
}

/// A reply of `/v1/completions`.
pub fn completion(choices: Vec<Value>, usage: Value) -> Value {
    json!({
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "tiny",
        "choices": choices, "usage": usage,
    })
}

/// A reply of `/v1/models`.
pub fn models(owner: &str, more: Value) -> Value {
    let mut model = json!({ "id": "tiny", "object": "model", "created": 1, "owned_by": owner });
    for (name, value) in more.as_object().into_iter().flatten() {
        model[name] = value.clone();
    }
    json!({ "object": "list", "data": [model] })
}
