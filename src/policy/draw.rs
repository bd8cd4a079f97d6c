//! What a row of logits says of the next token, reduced to what a draw and its log-probability need.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::vocabulary_rows::{largest, log_sum_exp};
use crate::models::weights::dtype_name;
use crate::sampling::Sampling;

/// The candidates for the next token of one row.
pub struct Distribution {
    logits: Vec<f32>,
    /// Ids of the candidates; `None` where they are the whole vocabulary.
    ids: Option<Vec<i64>>,
    log_sum_exp: f32,
}

/// One for each row of (rows, vocab).
pub fn distributions(logits: &Tensor, sampling: &Sampling) -> Result<Vec<Distribution>> {
    let sums = log_sum_exp(logits)?;
    if let Some(sum) = sums.iter().find(|sum| !sum.is_finite()) {
        return Err(Error::failed(format!(
            "the model's logits are no numbers (their log-sum-exp is {sum})\n\n\
             hint: its weights are damaged, or overflow in {}: try dtype = \"float32\"",
            dtype_name(logits.kind())
        )));
    }
    Ok(match sampling.needed_logits() {
        Some(k) => {
            let rows = largest(logits, k)?.into_iter().zip(sums);
            rows.map(|(row, log_sum_exp)| {
                let (logits, ids) = row.into_iter().unzip();
                Distribution { logits, ids: Some(ids), log_sum_exp }
            })
            .collect()
        }
        None => {
            let (_, vocab) = logits.size2()?;
            let all = Vec::<f32>::try_from(logits.f_to_kind(Kind::Float)?.f_contiguous()?.f_view(-1)?)?;
            let rows = all.chunks(vocab as usize).zip(sums);
            rows.map(|(row, log_sum_exp)| Distribution { logits: row.to_vec(), ids: None, log_sum_exp }).collect()
        }
    })
}

impl Distribution {
    /// The token that the uniform number `u` selects, and its log-probability at temperature 1 without any cut.
    pub fn draw(&self, sampling: &Sampling, u: f64) -> (i64, f64) {
        let picked = sampling.pick(&self.logits, u);
        let token = self.ids.as_ref().map_or(picked as i64, |ids| ids[picked]);
        (token, f64::from(self.logits[picked]) - f64::from(self.log_sum_exp))
    }
}
