//! The base of an engine: what proposes responses. [`LocalPolicy`] is one, [`RemoteBase`] another;
//! whatever else can continue text implements [`Base`]. How models do it is in the room `policy`.

use std::rc::Rc;

use super::memory::{Reader, Sizes, sampling};
use super::prompt_room::{Part, PromptReader};
use crate::error::{Error, Result};
use crate::policy::remote::{Asking, Ids, RemoteBase, Server, TiltedBase};
use crate::policy::{LocalPolicy, Member};
use crate::prompt::PromptText;
use crate::search::Proposer;
use crate::text::{PromptTemplate, Tokenizer, Vocabulary};

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

    /// What samples from the base and these models of its vocabulary together.
    ///
    /// # Errors
    /// [`Error::Recipe`] where its distributions are not at hand.
    fn mix(self: Box<Self>, _members: Vec<Member>) -> Result<Box<dyn Base>> {
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

    fn mix(mut self: Box<Self>, members: Vec<Member>) -> Result<Box<dyn Base>> {
        self.mix_in(members);
        Ok(self)
    }
}

impl Base for RemoteBase {
    fn vocabulary(&self) -> Option<Vocabulary> {
        // Where ids do not come back, responses are texts.
        let tokenizer = self.tokenizer().filter(|_| self.server().facts.ids != Ids::No);
        tokenizer.map(|tokenizer| tokenizer.vocabulary())
    }

    fn prompt_readers(&self) -> Vec<PromptReader> {
        served_reader(self.server(), self.tokenizer(), self.template()).into_iter().collect()
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

    /// Guides without any weight change nothing.
    fn mix(self: Box<Self>, mut members: Vec<Member>) -> Result<Box<dyn Base>> {
        members.retain(|member| member.weight != 0.0);
        Ok(if members.is_empty() { self } else { Box::new(self.tilt(members)?) })
    }
}

impl Base for TiltedBase {
    fn vocabulary(&self) -> Option<Vocabulary> {
        Some(self.guides().tokenizer().vocabulary())
    }

    fn prompt_readers(&self) -> Vec<PromptReader> {
        let Asking { template, tokenizer, .. } = self.asking();
        let served = served_reader(self.server(), tokenizer.as_ref(), template);
        let guides = self.guides().prompt_readers().into_iter();
        let guides = guides.map(|reader| PromptReader { name: "the guide".to_owned(), ..reader });
        served.into_iter().chain(guides).collect()
    }

    fn footprint(&self, prompt: &PromptText, sizes: &Sizes) -> Result<Vec<Reader>> {
        self.guides().footprint(prompt, sizes)
    }

    fn at_once(&self) -> Option<usize> {
        Some(self.server().service.limits.at_once)
    }

    fn meter(&self) -> Option<Box<dyn Fn() -> String>> {
        Some(Box::new(self.meter_words()))
    }
}

/// The served model, where it is known how much it can read.
fn served_reader(
    server: &Server,
    tokenizer: Option<&Rc<Tokenizer>>,
    template: &PromptTemplate,
) -> Option<PromptReader> {
    Some(PromptReader {
        name: "the served model".to_owned(),
        tokenizer: tokenizer?.clone(),
        context: server.facts.context?,
        template: template.clone(),
        part: Part::Samples,
    })
}
