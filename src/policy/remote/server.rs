//! A server, as far as a base needs to know it: where it is, what it is called by, which dialect it
//! speaks and what it can do. Found by asking it, once, before anything is sampled.

use serde_json::{Value, json};
use tracing::{info, warn};

use super::dialect::{Dialect, Route};
use super::facts::{Facts, Ids};
use crate::error::{Error, Result};
use crate::http::{Call, Reply, Service, Tokens, service};
use crate::recipe::Api;

/// A server that was asked what it is.
#[derive(Debug, Clone)]
pub struct Server {
    pub service: Service,
    /// What it calls the model.
    pub model: Option<String>,
    pub dialect: Dialect,
    pub facts: Facts,
}

impl Server {
    /// The server of a model of the recipe, in messages called `name`.
    ///
    /// # Errors
    /// [`Error::Recipe`] where it has no such model, or cannot do what its dialect asks of it; and
    /// where it cannot be reached.
    pub fn open(name: &str, api: &Api) -> Result<Self> {
        let key = api.key.as_deref();
        let service = service(name, &api.url, key, &api.limits, &api.budget)?;
        info!("{name}: asking {} what it can do", service.url);
        let listed = Listed::of(&service)?;
        let dialect = match Dialect::of(api.dialect) {
            Some(dialect) => dialect,
            None => detect(&service, &listed)?,
        };
        let model = model(name, api, dialect, &listed)?;
        let mut server = Self { service, model, dialect, facts: dialect.facts() };
        server.look(&listed)?;
        if let Some(most) = api.max_n {
            server.facts.max_n = server.facts.max_n.min(most);
        }
        info!(
            "{name}: {} speaks {}, {} continuations a request, {}",
            server.service.url,
            dialect.name(),
            server.facts.max_n,
            match server.facts.ids {
                Ids::No => "texts",
                _ => "token ids",
            }
        );
        Ok(server)
    }

    /// Where requests go.
    pub fn path(&self) -> String {
        path(&self.service.url, self.dialect.route())
    }

    /// What the server says of itself and, where its dialect is spoken by many, what a few requests
    /// show.
    fn look(&mut self, listed: &Listed) -> Result<()> {
        match self.dialect {
            Dialect::LlamaCpp => {
                let props = get(&self.service, Route::Native("/props"))?.unwrap_or_default();
                let slots = props["total_slots"].as_u64().unwrap_or(1).max(1) as usize;
                // A request that waits for slots for its further continuations holds its first one:
                // several of them may wait for each other for ever, so all get slots at once.
                self.facts.max_n = slots.isqrt();
                let at_once = &mut self.service.limits.at_once;
                *at_once = (*at_once).min(slots / self.facts.max_n);
                let context = &props["default_generation_settings"]["n_ctx"];
                self.facts.context = context.as_u64().map(|tokens| tokens as usize);
            }
            Dialect::Vllm => {
                self.facts.context = listed.number(self.model.as_deref(), "max_model_len");
            }
            Dialect::Sglang => {
                let info = get(&self.service, Route::Native("/get_model_info"))?;
                let context = info.unwrap_or_default()["max_context_length"].as_u64();
                self.facts.context = context.map(|tokens| tokens as usize);
            }
            Dialect::Tgi => {
                let info = get(&self.service, Route::Native("/info"))?.unwrap_or_default();
                let number = |key: &str| info[key].as_u64().map(|number| number as usize);
                self.facts.context = number("max_total_tokens");
                self.facts.max_stops = number("max_stop_sequences").unwrap_or(4);
            }
            Dialect::Chat => continues_turns(&self.service, listed)?,
            Dialect::OpenAi if is_openai(&self.service.url) => {}
            Dialect::OpenAi => {
                self.try_completions()?;
                // llama-cpp-python cuts by top-p before the temperature.
                self.facts.top_p &= listed.owner() != Some("me");
            }
            Dialect::Ollama | Dialect::Transformers => {}
        }
        if self.facts.ids == Ids::No && self.dialect != Dialect::Chat {
            self.facts.loses_space = !is_openai(&self.service.url) && self.loses_space()?;
        }
        Ok(())
    }

