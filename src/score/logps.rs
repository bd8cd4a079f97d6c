//! Log-probabilities of given tokens, in f32 whatever the weights' kind, a slice of positions at a
//! time.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::kernels::vocabulary_rows::log_sum_exp;
use crate::models::{CausalLm, Input};

/// Rows of the (positions, vocab) logits that exist at once.
const SLICE: i64 = 256;

/// log p(target) for each row of `hidden` (positions, hidden_size), without gradients, on the host;
/// `targets` (positions) i64.
pub fn frozen_target_logps(
    model: &CausalLm,
    hidden: &Tensor,
    targets: &Tensor,
) -> Result<Vec<f32>> {
    let _no_grad = tch::no_grad_guard();
    let positions = targets.size()[0];
    let mut logps = Vec::with_capacity(positions as usize);
    for start in (0..positions).step_by(SLICE as usize) {
        let length = SLICE.min(positions - start);
        // (length, vocab), in the weights' kind
        let logits = model.logits(&hidden.narrow(0, start, length));
        let chosen = logits
            .gather(-1, &targets.narrow(0, start, length).unsqueeze(-1), false)
            .squeeze_dim(-1);
        let chosen = Vec::<f32>::try_from(chosen.to_kind(Kind::Float))?;
        logps.extend(chosen.iter().zip(log_sum_exp(&logits)?).map(|(chosen, sum)| chosen - sum));
    }
    Ok(logps)
}

/// log p of each token of `ids` from `prompt_len` on, given all before it, by one full forward pass
/// without a cache.
pub fn response_logps(model: &CausalLm, ids: &[i64], prompt_len: usize) -> Result<Vec<f32>> {
    let _no_grad = tch::no_grad_guard();
    let (length, scored) = (ids.len() as i64, (ids.len() - prompt_len) as i64);
    let device = model.device();
    let tokens = Tensor::from_slice(ids).unsqueeze(0).to_device(device);
    let positions = Tensor::arange(length, (Kind::Int64, device)).unsqueeze(0);
    let hidden =
        model.hidden(&Input { ids: &tokens, positions: &positions, valid: None, packing: None });
    let predicting = hidden.squeeze_dim(0).narrow(0, prompt_len as i64 - 1, scored);
    frozen_target_logps(
        model,
        &predicting,
        &tokens.squeeze_dim(0).narrow(0, prompt_len as i64, scored),
    )
}
