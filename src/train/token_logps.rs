//! Log-probabilities of given tokens under a language model's head, and the way back through it,
//! without the graph that autograd would keep: of (tokens, vocab) numbers libtorch holds several
//! copies in f32, here one in the weights' kind, slice by slice.

use tch::{Kind, Tensor};

use super::hidden_pass::HiddenPass;
use crate::error::Result;
use crate::kernels::vocabulary_rows::{log_sum_exp, logps_gradient};
use crate::models::{CausalLm, gradient_of};

/// Logits made at once.
const SLICE_BYTES: usize = 64 << 20;
/// Logits kept for the way back; those of further slices are computed again.
const KEPT_BYTES: usize = 256 << 20;

pub struct TokenLogps<'a> {
    model: &'a CausalLm,
    /// (tokens, hidden_size) in the weights' kind: the state that predicts each token, with its
    /// graph where there is one.
    pub states: Tensor,
    /// What the head reads: the states over the temperature.
    hidden: Tensor,
    targets: Vec<i64>,
    /// (tokens) f32, log p(target); a leaf, to which a loss adds its gradient.
    pub logps: Tensor,
    log_sums: Vec<f32>,
    slice: usize,
    kept: Vec<Tensor>,
    pass: HiddenPass<'a>,
}

impl<'a> TokenLogps<'a> {
    /// The log-probabilities of `targets` (tokens) under softmax(logits / `temperature`), each
    /// predicted by its row of `states` (tokens, hidden_size), in the weights' kind, which come
    /// from `pass`. Where they have a graph, [`Self::learn`] may follow.
    pub fn new(
        model: &'a CausalLm,
        pass: HiddenPass<'a>,
        states: Tensor,
        targets: Vec<i64>,
        temperature: f64,
    ) -> Result<Self> {
        Self::with_limits(model, pass, states, targets, temperature, SLICE_BYTES, KEPT_BYTES)
    }

    fn with_limits(
        model: &'a CausalLm,
        pass: HiddenPass<'a>,
        states: Tensor,
        targets: Vec<i64>,
        temperature: f64,
        slice_bytes: usize,
        kept_bytes: usize,
    ) -> Result<Self> {
        let hidden =
            if temperature == 1.0 { states.shallow_clone() } else { &states / temperature };
        let learns = hidden.requires_grad();
        let _no_grad = tch::no_grad_guard();
        let row_bytes = model.info().vocab_size as usize * hidden.kind().elt_size_in_bytes();
        let slice = (slice_bytes / row_bytes).max(1);
        let (mut logps, mut log_sums, mut kept) =
            (Vec::with_capacity(targets.len()), Vec::with_capacity(targets.len()), Vec::new());
        for (index, targets) in targets.chunks(slice).enumerate() {
            let logits =
                model.logits(&hidden.narrow(0, (index * slice) as i64, targets.len() as i64));
            let sums = log_sum_exp(&logits)?;
            let places = Tensor::from_slice(targets).to_device(logits.device()).unsqueeze(-1);
            let at_targets = Vec::<f32>::try_from(
                logits.gather(-1, &places, false).squeeze_dim(-1).to_kind(Kind::Float),
            )?;
            logps.extend(at_targets.iter().zip(&sums).map(|(logit, sum)| logit - sum));
            log_sums.extend(sums);
            if learns && (index + 1) * slice * row_bytes <= kept_bytes {
                kept.push(logits);
            }
        }
        let logps = Tensor::from_slice(&logps).to_device(hidden.device()).set_requires_grad(learns);
        Ok(Self { model, states, hidden, targets, logps, log_sums, slice, kept, pass })
    }

