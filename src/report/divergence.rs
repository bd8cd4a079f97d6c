//! How far a method's responses are from its base's, as a row of the summary tells it. What is
//! computed of responses is `score`'s business.

use serde::{Deserialize, Serialize};

/// KL(π ‖ π_base) in nats, at the sampling temperature and before any cut by top-k or top-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// `per_response` by the mean number of tokens, EOS included.
    pub per_token: f64,
    /// Mean over responses of the sum over their positions.
    pub per_response: f64,
    pub kind: DivergenceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceKind {
    /// Over the whole vocabulary, along the sampled texts.
    Exact,
    UpperBound,
}

impl Divergence {
    /// Of samples of the base itself.
    pub const NONE: Self = Self { per_token: 0.0, per_response: 0.0, kind: DivergenceKind::Exact };

    /// Of responses of which each has so many tokens and this sum over their positions; `None` of
    /// none.
    pub fn exact(responses: &[(usize, f64)]) -> Option<Self> {
        let tokens: usize = responses.iter().map(|(tokens, _)| tokens).sum();
        let sum: f64 = responses.iter().map(|(_, kl)| kl).sum();
        (tokens > 0).then(|| Self {
            per_token: sum / tokens as f64,
            per_response: sum / responses.len() as f64,
            kind: DivergenceKind::Exact,
        })
    }

    /// Of the best of `n` samples by whatever score, at most log n − (n − 1)/n (Beirami et al.,
    /// arXiv 2401.01879), for responses of `tokens` in the mean.
    pub fn best_of(n: usize, tokens: f64) -> Self {
        let n = n as f64;
        let per_response = n.ln() - (n - 1.0) / n;
        let per_token = if tokens > 0.0 { per_response / tokens } else { 0.0 };
        Self { per_token, per_response, kind: DivergenceKind::UpperBound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let exact = Divergence::exact(&[(10, 2.0), (30, 4.0)]).unwrap();
        assert_eq!((exact.per_token, exact.per_response), (6.0 / 40.0, 3.0));
        assert_eq!(Divergence::exact(&[(0, 0.0)]), None);
        let bound = Divergence::best_of(16, 50.0);
        assert!((bound.per_response - 1.8350887).abs() < 1e-7);
        assert!((bound.per_token - 1.8350887 / 50.0).abs() < 1e-9);
        assert_eq!(Divergence::best_of(1, 50.0).per_response, 0.0);
        let text = serde_json::to_string(&bound).unwrap();
        assert!(text.ends_with("\"kind\":\"upper_bound\"}"), "{text}");
    }
}
