//! What replies of `/completions` share, whoever gives them: the legacy shape of OpenAI.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, Given, Read};
use super::super::facts::Facts;
use super::shape::in_order;
use crate::sampling::Sampling;

/// What every server of this route takes.
pub fn body(model: Option<&str>, ask: &Ask) -> Value {
    let (temperature, top_p) = match ask.sampling {
        Sampling::Greedy => (0.0, 1.0),
        Sampling::Random { temperature, top_p, .. } => (temperature, top_p),
    };
    let prompt = match &ask.context {
        Read::Ids(ids) => json!(ids),
        Read::Text(text) => json!(text),
        Read::Mixed(text, ids) => json!([text, ids]),
        Read::Turns(..) => Value::Null,
    };
    let mut body = json!({
        "prompt": prompt,
        "max_tokens": ask.max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": ask.seed,
        "stream": false,
    });
    if let Some(model) = model {
        body["model"] = json!(model);
    }
    if ask.n > 1 {
        body["n"] = json!(ask.n);
    }
    if !ask.stop.is_empty() {
        body["stop"] = json!(ask.stop);
    }
    body
}

/// What is sent to servers of no certain make, as far as they take it.
pub fn further(body: &mut Value, ask: &Ask, facts: &Facts) {
    body["presence_penalty"] = json!(0);
    body["frequency_penalty"] = json!(0);
    if facts.extra_knobs {
        body["min_p"] = json!(0);
        // One thing by the names of several servers.
        body["repetition_penalty"] = json!(1);
        body["repeat_penalty"] = json!(1);
    }
    if let (true, Sampling::Random { top_k, .. }) = (facts.top_k, ask.sampling) {
        body["top_k"] = json!(top_k);
    }
}

/// The continuations of a reply, each as `choice` reads it.
pub fn read(
    reply: &Value,
    choice: impl Fn(&Value) -> Result<Choice, String>,
) -> Result<Given, String> {
    let choices = reply["choices"].as_array().ok_or("no `choices`")?;
    let choices = in_order(choices).into_iter().map(choice).collect::<Result<Vec<_>, _>>()?;
    let usage = &reply["usage"];
    Ok(Given {
        choices,
        prompt_tokens: usage["prompt_tokens"].as_u64(),
        cached_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_u64(),
        prompt_ids: None,
    })
}

/// Log-probabilities of the tokens of a continuation, and their texts: the legacy shape, or that of
/// chats (`content`).
pub fn logprobs(choice: &Value) -> Option<(Vec<String>, Vec<f64>)> {
    let told = &choice["logprobs"];
    if let (Some(tokens), Some(logprobs)) =
        (told["tokens"].as_array(), told["token_logprobs"].as_array())
    {
        let texts = tokens.iter().map(|token| token.as_str().map(str::to_owned));
        let numbers = logprobs.iter().map(Value::as_f64);
        return Some((texts.collect::<Option<_>>()?, numbers.collect::<Option<_>>()?));
    }
    let content = told["content"].as_array()?;
    let texts = content.iter().map(|token| token["token"].as_str().map(str::to_owned));
    let numbers = content.iter().map(|token| token["logprob"].as_f64());
    Some((texts.collect::<Option<_>>()?, numbers.collect::<Option<_>>()?))
}
