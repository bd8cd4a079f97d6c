//! What rewards say of pairs, measured alike for every task that has rewards.

use tch::{Kind, Tensor};

use super::super::metrics::Metrics;
use crate::monitor::glossary;

/// The sum of all numbers, in f64.
pub(super) fn sum(values: &Tensor) -> f64 {
    values.detach().sum(Kind::Double).double_value(&[])
}

/// Adds the rewards of the chosen and of the rejected response of some pairs, how far they are
/// apart, and how many pairs are ordered right; all (pairs).
pub(super) fn add_rewards(
    metrics: &mut Metrics,
    [chosen, rejected]: [&Tensor; 2],
    accuracies: &Tensor,
) {
    let (pairs, chosen, rejected) = (accuracies.numel() as f64, sum(chosen), sum(rejected));
    metrics.add(glossary::REWARDS_CHOSEN, chosen, pairs);
    metrics.add(glossary::REWARDS_REJECTED, rejected, pairs);
    metrics.add(glossary::REWARDS_MARGINS, chosen - rejected, pairs);
    metrics.add(glossary::REWARDS_ACCURACIES, sum(accuracies), pairs);
}
