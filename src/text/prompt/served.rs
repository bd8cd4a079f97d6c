//! What a model reads that others serve: a text without a tokenizer here, or turns of which the
//! server makes a text.

use super::PromptTemplate;
use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};
use crate::recipe::{Chat, HOLE};

impl PromptTemplate {
    /// The text that a model reads whose tokenizer is not here.
    ///
    /// # Errors
    /// Where it reads chats: their template lies with the tokenizer.
    pub fn render_alone(&self, prompt: &PromptText) -> Result<String> {
        let text = match prompt {
            PromptText::Plain(text) => Some(text.as_str()),
            PromptText::Chat(_) => prompt.single_turn(),
        };
        match text.filter(|_| self.chat.is_none()) {
            Some(text) => {
                Ok(format!("{}{}", self.exemplars.text, self.template.replace(HOLE, text)))
            }
            None => Err(Error::failed(
                "a chat cannot be made a text without the model's chat template\n\nhint: name its \
                 tokenizer as `api.tokenizer`, or let the server make the text: `api.dialect = \
                 \"chat\"`",
            )),
        }
    }

    /// The turns that a server is to make a text of, up to the assistant's.
    ///
    /// # Errors
    /// Where no response answers them.
    pub fn turns(&self, prompt: &PromptText) -> Result<Vec<Message>> {
        let none = Chat::default();
        let chat = self.chat.as_ref().unwrap_or(&none);
        let turns = match prompt {
            PromptText::Plain(text) => {
                vec![Message::new("user", self.template.replace(HOLE, text))]
            }
            PromptText::Chat(turns) => self.asked(turns)?,
        };
        Ok(self.with_system(chat, turns))
    }
}