    /// What a server of unknown make takes of `/completions`: all that is asked of it, or less.
    fn try_completions(&mut self) -> Result<()> {
        let plain = json!({
            "model": self.model, "prompt": "The", "max_tokens": 8, "temperature": 2.0, "seed": 1,
        });
        let with = |more: &[(&str, Value)]| {
            let mut body = plain.clone();
            more.iter().for_each(|(key, value)| body[*key] = value.clone());
            body
        };
        let (n, logprobs) = (("n", json!(2)), ("logprobs", json!(1)));
        let knobs = [
            ("top_k", json!(1)),
            ("min_p", json!(0)),
            ("repetition_penalty", json!(1)),
            ("repeat_penalty", json!(1)),
        ];
        let all: Vec<(&str, Value)> =
            [n.clone(), logprobs.clone()].into_iter().chain(knobs.clone()).collect();
        let asked = [all, vec![n.clone(), logprobs.clone()], vec![logprobs], vec![n], Vec::new()];
        let mut refused = String::new();
        for more in asked {
            let reply = self.try_once(with(&more))?;
            let Ok(reply) = reply else {
                refused = reply.err().unwrap_or_default();
                continue;
            };
            let has = |key: &str| more.iter().any(|(asked, _)| *asked == key);
            let choices = reply["choices"].as_array().map_or(0, Vec::len);
            self.facts.max_n = if has("n") && choices > 1 { self.facts.max_n } else { 1 };
            let told = &reply["choices"][0]["logprobs"]["tokens"];
            self.facts.token_texts = has("logprobs") && told.is_array();
            self.facts.logprobs = self.facts.token_texts;
            self.facts.extra_knobs = has("top_k");
            // The likeliest token alone is the same by any seed, however hot.
            self.facts.top_k = has("top_k") && {
                let mut other = with(&more);
                other["seed"] = json!(2);
                let other = self.try_once(other)?.unwrap_or_default();
                let said = |reply: &Value| reply["choices"][0]["text"].clone();
                said(&reply).is_string() && said(&reply) == said(&other)
            };
            return Ok(());
        }
        let name = &self.service.name;
        Err(Error::recipe(format!(
            "`{name}`: the server at {} refuses `/completions`: {refused}\n\nhint: `w2s doctor {}` \
             tells what it can do; `api.dialect = \"chat\"` where it has chats alone",
            self.service.url, self.service.url
        )))
    }

    /// The reply, or what the server refuses it with.
    pub(super) fn try_once(&self, body: Value) -> Result<std::result::Result<Value, String>> {
        let most = Tokens { prompt: 4, completion: 16 };
        let call = Call { path: self.path(), body: Some(body), most };
        let reply = self.service.ask_once(&call)?;
        Ok(answer(&self.service, &call, reply))
    }
}

/// What a server says that it serves; nothing where it has no such list.
struct Listed(Vec<Value>);

impl Listed {
    fn of(service: &Service) -> Result<Self> {
        let list = get(service, Route::OpenAi("/models"))?.unwrap_or_default();
        Ok(Self(list["data"].as_array().cloned().unwrap_or_default()))
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().filter_map(|model| model["id"].as_str()).collect()
    }

    fn owner(&self) -> Option<&str> {
        self.0.first()?["owned_by"].as_str()
    }

    fn number(&self, model: Option<&str>, key: &str) -> Option<usize> {
        let named = self.0.iter().find(|listed| listed["id"].as_str() == model);
        Some(named.or(self.0.first())?[key].as_u64()? as usize)
    }
}

/// Where a route lies.
pub(super) fn path(url: &str, route: Route) -> String {
    match route {
        Route::OpenAi(path) => path.to_owned(),
        Route::Native(path) => format!("{}{path}", url.trim_end_matches("/v1")),
    }
}

/// What a route gives; `None` where the server has none of this name.
pub(super) fn get(service: &Service, route: Route) -> Result<Option<Value>> {
    let call = Call::get(path(&service.url, route));
    let reply = service.ask_once(&call)?;
    if matches!(reply.status, 401 | 403) {
        return Err(reply.success(service, &call).err().map_or_else(refused, Error::from));
    }
    Ok(answer(service, &call, reply).ok())
}

