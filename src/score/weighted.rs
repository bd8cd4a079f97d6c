//! Several guide pairs as one scorer: score(x, y') = Σ_i weight_i · score_i(x, y'). A negative weight steers away from what its pair was
//! tuned for. Each pair has its own vocabulary and prompt template.

use std::collections::HashMap;

use super::GuidePair;
use crate::error::{Error, Result};
use crate::search::{Judge, Judged, Node, Scorer};

pub struct WeightedPairs {
    pairs: Vec<(f32, GuidePair)>,
    /// Each pair's node for a response.
    nodes: HashMap<Node, Vec<Node>>,
    next: u64,
}

impl WeightedPairs {
    pub fn new(pairs: Vec<(f32, GuidePair)>) -> Self {
        Self { pairs, nodes: HashMap::new(), next: 0 }
    }

    fn insert(&mut self, nodes: Vec<Node>) -> Node {
        self.next += 1;
        self.nodes.insert(Node(self.next), nodes);
        Node(self.next)
    }
}

impl Scorer for WeightedPairs {
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        let opened = self.pairs.iter_mut().map(|(_, pair)| pair.open(prompts)).collect::<Result<Vec<_>>>()?;
        Ok((0..prompts.len()).map(|prompt| self.insert(opened.iter().map(|nodes| nodes[prompt]).collect())).collect())
    }

    fn score(&mut self, requests: &[Judge]) -> Result<Vec<Judged>> {
        let pruned = || Error::failed("the parent of a response to score was pruned");
        let parents: Vec<Vec<Node>> =
            requests.iter().map(|request| self.nodes.get(&request.parent).cloned().ok_or_else(pruned)).collect::<Result<_>>()?;
        let mut judged: Vec<(Vec<Node>, f32, u64)> = vec![(Vec::new(), 0.0, 0); requests.len()];
        for (index, (weight, pair)) in self.pairs.iter_mut().enumerate() {
            let requests: Vec<Judge> =
                requests.iter().zip(&parents).map(|(request, parent)| Judge { parent: parent[index], ..*request }).collect();
            for ((nodes, score, fed), one) in judged.iter_mut().zip(pair.score(&requests)?) {
                nodes.push(one.node);
                *score += *weight * one.score;
                *fed += one.fed;
            }
        }
        Ok(judged.into_iter().map(|(nodes, score, fed)| Judged { node: self.insert(nodes), score, fed }).collect())
    }

    /// The weighted sums where all pairs cut the text into as many tokens, as pairs of one vocabulary do; else of one piece.
    fn token_rewards(&self, node: Node) -> Vec<f32> {
        let Some(nodes) = self.nodes.get(&node) else { return Vec::new() };
        let all: Vec<(f32, Vec<f32>)> =
            self.pairs.iter().zip(nodes).map(|((weight, pair), node)| (*weight, pair.token_rewards(*node))).collect();
        let length = all.first().map_or(0, |(_, rewards)| rewards.len());
        if all.iter().any(|(_, rewards)| rewards.len() != length) {
            return Vec::new();
        }
        (0..length).map(|t| all.iter().map(|(weight, rewards)| weight * rewards[t]).sum()).collect()
    }

    /// Whether it was too long for one of the pairs; each reads as much as it can.
    fn is_cut(&self, node: Node) -> bool {
        self.nodes.get(&node).is_some_and(|nodes| self.pairs.iter().zip(nodes).any(|((_, pair), node)| pair.is_cut(*node)))
    }

    fn retain(&mut self, live: &[Node]) {
        self.nodes.retain(|node, _| live.contains(node));
        for (index, (_, pair)) in self.pairs.iter_mut().enumerate() {
            pair.retain(&self.nodes.values().map(|nodes| nodes[index]).collect::<Vec<_>>());
        }
    }
}
