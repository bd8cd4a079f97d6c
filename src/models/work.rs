//! The arithmetic of a language model, known from its config: multiply-adds, each a product and its
//! sum (two FLOPs). How many tokens a method feeds is left to those who count them.

use super::config::LmConfig;
use super::shapes;

/// Multiply-adds of one forward pass over one token. What multiplies no weight (norms, activations,
/// embeddings that are looked up) is not counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Weights of the blocks, each of which multiplies every token that is read.
    pub blocks: f64,
    /// Weights of the head, for a token whose logits are needed.
    pub head: f64,
    /// Of attention, for each position that the token sees, its own included: the scores and the
    /// weighted sum of all heads and layers.
    pub attention: f64,
}

impl Work {
    pub fn of(config: &LmConfig) -> Self {
        let (layers, width) = match config {
            LmConfig::Gpt2(config) => (config.n_layer, config.n_embd),
            LmConfig::Llama(config) => {
                (config.num_hidden_layers, config.num_attention_heads * config.head_dim())
            }
        };
        let [vocab_size, hidden_size] = shapes::embedding(config);
        let blocks = shapes::linears(config);
        Self {
            blocks: blocks.iter().map(|layer| (layer.n_in * layer.n_out) as f64).sum(),
            head: (vocab_size * hidden_size) as f64,
            attention: (2 * layers * width) as f64,
        }
    }

    /// Of the weights alone: `prompt` tokens are read, and `tokens` more, whose logits are needed.
    pub fn products(&self, prompt: f64, tokens: f64) -> f64 {
        self.blocks * (tokens + prompt) + self.head * tokens
    }

    /// [`Self::products`] with attention: each token of the prompt sees those up to itself, and
    /// each further one the whole prompt and, in the mean, `depth` positions behind it. A window
    /// that hides what is far back is not looked at.
    pub fn multiply_adds(&self, prompt: f64, tokens: f64, depth: f64) -> f64 {
        let seen = prompt * (prompt + 1.0) / 2.0 + tokens * (prompt + depth);
        self.products(prompt, tokens) + self.attention * seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Gpt2Config;

    #[test]
    fn a_small_model_by_hand() {
        let config = Gpt2Config {
            vocab_size: 10,
            n_embd: 4,
            n_layer: 2,
            n_head: 2,
            n_inner: None,
            ..Gpt2Config::default()
        };
        let work = Work::of(&LmConfig::Gpt2(config));
        // A block: 4·12 + 4·4 for attention, 4·16 + 16·4 for the rest.
        assert_eq!((work.blocks, work.head, work.attention), (2.0 * 192.0, 40.0, 16.0));
        // Three tokens of a prompt see 1 + 2 + 3, two more behind it 4 + 5: a mean depth of 1.5.
        let expected = 384.0 * 5.0 + 40.0 * 2.0 + 16.0 * (6.0 + 9.0);
        assert_eq!(work.multiply_adds(3.0, 2.0, 1.5), expected);
    }
}
