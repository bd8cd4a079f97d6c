//! A base behind HTTP: keeps requests under way, joins what comes back to responses, and pays for
//! nothing twice. How a request is spelled is left to the dialects, how it fares to `http`.
//!
//! Where the server takes token ids and gives them back, a response goes on from exactly the tokens
//! that were sampled. Elsewhere it goes on from its text, which is cut where a word ends
//! (`words.rs`).

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tracing::warn;

use super::ask::{Ask, Choice, Given, Read};
use super::asking::Asking;
use super::facts::Ids;
use super::joining::{Joining, Said, spaced};
use super::meter::meter_words;
use super::paid::{self, Paid};
use super::prompts::{Asked, prompt_tokens};
use super::server::Server;
use super::tilted::{TiltedBase, tokenizer};
use super::under_way::{Away, Sample, again, not_kept};
use super::words::SPARE;
use crate::error::{Error, Result};
use crate::http::{Answer, Call, Calls, Failure, Tokens};
use crate::policy::Member;
use crate::prompt::PromptText;
use crate::sampling::Sampling;
use crate::search::{Extend, Extended, Finish, Node, Nodes, Proposer, Response, Ticket};
use crate::text::{PromptTemplate, Tokenizer};

pub struct RemoteBase {
    server: Server,
    asking: Asking,
    /// The sampling without what the server cannot take.
    sampling: Sampling,
    /// What it cannot take, as a recipe says it.
    dropped: Vec<String>,
    calls: Calls<Given>,
    nodes: Nodes<Asked, Said>,
    away: HashMap<u64, Away>,
    ready: Vec<(Ticket, Result<Extended>)>,
    sent: u64,
    /// How often in a row fewer continuations came than were asked for.
    short: u32,
    paid: Option<Paid>,
}

impl RemoteBase {
    /// The model that `server` serves.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the server cannot take a setting of the sampling that must hold.
    pub fn new(server: Server, asking: Asking, paid: Option<Paid>) -> Result<Self> {
        asking.check(&server)?;
        let dropped = asking.dropped(&server)?;
        let sampling = server.facts.supported(asking.sampling);
        let calls = calls(&server);
        if let Some(paid) = &paid {
            calls.spent_before(paid.spent());
        }
        Ok(Self {
            server,
            asking,
            sampling,
            dropped,
            calls,
            nodes: Nodes::default(),
            away: HashMap::new(),
            ready: Vec::new(),
            sent: 0,
            short: 0,
            paid,
        })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn tokenizer(&self) -> Option<&Rc<Tokenizer>> {
        self.asking.tokenizer.as_ref()
    }

    pub fn template(&self) -> &PromptTemplate {
        &self.asking.template
    }

    /// Settings of the sampling that the server cannot take and that were left out.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Says what was left out.
    pub fn tell_dropped(&self) {
        if !self.dropped.is_empty() {
            let (name, dialect) = (&self.server.service.name, self.server.dialect.name());
            let told = self.dropped.join(", ");
            warn!("{name}: the server ({dialect}) cannot take {told}; it samples without");
        }
    }

    /// Whether guides can be added to what it samples.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the reason where they cannot.
    pub fn check_tilt(&self) -> Result<()> {
        let tokenizer = tokenizer(&self.server, &self.asking)?;
        self.server.vocabulary_told(tokenizer.vocab_size())?;
        Ok(())
    }

    /// The same model with guides added to it, of which at least one has a weight.
    ///
    /// # Errors
    /// Those of [`TiltedBase::new`].
    pub fn tilt(self, members: Vec<Member>) -> Result<TiltedBase> {
        TiltedBase::new(self.server, self.asking, self.paid, members)
    }

    /// Requests that it can have under way, at most.
    pub fn at_once(&self) -> usize {
        self.server.service.limits.at_once
    }

    /// Tells at any time what is under way, and what it has cost.
    pub fn meter_words(&self) -> impl Fn() -> String + use<> {
        let (stats, budget) = (self.calls.watch(), self.server.service.budget);
        move || meter_words(&stats(), &budget)
    }

    fn reads_ids(&self) -> bool {
        self.server.facts.ids != Ids::No
    }

    fn joining(&self, begins: bool) -> Joining<'_> {
        Joining {
            tokenizer: self.asking.tokenizer.as_deref().filter(|_| self.reads_ids()),
            by_ids: self.reads_ids(),
            stop: &self.asking.stop,
            begins,
        }
    }

