//! Several guide pairs as one scorer: score(x, y') = Σ_i weight_i · score_i(x, y'). A negative
//! weight steers away from what its pair was tuned for. Each pair has its own vocabulary and prompt
//! template.

use crate::error::{Error, Result};
use crate::prompt::PromptText;
use crate::search::{NextScores, Node, Nodes, Scored, Scorer, ToScore, Weighed};

pub struct WeightedPairs {
    pairs: Vec<(f32, Box<dyn Scorer>)>,
    /// Each pair's node for a response.
    nodes: Nodes<(), Vec<Node>>,
}

impl WeightedPairs {
    pub fn new(pairs: Vec<(f32, Box<dyn Scorer>)>) -> Self {
        Self { pairs, nodes: Nodes::default() }
    }

    fn of_pairs(&self, node: &Node) -> Result<&Vec<Node>> {
        self.nodes.get(node).map(|kept| kept.row).ok_or_else(pruned)
    }
}

impl WeightedPairs {
    /// The weighted sums of what `ask` gives for each pair.
    fn sum(
        &mut self,
        requests: &[ToScore],
        ask: impl Fn(&mut dyn Scorer, &[ToScore]) -> Result<Vec<Weighed>>,
    ) -> Result<Vec<Weighed>> {
        let parents = requests
            .iter()
            .map(|request| self.of_pairs(&request.parent).cloned())
            .collect::<Result<Vec<Vec<Node>>>>()?;
        let mut of_pairs: Vec<Vec<Node>> = vec![Vec::new(); requests.len()];
        let mut sums = Vec::with_capacity(requests.len());
        for request in requests {
            let node = self.nodes.child(&request.parent).ok_or_else(pruned)?;
            let scored = Scored { node, score: 0.0, fed: 0, is_cut: false };
            sums.push(Weighed { scored, next: Vec::new(), end: 0.0 });
        }
        for (index, (weight, pair)) in self.pairs.iter_mut().enumerate() {
            let of_pair = requests.iter().zip(&parents).map(|(request, parents)| ToScore {
                parent: parents[index].clone(),
                ..request.clone()
            });
            let one = ask(&mut **pair, &of_pair.collect::<Vec<_>>())?;
            for ((sum, nodes), one) in sums.iter_mut().zip(&mut of_pairs).zip(one) {
                nodes.push(one.scored.node.clone());
                add(sum, *weight, &one);
            }
        }
        self.nodes.insert(
            (),
            sums.iter().zip(of_pairs).map(|(sum, nodes)| (sum.scored.node.clone(), 0, nodes)),
        );
        Ok(sums)
    }
}

/// Adds what one pair says; an id that is no token stays none.
fn add(sum: &mut Weighed, weight: f32, one: &Weighed) {
    let Weighed { scored, next, end } = one;
    sum.scored.score += weight * scored.score;
    sum.scored.fed += scored.fed;
    // Each reads as much as it can.
    sum.scored.is_cut |= scored.is_cut;
    sum.end += weight * end;
    let none = |worth: &f32| *worth == f32::NEG_INFINITY;
    let weighted = next.iter().map(|worth| if none(worth) { *worth } else { weight * worth });
    if sum.next.is_empty() {
        sum.next = weighted.collect();
    } else {
        sum.next.truncate(next.len());
        sum.next.iter_mut().zip(weighted).for_each(|(sum, worth)| *sum += worth);
    }
}

impl NextScores for WeightedPairs {
    fn weigh(&mut self, requests: &[ToScore]) -> Result<Vec<Weighed>> {
        self.sum(requests, |pair, requests| {
            pair.next_scores().ok_or_else(no_next_scores)?.weigh(requests)
        })
    }
}

fn no_next_scores() -> Error {
    Error::failed("guides that others serve do not weigh next tokens")
}

fn pruned() -> Error {
    Error::failed("the parent of a response to score was pruned")
}

impl Scorer for WeightedPairs {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let opened = self
            .pairs
            .iter_mut()
            .map(|(_, pair)| pair.open(prompts))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.nodes.open(
            (),
            (0..prompts.len())
                .map(|prompt| opened.iter().map(|nodes| nodes[prompt].clone()).collect()),
        ))
    }

    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
        let of_pair = |pair: &mut dyn Scorer, requests: &[ToScore]| {
            let scored = pair.score(requests)?.into_iter();
            Ok(scored.map(|scored| Weighed { scored, next: Vec::new(), end: 0.0 }).collect())
        };
        Ok(self.sum(requests, of_pair)?.into_iter().map(|weighed| weighed.scored).collect())
    }

    /// The weighted sums where all pairs cut the text into as many tokens, as pairs of one
    /// vocabulary do; else of one piece.
    fn token_rewards(&self, node: &Node) -> Vec<f32> {
        let Ok(nodes) = self.of_pairs(node) else { return Vec::new() };
        let all: Vec<(f32, Vec<f32>)> = self
            .pairs
            .iter()
            .zip(nodes)
            .map(|((weight, pair), node)| (*weight, pair.token_rewards(node)))
            .collect();
        let length = all.first().map_or(0, |(_, rewards)| rewards.len());
        if all.iter().any(|(_, rewards)| rewards.len() != length) {
            return Vec::new();
        }
        (0..length).map(|t| all.iter().map(|(weight, rewards)| weight * rewards[t]).sum()).collect()
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        let Some(roots) = self
            .nodes
            .rows(root)
            .next()
            .map(|nodes| nodes.iter().map(Node::root).collect::<Vec<_>>())
        else {
            return;
        };
        self.nodes.retain(root, live);
        for (index, ((_, pair), root_of_pair)) in self.pairs.iter_mut().zip(&roots).enumerate() {
            let live: Vec<Node> = self.nodes.rows(root).map(|nodes| nodes[index].clone()).collect();
            pair.retain(root_of_pair, &live);
        }
    }

    fn next_scores(&mut self) -> Option<&mut dyn NextScores> {
        let all = self.pairs.iter_mut().all(|(_, pair)| pair.next_scores().is_some());
        all.then_some(self)
    }
}
