//! What answering prompts takes of a model, by sizes alone: one arithmetic for what `w2s check`
//! shows and for what a run plans with.

use super::sizes::LmSizes;
use super::words::bytes_in_words;

/// Rows that preferences and PPO sample together. Results depend on it only through float rounding,
/// so it is fixed.
pub const SAMPLED_ROWS: usize = 64;

/// Rows grow their caches by this many tokens at once.
const SLACK_TOKENS: u64 = 32;

/// Tokens of a guide that a response of `new_tokens` may take: with another vocabulary half as many
/// again. It may take more still; what the guide's context has no room for is not scored.
pub fn guide_tokens(new_tokens: usize, same_vocabulary: bool) -> usize {
    new_tokens.saturating_add(if same_vocabulary { 0 } else { new_tokens / 2 })
}

/// The sizes of a model that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderSizes {
    pub n_layer: u64,
    /// Numbers of the keys and values of one token in one layer.
    pub kv_size: u64,
    pub hidden_size: u64,
    pub vocab_size: u64,
    /// Bytes of a weight, and of an activation.
    pub element: u64,
}

/// One model's part in answering a prompt, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub sizes: ReaderSizes,
    /// Tokens of the longest prompt and of a response, as this model reads them.
    pub prompt_tokens: u64,
    pub new_tokens: u64,
    pub rows: u64,
    /// Whether the rows have one prompt, which is kept once.
    pub shares_prompt: bool,
    /// Tokens of a row that go through it at once.
    pub chunk: u64,
    /// Whether all its rows' logits exist at once; guides that score given tokens take a slice of a
    /// fixed size.
    pub is_sampled: bool,
}

impl ReaderSizes {
    pub fn of(sizes: &LmSizes, element: u64) -> Self {
        let LmSizes { n_layer, kv_size, hidden_size, vocab_size, .. } = *sizes;
        Self { n_layer, kv_size, hidden_size, vocab_size, element }
    }
}

impl Reading {
    /// Keys and values of a prompt once, those of its rows twice while a chunk's survivors are
    /// copied to their new places, and for each row the logits and the widest activations.
    pub fn bytes(&self) -> u64 {
        self.tokens()
            .saturating_mul(self.token())
            .saturating_add(self.rows.saturating_mul(self.row()))
    }

    pub fn arithmetic(&self) -> String {
        let prompt = if self.shares_prompt {
            format!("{} prompt tokens + ", self.prompt_tokens)
        } else {
            String::new()
        };
        format!(
            "({prompt}2 × {} rows × {} tokens) × {} of keys and values each + {} rows × {} of \
             logits and activations",
            self.rows,
            self.row_tokens(),
            bytes_in_words(self.token()),
            self.rows,
            bytes_in_words(self.row())
        )
    }

    /// Tokens that a row holds alone.
    fn row_tokens(&self) -> u64 {
        let prompt = if self.shares_prompt { 0 } else { self.prompt_tokens };
        self.new_tokens.saturating_add(prompt).saturating_add(SLACK_TOKENS)
    }

    // Settings that nobody means must not come out small by wrapping.
    fn tokens(&self) -> u64 {
        let prompt = if self.shares_prompt { self.prompt_tokens } else { 0 };
        self.rows.saturating_mul(2).saturating_mul(self.row_tokens()).saturating_add(prompt)
    }

    /// Bytes of one token's keys and values.
    fn token(&self) -> u64 {
        self.sizes.n_layer.saturating_mul(self.sizes.kv_size).saturating_mul(self.sizes.element)
    }

    /// Bytes of one row's logits and activations.
    fn row(&self) -> u64 {
        let ReaderSizes { vocab_size, hidden_size, element, .. } = self.sizes;
        // Logits once as they come and once in f32; of activations the feed-forward layer's, four
        // times the hidden size, are the widest.
        let logits = if self.is_sampled { vocab_size.saturating_mul(element + 4) } else { 0 };
        self.chunk
            .saturating_mul(8)
            .saturating_mul(hidden_size)
            .saturating_mul(element)
            .saturating_add(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_counted_as_it_is_written() {
        let sizes =
            ReaderSizes { n_layer: 3, kv_size: 16, hidden_size: 8, vocab_size: 100, element: 4 };
        let reading = Reading {
            sizes,
            prompt_tokens: 10,
            new_tokens: 18,
            rows: 4,
            shares_prompt: true,
            chunk: 1,
            is_sampled: true,
        };
        assert_eq!(reading.bytes(), (10 + 2 * 4 * 50) * 192 + 4 * (800 + 256));
        assert_eq!(
            reading.arithmetic(),
            "(10 prompt tokens + 2 × 4 rows × 50 tokens) × 0.2 KiB of keys and values each + 4 \
             rows × 1.0 KiB of logits and activations"
        );
        let apart = Reading { shares_prompt: false, is_sampled: false, chunk: 18, ..reading };
        assert_eq!(apart.bytes(), 2 * 4 * 60 * 192 + 4 * 18 * 256);
        assert_eq!(
            Reading { rows: u64::MAX / 2, ..reading }.bytes(),
            u64::MAX,
            "nothing wraps round"
        );
    }
}
