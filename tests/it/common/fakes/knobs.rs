//! How servers draw a token: knobs in each server's own order, by brute force over the whole
//! vocabulary.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Penalty,
    Temperature,
    TopK,
    TopP,
    MinP,
}

/// What a request asks for, or what the server takes where it says nothing.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// 0 is greedy.
    pub temperature: f64,
    /// 0 keeps all.
    pub top_k: usize,
    pub top_p: f64,
    pub min_p: f64,
    /// On tokens of the prompt and the answer, 1 is none.
    pub penalty: f64,
    pub order: Vec<Step>,
    /// What is added to logits before all else.
    pub bias: Vec<(usize, f64)>,
}

impl Knobs {
    /// As transformers and vLLM order them.
    pub const USUAL: [Step; 5] =
        [Step::Penalty, Step::Temperature, Step::TopK, Step::TopP, Step::MinP];

    /// The probability of every token behind `read`.
    pub fn probabilities(&self, logits: &[f32], read: &[i64]) -> Vec<f64> {
        let mut scores: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
        for &(id, bias) in &self.bias {
            scores[id] += bias;
        }
        for step in &self.order {
            match step {
                Step::Penalty => self.penalise(&mut scores, read),
                Step::Temperature if self.temperature > 0.0 => {
                    scores.iter_mut().for_each(|score| *score /= self.temperature);
                }
                Step::TopK if self.top_k > 0 => keep(&mut scores, |rank, _, _| rank < self.top_k),
                Step::TopP if self.top_p < 1.0 => {
                    keep(&mut scores, |_, before, _| before < self.top_p);
                }
                Step::MinP if self.min_p > 0.0 => {
                    keep(&mut scores, |_, _, of_first| of_first >= self.min_p);
                }
                _ => {}
            }
        }
        if self.temperature == 0.0 {
            keep(&mut scores, |rank, _, _| rank == 0);
        }
        softmax(&scores)
    }

    fn penalise(&self, scores: &mut [f64], read: &[i64]) {
        let seen: std::collections::BTreeSet<i64> = read.iter().copied().collect();
        for id in seen {
            let score = &mut scores[id as usize];
            *score = if *score > 0.0 { *score / self.penalty } else { *score * self.penalty };
        }
    }
}

/// Drops what `stays` does not want to keep: it is told the rank, the mass of those before, and the
/// probability as a part of the first one's.
fn keep(scores: &mut [f64], stays: impl Fn(usize, f64, f64) -> bool) {
    let shares = softmax(scores);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]).then(a.cmp(&b)));
    let (mut before, first) = (0.0, shares[order[0]]);
    for (rank, id) in order.into_iter().enumerate() {
        if !stays(rank, before, shares[id] / first) {
            scores[id] = f64::NEG_INFINITY;
        }
        before += shares[id];
    }
}

pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
