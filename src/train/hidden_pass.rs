//! The pass from ids to hidden states and back. The embedding stands outside of autograd, which
//! would make a gradient of the whole vocabulary anew each time; and activations are either kept
//! for the way back, or computed again on it, layer by layer (activation checkpointing, arXiv
//! 1604.06174): then only the input of each layer stays in memory, for a third more arithmetic.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::models::{CausalLm, Input, Packing};

pub struct HiddenPass<'a> {
    model: &'a CausalLm,
    ids: Tensor,
    positions: Tensor,
    packing: Packing,
    /// Runs of this many layers have a graph of their own each.
    layers_of_run: i64,
    /// What each run reads, (1, seq, hidden_size): leaves that take up gradients.
    inputs: Vec<Tensor>,
}

impl<'a> HiddenPass<'a> {
    /// Hidden states (1, seq, hidden_size) of the packed `ids` at `positions`, both (1, seq), with
    /// a graph that reaches down to the input of the last run; where grad mode is off, with none.
    pub fn forward(
        model: &'a CausalLm,
        ids: Tensor,
        positions: Tensor,
        packing: Packing,
        recompute: bool,
    ) -> (Tensor, Self) {
        let layers = model.info().n_layer;
        let layers_of_run = if recompute { 1 } else { layers };
        let mut pass = Self { model, ids, positions, packing, layers_of_run, inputs: Vec::new() };
        tch::no_grad(|| {
            pass.inputs.push(model.embed(&pass.input()));
            for _ in 1..layers / layers_of_run {
                let output = pass.last_run();
                pass.inputs.push(output);
            }
        });
        (pass.last_run_from_leaf(), pass)
    }

    fn input(&self) -> Input<'_> {
        Input {
            ids: &self.ids,
            positions: &self.positions,
            valid: None,
            packing: Some(&self.packing),
        }
    }

    /// What the run gives that reads the last input.
    fn last_run(&self) -> Tensor {
        let end = self.inputs.len() as i64 * self.layers_of_run;
        self.model.layers(&self.input(), self.inputs.last(), end - self.layers_of_run..end)
    }

    fn last_run_from_leaf(&mut self) -> Tensor {
        let leaf = self.inputs.pop().map(|input| input.set_requires_grad(true));
        self.inputs.extend(leaf);
        self.last_run()
    }

    /// Brings the gradient on to everything below; to be called after a backward pass from the
    /// hidden states.
    pub fn backward(mut self) -> Result<()> {
        while let Some(input) = self.inputs.pop() {
            let gradient = input.grad();
            if self.inputs.is_empty() {
                self.model.add_embedding_gradient(&self.input(), &gradient)?;
            } else {
                (self.last_run_from_leaf() * gradient).sum(Kind::Float).f_backward()?;
            }
        }
        Ok(())
    }
}
