//! Whether prompts leave the models room to answer, by tokenizers and configs alone: found before
//! any weights are read, for all prompts at once.
//!
//! What samples needs room for every new token. Guides that score need room for one: of a response
//! that is longer than they can read they score the beginning, so a warning says how many prompts
//! leave them less than a response may take.

use std::path::Path;
use std::rc::Rc;

use tracing::warn;

use crate::error::{Error, Result};
use crate::models::tokenizer_and_context;
use crate::prompt::{Prompt, PromptText};
use crate::recipe::guide_tokens;
use crate::text::{PromptTemplate, Tokenizer, prompt_words};

/// A model that reads prompts.
pub struct PromptReader {
    /// In messages.
    pub name: String,
    pub tokenizer: Rc<Tokenizer>,
    /// The most tokens of prompt and response together.
    pub context: usize,
    pub template: PromptTemplate,
    pub part: Part,
}

/// What a reader does with a prompt's response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// Makes it, token by token.
    Samples,
    /// Reads as much of it as fits.
    Scores { same_vocabulary: bool },
}

impl PromptReader {
    /// The model in `folder`, that samples.
    pub fn open(name: String, folder: &Path, template: PromptTemplate) -> Result<Self> {
        let (tokenizer, context) = tokenizer_and_context(folder)?;
        Ok(Self { name, tokenizer: Rc::new(tokenizer), context, template, part: Part::Samples })
    }

    /// The same model as a guide that scores what those of `others` sample which sample.
    pub fn scoring(self, others: &[Self]) -> Self {
        let vocabulary = self.tokenizer.vocabulary();
        let sampling = others.iter().filter(|other| other.part == Part::Samples);
        let same_vocabulary = sampling
            .map(|other| other.tokenizer.vocabulary())
            .all(|other| other.difference(&vocabulary).is_none());
        Self { part: Part::Scores { same_vocabulary }, ..self }
    }

    /// Whether `prompt` leaves it what it needs of a response of so many tokens.
    pub fn fits(&self, prompt: &PromptText, new_tokens: usize) -> Result<bool> {
        Ok(self.room(prompt)?.0 >= self.needed(new_tokens))
    }

    /// Tokens that this model reads behind `prompt`, and those of the prompt.
    fn room(&self, prompt: &PromptText) -> Result<(usize, usize)> {
        let tokens = self.template.encode(&self.tokenizer, prompt)?.len();
        Ok((self.context.saturating_sub(tokens), tokens))
    }

    fn needed(&self, new_tokens: usize) -> usize {
        match self.part {
            Part::Samples => new_tokens,
            Part::Scores { .. } => 1,
        }
    }

    fn complaint(&self, id: &str, tokens: usize, new_tokens: usize) -> String {
        let Self { name, context, .. } = self;
        match self.part {
            Part::Samples => format!(
                "prompt `{id}`: {tokens} tokens and {new_tokens} new ones do not fit {name}'s \
                 context of {context}"
            ),
            Part::Scores { .. } => {
                format!(
                    "prompt `{id}`: {tokens} tokens leave {name} no token of a response to read in \
                     a context of {context}"
                )
            }
        }
    }
}

/// The key that bounds the words of whole prompts, and what it does with longer ones.
#[derive(Debug, Clone, Copy)]
pub struct WordBound {
    pub key: &'static str,
    /// As in "leaves out 3 of 9 prompts".
    pub does: &'static str,
}

/// [`refuse_long`], and a warning where guides may not read all of a response.
pub fn check(
    prompts: &[Prompt],
    new_tokens: usize,
    readers: &[PromptReader],
    bound: Option<WordBound>,
) -> Result<()> {
    refuse_long(prompts, new_tokens, readers, bound)?;
    let mut told: Vec<String> = Vec::new();
    for reader in readers {
        // Both guides of a pair say the same.
        if let Some(warning) =
            short_room(prompts, new_tokens, reader)?.filter(|warning| !told.contains(warning))
        {
            warn!("{warning}");
            told.push(warning);
        }
    }
    Ok(())
}

/// Refuses prompts that do not leave all of `readers` what they need, each by its id. Where `bound`
/// can leave them out, the error says how.
pub fn refuse_long(
    prompts: &[Prompt],
    new_tokens: usize,
    readers: &[PromptReader],
    bound: Option<WordBound>,
) -> Result<()> {
    let mut complaints: Vec<String> = Vec::new();
    // New tokens that every one of them has room for.
    let mut least = usize::MAX;
    // Words of the shortest one that is refused.
    let mut shortest = usize::MAX;
    for Prompt { id, text } in prompts {
        for reader in readers {
            let (room, tokens) = reader.room(text)?;
            if room < reader.needed(new_tokens) {
                complaints.push(reader.complaint(id, tokens, new_tokens));
                least = least.min(room);
                shortest = shortest.min(prompt_words(text));
                break;
            }
        }
    }
    let list = match &complaints[..] {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("{} prompts are too long\n  {}", many.len(), many.join("\n  ")),
    };
    let way_out = match least {
        0 => String::new(),
        room => format!(", or lower `max_new_tokens` to {room}"),
    };
    let fewer = bound.and_then(|bound| bound.way_out(prompts, shortest)).unwrap_or_default();
    Err(Error::failed(format!("{list}\n\nhint: shorten the prompt{way_out}{fewer}")))
}

impl WordBound {
    /// The largest bound that none of the refused prompts keeps, the shortest of which has so many
    /// words; where that would keep no prompt at all, a cut or another number may do.
    fn way_out(self, prompts: &[Prompt], shortest: usize) -> Option<String> {
        let Self { key, does } = self;
        let most = shortest.checked_sub(1)?;
        let longer = prompts.iter().filter(|prompt| prompt_words(&prompt.text) > most).count();
        let all = prompts.len();
        Some(match longer < all {
            true => format!(", or `{key} = {most}`, which {does} {longer} of these {all} prompts"),
            false => format!(
                ", or lower `{key}`, with `long = \"cut\"`: the shortest of them has {shortest} \
                 words, and what stands around a prompt takes of the room too"
            ),
        })
    }
}

/// What is to be said of guides that may not read all of a response.
fn short_room(
    prompts: &[Prompt],
    new_tokens: usize,
    reader: &PromptReader,
) -> Result<Option<String>> {
    let Part::Scores { same_vocabulary } = reader.part else { return Ok(None) };
    let expected = guide_tokens(new_tokens, same_vocabulary);
    let mut short: Vec<(usize, &str)> = Vec::new();
    for Prompt { id, text } in prompts {
        short
            .extend(Some((reader.room(text)?.0, id.as_str())).filter(|(room, _)| *room < expected));
    }
    let least = short.iter().min();
    Ok(least.map(|(room, id)| {
        format!(
            "{} of {} prompts leave {} room for fewer than the {expected} tokens that a response \
             may take ({room} after prompt `{id}`); of a longer one only the beginning is scored",
            short.len(),
            prompts.len(),
            reader.name
        )
    }))
}
