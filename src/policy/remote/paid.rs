//! What was paid for: every answer of a server, on disk before it is used, so that a run that was
//! killed asks for none of them again.
//!
//! A search asks for the same again where it is begun again, because its random numbers depend on
//! seed and prompt alone; so an answer is found by what was asked.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::ask::{Ask, Given, Read};
use crate::artifacts::{Journal, journal};
use crate::error::{Error, Result};
use crate::sampling::Sampling;

/// One answer of a server, as a line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Of what was asked: see [`key`].
    pub key: String,
    /// The task that asked first.
    pub task: String,
    pub given: Given,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub seconds: f64,
}

/// The answers of one server to one run.
pub struct Paid {
    journal: Journal<Receipt>,
    known: HashMap<String, Receipt>,
    task: String,
}

impl Paid {
    /// The journal `file`, for `task`; what other journals of the same folder and model hold
    /// (`others`) is known, too.
    pub fn open(file: &Path, others: &[impl AsRef<Path>], task: &str) -> Result<Self> {
        let (journal, own) = Journal::<Receipt>::open(file)?;
        let mut known = HashMap::new();
        for other in others {
            for (receipt, _) in journal::complete_lines::<Receipt>(other.as_ref())? {
                known.insert(receipt.key.clone(), receipt);
            }
        }
        known.extend(own.into_iter().map(|receipt| (receipt.key.clone(), receipt)));
        Ok(Self { journal, known, task: task.to_owned() })
    }

    /// The answer that is known.
    pub fn known(&self, key: &str) -> Option<&Given> {
        self.known.get(key).map(|receipt| &receipt.given)
    }

    /// Tokens of prompts and tokens sampled that were paid for so far.
    pub fn spent(&self) -> [u64; 2] {
        let tokens = self.known.values();
        tokens.fold([0, 0], |[prompt, completion], receipt| {
            [prompt + receipt.prompt_tokens, completion + receipt.completion_tokens]
        })
    }

    /// Writes down an answer; on disk when this returns.
    pub fn keep(
        &mut self,
        key: String,
        given: Given,
        [prompt_tokens, completion_tokens]: [u64; 2],
        seconds: f64,
    ) -> Result<()> {
        let task = self.task.clone();
        let receipt = Receipt { key, task, given, prompt_tokens, completion_tokens, seconds };
        self.journal.append(&receipt)?;
        self.known.insert(receipt.key.clone(), receipt);
        Ok(())
    }
}

/// What tells one thing that is asked from another: all of it, and the random numbers of its
/// samples, because a server may take no seed.
///
/// # Errors
/// Never but where a number is none.
pub fn key(model: &str, ask: &Ask, samples: &[u64]) -> Result<String> {
    let Ask { context, n, max_tokens, seed, sampling, stop, adds_special } = ask;
    let read = match context {
        Read::Text(text) => json!({ "text": text }),
        Read::Ids(ids) => json!({ "ids": ids }),
        Read::Mixed(text, ids) => json!({ "text": text, "ids": ids }),
        Read::Turns(turns, said) => {
            let turns: Vec<_> = turns.iter().map(|turn| (&turn.role, &turn.content)).collect();
            json!({ "turns": turns, "said": said })
        }
    };
    let sampling = match sampling {
        Sampling::Greedy => json!("greedy"),
        Sampling::Random { temperature, top_k, top_p } => json!([temperature, top_k, top_p]),
    };
    let asked = json!([model, read, n, max_tokens, seed, sampling, stop, adds_special, samples]);
    let text = serde_json::to_vec(&asked).map_err(|error| Error::failed(error.to_string()))?;
    let digest = Sha256::digest(&text);
    Ok(digest[..12].iter().map(|byte| format!("{byte:02x}")).collect())
}
