//! Token sequences of which a part is scored, made of prompts with responses or of documents. Their
//! log-probabilities are in `sequences.rs`.

use serde_json::{Value, json};

use crate::error::Result;
use crate::prompt::PromptText;
use crate::text::{PromptTemplate, Tokenizer};

/// Ids, of which those from `scored_from` (at least 1) on are predicted and scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    pub ids: Vec<i64>,
    pub scored_from: usize,
}

impl Sequence {
    /// Prompt, response, and EOS if the response is `complete`: just what search feeds and scores.
    /// A response that ends in one of the tokens `ends` is complete, and ends in the first of them,
    /// once. `None` where the response is empty and incomplete, or the whole does not fit
    /// `max_length` tokens.
    pub fn of_response(
        tokenizer: &Tokenizer,
        template: &PromptTemplate,
        prompt: &PromptText,
        (response, complete): (&str, bool),
        ends: &[i64],
        max_length: usize,
    ) -> Result<Option<Self>> {
        let mut ids = template.encode(tokenizer, prompt)?;
        let scored_from = ids.len();
        let (response, ended) = tokenizer.split_end(response, ends);
        ids.extend(tokenizer.encode_response(response, template.is_empty(tokenizer, prompt)?)?);
        ids.extend(ends.first().filter(|_| complete || ended));
        Ok((ids.len() > scored_from && ids.len() <= max_length)
            .then_some(Self { ids, scored_from }))
    }

    /// A document cut into windows of at most `max_length` tokens, with what stands before every
    /// text before the first and one EOS after the last. Windows of fewer than 8 tokens are dropped
    /// unless they are all there is.
    pub fn windows(
        tokenizer: &Tokenizer,
        template: &PromptTemplate,
        document: &str,
        max_length: usize,
    ) -> Result<Vec<Self>> {
        let eos = tokenizer.eos_id();
        let (document, _) = tokenizer.split_end(document, eos.as_slice());
        let mut ids = template.encode_text(tokenizer, document)?;
        ids.extend(eos);
        Ok(Self::cut(&ids, max_length))
    }

    fn cut(ids: &[i64], max_length: usize) -> Vec<Self> {
        (ids.chunks(max_length).enumerate())
            .filter(|(i, window)| window.len() >= if *i == 0 { 2 } else { 8 })
            .map(|(_, window)| Self { ids: window.to_vec(), scored_from: 1 })
            .collect()
    }

    /// The ids that are read and not scored.
    pub fn prompt(&self) -> &[i64] {
        &self.ids[..self.scored_from]
    }

    /// The ids that are scored.
    pub fn response(&self) -> &[i64] {
        &self.ids[self.scored_from..]
    }

    /// Ids and text, for people to look at.
    pub fn describe(&self, tokenizer: &Tokenizer) -> Value {
        let text = |ids: &[i64]| tokenizer.decode(ids).unwrap_or_default();
        json!({
            "prompt": text(self.prompt()),
            "response": text(self.response()),
            "ids": self.ids,
            "scored_from": self.scored_from
        })
    }

    pub fn scored(&self) -> usize {
        self.ids.len() - self.scored_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_become_windows_with_bos_and_eos_at_the_ends() {
        let ids: Vec<i64> = (1..20).collect();
        let windows = Sequence::cut(&ids, 10);
        assert_eq!(windows.len(), 2);
        assert_eq!(windows[0].ids, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(windows[1].ids, [11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(Sequence::cut(&ids[..12], 10).len(), 1, "a tail of two tokens is dropped");
        // Bytes; `<|endoftext|>`, id 0, is BOS and EOS.
        let tokenizer = Tokenizer::train_bpe(["ab".to_owned()].into_iter(), 257).unwrap();
        let ids = |bos: Option<bool>, document: &str| {
            let windows =
                Sequence::windows(&tokenizer, &PromptTemplate::new("{prompt}", bos), document, 99)
                    .unwrap();
            windows.into_iter().map(|window| window.ids).collect::<Vec<_>>().concat()
        };
        let [a, b] = ["a", "b"].map(|text| tokenizer.encode(text).unwrap()[0]);
        for document in
            ["ab", "ab<|endoftext|>", "ab<|endoftext|>\n", "ab<|endoftext|> <|endoftext|>"]
        {
            assert_eq!(ids(Some(true), document), [0, a, b, 0], "{document:?}");
            assert_eq!(ids(None, document), [a, b, 0], "{document:?}");
        }
        assert_eq!(ids(Some(true), "<|endoftext|>ab"), [0, a, b, 0]);
        assert_eq!(
            ids(Some(true), "a<|endoftext|>b"),
            [0, a, 0, b, 0],
            "documents in one text stay apart"
        );
    }

    #[test]
    fn a_response_that_brings_its_end_token_has_one() {
        let tokenizer = Tokenizer::train_bpe(["ab".to_owned()].into_iter(), 257).unwrap();
        let [a, b] = ["a", "b"].map(|text| tokenizer.encode(text).unwrap()[0]);
        let template = PromptTemplate::new("{prompt}", None);
        let response = |text: &str, complete: bool, ends: &[i64]| {
            let sequence = Sequence::of_response(
                &tokenizer,
                &template,
                &"a".into(),
                (text, complete),
                ends,
                99,
            )
            .unwrap();
            sequence.map(|sequence| sequence.response().to_vec())
        };
        for text in
            ["ab", "ab<|endoftext|>", "ab<|endoftext|>\n ", "ab<|endoftext|>\n<|endoftext|>"]
        {
            assert_eq!(response(text, true, &[0]), Some(vec![a, b, 0]), "{text:?}");
            let complete = text.contains('<');
            assert_eq!(
                response(text, false, &[0]),
                Some(if complete { vec![a, b, 0] } else { vec![a, b] }),
                "{text:?}"
            );
        }
        assert_eq!(
            response("a<|endoftext|>b", true, &[0]),
            Some(vec![a, 0, b, 0]),
            "within a text it is a token as any other"
        );
        assert_eq!(
            response("a<|endoftext|>", true, &[b, 0]),
            Some(vec![a, b]),
            "another end token is that end"
        );
        assert_eq!(
            response("a b", true, &[b]),
            Some([tokenizer.encode("a b").unwrap(), vec![b]].concat()),
            "b is no special token"
        );
        assert_eq!(response("", false, &[0]), None);
    }
}
