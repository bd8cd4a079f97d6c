//! What is asked: a text to continue, and the name that it goes by.

/// One prompt. Random numbers, journals and answers go by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub id: String,
    pub text: String,
}

impl Prompt {
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { id: id.into(), text: text.into() }
    }
}
