//! What is asked: a text to continue or a chat to answer, and the name that it goes by. How a model
//! reads it is told by `text`.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// One prompt. Random numbers, journals and answers go by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub id: String,
    pub text: PromptText,
}

impl Prompt {
    pub fn new(id: impl Into<String>, text: impl Into<PromptText>) -> Self {
        Self { id: id.into(), text: text.into() }
    }
}

/// What a prompt says. In JSON a string, or a list of `{"role", "content"}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PromptText {
    /// A text, which a response continues.
    Plain(String),
    /// The turns of a chat so far, which a response answers.
    Chat(Vec<Message>),
}

/// One turn; roles are `system`, `user` and `assistant`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into() }
    }
}

impl PromptText {
    /// Bytes of all that is said.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Chat(turns) => turns.iter().map(|turn| turn.content.len()).sum(),
        }
    }

    /// What a chat asks that has one turn alone, the user's.
    pub fn single_turn(&self) -> Option<&str> {
        match self {
            Self::Chat(turns) => match turns.as_slice() {
                [turn] if turn.role == "user" => Some(&turn.content),
                _ => None,
            },
            Self::Plain(_) => None,
        }
    }

    /// What prompts that must not part have in common, byte by byte: what is asked, whatever the
    /// system says. A chat of one turn asks what its text does.
    pub fn key(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Chat(turns) => match turns.as_slice() {
                [turn] => Cow::Borrowed(&turn.content),
                [system, turn] if system.role == "system" => Cow::Borrowed(&turn.content),
                [system, turns @ ..] if system.role == "system" => {
                    Cow::Owned(Self::Chat(turns.to_vec()).to_string())
                }
                _ => Cow::Owned(self.to_string()),
            },
        }
    }

    /// Whether nothing is said but white space.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Plain(text) => text.trim().is_empty(),
            Self::Chat(turns) => turns.iter().all(|turn| turn.content.trim().is_empty()),
        }
    }
}

impl Default for PromptText {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

impl From<&str> for PromptText {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for PromptText {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

impl From<Vec<Message>> for PromptText {
    fn from(turns: Vec<Message>) -> Self {
        Self::Chat(turns)
    }
}

/// For people to look at: a text as it is, of a chat each turn behind its role.
impl fmt::Display for PromptText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Chat(turns) => {
                for (index, Message { role, content }) in turns.iter().enumerate() {
                    if index > 0 {
                        f.write_char('\n')?;
                    }
                    write!(f, "[{role}] {content}")?;
                }
                Ok(())
            }
        }
    }
}
