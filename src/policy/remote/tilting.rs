//! The guides that are added to a served base: what they say of the next token of some responses,
//! read as far as these have grown.

use std::collections::HashMap;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::policy::{LocalPolicy, Member};
use crate::prompt::PromptText;
use crate::sampling::Sampling;
use crate::search::{NextTokens, Node, Proposer};
use crate::text::Tokenizer;

/// What guides are told apart by: what they say behind this.
const PROMPT: &str = "The";

pub struct Tilting {
    guides: LocalPolicy,
    /// The weight of the first guide; those of the others are told as parts of it.
    weight: f32,
    /// What the guides know prompts as.
    roots: HashMap<Node, Node>,
    fingerprint: String,
}

/// A response: what the guides know it as, its tokens that they have not read yet, and what they
/// add to each that may come next.
type Behind<'a> = (&'a mut Node, &'a mut Vec<i64>, &'a mut Vec<f32>);

impl Tilting {
    /// At least one member, all with one vocabulary, and a weight that is not 0.
    ///
    /// # Errors
    /// Where the guides say nothing that is a number.
    pub fn new(mut members: Vec<Member>, tokenizer: Rc<Tokenizer>) -> Result<Self> {
        let first = members.remove(0);
        let weight = first.weight;
        members.iter_mut().for_each(|member| member.weight /= weight);
        let first = Member { weight: 1.0, ..first };
        let guides = LocalPolicy::mixture(first, members, tokenizer, Sampling::Greedy, Vec::new());
        let (weight, roots) = (weight as f32, HashMap::new());
        let mut tilting = Self { guides, weight, roots, fingerprint: String::new() };
        tilting.fingerprint = tilting.said()?;
        Ok(tilting)
    }

    pub fn guides(&self) -> &LocalPolicy {
        &self.guides
    }

    /// Tells guides with their weights from others, on this machine.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn said(&mut self) -> Result<String> {
        let root = self.guides.open(&[&PROMPT.into()])?.remove(0);
        let (mut node, mut unread, mut added) = (root.clone(), Vec::new(), Vec::new());
        self.read(vec![(&mut node, &mut unread, &mut added)])?;
        self.guides.release(&root);
        let bytes: Vec<u8> = added.iter().flat_map(|added| added.to_le_bytes()).collect();
        Ok(Sha256::digest(&bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads prompts; what the guides know them as.
    pub fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        self.guides.open(prompts)
    }

    /// A prompt that is known as `root` is `guides` to the guides.
    pub fn name(&mut self, root: Node, guides: Node) {
        self.roots.insert(root, guides);
    }

    /// Reads all that is unread, those of all responses together, and tells what is added to each
    /// next token, up to a number that is the same for all of them.
    pub fn read(&mut self, mut all: Vec<Behind>) -> Result<()> {
        while !all.is_empty() {
            let late: Vec<usize> =
                (0..all.len()).filter(|&place| !all[place].1.is_empty()).collect();
            let continuations: Vec<(Node, i64)> =
                late.iter().map(|&place| (all[place].0.clone(), all[place].1.remove(0))).collect();
            let appended = self.guides.append(&continuations)?;
            for (place, (node, _)) in late.into_iter().zip(appended) {
                *all[place].0 = node;
            }
            let nodes: Vec<Node> = all.iter().map(|(node, ..)| (**node).clone()).collect();
            for ((_, _, added), told) in all.iter_mut().zip(self.guides.likeliest(&nodes, None)?) {
                **added = told.into_iter().map(|(_, logprob)| self.weight * logprob).collect();
            }
            all.retain(|(_, unread, _)| !unread.is_empty());
        }
        Ok(())
    }

    /// Frees all responses to a prompt but these.
    pub fn retain(&mut self, root: &Node, live: &[Node]) {
        if let Some(root) = self.roots.get(root) {
            self.guides.retain(root, live);
        }
    }

    pub fn release(&mut self, root: &Node) {
        if let Some(root) = self.roots.remove(root) {
            self.guides.release(&root);
        }
    }
}
