//! What judges that are asked by name are asked about. Who they are is left to `judge.rs`.

use std::borrow::Cow;

use crate::prompt::PromptText;

/// A response to be judged, and the prompt that it answers.
pub struct ToJudge<'a> {
    /// What messages and a program's answers call it; no other of those asked together has it.
    pub id: Cow<'a, str>,
    pub prompt: &'a PromptText,
    pub response: &'a str,
}

impl<'a> ToJudge<'a> {
    pub fn new(id: impl Into<Cow<'a, str>>, prompt: &'a PromptText, response: &'a str) -> Self {
        Self { id: id.into(), prompt, response }
    }
}
