//! What was paid for: every answer of a server, on disk before it is used, so that a run that was
//! killed asks for none of them again.
//!
//! A search asks for the same again where it is begun again, because its random numbers depend on
//! seed and prompt alone; so an answer is found by what was asked.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::ask::{Ask, Given, Read};
use crate::artifacts::{Journal, journal};
use crate::error::{Error, Result};
use crate::http::Tokens;
use crate::sampling::Sampling;

/// One answer of a server, as a line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// What each continuation answers: see [`key`].
    pub keys: Vec<String>,
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
    /// By its key the answer that holds a continuation, and which of them it is.
    known: HashMap<String, (Rc<Given>, usize)>,
    spent: Tokens,
    task: String,
}

impl Paid {
    /// The journal `file`, for `task`; what other journals of the same folder and model hold
    /// (`others`) is known, too.
    pub fn open(file: &Path, others: &[impl AsRef<Path>], task: &str) -> Result<Self> {
        let (journal, own) = Journal::<Receipt>::open(file)?;
        let (known, task) = (HashMap::new(), task.to_owned());
        let mut paid = Self { journal, known, spent: Tokens::default(), task };
        for other in others {
            let lines = journal::complete_lines::<Receipt>(other.as_ref())?;
            lines.into_iter().for_each(|(receipt, _)| paid.note(receipt));
        }
        own.into_iter().for_each(|receipt| paid.note(receipt));
        Ok(paid)
    }

    fn note(&mut self, receipt: Receipt) {
        let Receipt { keys, given, prompt_tokens, completion_tokens, .. } = receipt;
        self.spent =
            self.spent.and(Tokens { prompt: prompt_tokens, completion: completion_tokens });
        let given = Rc::new(given);
        let places = keys.into_iter().enumerate();
        self.known.extend(places.map(|(place, key)| (key, (given.clone(), place))));
    }

    /// The continuation that is known, as the answer of a request for it alone.
    pub fn known(&self, key: &str) -> Option<Given> {
        let (given, place) = self.known.get(key)?;
        let choices = vec![given.choices.get(*place)?.clone()];
        Some(Given { choices, ..Given::clone(given) })
    }

    /// What was paid for so far.
    pub fn spent(&self) -> Tokens {
        self.spent
    }

    /// Writes down an answer, whose continuations answer `keys`; on disk when this returns.
    pub fn keep(
        &mut self,
        keys: Vec<String>,
        given: Given,
        [prompt_tokens, completion_tokens]: [u64; 2],
        seconds: f64,
    ) -> Result<()> {
        let task = self.task.clone();
        let receipt = Receipt { keys, task, given, prompt_tokens, completion_tokens, seconds };
        self.journal.append(&receipt)?;
        self.note(receipt);
        Ok(())
    }
}

/// What tells one continuation from another: all that was asked but for the company it was asked
/// in, and its random number, because a server may take no seed.
///
/// # Errors
/// Never but where a number is none.
pub fn key(model: &str, ask: &Ask, number: u64) -> Result<String> {
    let Ask { context, n: _, max_tokens, seed: _, sampling, stop, adds_special } = ask;
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
    let asked = json!([model, read, max_tokens, sampling, stop, adds_special, number]);
    let text = serde_json::to_vec(&asked).map_err(|error| Error::failed(error.to_string()))?;
    let digest = Sha256::digest(&text);
    Ok(digest[..12].iter().map(|byte| format!("{byte:02x}")).collect())
}