    /// Sends one request for some continuations of one response; those that were paid for before
    /// are handed out.
    fn send(&mut self, tickets: Vec<(Ticket, Extend)>) -> Result<()> {
        let Some((_, first)) = tickets.first() else { return Ok(()) };
        let kept = self.nodes.get(&first.node).ok_or_else(not_kept)?;
        let (asked, said) = (kept.batch.clone(), kept.row.clone());
        let mut ask = self.ask(asked.read(&self.server, &said), &said, first.max_tokens);
        let model = self.server.model.clone();
        let called = model.as_deref().unwrap_or(&self.server.service.url);
        let mut due = Vec::new();
        let mut known = Vec::new();
        for (ticket, extend) in tickets {
            // All 53 random bits.
            let drawn = extend.stream.uniform(said.asked as u64, extend.slot);
            let number = (drawn * (1_u64 << 53) as f64) as u64;
            let key = paid::key(called, &ask, number)?;
            let sample = Sample { ticket, extend, key, number };
            match self.paid.as_ref().and_then(|paid| paid.known(&sample.key)) {
                Some(given) => known.push((sample, given)),
                None => due.push(sample),
            }
        }
        for (sample, given) in known {
            self.give(Away { samples: vec![sample], ask: ask.clone() }, given)?;
        }
        let Some(first) = due.first() else { return Ok(()) };
        // Below 2³¹.
        (ask.n, ask.seed) = (due.len(), first.number >> 22);
        let body = self.server.dialect.body(model.as_deref(), &ask, &self.server.facts);
        let prompt = prompt_tokens(&ask.context);
        let completion = (ask.n * ask.max_tokens) as u64;
        let call = Call {
            path: self.server.path(),
            body: Some(body),
            most: Tokens { prompt, completion },
        };
        self.sent += 1;
        self.calls.submit(self.sent, call);
        self.away.insert(self.sent, Away { samples: due, ask });
        Ok(())
    }

    /// A request for one continuation of `said` by so many tokens.
    fn ask(&self, context: Read, said: &Said, wanted: usize) -> Ask {
        let is_last = said.asked + wanted >= self.asking.max_new_tokens;
        let room = self.asking.max_new_tokens.saturating_sub(said.tokens()).max(1);
        let max_tokens = match self.reads_ids() {
            true => wanted,
            false if is_last => wanted.min(room),
            false => wanted + SPARE,
        };
        let told = self.asking.stop.iter().take(self.server.facts.max_stops).cloned();
        let leaves_bos = self.asking.template.bos() == Some(false);
        let adds_special = (leaves_bos && self.server.facts.takes_special).then_some(false);
        let (sampling, stop) = (self.sampling, told.collect());
        Ask { context, n: 1, max_tokens, seed: 0, sampling, stop, adds_special }
    }

    /// An answer of the server, written down before it is used.
    fn came(&mut self, away: Away, answer: Answer<Given>) -> Result<()> {
        let Answer { value: given, used, seconds } = answer;
        if let Some(paid) = &mut self.paid {
            let keys = away.samples.iter().take(given.choices.len());
            let keys = keys.map(|sample| sample.key.clone()).collect();
            paid.keep(keys, given.clone(), [used.prompt, used.completion], seconds)?;
        }
        self.learn(away.samples.len(), given.choices.len());
        self.give(away, given)
    }

    /// A server that gives fewer continuations than were asked for, time and again, is asked for
    /// fewer.
    fn learn(&mut self, asked: usize, given: usize) {
        const TIMES: u32 = 3;
        match given < asked {
            true => self.short += 1,
            false if asked > 1 => self.short = 0,
            false => {}
        }
        if self.short >= TIMES {
            self.server.facts.max_n = self.server.facts.max_n.min(given.max(1));
            self.short = 0;
        }
    }

    /// Hands out the continuations that were given. Those that are lacking are asked for again.
    fn give(&mut self, away: Away, given: Given) -> Result<()> {
        let Away { mut samples, ask } = away;
        let given = given.to(&ask, &self.server.facts);
        let lacking = samples.split_off(given.choices.len().min(samples.len()));
        for (Sample { ticket, extend, .. }, choice) in samples.into_iter().zip(given.choices) {
            // A prompt that has gone needs no answer.
            let Some(kept) = self.nodes.get(&extend.node) else { continue };
            if let Some(ids) = &given.prompt_ids
                && matches!(ask.context, Read::Text(_))
                && kept.row.ids.is_empty()
                && self.reads_ids()
            {
                kept.batch.ids.borrow_mut().get_or_insert_with(|| ids.clone());
            }
            let choice = match self.server.facts.loses_space {
                true => spaced(choice, kept.batch.text(), &kept.row.text),
                false => choice,
            };
            let extended = self.extended(&extend, choice);
            self.ready.push((ticket, extended));
        }
        self.send_all(lacking.into_iter().map(|sample| (sample.ticket, sample.extend)).collect())
    }

