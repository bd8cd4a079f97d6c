//! A scorer for methods that compare nothing.

use crate::error::Result;
use crate::prompt::PromptText;
use crate::search::{Node, Scored, Scorer, ToScore};

/// Where there is no guide pair: every response is worth 0, so only methods that compare nothing
/// may use it.
#[derive(Debug, Default)]
pub struct NoGuide;

impl Scorer for NoGuide {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        Ok(vec![Node::of_prompt(0); prompts.len()])
    }

    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
        Ok(requests
            .iter()
            .map(|request| Scored {
                node: request.parent.clone(),
                score: 0.0,
                fed: 0,
                is_cut: false,
            })
            .collect())
    }

    fn retain(&mut self, _root: &Node, _live: &[Node]) {}
}
