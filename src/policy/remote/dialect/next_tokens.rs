//! All that may come next: how the log-probabilities of a whole vocabulary are asked for, and how
//! they come back, in the dialects that have them.

use serde_json::{Value, json};

use super::super::ask::{Ask, Read};
use super::shape::ids_of;
use super::{Dialect, llama_cpp, vllm};
use crate::sampling::Sampling;

/// What is added to a logit so that no other token is sampled.
const SURELY: f64 = 1000.0;
/// What probabilities may sum to beside 1: a server may compute in few bits.
const SUM_ERROR: f64 = 0.02;

/// What may come next.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// One for each id, at temperature 1 and without any cut.
    pub logprobs: Vec<f32>,
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: Option<u64>,
    /// Those that it had read before.
    pub cached_tokens: Option<u64>,
}

impl Dialect {
    /// The body of a request for what may come behind `ids`, out of so many tokens. It samples one
    /// token, which nobody wants; llama.cpp tells nothing where that is a part of a character, so
    /// it is made to sample `end`.
    pub fn next_tokens_body(
        self,
        model: Option<&str>,
        ids: Vec<i64>,
        (vocabulary, end): (usize, i64),
    ) -> Value {
        let ask = Ask {
            context: Read::Ids(ids),
            n: 1,
            max_tokens: 1,
            seed: 0,
            sampling: Sampling::new(1.0, 0, 1.0),
            stop: Vec::new(),
            adds_special: None,
        };
        let mut body = match self {
            Self::LlamaCpp => llama_cpp::body(&ask),
            _ => vllm::body(model, &ask),
        };
        if self == Self::LlamaCpp {
            body["n_probs"] = json!(vocabulary);
            body["logit_bias"] = json!([[end, SURELY]]);
        } else {
            body["logprobs"] = json!(vocabulary);
            body["return_tokens_as_token_ids"] = json!(true);
        }
        body
    }

    /// What a reply tells of `vocabulary` tokens.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_next_tokens(self, reply: &Value, vocabulary: usize) -> Result<Told, String> {
        let pairs = match self {
            Self::LlamaCpp => of_llama_cpp(reply),
            _ => of_vllm(reply),
        };
        let usage = &reply["usage"];
        let [prompt_tokens, cached_tokens] = match self {
            Self::LlamaCpp => [&reply["tokens_evaluated"], &reply["timings"]["cache_n"]],
            _ => [&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]],
        }
        .map(Value::as_u64);
        let pairs = pairs.ok_or("no log-probabilities of next tokens")?;
        let logprobs = whole(&pairs, vocabulary)?;
        Ok(Told { logprobs, prompt_tokens, cached_tokens })
    }
}

fn of_llama_cpp(reply: &Value) -> Option<Vec<(i64, f64)>> {
    // Of one that was sampled in vain before it, nothing is told.
    if ids_of(&reply["tokens"])?.len() != 1 {
        return None;
    }
    let told = reply["completion_probabilities"][0]["top_logprobs"].as_array()?;
    told.iter().map(|token| Some((token["id"].as_i64()?, token["logprob"].as_f64()?))).collect()
}

fn of_vllm(reply: &Value) -> Option<Vec<(i64, f64)>> {
    let told = reply["choices"][0]["logprobs"]["top_logprobs"][0].as_object()?;
    let pair = |(name, logprob): (&String, &Value)| {
        Some((name.strip_prefix("token_id:")?.parse().ok()?, logprob.as_f64()?))
    };
    told.iter().map(pair).collect()
}

/// Log-probabilities in the order of their ids; all must be there, and be those of one
/// distribution.
fn whole(pairs: &[(i64, f64)], vocabulary: usize) -> Result<Vec<f32>, String> {
    let mut logprobs = vec![f32::NAN; vocabulary];
    for &(id, logprob) in pairs {
        let place = usize::try_from(id).ok().and_then(|id| logprobs.get_mut(id));
        *place.ok_or_else(|| format!("a token {id} of {vocabulary}"))? = logprob as f32;
    }
    let untold = logprobs.iter().filter(|logprob| logprob.is_nan()).count();
    if untold > 0 {
        return Err(format!("nothing is told of {untold} of {vocabulary} tokens"));
    }
    let sum: f64 = logprobs.iter().map(|&logprob| f64::from(logprob).exp()).sum();
    if (sum - 1.0).abs() > SUM_ERROR {
        return Err(format!("probabilities of next tokens that sum to {sum:.4}"));
    }
    Ok(logprobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tokens_must_be_told_of_one_distribution() {
        let half = 0.5_f64.ln();
        assert_eq!(whole(&[(1, half), (0, half)], 2).unwrap(), [half as f32; 2]);
        for (pairs, problem) in [
            (vec![(1, half)], "nothing is told of 1 of 2 tokens"),
            (vec![(0, half), (2, half)], "a token 2 of 2"),
            (vec![(0, half), (-1, half)], "a token -1 of 2"),
            (vec![(0, 0.0), (1, half)], "probabilities of next tokens that sum to 1.5000"),
        ] {
            assert_eq!(whole(&pairs, 2).unwrap_err(), problem);
        }
    }
}
