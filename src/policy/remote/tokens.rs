//! Whether the tokenizer here is the served model's: ids of another vocabulary are taken by servers
//! without a word.

use serde_json::{Value, json};

use super::dialect::Dialect;
use super::server::{Server, path};
use crate::error::{Error, Result};
use crate::http::Call;
use crate::text::Tokenizer;

/// Words, marks, digits and letters of several bytes, which vocabularies cut in their own ways.
const TEXT: &str = "The unforgettable film's 1984 naïve ending, 日本語!";

impl Server {
    /// # Errors
    /// [`Error::Recipe`] where the server makes other tokens of a text than `tokenizer`. One that
    /// does not tell its tokens is believed.
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        let body = match self.dialect {
            Dialect::LlamaCpp => json!({ "content": TEXT, "add_special": false }),
            Dialect::Vllm | Dialect::Sglang => {
                json!({ "model": self.model, "prompt": TEXT, "add_special_tokens": false })
            }
            _ => return Ok(()),
        };
        let route = super::dialect::Route::Native("/tokenize");
        let call = Call::post(path(&self.service.url, route), body);
        let reply = self.service.ask_once(&call)?;
        let told = reply.json().and_then(|body| body["tokens"].as_array());
        let told: Option<Vec<i64>> =
            told.and_then(|tokens| tokens.iter().map(Value::as_i64).collect());
        let Some(theirs) = told.filter(|_| reply.status == 200) else { return Ok(()) };
        let mine = tokenizer.encode(TEXT)?;
        if mine == theirs {
            return Ok(());
        }
        Err(Error::recipe(format!(
            "`{}`: the tokenizer in {} is not that of the served model: of {TEXT:?} it makes \
             {mine:?}, the server {theirs:?}\n\nhint: name the folder or hub id of the model that \
             is served",
            self.service.name,
            tokenizer.folder().display()
        )))
    }
}
