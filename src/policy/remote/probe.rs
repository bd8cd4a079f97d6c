//! What a server can do, found out by asking it: a few requests of few tokens, whose answers are
//! counted and compared. What a server says of itself (`usage`, 200 for a key that it ignores) is
//! no proof. What is made of it is left to whoever asks.

mod joins;
mod prompts;
mod samples;

use serde_json::Value;

use super::ask::{Ask, Choice, Given, Read};
use super::dialect::{Dialect, Route};
use super::facts::Ids;
use super::server::{self, Server};
use crate::error::{Error, Result};
use crate::http::{Call, Cause, Tokens};
use crate::prompt::Message;
use crate::recipe::Api;
use crate::sampling::Sampling;

/// What most models go on from in many ways.
const TEXT: &str = "The film was";

/// One line of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub of: &'static str,
    pub found: String,
}

/// All that was found out.
pub struct Report {
    pub findings: Vec<Finding>,
    /// The lines of a recipe that fit, without the model's table.
    pub lines: Vec<String>,
}

/// Asks the server that `api` names.
///
/// # Errors
/// Where it cannot be reached or refuses access, and where it serves no text that goes on.
pub fn probe(name: &str, api: &Api) -> Result<Report> {
    let mut server = Server::open(name, api)?;
    server.service.attempts = server.service.attempts.min(2);
    let prober = Prober { server };
    let mut findings = vec![
        finding("dialect", prober.server.dialect.name().to_owned()),
        finding("model", prober.server.model.clone().unwrap_or("its only one".to_owned())),
    ];
    findings.extend(prober.samples()?);
    findings.extend(prober.joins()?);
    findings.extend(prober.prompts()?);
    findings.push(finding("next tokens", prober.next_tokens()));
    let lines = lines(api, &prober.server, &findings);
    Ok(Report { findings, lines })
}

fn finding(of: &'static str, found: impl Into<String>) -> Finding {
    Finding { of, found: found.into() }
}

/// What a recipe says of such a server.
fn lines(api: &Api, server: &Server, findings: &[Finding]) -> Vec<String> {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut parts = vec![format!("url = {}", quoted(&api.url))];
    parts.extend(server.model.as_deref().map(|model| format!("model = {}", quoted(model))));
    parts.push(format!("dialect = {}", quoted(server.dialect.name())));
    parts.extend(api.key.as_deref().map(|key| format!("key = {}", quoted(key))));
    let found = |of: &str| findings.iter().find(|finding| finding.of == of);
    let most = found("n").and_then(|finding| finding.found.split(' ').next_back()?.parse().ok());
    if most.is_some_and(|most: usize| most < server.facts.max_n) {
        parts.push(format!("max_n = {}", most.unwrap_or(1)));
    }
    if !server.facts.top_k || !server.facts.top_p {
        parts.push("unsupported = \"drop\"".to_owned());
    }
    let mut lines = vec![format!("api = {{ {} }}", parts.join(", "))];
    if server.facts.ids != Ids::No {
        lines.push("# with `tokenizer = \"folder or hub id\"` prompts go as token ids too".into());
    }
    if !server.facts.top_k {
        lines.push("# it takes no top-k: without `unsupported`, set `top_k = 0` instead".into());
    }
    if !server.facts.top_p {
        lines.push("# its top-p is not ours: without `unsupported`, set `top_p = 1.0`".into());
    }
    lines
}

/// Who asks.
struct Prober {
    server: Server,
}

impl Prober {
    /// A greedy continuation of a text, to be changed by who asks.
    fn ask(&self, text: &str, max_tokens: usize) -> Ask {
        let context = match self.server.dialect {
            Dialect::Chat => Read::Turns(vec![Message::new("user", text)], String::new()),
            _ => Read::Text(text.to_owned()),
        };
        let (sampling, stop) = (Sampling::Greedy, Vec::new());
        Ask { context, n: 1, max_tokens, seed: 1, sampling, stop, adds_special: None }
    }

    /// What the server gives, or how it refuses.
    fn given(&self, ask: &Ask) -> Result<std::result::Result<Given, String>> {
        let Server { dialect, model, facts, .. } = &self.server;
        let body = dialect.body(model.as_deref(), ask, facts);
        let reply = self.post(dialect.route(), body)?;
        Ok(reply.and_then(|reply| dialect.read(&reply)))
    }

    /// The one continuation of a greedy request, which every server must give.
    fn greedy(&self, text: &str, max_tokens: usize) -> Result<Choice> {
        let given = self.given(&self.ask(text, max_tokens))?;
        given.map(|mut given| given.choices.remove(0)).map_err(|said| {
            Error::failed(format!(
                "the server at {} does not go on with a text: {said}\n\nhint: give its base \
                 address, which most servers want with `/v1` at its end",
                self.server.service.url
            ))
        })
    }

    /// The JSON of a route, or how it refuses.
    fn post(&self, route: Route, body: Value) -> Result<std::result::Result<Value, String>> {
        let most = Tokens::default();
        let path = server::path(&self.server.service.url, route);
        let call = Call { path, body: Some(body), most };
        let failure = match self.server.service.ask(&call) {
            Ok(reply) => return Ok(Ok(reply)),
            Err(failure) => failure,
        };
        match failure.cause() {
            Cause::Status { status: 401..=403, .. } => Err(failure.into()),
            Cause::Status { status, said, .. } => {
                Ok(Err(format!("{status} {}", said.as_deref().unwrap_or_default())))
            }
            Cause::Unusable(what) => Ok(Err(what.clone())),
            _ => Err(failure.into()),
        }
    }
}
