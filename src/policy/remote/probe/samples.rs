//! What becomes of samples: how many come, whether a seed repeats them, what a server does that it
//! was not told.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::dialect::Dialect;
use super::{Finding, Prober, TEXT, finding};
use crate::error::Result;
use crate::sampling::Sampling;

/// Numbers of continuations that are tried.
const NUMBERS: [usize; 5] = [2, 8, 16, 64, 128];
/// First tokens that are drawn with every setting sent, and as many with none.
const DRAWS: usize = 48;
/// All tokens, as the model has them.
const PLAIN: Sampling = Sampling::Random { temperature: 1.0, top_k: 0, top_p: 1.0 };

impl Prober {
    pub(super) fn samples(&self) -> Result<Vec<Finding>> {
        let most = self.most_at_once()?;
        let many = format!("continuations of one request, by counting: up to {most}");
        let one = "one a request, by counting: each continuation pays for its prompt".to_owned();
        Ok(vec![
            finding("n", if most > 1 { many } else { one }),
            finding("seed", self.seed()?),
            finding("top_k", self.top_k()),
            finding("settings left out", self.untold()?),
        ])
    }

    fn sampled(&self, seed: u64, n: usize, max_tokens: usize) -> Ask {
        Ask { n, seed, sampling: PLAIN, ..self.ask(TEXT, max_tokens) }
    }

    /// The most continuations that came of one request, of those that were tried.
    fn most_at_once(&self) -> Result<usize> {
        let mut most = 1;
        if self.is_single() {
            return Ok(most);
        }
        let mut numbers: Vec<usize> =
            NUMBERS.into_iter().chain([self.server.facts.max_n]).collect();
        numbers.sort_unstable();
        for n in numbers.into_iter().filter(|&n| n > 1) {
            match self.given(&self.sampled(1, n, 1))? {
                Ok(given) if given.choices.len() == n => most = n,
                _ => break,
            }
        }
        Ok(most)
    }

    /// Dialects whose requests have no room for several continuations.
    fn is_single(&self) -> bool {
        matches!(self.server.dialect, Dialect::Tgi | Dialect::Ollama | Dialect::Transformers)
    }

    fn seed(&self) -> Result<String> {
        let text = |seed: u64| -> Result<Option<String>> {
            let given = self.given(&self.sampled(seed, 1, 16))?;
            Ok(given.ok().map(|given| given.choices[0].text.clone()))
        };
        let (first, again) = (text(11)?, text(11)?);
        let others = [text(12)?, text(13)?];
        Ok(match (first.is_some(), first == again, others.iter().all(|text| *text == first)) {
            (false, ..) => "a sampled request is refused".to_owned(),
            (_, true, true) => "the same text for every seed: nothing is sampled".to_owned(),
            (_, true, false) => "repeats a text, when asked alone".to_owned(),
            (_, false, _) => "does not repeat a text".to_owned(),
        })
    }

    fn top_k(&self) -> String {
        let taken = self.server.facts.top_k;
        if taken { "taken" } else { "not taken: `top_k` must be 0, or dropped" }.to_owned()
    }

    /// Whether first tokens differ less where a request says nothing of how they are sampled.
    fn untold(&self) -> Result<String> {
        let told = self.distinct(|body| body)?;
        let untold = self.distinct(|body| bare(&body))?;
        let (Some(told), Some(untold)) = (told, untold) else {
            return Ok("not found out: a request is refused".to_owned());
        };
        let counts = format!("{untold} different first tokens of {DRAWS}, {told} when all is told");
        Ok(if untold == 1 && told > 1 {
            format!("greedy where nothing is told ({counts})")
        } else if 4 * untold < 3 * told {
            format!("it cuts or sharpens by itself ({counts}); every setting is sent")
        } else {
            format!("none seen ({counts})")
        })
    }

    /// How many different first tokens come of requests that `change` has been at.
    fn distinct(&self, change: impl Fn(Value) -> Value) -> Result<Option<usize>> {
        let Self { server } = self;
        let mut seen = BTreeSet::new();
        for seed in 0..DRAWS as u64 {
            let ask = self.sampled(1000 + 64 * seed, 1, 1);
            let body = change(server.dialect.body(server.model.as_deref(), &ask, &server.facts));
            let reply = self.post(server.dialect.route(), body)?;
            let Ok(given) = reply.and_then(|reply| server.dialect.read(&reply)) else {
                // An end token alone is a text that nothing seems to have ended.
                continue;
            };
            seen.insert(given.choices[0].text.clone());
        }
        Ok((!seen.is_empty()).then_some(seen.len()))
    }
}

/// The request without what says how to sample.
fn bare(body: &Value) -> Value {
    let kept = [
        "model",
        "prompt",
        "text",
        "inputs",
        "messages",
        "seed",
        "stream",
        "raw",
        "max_tokens",
        "max_completion_tokens",
        "n_predict",
        "return_tokens",
        "return_logprob",
    ];
    let mut left = json!({});
    for (key, value) in body.as_object().into_iter().flatten() {
        if kept.contains(&key.as_str()) {
            left[key] = value.clone();
        }
    }
    let inner = ["sampling_params", "parameters", "options"];
    let limits = ["max_new_tokens", "num_predict", "seed", "sampling_seed", "details"];
    for name in inner.into_iter().filter(|name| body[*name].is_object()) {
        for key in limits.into_iter().filter(|key| !body[name][*key].is_null()) {
            left[name][key] = body[name][key].clone();
        }
    }
    if body["generation_config"].is_string() {
        left["max_tokens"] = json!(1);
    }
    left
}
