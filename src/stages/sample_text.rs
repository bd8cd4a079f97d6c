//! A text of a model in training, for people to look at.

use std::rc::Rc;

use crate::models::Lm;
use crate::policy::LocalPolicy;
use crate::prompt::PromptText;
use crate::sampling::{Sampling, Stream};
use crate::search::{Extend, Proposer};
use crate::text::{PromptTemplate, Tokenizer};
use crate::train::tasks::SampleText;

/// Makes one continuation of `prompt` at temperature 0.7, top-k 50, the same random numbers each
/// time, of up to `max_new_tokens` tokens and as many as the context has room for; none where it
/// has none.
pub fn sample_text(
    lm: Rc<Lm>,
    tokenizer: Rc<Tokenizer>,
    template: PromptTemplate,
    prompt: PromptText,
    max_new_tokens: usize,
) -> SampleText {
    Box::new(move || {
        let room = (lm.model.info().context as usize)
            .saturating_sub(template.encode(&tokenizer, &prompt)?.len());
        if room == 0 {
            return Ok(None);
        }
        let mut policy = LocalPolicy::new(
            lm.clone(),
            tokenizer.clone(),
            template.clone(),
            Sampling::new(0.7, 50, 1.0),
            Vec::new(),
        );
        let node = policy.open(&[&prompt])?.remove(0);
        let stream = Stream::new(0, "sample", &prompt.to_string());
        let extended = policy.extend(&[Extend {
            node,
            stream,
            slot: 0,
            max_tokens: room.min(max_new_tokens),
        }])?;
        Ok(Some(format!("{prompt}{}", extended[0].response.text)))
    })
}
