//! A served base that guides here are added to, token by token: emulated fine-tuning over a server
//! that tells the log-probabilities of all next tokens. What is drawn is what a local base of the
//! same weights would draw, so no seed is sent, and every setting of the sampling is our own.
//!
//! Each token is a request of its own. The server answers it while the guides read what was drawn
//! before (`tilting.rs`).

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use super::asking::Asking;
use super::dialect::Told;
use super::grown::{Growing, Opened, Row};
use super::meter::meter_words;
use super::paid::{self, Paid};
use super::prompts::Asked;
use super::server::Server;
use super::tilting::Tilting;
use super::under_way::{again, not_kept};
use super::whole;
use crate::error::{Error, Result};
use crate::http::{Answer, Call, Calls, Failure, Tokens};
use crate::policy::ending::Ending;
use crate::policy::growing::Sample;
use crate::policy::{LocalPolicy, Member};
use crate::prompt::PromptText;
use crate::search::{Extend, Extended, Node, Nodes, Proposer, Ticket};
use crate::text::Tokenizer;

/// Tokens of one request of a search: as many are paid for before they are written down.
const CALL_TOKENS: usize = 16;

pub struct TiltedBase {
    server: Server,
    asking: Asking,
    tokenizer: Rc<Tokenizer>,
    tilting: Tilting,
    /// What ends a response: the tokenizer's end token and the guides'.
    end_tokens: Vec<i64>,
    /// Tokens of which the server tells.
    vocabulary: usize,
    calls: Calls<Told>,
    nodes: Nodes<Opened, Row>,
    growing: BTreeMap<u64, Growing>,
    away: HashMap<u64, Away>,
    ready: Vec<(Ticket, Result<Extended>)>,
    /// Rows and requests so far.
    numbers: u64,
    paid: Option<Paid>,
}

/// A request under way, and the rows that wait for it: they have read the same.
struct Away {
    read: Vec<i64>,
    rows: Vec<u64>,
}

