//! What a model reads before a response: the one function that training and search both use, so BOS and template cannot differ.

use super::Tokenizer;
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub struct PromptTemplate {
    template: String,
    bos: bool,
}

impl PromptTemplate {
    /// `template` holds `{prompt}`; `bos` puts the tokenizer's BOS token first, if it has one.
    pub fn new(template: &str, bos: bool) -> Self {
        Self { template: template.to_owned(), bos }
    }

    /// The ids of the rendered prompt; at least one.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i64>> {
        let bos = if self.bos { tokenizer.bos_id() } else { None };
        let mut ids: Vec<i64> = bos.into_iter().collect();
        ids.extend(tokenizer.encode(&self.template.replace("{prompt}", prompt))?);
        if ids.is_empty() {
            return Err(Error::failed(
                "an empty prompt without a BOS token gives a model nothing to read\n\nhint: set `bos = true`, or give a prompt",
            ));
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bos_and_template_stand_before_the_prompt() {
        let texts = ["a b c d e f g".repeat(5)];
        let tokenizer = Tokenizer::train_bpe(texts.into_iter(), 270).unwrap();
        let with = PromptTemplate::new("Review: {prompt}", true).encode(&tokenizer, "good").unwrap();
        let without = PromptTemplate::new("Review: {prompt}", false).encode(&tokenizer, "good").unwrap();
        assert_eq!(with[0], 0);
        assert_eq!(with[1..], without);
        assert_eq!(tokenizer.decode(&without).unwrap(), "Review: good");
        assert_eq!(PromptTemplate::new("{prompt}", true).encode(&tokenizer, "").unwrap(), [0]);
        assert!(PromptTemplate::new("{prompt}", false).encode(&tokenizer, "").unwrap_err().to_string().contains("hint"));
    }
}