    fn extended(&mut self, extend: &Extend, choice: Choice) -> Result<Extended> {
        let kept = self.nodes.get(&extend.node).ok_or_else(not_kept)?;
        let (batch, parent) = (kept.batch.clone(), kept.row);
        let is_last = parent.asked + extend.max_tokens >= self.asking.max_new_tokens;
        let joined = self.joining(batch.begins).join(parent, choice, extend.max_tokens, is_last)?;
        let node = self.nodes.child(&extend.node).ok_or_else(not_kept)?;
        let response =
            Response { text: joined.said.text.clone(), ids: joined.ids, finish: joined.finish };
        let logprob = joined.said.logprob;
        if response.finish.is_none() {
            self.nodes.insert(batch, [(node.clone(), 0, joined.said)]);
        }
        Ok(Extended { node, response, end: joined.end, sampled: joined.sampled as u64, logprob })
    }

    /// One request for all continuations of one response, as far as the server gives several.
    fn send_all(&mut self, requests: Vec<(Ticket, Extend)>) -> Result<()> {
        let mut groups: Vec<Vec<(Ticket, Extend)>> = Vec::new();
        let mut of_node: HashMap<(Node, usize), usize> = HashMap::new();
        for (ticket, extend) in requests {
            let key = (extend.node.clone(), extend.max_tokens);
            let open = of_node
                .get(&key)
                .copied()
                .filter(|group| groups[*group].len() < self.server.facts.max_n.max(1));
            let group = open.unwrap_or_else(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            of_node.insert(key, group);
            groups[group].push((ticket, extend));
        }
        groups.into_iter().try_for_each(|group| self.begin(group))
    }

    /// Sends a request, or ends responses that have all their tokens already: what was cut at the
    /// ends of words is a little longer than was asked for.
    fn begin(&mut self, tickets: Vec<(Ticket, Extend)>) -> Result<()> {
        let Some((_, first)) = tickets.first() else { return Ok(()) };
        let kept = self.nodes.get(&first.node).ok_or_else(not_kept)?;
        if kept.row.tokens() < self.asking.max_new_tokens {
            return self.send(tickets);
        }
        let said = kept.row.clone();
        for (ticket, extend) in tickets {
            let node = self.nodes.child(&extend.node).ok_or_else(not_kept)?;
            let response = Response {
                text: said.text.clone(),
                ids: said.ids.clone(),
                finish: Some(Finish::Length),
            };
            let logprob = said.logprob;
            self.ready
                .push((ticket, Ok(Extended { node, response, end: None, sampled: 0, logprob })));
        }
        Ok(())
    }
}

impl Proposer for RemoteBase {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let mut nodes = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let asked = Asked::of(prompt, &self.server, &self.asking)?;
            nodes.extend(self.nodes.open(asked, [Said::nothing()]));
        }
        Ok(nodes)
    }

    /// Each request pays for its prompt anew.
    fn max_call_tokens(&self) -> Option<usize> {
        None
    }

    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        let tickets: Vec<Ticket> = requests.iter().map(|(ticket, _)| *ticket).collect();
        if let Err(error) = self.send_all(requests) {
            let lost = tickets.into_iter().map(|ticket| (ticket, Err(again(&error))));
            self.ready.extend(lost);
        }
    }

    fn collect(&mut self, patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let patience = if self.ready.is_empty() { patience } else { Duration::ZERO };
        for (number, outcome) in self.calls.collect(patience) {
            let Some(away) = self.away.remove(&number) else { continue };
            match outcome {
                Ok(answer) => self.came(away, answer)?,
                Err(failure) => self.failed(away, failure)?,
            }
        }
        Ok(std::mem::take(&mut self.ready))
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.nodes.retain(root, live);
    }

    fn release(&mut self, root: &Node) {
        let of_root =
            |away: &Away| away.samples.iter().any(|sample| sample.extend.node.root() == *root);
        let numbers: Vec<u64> =
            self.away.iter().filter(|(_, away)| of_root(away)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.calls.cancel(number);
            self.away.remove(&number);
        }
        self.nodes.release(root);
    }
}

impl RemoteBase {
    fn failed(&mut self, away: Away, failure: Failure) -> Result<()> {
        let ends_all = failure.ends_all();
        let error = Error::from(failure);
        if ends_all {
            return Err(error);
        }
        let lost = away.samples.into_iter().map(|sample| (sample.ticket, Err(again(&error))));
        self.ready.extend(lost);
        Ok(())
    }
}

/// Bytes of a token of English, by most tokenizers.
const BYTES_PER_TOKEN: u64 = 4;

/// How the replies are read, and what they cost.
fn calls(server: &Server) -> Calls<Given> {
    let dialect = server.dialect;
    Calls::start(server.service.clone(), move |call: &Call, reply| {
        let given = dialect.read(&reply)?;
        let ids = call.body.as_ref().is_some_and(|body| body["prompt"].is_array());
        // Of a text that nobody counted a token is some bytes.
        let likely = if ids { call.most.prompt } else { call.most.prompt / BYTES_PER_TOKEN };
        let prompt = given.prompt_tokens.unwrap_or(likely);
        let used = Tokens { prompt, completion: given.sampled() };
        Ok((given, used))
    })
}