impl TiltedBase {
    /// The model that `server` serves, and `members`, whose weighted logits are added to its own.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the server does not tell what is needed, or the model's tokenizer is
    /// not here.
    pub fn new(
        server: Server,
        asking: Asking,
        paid: Option<Paid>,
        members: Vec<Member>,
    ) -> Result<Self> {
        let tokenizer = tokenizer(&server, &asking)?;
        let vocabulary = server.vocabulary_told(tokenizer.vocab_size())?;
        let mut end_tokens: Vec<i64> = tokenizer.eos_id().into_iter().collect();
        let of_guides = members.iter().flat_map(|member| &member.lm.model.info().eos_token_ids);
        end_tokens.extend(of_guides.copied());
        let tilting = Tilting::new(members, tokenizer.clone())?;
        let calls = whole::calls(&server, vocabulary);
        if let Some(paid) = &paid {
            calls.spent_before(paid.spent());
        }
        Ok(Self {
            server,
            asking,
            tokenizer,
            tilting,
            end_tokens,
            vocabulary,
            calls,
            nodes: Nodes::default(),
            growing: BTreeMap::new(),
            away: HashMap::new(),
            ready: Vec::new(),
            numbers: 0,
            paid,
        })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn asking(&self) -> &Asking {
        &self.asking
    }

    /// What is added to the base.
    pub fn guides(&self) -> &LocalPolicy {
        self.tilting.guides()
    }

    /// Tells at any time what is under way, and what it has cost.
    pub fn meter_words(&self) -> impl Fn() -> String + use<> {
        let (stats, budget) = (self.calls.watch(), self.server.service.budget);
        move || meter_words(&stats(), &budget)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A row that grows, by its number; `None` where all of it was drawn and paid for before.
    fn begin(&mut self, ticket: Ticket, extend: Extend) -> Result<Option<u64>> {
        let kept = self.nodes.get(&extend.node).ok_or_else(not_kept)?;
        let mut growing = Growing::new(ticket, extend, kept.batch.clone(), kept.row.clone());
        growing.key = self.key(&growing)?;
        let known = self.paid.as_ref().and_then(|paid| paid.known(&growing.key));
        if let Some(given) = known {
            growing.repeat(&given, &self.ending())?;
            self.finish(growing)?;
            return Ok(None);
        }
        let number = self.number();
        self.growing.insert(number, growing);
        Ok(Some(number))
    }

    /// What a row that has not grown yet is written down as.
    fn key(&self, growing: &Growing) -> Result<String> {
        let model = self.server.model.as_ref().unwrap_or(&self.server.service.url);
        let model = format!("{model} and guides {}", self.tilting.fingerprint());
        // All 53 random bits.
        let drawn = (growing.uniform() * (1_u64 << 53) as f64) as u64;
        paid::key(&model, &growing.ask(&self.asking), drawn)
    }

    fn ending(&self) -> Ending<'_> {
        let (tokenizer, stop) = (self.tokenizer.as_ref(), self.asking.stop.as_slice());
        Ending { tokenizer, stop, end_tokens: &self.end_tokens }
    }

    /// Asks what may come next of these rows: the server, and meanwhile the guides.
    fn ask(&mut self, rows: &[u64]) -> Result<()> {
        for &row in rows {
            let Some(growing) = self.growing.get(&row) else { continue };
            let read = growing.read();
            if let Some(away) = self.away.values_mut().find(|away| away.read == read) {
                away.rows.push(row);
                continue;
            }
            let (model, dialect) = (self.server.model.as_deref(), self.server.dialect);
            let end = self.end_tokens.first().copied().unwrap_or(0);
            let body = dialect.next_tokens_body(model, read.clone(), (self.vocabulary, end));
            let most = Tokens { prompt: read.len() as u64, completion: 1 };
            let call = Call { path: self.server.path(), body: Some(body), most };
            let number = self.number();
            self.calls.submit(number, call);
            self.away.insert(number, Away { read, rows: vec![row] });
        }
        let asked = self.growing.iter_mut().filter(|(row, _)| rows.contains(row));
        let behind = asked.map(|(_, growing)| {
            let Growing { guides, unread, added, .. } = growing;
            (guides, unread, added)
        });
        self.tilting.read(behind.collect())?;
        self.free_guides();
        Ok(())
    }

    /// Frees what the guides keep behind responses that nobody goes on with.
    fn free_guides(&mut self) {
        let mut live: HashMap<Node, Vec<Node>> = HashMap::new();
        for growing in self.growing.values() {
            let root = growing.extend.node.root();
            live.entry(root).or_default().push(growing.guides.clone());
        }
        for (root, mut live) in live {
            live.extend(self.nodes.rows(&root).map(|row| row.guides.clone()));
            self.tilting.retain(&root, &live);
        }
    }

    /// Draws the next token of the rows that waited for this; those that go on.
    fn draw(&mut self, away: Away, answer: &Answer<Told>) -> Result<Vec<u64>> {
        let mut open = Vec::new();
        let mut is_borne = false;
        for row in away.rows {
            let Some(mut growing) = self.growing.remove(&row) else { continue };
            if !std::mem::replace(&mut is_borne, true) {
                growing.bear(answer);
            }
            growing.draw(&answer.value, &self.asking.sampling, &self.ending())?;
            if growing.sample.grows() {
                self.growing.insert(row, growing);
                open.push(row);
                continue;
            }
            if let Some(paid) = &mut self.paid {
                let (given, Tokens { prompt, completion }, seconds) = growing.given();
                paid.keep(vec![growing.key.clone()], given, [prompt, completion], seconds)?;
            }
            self.finish(growing)?;
        }
        Ok(open)
    }

    fn finish(&mut self, growing: Growing) -> Result<()> {
        let Growing { ticket, extend, prompt, sample, guides, unread, .. } = growing;
        // A prompt that has gone needs no answer.
        let Some(node) = self.nodes.child(&extend.node) else { return Ok(()) };
        let extended = self.ending().extended(node.clone(), &sample)?;
        if sample.can_go_on() {
            let Sample { response, logprobs, .. } = sample;
            let row = Row { response, logprobs, guides, unread };
            self.nodes.insert(prompt, [(node, 0, row)]);
        }
        self.ready.push((ticket, Ok(extended)));
        Ok(())
    }

    fn failed(&mut self, away: Away, failure: Failure) -> Result<()> {
        let ends_all = failure.ends_all();
        let error = Error::from(failure);
        if ends_all {
            return Err(error);
        }
        let lost = away.rows.iter().filter_map(|row| self.growing.remove(row));
        self.ready.extend(lost.map(|growing| (growing.ticket, Err(again(&error)))));
        Ok(())
    }

    fn submit_all(&mut self, requests: Vec<(Ticket, Extend)>) -> Result<()> {
        let mut rows = Vec::new();
        for (ticket, extend) in requests {
            rows.extend(self.begin(ticket, extend)?);
        }
        self.ask(&rows)
    }
}

impl Proposer for TiltedBase {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let mut nodes = Vec::with_capacity(prompts.len());
        let guides = self.tilting.open(prompts)?;
        for (prompt, guides) in prompts.iter().zip(guides) {
            let asked = Asked::of(prompt, &self.server, &self.asking)?;
            let ids = asked.ids.take().unwrap_or_default();
            let row = Row::empty(guides.clone());
            let root = self.nodes.open(Opened { ids, begins: asked.begins }, [row]).remove(0);
            self.tilting.name(root.clone(), guides);
            nodes.push(root);
        }
        Ok(nodes)
    }