    /// A scalar whose backward pass brings the gradient at [`Self::logps`] to everything below the
    /// head; that of the head's weight is added here.
    fn surrogate(&mut self) -> Result<Tensor> {
        let coefficients = Vec::<f32>::try_from(self.logps.grad())?;
        let head = self.model.head();
        let gradient = {
            let _no_grad = tch::no_grad_guard();
            let hidden = self.hidden.detach();
            let mut head_gradient = head.learns().then(|| gradient_of(head.plain())).transpose()?;
            let mut kept = std::mem::take(&mut self.kept).into_iter();
            let slices = self
                .targets
                .chunks(self.slice)
                .zip(self.log_sums.chunks(self.slice))
                .zip(coefficients.chunks(self.slice));
            let mut gradients = Vec::new();
            let mut start = 0;
            for ((targets, log_sums), coefficients) in slices {
                let rows = hidden.narrow(0, start, targets.len() as i64);
                start += targets.len() as i64;
                let mut logits = kept.next().unwrap_or_else(|| self.model.logits(&rows));
                logps_gradient(&mut logits, log_sums, targets, coefficients)?;
                gradients.push(head.input_gradient(&logits));
                if let Some(sum) = &mut head_gradient {
                    head.add_gradient(sum, &logits, &rows);
                }
            }
            Tensor::f_cat(&gradients, 0)?
        };
        Ok((&self.hidden * gradient).sum(Kind::Float))
    }

    /// The backward pass of `loss`, a scalar made of [`Self::logps`], to the weights.
    pub fn learn(self, loss: &Tensor) -> Result<()> {
        self.learn_with(loss, None)
    }

    /// [`Self::learn`] together with the backward pass of `of_states`, a scalar made of
    /// [`Self::states`].
    pub fn learn_with(mut self, loss: &Tensor, of_states: Option<&Tensor>) -> Result<()> {
        loss.f_backward()?;
        let surrogate = self.surrogate()?;
        of_states.map_or(surrogate.shallow_clone(), |loss| surrogate + loss).f_backward()?;
        self.pass.backward()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::*;
    use crate::models::{Lm, Packing, Span};

    #[test]
    fn neither_slices_nor_what_is_kept_change_values_or_gradients() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2");
        let made = |slice_bytes: usize, kept_bytes: usize| {
            let lm = Lm::open_trainable(&folder, Device::Cpu, Kind::Float).unwrap();
            let mut packing = Packing::default();
            packing.push(Span { tokens: 8, after: None });
            let (ids, positions) = (
                Tensor::arange(8, (Kind::Int64, Device::Cpu)) * 5,
                Tensor::from_slice(&packing.positions()),
            );
            let (hidden, pass) = HiddenPass::forward(
                &lm.model,
                ids.unsqueeze(0),
                positions.unsqueeze(0),
                packing,
                false,
            );
            let targets = (0..8).map(|place| 5 * place + 5).collect();
            let tokens = TokenLogps::with_limits(
                &lm.model,
                pass,
                hidden.squeeze_dim(0),
                targets,
                1.0,
                slice_bytes,
                kept_bytes,
            )
            .unwrap();
            let values = Vec::<f32>::try_from(tokens.logps.detach()).unwrap();
            let loss = tokens.logps.square().sum(Kind::Float);
            tokens.learn(&loss).unwrap();
            (
                values,
                lm.parameters()
                    .into_iter()
                    .map(|(_, parameter)| parameter.grad().copy())
                    .collect::<Vec<_>>(),
            )
        };
        let (values, gradients) = made(SLICE_BYTES, KEPT_BYTES);
        let row = 97 * 4;
        for (slice, kept) in [(1, 0), (3 * row, 0), (3 * row, 6 * row), (3 * row, KEPT_BYTES)] {
            let (other_values, other_gradients) = made(slice, kept);
            assert!(
                values.iter().zip(&other_values).all(|(a, b)| (a - b).abs() < 1e-5),
                "{values:?} {other_values:?}"
            );
            assert!(
                gradients
                    .iter()
                    .zip(&other_gradients)
                    .all(|(a, b)| a.allclose(b, 1e-4, 1e-4, false))
            );
            assert!(gradients.iter().any(|gradient| gradient.abs().max().double_value(&[]) > 1.0));
        }
    }
}
