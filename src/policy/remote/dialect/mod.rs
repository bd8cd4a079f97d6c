//! The dialects of servers: how one request is spelled, and how its reply is read. They know no
//! network. What a server says of itself (`usage`, the number of choices) is not trusted: it is
//! counted.

mod chat;
mod completions;
mod llama_cpp;
mod next_tokens;
mod ollama;
mod openai;
mod sglang;
mod shape;
mod tgi;
mod transformers;
mod vllm;

pub use next_tokens::Told;

use serde_json::Value;

use super::ask::{Ask, Choice, Given};
use super::facts::{Facts, Ids};
use crate::recipe::DialectName;

/// Of a key that is unbounded.
const ANY: usize = usize::MAX;

/// A dialect that is spoken: [`DialectName`] without `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Vllm,
    Sglang,
    LlamaCpp,
    Tgi,
    Ollama,
    Transformers,
    Chat,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Behind the recipe's `url`.
    OpenAi(&'static str),
    /// Beside it, where the `/v1` of the `url` is left out.
    Native(&'static str),
}

impl Dialect {
    pub const ALL: [Self; 8] = [
        Self::OpenAi,
        Self::Vllm,
        Self::Sglang,
        Self::LlamaCpp,
        Self::Tgi,
        Self::Ollama,
        Self::Transformers,
        Self::Chat,
    ];

    /// `None` where the server is to be asked.
    pub fn of(name: DialectName) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.recipe_name() == name)
    }

    pub fn recipe_name(self) -> DialectName {
        match self {
            Self::OpenAi => DialectName::OpenAi,
            Self::Vllm => DialectName::Vllm,
            Self::Sglang => DialectName::Sglang,
            Self::LlamaCpp => DialectName::LlamaCpp,
            Self::Tgi => DialectName::Tgi,
            Self::Ollama => DialectName::Ollama,
            Self::Transformers => DialectName::Transformers,
            Self::Chat => DialectName::Chat,
        }
    }

    pub fn name(self) -> &'static str {
        self.recipe_name().name()
    }

    pub fn route(self) -> Route {
        match self {
            Self::OpenAi | Self::Vllm | Self::Transformers => Route::OpenAi("/completions"),
            Self::Chat => Route::OpenAi("/chat/completions"),
            Self::Sglang | Self::Tgi => Route::Native("/generate"),
            Self::LlamaCpp => Route::Native("/completion"),
            Self::Ollama => Route::Native("/api/generate"),
        }
    }

    /// What servers of this dialect can do, before one of them was asked.
    pub fn facts(self) -> Facts {
        let plain = Facts {
            max_n: 1,
            ids: Ids::No,
            top_k: true,
            top_p: true,
            seed: true,
            max_stops: ANY,
            tells_stop: true,
            token_texts: false,
            logprobs: false,
            extra_knobs: true,
            context: None,
            loses_space: false,
            takes_special: false,
        };
        match self {
            Self::OpenAi => Facts {
                max_n: 128,
                top_k: false,
                max_stops: 4,
                tells_stop: false,
                token_texts: true,
                logprobs: true,
                extra_knobs: false,
                ..plain
            },
            Self::Vllm => {
                Facts { max_n: 128, ids: Ids::Both, logprobs: true, takes_special: true, ..plain }
            }
            Self::Sglang => Facts { max_n: 128, ids: Ids::Both, ..plain },
            Self::LlamaCpp => Facts { ids: Ids::Mixed, logprobs: true, ..plain },
            Self::Tgi => Facts { max_stops: 4, token_texts: true, ..plain },
            Self::Ollama => Facts { tells_stop: false, ..plain },
            // Its seed is one for all that it is doing.
            Self::Transformers => Facts { seed: false, ..plain },
            Self::Chat => Facts { tells_stop: false, ..plain },
        }
    }

    /// The body of a request for `ask`, to a server that calls the model `model`.
    pub fn body(self, model: Option<&str>, ask: &Ask, facts: &Facts) -> Value {
        match self {
            Self::OpenAi => openai::body(model, ask, facts),
            Self::Vllm => vllm::body(model, ask),
            Self::Sglang => sglang::body(ask),
            Self::LlamaCpp => llama_cpp::body(ask),
            Self::Tgi => tgi::body(ask),
            Self::Ollama => ollama::body(model, ask),
            Self::Transformers => transformers::body(model, ask),
            Self::Chat => chat::body(model, ask, facts),
        }
    }

    /// What a reply gives.
    ///
    /// # Errors
    /// What is wrong with it, where it is none.
    pub fn read(self, reply: &Value) -> Result<Given, String> {
        let given = match self {
            Self::OpenAi => openai::read(reply),
            Self::Vllm => vllm::read(reply),
            Self::Sglang => sglang::read(reply),
            Self::LlamaCpp => llama_cpp::read(reply),
            Self::Tgi => tgi::read(reply),
            Self::Ollama => ollama::read(reply),
            Self::Transformers => transformers::read(reply),
            Self::Chat => chat::read(reply),
        }?;
        if given.choices.is_empty() {
            return Err("no continuation".to_owned());
        }
        let is_nothing = |choice: &Choice| {
            let ids = choice.ids.as_ref().map_or(0, Vec::len);
            choice.end.is_none() && choice.text.is_empty() && ids == 0
        };
        match given.choices.iter().any(is_nothing) {
            true => Err("an empty text that nothing ended (an empty prompt?)".to_owned()),
            false => Ok(given),
        }
    }
}
