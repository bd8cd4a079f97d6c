//! A base and a guide pair that are tables: what comes next is a function of the text alone, a
//! letter is a token, and no tensor is near.

use std::time::Duration;

use w2s::error::Result;
use w2s::prompt::PromptText;
use w2s::search::{
    Extend, Extended, Finish, NextScores, NextTokens, Node, Nodes, Proposer, Response, Scored,
    Scorer, Ticket, ToScore, Weighed,
};

/// A number for each letter from `a` on, and the last for the end; −∞ for what cannot come next.
pub type Table<'a> = &'a dyn Fn(&str) -> Vec<f32>;

pub fn letter(token: i64) -> char {
    char::from(b'a' + u8::try_from(token).unwrap())
}

/// Says what a table of log-probabilities says.
pub struct TableBase<'a> {
    pub logprobs: Table<'a>,
    responses: Nodes<(), Response>,
    submitted: Vec<(Ticket, Extend)>,
}

/// Adds up a table of log-ratios.
pub struct TablePair<'a> {
    pub ratios: Table<'a>,
    texts: Nodes<(), ()>,
    /// Responses that were read letter by letter.
    pub scored: usize,
}

impl<'a> TableBase<'a> {
    pub fn new(logprobs: Table<'a>) -> Self {
        Self { logprobs, responses: Nodes::default(), submitted: Vec::new() }
    }

    fn response(&self, node: &Node) -> Response {
        self.responses.get(node).expect("it is kept").row.clone()
    }

    fn keep(&mut self, parent: &Node, response: &Response) -> Node {
        let node = self.responses.child(parent).unwrap();
        self.responses.insert((), [(node.clone(), 0, response.clone())]);
        node
    }

    /// `response` with a token behind it.
    fn with(&self, mut response: Response, token: i64) -> Response {
        let end = (self.logprobs)(&response.text).len() as i64 - 1;
        assert_eq!(response.finish, None, "a finished response must not be extended");
        match token == end {
            true => response.finish = Some(Finish::Eos),
            false => {
                response.text.push(letter(token));
                response.ids.push(token);
            }
        }
        response
    }

    fn extend(&mut self, request: &Extend) -> Extended {
        let mut response = self.response(&request.node);
        let mut sampled = 0;
        while sampled < request.max_tokens as u64 && response.finish.is_none() {
            let mut left = request.stream.uniform(response.ids.len() as u64, request.slot);
            let logprobs = (self.logprobs)(&response.text);
            let is_it = |logprob: &f32| {
                left -= f64::from(logprob.exp());
                left < 0.0
            };
            let token = logprobs.iter().position(is_it).unwrap_or(logprobs.len() - 1);
            response = self.with(response, token as i64);
            sampled += 1;
        }
        let node = self.keep(&request.node, &response);
        Extended { node, response, end: None, sampled, logprob: None }
    }
}

impl Proposer for TableBase<'_> {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        Ok(self.responses.open((), prompts.iter().map(|_| Response::empty())))
    }

    fn max_call_tokens(&self) -> Option<usize> {
        None
    }

    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        self.submitted.extend(requests);
    }

    fn collect(&mut self, _patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let submitted = std::mem::take(&mut self.submitted);
        Ok(submitted.iter().map(|(ticket, request)| (*ticket, Ok(self.extend(request)))).collect())
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.responses.retain(root, live);
    }

    fn release(&mut self, root: &Node) {
        self.responses.release(root);
    }

    fn next_tokens(&mut self) -> Option<&mut dyn NextTokens> {
        Some(self)
    }
}

impl NextTokens for TableBase<'_> {
    fn likeliest(&mut self, nodes: &[Node], count: Option<usize>) -> Result<Vec<Vec<(i64, f32)>>> {
        let of = |node: &Node| {
            let logprobs = (self.logprobs)(&self.response(node).text);
            let mut all: Vec<(i64, f32)> = (0..).zip(logprobs).collect();
            if let Some(count) = count {
                all.sort_by(|one, other| other.1.total_cmp(&one.1));
                all.truncate(count);
            }
            all
        };
        Ok(nodes.iter().map(of).collect())
    }

    fn append(&mut self, continuations: &[(Node, i64)]) -> Result<Vec<(Node, Response)>> {
        let mut appended = Vec::new();
        for (parent, token) in continuations {
            let response = self.with(self.response(parent), *token);
            appended.push((self.keep(parent, &response), response));
        }
        Ok(appended)
    }

    fn end_tokens(&self) -> Vec<i64> {
        vec![(self.logprobs)("").len() as i64 - 1]
    }
}

impl<'a> TablePair<'a> {
    pub fn new(ratios: Table<'a>) -> Self {
        Self { ratios, texts: Nodes::default(), scored: 0 }
    }

    /// The sum of the letters' log-ratios, and of the end's where it `ends`.
    pub fn worth(&self, text: &str, ends: bool) -> f32 {
        let letters = text
            .char_indices()
            .map(|(at, letter)| (self.ratios)(&text[..at])[usize::from(letter as u8 - b'a')]);
        let end = ends.then(|| *(self.ratios)(text).last().unwrap());
        letters.chain(end).sum()
    }

    fn scored(&mut self, ToScore { parent, response, ends }: &ToScore) -> Scored {
        let node = self.texts.child(parent).expect("its parent is kept");
        self.texts.insert((), [(node.clone(), 0, ())]);
        Scored { node, score: self.worth(&response.text, *ends), fed: 1, is_cut: false }
    }
}

impl Scorer for TablePair<'_> {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        Ok(self.texts.open((), prompts.iter().map(|_| ())))
    }

    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
        self.scored += requests.len();
        Ok(requests.iter().map(|request| self.scored(request)).collect())
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.texts.retain(root, live);
    }

    fn next_scores(&mut self) -> Option<&mut dyn NextScores> {
        Some(self)
    }
}

impl NextScores for TablePair<'_> {
    fn weigh(&mut self, requests: &[ToScore]) -> Result<Vec<Weighed>> {
        let weighed = |request: &ToScore| {
            let mut next = (self.ratios)(&request.response.text);
            let end = next.pop().unwrap();
            Weighed { scored: self.scored(request), next, end }
        };
        Ok(requests.iter().map(weighed).collect())
    }
}
