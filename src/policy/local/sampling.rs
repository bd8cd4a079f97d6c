//! How a local model samples a batch of continuations: read what is pending, branch, grow. What
//! becomes of the samples is left to `local.rs`.

use super::{Batch, LocalPolicy, OpenResponse};
use crate::error::Result;
use crate::policy::draw::Distribution;
use crate::policy::growing::{Growing, Sample};
use crate::policy::mixture::Caches;
use crate::search::{Extend, Group};

impl LocalPolicy {
    /// A sample for each request, in order, and the batches that their rows end up in.
    pub(super) fn sample(
        &self,
        requests: &[Extend],
        groups: &[Group<Batch>],
    ) -> Result<(Vec<Sample>, Vec<Growing>)> {
        // 1. Read what is pending, once for all continuations of a parent.
        let (all, hidden) = self.read_parents(groups)?;
        let parents = self.models.distributions(&hidden, self.sampling.needed_logits())?;
        // 2. Each continuation draws its first token from its parent's state, and becomes a row
        //    that shares what the parent has read.
        let (mut samples, growing) = self.branch(requests, groups, all, &parents)?;
        // 3. Rows grow by a token at a time, those of all groups together, until each is finished
        //    or has used its budget.
        let grown = self.grow(requests, &mut samples, growing)?;
        Ok((samples, grown))
    }

    /// The first token of each continuation, drawn from its parent's distribution, and the rows of
    /// each group behind what its parents have read.
    fn branch(
        &self,
        requests: &[Extend],
        groups: &[Group<Batch>],
        all: Vec<Caches>,
        parents: &[Distribution],
    ) -> Result<(Vec<Sample>, Vec<Growing>)> {
        let mut drawn: Vec<(usize, Sample)> = Vec::with_capacity(requests.len());
        let mut growing = Vec::with_capacity(groups.len());
        let mut first_parent = 0;
        for (group, caches) in groups.iter().zip(all) {
            for &(number, parent) in &group.requests {
                let OpenResponse { begins, response, logprobs } =
                    self.kept(&group.parents[parent])?.row.clone();
                let request = &requests[number];
                let mut sample = Sample {
                    parent: request.node.clone(),
                    begins,
                    response,
                    logprobs,
                    drawn: 0,
                    budget: request.max_tokens,
                    finish: None,
                    end: None,
                };
                self.draw(&mut sample, request, &parents[first_parent + parent])?;
                drawn.push((number, sample));
            }
            let rows: Vec<usize> = group.requests.iter().map(|&(_, parent)| parent).collect();
            // Parents with one continuation each, as chunks of several calls have them, are their
            // continuations' rows already.
            let are_rows = rows.iter().copied().eq(0..group.parents.len());
            let caches = if are_rows { caches } else { caches.select(&rows) };
            let samples = group.requests.iter().map(|&(number, _)| number).collect();
            growing.push(Growing { caches, samples });
            first_parent += group.parents.len();
        }
        drawn.sort_by_key(|(number, _)| *number);
        Ok((drawn.into_iter().map(|(_, sample)| sample).collect(), growing))
    }

    /// Grows the rows to their ends, and gives the batches that they end up in.
    fn grow(
        &self,
        requests: &[Extend],
        samples: &mut [Sample],
        mut growing: Vec<Growing>,
    ) -> Result<Vec<Growing>> {
        let needed = self.sampling.needed_logits();
        let mut parted = Vec::new();
        loop {
            parted.extend(growing.iter_mut().filter_map(|group| group.part(samples)));
            let active: Vec<&mut Growing> =
                growing.iter_mut().filter(|group| group.grows(samples)).collect();
            if active.is_empty() {
                break;
            }
            let fed: Vec<usize> =
                active.iter().flat_map(|group| group.samples.iter().copied()).collect();
            // A finished row that is still there reads its last token once more; nobody looks at it
            // again.
            let last = |&sample: &usize| samples[sample].response.last().copied().unwrap_or(0);
            let tokens: Vec<i64> = fed.iter().map(last).collect();
            let caches = active.into_iter().map(|group| &mut group.caches).collect();
            let hidden = self.models.step(caches, &tokens);
            let open: Vec<usize> =
                (0..fed.len()).filter(|&row| samples[fed[row]].grows()).collect();
            let hidden = if open.len() == fed.len() { hidden } else { hidden.select(&open) };
            for (&row, distribution) in open.iter().zip(self.models.distributions(&hidden, needed)?)
            {
                let sample = fed[row];
                self.draw(&mut samples[sample], &requests[sample], &distribution)?;
            }
        }
        growing.extend(parted);
        Ok(growing)
    }

    /// Draws the next token of a row.
    fn draw(
        &self,
        sample: &mut Sample,
        request: &Extend,
        distribution: &Distribution,
    ) -> Result<()> {
        let u = request.stream.uniform(sample.response.len() as u64, request.slot);
        let (token, logprob) = distribution.draw(&self.sampling, u);
        self.ending().push(sample, token, logprob)
    }
}
