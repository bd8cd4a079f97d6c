//! Scaled dot-product attention with a causal mask that is right with a cache, padding and holes.

use tch::{Device, Kind, Tensor};

/// Which columns each new token may attend to, as an additive mask in `kind`, or `None` where it may attend to all.
///
/// `new` tokens are the last of `columns`; token i may see columns up to `columns − new + i` (aligned bottom-right: torch's own `is_causal`
/// aligns top-left and is wrong with a cache). `valid` (batch, columns) bool hides padding and holes. Hidden places hold the kind's lowest
/// number, not −∞, so that a row with nothing to see stays finite. Shape: (1 or batch, 1, new, columns).
pub fn causal_mask(new: i64, columns: i64, valid: Option<&Tensor>, kind: Kind, device: Device) -> Option<Tensor> {
    let causal = (new > 1).then(|| Tensor::ones([new, columns], (Kind::Bool, device)).tril(columns - new).view([1, 1, new, columns]));
    let visible = valid.map(|valid| valid.unsqueeze(1).unsqueeze(1)); // (batch, 1, 1, columns)
    let visible = match (causal, visible) {
        (Some(causal), Some(visible)) => causal.logical_and(&visible),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    Some(additive(&visible, kind))
}

/// 0 where `visible` (bool), the lowest finite number of `kind` elsewhere.
pub fn additive(visible: &Tensor, kind: Kind) -> Tensor {
    let lowest = match kind {
        Kind::Half => -65504.0,
        _ => f64::from(f32::MIN) * 0.99, // in range of bf16 too
    };
    Tensor::zeros(visible.size(), (kind, visible.device())).masked_fill(&visible.logical_not(), lowest)
}

/// softmax(q kᵀ · scale + mask) v; q (batch, heads, new, head_dim), k and v (batch, heads, columns, head_dim). Returns q's shape.
pub fn attend(query: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>, scale: f64) -> Tensor {
    Tensor::scaled_dot_product_attention(query, keys, values, mask, 0.0, false, scale, false)
}
