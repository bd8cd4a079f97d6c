//! What is added to attention's scores where a query must not see a key: the kind's lowest finite
//! number, not minus infinity, so that a query with no real key averages all keys instead of
//! becoming NaN. Which keys a query sees is said by `attention.rs`, `packing.rs` and `kv_cache.rs`.

use tch::{Kind, Tensor};

/// 0 where `allowed` (bool), the lowest number elsewhere; the same shape, in `kind`.
pub(super) fn bias(allowed: &Tensor, kind: Kind) -> Tensor {
    let lowest = match kind {
        Kind::Half => -65504.0,
        Kind::BFloat16 => -3.3895313892515355e38,
        _ => f64::from(f32::MIN),
    };
    Tensor::zeros(allowed.size(), (kind, allowed.device()))
        .masked_fill(&allowed.logical_not(), lowest)
}
