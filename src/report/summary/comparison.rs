//! Paired differences between rows by one judge: their intervals, tests and Holm's correction. The
//! statistics themselves are in `statistics/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reward::ByPrompt;
use crate::recipe::GOLD;
use crate::report::statistics::{
    Resampled, detectable, holm, mean, paired_t, sign_test, standard_error,
};

/// Mean reward of method `a` of `base` minus that of `b` on the same prompts (seeds of one prompt
/// averaged first).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub base: String,
    pub a: String,
    pub b: String,
    /// The base of `b` where it is another: the model that the guides descend from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// `gold`, or another judge's name.
    #[serde(default = "gold")]
    pub judge: String,
    pub difference: f64,
    pub standard_error: f64,
    pub prompts: usize,
    /// The percentile bootstrap over prompts, low and high; absent for one prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap95: Option<[f64; 2]>,
    /// Two-sided, of the paired t-test; 1 where all differences are 0, absent for one prompt and
    /// where all differences are the same other number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// `p` after Holm's correction over all comparisons of `base` with the same `b` (and
    /// `against`) by the same judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_holm: Option<f64>,
    /// Prompts for which `a` has the higher reward, as high a one, and the lower one.
    #[serde(default)]
    pub wins: usize,
    #[serde(default)]
    pub ties: usize,
    #[serde(default)]
    pub losses: usize,
    /// Two-sided, of the exact sign test (McNemar's) on wins and losses; 1 where there is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_wins: Option<f64>,
    /// The difference that as many prompts would show with 80 % power at a two-sided 5 %; absent
    /// where the differences do not vary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
}

fn gold() -> String {
    GOLD.to_owned()
}

/// A row by its name, and what one judge says of it.
#[derive(Clone, Copy)]
pub(super) struct Judged<'a> {
    pub base: &'a str,
    pub method: &'a str,
    pub rewards: &'a ByPrompt,
}

impl Comparison {
    /// Without Holm's correction; `None` where both have no prompt in common.
    pub(super) fn of(judge: &str, a: Judged, b: Judged) -> Option<Self> {
        let (ours, theirs) = (&a.rewards.means, &b.rewards.means);
        let differences: Vec<f64> =
            ours.iter().filter_map(|(id, reward)| Some(reward - theirs.get(id)?)).collect();
        if differences.is_empty() {
            return None;
        }
        // The draws depend on the count of prompts alone, so both ways say the same.
        let resampled = match (&a.rewards.resampled, &b.rewards.resampled) {
            (Some(ours), Some(theirs)) if a.rewards.is_of_the_prompts_of(b.rewards) => {
                Some(ours.minus(theirs))
            }
            _ => Resampled::of(&differences),
        };
        let count = |is: fn(f64) -> bool| differences.iter().filter(|value| is(**value)).count();
        let (wins, losses) = (count(|value| value > 0.0), count(|value| value < 0.0));
        let standard_error = standard_error(&differences);
        Some(Self {
            base: a.base.to_owned(),
            a: a.method.to_owned(),
            b: b.method.to_owned(),
            against: (a.base != b.base).then(|| b.base.to_owned()),
            judge: judge.to_owned(),
            difference: mean(&differences),
            standard_error,
            prompts: differences.len(),
            bootstrap95: resampled.and_then(Resampled::interval),
            p: paired_t(&differences),
            p_holm: None,
            wins,
            ties: differences.len() - wins - losses,
            losses,
            p_wins: Some(sign_test(wins, losses)),
            detectable: detectable(standard_error),
        })
    }

    /// By the bootstrap; a summary of before has the normal interval alone, and one prompt none.
    pub fn within(&self) -> Option<[f64; 2]> {
        let half = 1.96 * self.standard_error;
        let normal = [self.difference - half, self.difference + half];
        self.bootstrap95.or((half > 0.0).then_some(normal))
    }

    /// The same of `b` minus `a`.
    fn turned(&self) -> Self {
        Self {
            a: self.b.clone(),
            b: self.a.clone(),
            difference: -self.difference,
            bootstrap95: self.bootstrap95.map(|[low, high]| [-high, -low]),
            wins: self.losses,
            losses: self.wins,
            ..self.clone()
        }
    }
}

/// Corrects each family for its size: the comparisons of one base with one `b` by one judge.
pub(super) fn correct(comparisons: &mut [Comparison]) {
    let mut families: BTreeMap<_, Vec<(usize, f64)>> = BTreeMap::new();
    for (i, comparison) in comparisons.iter().enumerate() {
        let Comparison { judge, base, against, b, p, .. } = comparison.clone();
        families.entry((judge, base, against, b)).or_default().extend(p.map(|p| (i, p)));
    }
    for family in families.into_values() {
        let p: Vec<f64> = family.iter().map(|(_, p)| *p).collect();
        for ((i, _), adjusted) in family.iter().zip(holm(&p)) {
            comparisons[*i].p_holm = Some(adjusted);
        }
    }
}

/// All methods of `base` less its method `baseline`, which may also be one of the guides' where the
/// base has none of this name: turned where they stand the other way, and corrected as one family.
pub(in crate::report) fn against(
    comparisons: &[Comparison],
    judge: &str,
    base: &str,
    baseline: &str,
) -> Vec<Comparison> {
    let of_base = || {
        let is_of = |it: &&Comparison| it.judge == judge && it.base == base;
        comparisons.iter().filter(is_of)
    };
    let own = of_base().filter(|it| it.against.is_none());
    let mut family: Vec<Comparison> = own
        .filter(|it| it.a == baseline || it.b == baseline)
        .map(|it| if it.b == baseline { it.clone() } else { it.turned() })
        .collect();
    if family.is_empty() {
        let guides = of_base().filter(|it| it.against.is_some() && it.b == baseline);
        family = guides.cloned().collect();
    }
    family.iter_mut().for_each(|it| it.p_holm = None);
    correct(&mut family);
    family
}
