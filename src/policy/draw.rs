//! What a row of logits says of the next token, reduced to what a draw and its log-probability
//! need. Temperature and cuts are applied by `sampling.rs` of the crate.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::kernels::vocabulary_rows::{largest, log_sum_exp};
use crate::models::weights::dtype_name;
use crate::sampling::Sampling;

/// The candidates for the next token of one row.
pub struct Distribution {
    logits: Vec<f32>,
    /// Ids of the candidates; `None` where they are the whole vocabulary.
    ids: Option<Vec<i64>>,
    /// The base's own logits of the candidates, where these are not what is drawn from.
    base: Option<Vec<f32>>,
    /// log Σ exp of the base's own logits.
    log_sum_exp: f32,
}

/// One for each row of (rows, vocab): its `needed` largest logits in descending order, or all as
/// they are. `base` holds the base's own logits where `logits` are a mixture.
pub fn distributions(
    logits: &Tensor,
    base: Option<&Tensor>,
    needed: Option<usize>,
) -> Result<Vec<Distribution>> {
    let mut sums = finite_log_sum_exp(logits)?;
    if let Some(base) = base {
        sums = finite_log_sum_exp(base)?;
    }
    let mut rows = candidates(logits, sums, needed)?;
    if let Some(base) = base {
        let base = base.f_to_kind(Kind::Float)?;
        for (number, row) in rows.iter_mut().enumerate() {
            let base = base.f_get(number as i64)?;
            let base = match &row.ids {
                Some(ids) => {
                    base.f_index_select(0, &Tensor::from_slice(ids).to_device(base.device()))?
                }
                None => base,
            };
            row.base = Some(Vec::try_from(base)?);
        }
    }
    Ok(rows)
}

fn finite_log_sum_exp(logits: &Tensor) -> Result<Vec<f32>> {
    let sums = log_sum_exp(logits)?;
    if let Some(sum) = sums.iter().find(|sum| !sum.is_finite()) {
        return Err(Error::failed(format!(
            "the model's logits are not finite (their log-sum-exp is {sum})\n\nhint: {}",
            not_finite_hint(logits.kind())
        )));
    }
    Ok(sums)
}

/// The way out where weights in `kind` give no numbers.
fn not_finite_hint(kind: Kind) -> String {
    let dtype = dtype_name(kind);
    if matches!(kind, Kind::Float | Kind::Double) {
        format!(
            "its weights hold inf or NaN, or overflow even in {dtype}: fetch or copy the model \
             again, or take an earlier checkpoint of the training that made it"
        )
    } else {
        format!("its weights are damaged, or overflow in {dtype}: try dtype = \"float32\"")
    }
}

fn candidates(logits: &Tensor, sums: Vec<f32>, needed: Option<usize>) -> Result<Vec<Distribution>> {
    Ok(match needed {
        Some(k) => {
            let rows = largest(logits, k)?.into_iter().zip(sums);
            rows.map(|(row, log_sum_exp)| {
                let (logits, ids) = row.into_iter().unzip();
                Distribution { logits, ids: Some(ids), base: None, log_sum_exp }
            })
            .collect()
        }
        None => {
            let (_, vocab) = logits.size2()?;
            let all =
                Vec::<f32>::try_from(logits.f_to_kind(Kind::Float)?.f_contiguous()?.f_view(-1)?)?;
            let rows = all.chunks(vocab as usize).zip(sums);
            rows.map(|(row, log_sum_exp)| Distribution {
                logits: row.to_vec(),
                ids: None,
                base: None,
                log_sum_exp,
            })
            .collect()
        }
    })
}

impl Distribution {
    /// Of the whole vocabulary: log-probabilities of the base, and what guides add to each; ids
    /// beyond the shorter one have no token.
    pub fn tilted(base: &[f32], added: &[f32]) -> Self {
        let logits = base.iter().zip(added).map(|(base, added)| base + added).collect();
        Self { logits, ids: None, base: Some(base.to_vec()), log_sum_exp: 0.0 }
    }

    /// The token that the uniform number `u` selects, and its log-probability under the base at
    /// temperature 1 without any cut.
    pub fn draw(&self, sampling: &Sampling, u: f64) -> (i64, f64) {
        let picked = sampling.pick(&self.logits, u);
        let token = self.ids.as_ref().map_or(picked as i64, |ids| ids[picked]);
        let logit = self.base.as_ref().unwrap_or(&self.logits)[picked];
        (token, f64::from(logit) - f64::from(self.log_sum_exp))
    }

    /// Every candidate and its log-probability, in the order of the candidates.
    pub fn logprobs(&self) -> Vec<(i64, f32)> {
        let id = |place: usize| self.ids.as_ref().map_or(place as i64, |ids| ids[place]);
        self.logits
            .iter()
            .enumerate()
            .map(|(place, logit)| (id(place), logit - self.log_sum_exp))
            .collect()
    }
}
