//! Log-probabilities that were paid for, on disk before they are used: a run that was killed asks
//! for none of them again, and what they have cost counts against the budget of the next run.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::row::Row;
use crate::artifacts::{Journal, journal};
use crate::error::Result;
use crate::http::Tokens;

/// One answer, as a line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReceipt {
    /// Of the model and the row.
    key: String,
    logps: Vec<f32>,
    prompt_tokens: u64,
    completion_tokens: u64,
    seconds: f64,
}

/// The answers of one server to one run.
pub struct Kept {
    journal: Journal<ScoreReceipt>,
    known: HashMap<String, ScoreReceipt>,
}

impl Kept {
    /// The journal `file`; what `others` of the same model hold is known, too.
    pub fn open(file: &Path, others: &[impl AsRef<Path>]) -> Result<Self> {
        let (journal, own) = Journal::<ScoreReceipt>::open(file)?;
        let mut known = HashMap::new();
        for other in others {
            let lines = journal::complete_lines::<ScoreReceipt>(other.as_ref())?;
            known.extend(lines.into_iter().map(|(receipt, _)| (receipt.key.clone(), receipt)));
        }
        known.extend(own.into_iter().map(|receipt| (receipt.key.clone(), receipt)));
        Ok(Self { journal, known })
    }

    pub fn known(&self, key: &str) -> Option<&[f32]> {
        self.known.get(key).map(|receipt| receipt.logps.as_slice())
    }

    /// What was paid for so far.
    pub fn spent(&self) -> Tokens {
        let all = self.known.values().map(|receipt| Tokens {
            prompt: receipt.prompt_tokens,
            completion: receipt.completion_tokens,
        });
        all.fold(Tokens::default(), Tokens::and)
    }

    /// Writes down an answer; on disk when this returns.
    pub fn keep(&mut self, key: String, logps: &[f32], used: Tokens, seconds: f64) -> Result<()> {
        let Tokens { prompt: prompt_tokens, completion: completion_tokens } = used;
        let logps = logps.to_vec();
        let receipt = ScoreReceipt { key, logps, prompt_tokens, completion_tokens, seconds };
        self.journal.append(&receipt)?;
        self.known.insert(receipt.key.clone(), receipt);
        Ok(())
    }
}

/// What tells one row from another, of the model that a server calls so.
pub fn key(model: &str, row: &Row) -> String {
    let mut digest = Sha256::new();
    digest.update(model.as_bytes());
    digest.update((row.from as u64).to_le_bytes());
    row.ids.iter().for_each(|id| digest.update(id.to_le_bytes()));
    digest.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}
