//! The base of an engine: what proposes responses. [`LocalPolicy`] is one, [`RemoteBase`] another;
//! whatever else can continue text implements [`Base`]. How models do it is in the room `policy`.

use super::memory::{Reader, Sizes, sampling};
use super::prompt_room::{Part, PromptReader};
use crate::error::{Error, Result};
use crate::policy::remote::{Ids, RemoteBase};
use crate::policy::{LocalPolicy, Member};
use crate::prompt::PromptText;
use crate::search::Proposer;
use crate::text::Vocabulary;

/// What proposes responses, and what is known of it beside.
pub trait Base: Proposer {
    /// Its vocabulary, where it is known: ids pass straight to guides that have the same, and only
    /// these may be mixed in.
    fn vocabulary(&self) -> Option<Vocabulary>;

    /// Who reads prompts to sample what is said behind them, as far as it is known how much they
    /// can read.
    fn prompt_readers(&self) -> Vec<PromptReader>;

    /// What one prompt in flight takes on this machine, `prompt` being the longest.
    fn footprint(&self, prompt: &PromptText, sizes: &Sizes) -> Result<Vec<Reader>>;

    /// Samples from now on from the base and these models of its vocabulary together.
    ///
    /// # Errors
    /// [`Error::Recipe`] where its distributions are not at hand.
    fn mix(&mut self, _members: Vec<Member>) -> Result<()> {
        Err(Error::recipe(
            "the base does not tell its next tokens, so nothing can be mixed into what it samples",
        ))
    }

    /// Requests that it should have under way at once; `None` where it computes itself.
    fn at_once(&self) -> Option<usize> {
        None
    }

    /// Tells at any time what is under way with others and what it costs, in words.
    fn meter(&self) -> Option<Box<dyn Fn() -> String>> {
        None
    }
}

impl Base for LocalPolicy {
    fn vocabulary(&self) -> Option<Vocabulary> {
        Some(self.tokenizer().vocabulary())
    }

    fn prompt_readers(&self) -> Vec<PromptReader> {
        let reader = |(index, Member { lm, template, .. }): (usize, &Member)| PromptReader {
            name: if index == 0 { "the model" } else { "the guide" }.to_owned(),
            tokenizer: self.tokenizer().clone(),
            context: lm.model.info().context as usize,
            template: template.clone(),
            part: Part::Samples,
        };
        self.members().iter().enumerate().map(reader).collect()
    }

    fn footprint(&self, prompt: &PromptText, sizes: &Sizes) -> Result<Vec<Reader>> {
        let mut readers = Vec::new();
        for (index, Member { lm, template, .. }) in self.members().iter().enumerate() {
            readers.push(sampling(
                index,
                lm.as_ref().into(),
                template.encode(self.tokenizer(), prompt)?.len(),
                sizes,
            ));
        }
        Ok(readers)
    }

    fn mix(&mut self, members: Vec<Member>) -> Result<()> {
        self.mix_in(members);
        Ok(())
    }
}

impl Base for RemoteBase {
    fn vocabulary(&self) -> Option<Vocabulary> {
        // Where ids do not come back, responses are texts.
        let tokenizer = self.tokenizer().filter(|_| self.server().facts.ids != Ids::No);
        tokenizer.map(|tokenizer| tokenizer.vocabulary())
    }

    fn prompt_readers(&self) -> Vec<PromptReader> {
        let (context, tokenizer) = (self.server().facts.context, self.tokenizer());
        let known = context.zip(tokenizer).map(|(context, tokenizer)| PromptReader {
            name: "the served model".to_owned(),
            tokenizer: tokenizer.clone(),
            context,
            template: self.template().clone(),
            part: Part::Samples,
        });
        known.into_iter().collect()
    }

    /// The server's memory is its own business.
    fn footprint(&self, _prompt: &PromptText, _sizes: &Sizes) -> Result<Vec<Reader>> {
        Ok(Vec::new())
    }

    fn at_once(&self) -> Option<usize> {
        Some(RemoteBase::at_once(self))
    }

    fn meter(&self) -> Option<Box<dyn Fn() -> String>> {
        Some(Box::new(self.meter_words()))
    }
}
