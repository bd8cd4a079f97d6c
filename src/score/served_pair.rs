//! A guide pair of which a half, or both, is served by others. Responses are scored whole: servers
//! keep no state for us, though they may remember what they have read. What the two say of a
//! response is its score, as in `pair.rs`.

use std::collections::HashMap;
use std::rc::Rc;

use super::guide_ids::{GuideIds, Readable};
use super::guide_pair::two_vocabularies;
use super::logps::response_logps;
use super::served::{Asked, Row, ServedGuide};
use crate::error::{Error, Result};
use crate::models::Lm;
use crate::prompt::PromptText;
use crate::search::{Node, Nodes, Scored, Scorer, ToScore};
use crate::text::{PromptTemplate, Tokenizer};

/// One guide: here, or served.
pub enum Half {
    Here(Rc<Lm>, Rc<Tokenizer>),
    Served(Rc<ServedGuide>),
}

impl Half {
    fn tokenizer(&self) -> &Rc<Tokenizer> {
        match self {
            Self::Here(_, tokenizer) => tokenizer,
            Self::Served(guide) => &guide.tokenizer,
        }
    }

    fn context(&self) -> usize {
        match self {
            Self::Here(lm, _) => lm.model.info().context as usize,
            Self::Served(guide) => guide.context,
        }
    }

    fn ends(&self) -> &[i64] {
        match self {
            Self::Here(lm, _) => &lm.model.info().eos_token_ids,
            Self::Served(guide) => &guide.ends,
        }
    }

    /// Sends what is to be asked of others.
    fn ask(&self, rows: &[Row]) -> Result<Option<Asked>> {
        match self {
            Self::Here(..) => Ok(None),
            Self::Served(guide) => guide.ask(rows).map(Some),
        }
    }

    /// The log-probabilities of the rows that were asked for.
    fn logps(&self, rows: &[Row], asked: Option<Asked>) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Here(lm, _) => {
                rows.iter().map(|row| response_logps(&lm.model, &row.ids, row.from)).collect()
            }
            Self::Served(guide) => match asked {
                Some(asked) => guide.told(rows, asked),
                None => guide.told(rows, guide.ask(rows)?),
            },
        }
    }
}

/// A tuned and an untuned guide of one vocabulary, at least one of which is served.
pub struct ServedPair {
    tuned: Half,
    untuned: Half,
    pub template: PromptTemplate,
}

impl ServedPair {
    /// # Errors
    /// [`Error::Recipe`] where the two have different vocabularies.
    pub fn new(tuned: Half, untuned: Half, template: PromptTemplate) -> Result<Self> {
        let (mine, theirs) = (tuned.tokenizer().vocabulary(), untuned.tokenizer().vocabulary());
        match mine.difference(&theirs) {
            None => Ok(Self { tuned, untuned, template }),
            Some(difference) => Err(Error::recipe(two_vocabularies(&difference))),
        }
    }

    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        self.tuned.tokenizer()
    }

    /// Positions that both models have.
    pub fn context(&self) -> usize {
        self.tuned.context().min(self.untuned.context())
    }

    /// What the two say of tokens.
    fn log_ratios(&self, rows: &[Row]) -> Result<Vec<Vec<f32>>> {
        // Both are on their way before one is waited for.
        let (of_tuned, of_untuned) = (self.tuned.ask(rows)?, self.untuned.ask(rows)?);
        // What is computed here is, while others compute.
        let (tuned, untuned) = match self.tuned {
            Half::Here(..) => {
                let tuned = self.tuned.logps(rows, of_tuned)?;
                (tuned, self.untuned.logps(rows, of_untuned)?)
            }
            Half::Served(_) => {
                let untuned = self.untuned.logps(rows, of_untuned)?;
                (self.tuned.logps(rows, of_tuned)?, untuned)
            }
        };
        let ratios = tuned.iter().zip(&untuned);
        let of_row = |(tuned, untuned): (&Vec<f32>, &Vec<f32>)| {
            tuned.iter().zip(untuned).map(|(tuned, untuned)| tuned - untuned).collect()
        };
        Ok(ratios.map(of_row).collect())
    }
}

