//! What a judge reads of a prompt and its response, in training as in use.

use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};
use crate::text::Tokenizer;

/// How a judge is given both.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Holds `{prompt}` and `{response}`.
    text: String,
    /// Whether the user gave it, so that it holds for chats too.
    is_given: bool,
}

impl Reading {
    /// `given` replaces the layout that the judge was trained with, its `own`.
    pub fn new(own: &str, given: Option<&str>) -> Self {
        Self { text: given.unwrap_or(own).to_owned(), is_given: given.is_some() }
    }

    /// The text, for messages.
    ///
    /// # Errors
    /// As [`Self::ids`].
    pub fn text(
        &self,
        tokenizer: &Tokenizer,
        prompt: &PromptText,
        response: &str,
    ) -> Result<String> {
        match self.turns(tokenizer, prompt, response)? {
            Some(text) => Ok(text),
            None => self.laid_out(prompt, response),
        }
    }

    /// The ids, with what the tokenizer puts around a text. A chat is rendered by the tokenizer's
    /// chat template, which brings its own; where the judge has none, or the layout is the user's,
    /// a single turn stands for a text.
    ///
    /// # Errors
    /// Where a judge without chat template is asked about a chat of several turns.
    pub fn ids(
        &self,
        tokenizer: &Tokenizer,
        prompt: &PromptText,
        response: &str,
    ) -> Result<Vec<i64>> {
        match self.turns(tokenizer, prompt, response)? {
            Some(text) => tokenizer.encode(&text),
            None => tokenizer.encode_with_special(&self.laid_out(prompt, response)?),
        }
    }

    /// A chat with its response as the chat template renders it.
    fn turns(
        &self,
        tokenizer: &Tokenizer,
        prompt: &PromptText,
        response: &str,
    ) -> Result<Option<String>> {
        let (PromptText::Chat(turns), false) = (prompt, self.is_given) else { return Ok(None) };
        let Some(template) = tokenizer.chat_template()? else { return Ok(None) };
        let mut turns = turns.clone();
        turns.push(Message::new("assistant", response));
        template.render(&turns, false).map(Some)
    }

    /// The layout with both in their holes; a single turn stands for a text.
    fn laid_out(&self, prompt: &PromptText, response: &str) -> Result<String> {
        let prompt = match prompt {
            PromptText::Plain(text) => text,
            PromptText::Chat(turns) => prompt.single_turn().ok_or_else(|| {
                let turns = turns.len();
                Error::failed(format!(
                    "the judge is asked about a chat of {turns} turns; without a chat template it \
                     reads one turn of the user\n\nhint: put a `chat_template.jinja` into its \
                     folder"
                ))
            })?,
        };
        Ok(self.filled(prompt, response))
    }

    /// The layout with both texts in their holes. Neither is looked at for the other's hole.
    pub fn filled(&self, prompt: &str, response: &str) -> String {
        let fill = |part: &str| part.replace("{prompt}", prompt);
        self.text.split("{response}").map(fill).collect::<Vec<_>>().join(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(given: Option<&str>) -> Reading {
        Reading::new("{prompt}{response}", given)
    }

    #[test]
    fn a_chat_goes_through_the_template_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let bare = Tokenizer::train_bpe(["a b".to_owned()].into_iter(), 257).unwrap();
        bare.save(folder.path()).unwrap();
        let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}";
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        let chatting = Tokenizer::open(folder.path()).unwrap();
        let one: PromptText = vec![Message::new("user", "q {response}")].into();
        let text = |reading: Reading, tokenizer: &Tokenizer, prompt: &PromptText| {
            reading.text(tokenizer, prompt, "r {prompt}").map_err(|error| error.to_string())
        };
        assert_eq!(
            text(reading(None), &chatting, &one),
            Ok("[user] q {response}\n[assistant] r {prompt}\n".to_owned())
        );
        assert_eq!(text(reading(None), &bare, &one), Ok("q {response}r {prompt}".to_owned()));
        let given = reading(Some("Q: {prompt} A: {response}"));
        assert_eq!(text(given, &chatting, &one), Ok("Q: q {response} A: r {prompt}".to_owned()));
        assert_eq!(text(reading(None), &chatting, &"q".into()), Ok("qr {prompt}".to_owned()));
        let two: PromptText = vec![Message::new("system", "s"), Message::new("user", "q")].into();
        let error = text(reading(None), &bare, &two).unwrap_err();
        assert!(error.contains("a chat of 2 turns") && error.contains("hint:"), "{error}");
        assert!(text(reading(None), &chatting, &two).unwrap().starts_with("[system] s\n[user] q"));
    }
}
