//! A local model token by token, as token-level beam search asks of it: nothing is sampled.

use std::rc::Rc;

use super::{Batch, LocalPolicy, OpenResponse, Read, not_kept};
use crate::error::Result;
use crate::search::{Finish, Group, Kept, NextTokens, Node, Response};

impl NextTokens for LocalPolicy {
    fn likeliest(&mut self, nodes: &[Node], count: Option<usize>) -> Result<Vec<Vec<(i64, f32)>>> {
        let _no_grad = tch::no_grad_guard();
        let groups = self.groups(nodes.iter())?;
        let (all, hidden) = self.read_parents(&groups)?;
        let distributions = self.models.distributions(&hidden, count)?;
        let mut likeliest = vec![Vec::new(); nodes.len()];
        let mut first = 0;
        for (Group { parents, requests, .. }, caches) in groups.into_iter().zip(all) {
            for (request, parent) in requests {
                likeliest[request] = distributions[first + parent].logprobs();
            }
            let read = Read::Whole(hidden.narrow(first, parents.len()));
            self.nodes.replace(Batch { caches: Rc::new(caches), read }, &parents);
            first += parents.len();
        }
        Ok(likeliest)
    }

    fn append(&mut self, continuations: &[(Node, i64)]) -> Result<Vec<(Node, Response)>> {
        let groups = self.groups(continuations.iter().map(|(node, _)| node))?;
        let mut appended: Vec<Option<(Node, Response)>> = vec![None; continuations.len()];
        for Group { batch, parents, requests } in groups {
            let mut rows = Vec::new();
            for (request, parent) in requests {
                let (parent, token) = (&parents[parent], continuations[request].1);
                let Kept { place, row: OpenResponse { begins, response, .. }, .. } =
                    self.kept(parent)?;
                let (begins, mut ids) = (*begins, response.clone());
                let finish = match self.end_token_ids().contains(&token) {
                    true => Some((Finish::Eos, None)),
                    false => {
                        ids.push(token);
                        self.ending().stopped(&ids, begins)?.map(|text| (Finish::Stop, Some(text)))
                    }
                };
                let response = self.ending().response(&ids, begins, finish)?;
                let node = self.nodes.child(parent).ok_or_else(not_kept)?;
                if response.finish.is_none() {
                    rows.push((
                        node.clone(),
                        place,
                        OpenResponse { begins, response: ids, logprobs: Vec::new() },
                    ));
                }
                appended[request] = Some((node, response));
            }
            self.nodes.insert(Batch { caches: batch.caches.clone(), read: Read::ButTheLast }, rows);
        }
        Ok(appended.into_iter().flatten().collect())
    }

    fn end_tokens(&self) -> Vec<i64> {
        self.end_token_ids().to_vec()
    }
}