fn refused() -> Error {
    Error::failed("the server refuses access")
}

/// The JSON of a success, or what the server says instead.
fn answer(service: &Service, call: &Call, reply: Reply) -> std::result::Result<Value, String> {
    let said = format!("{} {}", reply.status, reply.said(service));
    reply.success(service, call).map_err(|_| said.trim().to_owned())
}

fn is_openai(url: &str) -> bool {
    url.contains("api.openai.com")
}

/// Which dialect the server speaks best.
fn detect(service: &Service, listed: &Listed) -> Result<Dialect> {
    if is_openai(&service.url) {
        return Ok(Dialect::OpenAi);
    }
    match listed.owner() {
        Some("vllm") => return Ok(Dialect::Vllm),
        Some("sglang") => return Ok(Dialect::Sglang),
        Some("llamacpp") => return Ok(Dialect::LlamaCpp),
        Some("library") => return Ok(Dialect::Ollama),
        Some("local") => return Ok(Dialect::Transformers),
        _ => {}
    }
    let has = |path: &'static str, key: &str| -> Result<bool> {
        Ok(get(service, Route::Native(path))?.is_some_and(|reply| !reply[key].is_null()))
    };
    Ok(if has("/props", "total_slots")? {
        Dialect::LlamaCpp
    } else if has("/info", "max_total_tokens")? {
        Dialect::Tgi
    } else if has("/get_model_info", "model_path")? {
        Dialect::Sglang
    } else if has("/api/version", "version")? {
        Dialect::Ollama
    } else {
        Dialect::OpenAi
    })
}

/// What the server calls the model.
fn model(name: &str, api: &Api, dialect: Dialect, listed: &Listed) -> Result<Option<String>> {
    let names = listed.names();
    let by_name = matches!(
        dialect,
        Dialect::OpenAi | Dialect::Vllm | Dialect::Ollama | Dialect::Transformers | Dialect::Chat
    );
    let serves = |names: &[&str]| {
        let shown: Vec<String> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
        shown.join(", ")
    };
    match (&api.model, names.as_slice()) {
        (Some(model), _) if dialect == Dialect::Vllm && !names.is_empty() => {
            if !names.contains(&model.as_str()) {
                return Err(Error::recipe(format!(
                    "`{name}`: the server at {} has no model `{model}`\n\nhint: it serves {}",
                    api.url,
                    serves(&names)
                )));
            }
            Ok(Some(model.clone()))
        }
        (Some(model), _) => {
            if !names.is_empty() && !names.contains(&model.as_str()) {
                warn!("{name}: the server does not list `{model}`, but {}", serves(&names));
            }
            Ok(Some(model.clone()))
        }
        (None, [only]) => Ok(Some((*only).to_owned())),
        (None, []) if !by_name => Ok(None),
        (None, []) => Err(Error::recipe(format!(
            "`{name}`: the server at {} does not say what it serves\n\nhint: check the address, which \
             most servers want with `/v1` at its end and nothing behind, or name the model \
             (`api.model`, `--base-model`)",
            api.url
        ))),
        (None, many) if by_name => Err(Error::recipe(format!(
            "`{name}`: the server at {} serves several models\n\nhint: name one (`api.model`, `--base-model`): {}",
            api.url,
            serves(many)
        ))),
        (None, _) => Ok(None),
    }
}

/// Refuses a server that begins a turn of its own behind an assistant's.
fn continues_turns(service: &Service, listed: &Listed) -> Result<()> {
    let known = ["vllm", "sglang", "llamacpp", "library"];
    if listed.owner().is_some_and(|owner| known.contains(&owner)) {
        return Ok(());
    }
    Err(Error::recipe(format!(
        "`{}`: the chats of the server at {} are not known to go on with an assistant's turn, so \
         a response cannot be sampled in chunks\n\nhint: vLLM, SGLang, llama.cpp and Ollama do; \
         elsewhere use `/completions` (`api.dialect = \"openai\"`)",
        service.name, service.url
    )))
}
