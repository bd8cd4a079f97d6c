//! How many tokens a prompt may have, before any tokenizer is read.

use super::tables::{Columns, Data, HOLE, Recipe};

/// Tokens that a word of a prompt is taken to need at most, on average.
const TOKENS_PER_WORD: usize = 3;

/// The same for whole prompts and for a model's `prompt` around them, which are longer and so
/// nearer to the usual 1.3.
const TOKENS_PER_LONG_WORD: usize = 2;

/// Tokens of a prompt that a data file holds whole, where no number of words bounds it: most have
/// less.
const COLUMN_TOKENS: usize = 256;

/// Tokens that a chat template puts around a user's turn and its answer, at most.
const CHAT_TOKENS: usize = 64;

impl Recipe {
    /// Whether all prompts are the first words of texts, whose number is bounded.
    pub(super) fn bounds_prompts(&self) -> bool {
        self.data.as_ref().is_none_or(|data| data.columns.prompt.is_none())
    }

    /// A generous number of tokens for the longest prompt as `model` reads it; `None` where there
    /// is no such model.
    pub fn prompt_bound(&self, model: &str) -> Option<usize> {
        let model = self.models.get(model)?;
        let chat = model.chat.as_ref();
        let system = chat.and_then(|chat| chat.system.as_deref()).unwrap_or_default();
        let prompt = model.prompt.text().unwrap_or_default().replace(HOLE, " ");
        let exemplars = model.exemplars.as_ref().map_or(0, |all| all.words(&prompt));
        let words = prompt.split_whitespace().chain(system.split_whitespace()).count() + exemplars;
        let turns = 1 + model.exemplars.as_ref().map_or(0, |all| all.rows.len());
        let chat = if chat.is_some() { CHAT_TOKENS * turns } else { 0 };
        let around = TOKENS_PER_LONG_WORD * words + chat + usize::from(model.bos != Some(false));
        let prompt = match &self.data {
            Some(Data { columns: Columns { prompt: Some(_), .. }, prompt, .. }) => prompt
                .max_words
                .map_or(COLUMN_TOKENS, |words| TOKENS_PER_LONG_WORD.saturating_mul(words)),
            Some(data) => TOKENS_PER_WORD.saturating_mul(data.prompt.most_words()),
            None => 0,
        };
        Some(prompt.saturating_add(around))
    }
}