    /// Each token pays for its prompt anew, however many a request asks for.
    fn max_call_tokens(&self) -> Option<usize> {
        Some(CALL_TOKENS)
    }

    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        let tickets: Vec<Ticket> = requests.iter().map(|(ticket, _)| *ticket).collect();
        if let Err(error) = self.submit_all(requests) {
            self.growing.retain(|_, growing| !tickets.contains(&growing.ticket));
            self.ready.retain(|(ticket, _)| !tickets.contains(ticket));
            let lost = tickets.into_iter().map(|ticket| (ticket, Err(again(&error))));
            self.ready.extend(lost);
        }
    }

    fn collect(&mut self, patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let patience = if self.ready.is_empty() { patience } else { Duration::ZERO };
        let mut open = Vec::new();
        for (number, outcome) in self.calls.collect(patience) {
            let Some(away) = self.away.remove(&number) else { continue };
            match outcome {
                Ok(answer) => open.extend(self.draw(away, &answer)?),
                Err(failure) => self.failed(away, failure)?,
            }
        }
        self.ask(&open)?;
        Ok(std::mem::take(&mut self.ready))
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.nodes.retain(root, live);
        let rows = self.nodes.rows(root).map(|row| &row.guides);
        let growing = self.growing.values().filter(|growing| growing.extend.node.root() == *root);
        let live: Vec<Node> = rows.chain(growing.map(|growing| &growing.guides)).cloned().collect();
        self.tilting.retain(root, &live);
    }

    fn release(&mut self, root: &Node) {
        self.growing.retain(|_, growing| growing.extend.node.root() != *root);
        let growing = &self.growing;
        let is_idle = |away: &Away| !away.rows.iter().any(|row| growing.contains_key(row));
        for number in self.away.iter().filter(|(_, away)| is_idle(away)).map(|(number, _)| number) {
            self.calls.cancel(*number);
        }
        self.away.retain(|_, away| !is_idle(away));
        self.nodes.release(root);
        self.tilting.release(root);
    }
}

/// The model's tokenizer, without which ids of guides are not those of the server.
///
/// # Errors
/// [`Error::Recipe`] where it is not here.
pub fn tokenizer(server: &Server, asking: &Asking) -> Result<Rc<Tokenizer>> {
    asking.tokenizer.clone().ok_or_else(|| {
        Error::recipe(format!(
            "`{}`: guides are added to what a served model says of each token, and its tokenizer \
             is not here\n\nhint: give it as `api.tokenizer`, a folder or a hub id",
            server.service.name
        ))
    })
}