/// The scorer of one such pair.
pub struct ServedScorer {
    pair: Rc<ServedPair>,
    reads: GuideIds,
    /// What was read of responses: the log-ratio of each token, that of the EOS last.
    nodes: Nodes<ReadPrompt, Vec<f32>>,
}

struct ReadPrompt {
    ids: Vec<i64>,
    /// Whether it is empty, so that responses begin the text.
    is_empty: bool,
}

impl ServedScorer {
    /// # Errors
    /// If the guides have no end-of-sequence token.
    pub fn new(pair: Rc<ServedPair>, same_vocabulary: bool) -> Result<Self> {
        let reads = GuideIds {
            tokenizer: pair.tokenizer().clone(),
            template: pair.template.clone(),
            same_vocabulary,
            ends: pair.tuned.ends().to_vec(),
            context: pair.context(),
        };
        Ok(Self { pair, reads: reads.checked()?, nodes: Nodes::default() })
    }

    /// What is to be read of a response.
    fn readable(&self, prompt: &ReadPrompt, request: &ToScore) -> Result<Readable> {
        let ToScore { response, ends, .. } = request;
        self.reads.readable(prompt.ids.len(), response, prompt.is_empty, *ends)
    }

    fn row(&self, prompt: &ReadPrompt, readable: &Readable) -> Row {
        let end = readable.ends.then_some(self.reads.ends[0]);
        let ids = prompt.ids.iter().chain(&readable.ids).copied().chain(end);
        Row { ids: ids.collect(), from: prompt.ids.len() }
    }

    /// The log-ratios of `rows`, each of which is asked for once.
    fn ratios(&self, rows: &[Row]) -> Result<Vec<Vec<f32>>> {
        let mut different: Vec<Row> = Vec::new();
        let mut places: HashMap<&Row, usize> = HashMap::new();
        for row in rows.iter().filter(|row| row.ids.len() > row.from) {
            places.entry(row).or_insert_with(|| {
                different.push(row.clone());
                different.len() - 1
            });
        }
        let told = self.pair.log_ratios(&different)?;
        let of = |row: &Row| places.get(row).map(|place| told[*place].clone()).unwrap_or_default();
        Ok(rows.iter().map(of).collect())
    }
}

impl Scorer for ServedScorer {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let all = self.reads.prompts(prompts)?;
        let mut nodes = Vec::with_capacity(prompts.len());
        for (ids, prompt) in all.into_iter().zip(prompts) {
            let is_empty = self.reads.is_empty(prompt)?;
            nodes.extend(self.nodes.open(ReadPrompt { ids, is_empty }, [Vec::new()]));
        }
        Ok(nodes)
    }

    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
        let mut read = Vec::with_capacity(requests.len());
        for request in requests {
            let prompt = self.nodes.get(&request.parent).ok_or_else(pruned)?.batch.clone();
            let readable = self.readable(&prompt, request)?;
            read.push((prompt, readable));
        }
        let rows: Vec<Row> =
            read.iter().map(|(prompt, readable)| self.row(prompt, readable)).collect();
        let all = self.ratios(&rows)?;
        let mut scored = Vec::with_capacity(requests.len());
        for ((request, (prompt, readable)), ratios) in requests.iter().zip(read).zip(all) {
            let node = self.nodes.child(&request.parent).ok_or_else(pruned)?;
            let (score, fed) = (ratios.iter().sum(), readable.ids.len() as u64);
            self.nodes.insert(prompt, [(node.clone(), 0, ratios)]);
            scored.push(Scored { node, score, fed, is_cut: readable.is_cut });
        }
        Ok(scored)
    }

    fn token_rewards(&self, node: &Node) -> Vec<f32> {
        self.nodes.get(node).map(|kept| kept.row.clone()).unwrap_or_default()
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.nodes.retain(root, live);
    }
}

fn pruned() -> Error {
    Error::failed("the parent of a response to score was pruned")
}
