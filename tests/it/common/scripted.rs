//! A scripted proposer and scorer: what they say is a function of the text and the random numbers
//! alone, and no tensor is near.

use std::time::Duration;

use w2s::error::Result;
use w2s::prompt::PromptText;
use w2s::sampling::Stream;
use w2s::search::{
    Extend, Extended, Finish, Node, Nodes, Proposer, Response, Scored, Scorer, Ticket, ToScore,
};

pub const EOS: char = '.';

/// Token t of a response, drawn from a..=d and EOS by random number (t, slot) and what stands
/// before it.
pub fn token(before: &str, stream: &Stream, slot: u64) -> char {
    let u = stream.uniform(before.len() as u64, slot);
    let shift = before.bytes().map(usize::from).sum::<usize>();
    ['a', 'b', 'c', 'd', 'a', 'b', EOS][((u * 7.0) as usize + shift) % 7]
}

/// A response's worth: any function of the whole text and its completeness that is hard to guess.
pub fn worth(text: &str, complete: bool) -> f32 {
    let mut state = 17u32;
    for byte in text.bytes().chain(complete.then_some(b'!')) {
        state = state.wrapping_mul(31).wrapping_add(u32::from(byte));
    }
    (state % 1009) as f32 / 100.0 - 5.0
}

#[derive(Default)]
pub struct Scripted {
    pub responses: Nodes<(), Response>,
    pub sampled: u64,
    pub submitted: Vec<(Ticket, Extend)>,
    /// Tokens of a call.
    pub call: Option<usize>,
}

impl Scripted {
    pub fn extend(&mut self, request: &Extend) -> Extended {
        let mut response =
            self.responses.get(&request.node).expect("its parent is kept").row.clone();
        assert_eq!(response.finish, None, "a finished response must not be extended");
        let mut sampled = 0;
        for _ in 0..request.max_tokens {
            sampled += 1;
            let token = token(&response.text, &request.stream, request.slot);
            if token == EOS {
                response.finish = Some(Finish::Eos);
                break;
            }
            response.text.push(token);
            response.ids.push(token as i64);
        }
        let node = self.responses.child(&request.node).unwrap();
        self.responses.insert((), [(node.clone(), 0, response.clone())]);
        self.sampled += sampled;
        Extended { node, response, end: None, sampled, logprob: None }
    }
}

impl Proposer for Scripted {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        Ok(self.responses.open((), prompts.iter().map(|_| Response::empty())))
    }

    fn max_call_tokens(&self) -> Option<usize> {
        self.call
    }

    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        assert!(
            self.call
                .is_none_or(|most| requests.iter().all(|(_, request)| request.max_tokens <= most))
        );
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
}

/// Knows the text behind each node, to check that every request continues its parent.
#[derive(Default)]
pub struct Judge31 {
    pub texts: Nodes<(), String>,
    pub judged: Vec<(String, Option<Finish>)>,
}

impl Scorer for Judge31 {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        Ok(self.texts.open((), prompts.iter().map(|_| String::new())))
    }

    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
        let mut scored = Vec::new();
        for ToScore { parent, response, ends } in requests {
            let before = self.texts.get(parent).expect("its parent is kept").row;
            assert!(
                response.text.starts_with(before),
                "{} does not continue {before}",
                response.text
            );
            let node = self.texts.child(parent).unwrap();
            self.texts.insert((), [(node.clone(), 0, response.text.clone())]);
            self.judged.push((response.text.clone(), response.finish));
            scored.push(Scored {
                node,
                score: worth(&response.text, *ends),
                fed: 1,
                is_cut: false,
            });
        }
        Ok(scored)
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.texts.retain(root, live);
    }
}
