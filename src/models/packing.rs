//! Several texts behind each other in one row of tokens, without padding and without seeing one
//! another.

use tch::{Device, Kind, Tensor};

use super::score_bias::bias;

/// Neighbouring tokens that see those among themselves up to themselves, and all of the span named
/// by `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub tokens: i64,
    /// An earlier span, itself after none, that this one continues: a prompt, which is read once
    /// for all its responses.
    pub after: Option<usize>,
}

/// The spans of one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packing {
    spans: Vec<Span>,
}

impl Packing {
    /// Adds a span and gives its number.
    pub fn push(&mut self, span: Span) -> usize {
        debug_assert!(
            span.tokens > 0 && span.after.is_none_or(|parent| self.spans[parent].after.is_none())
        );
        self.spans.push(span);
        self.spans.len() - 1
    }

    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    fn before(&self, span: &Span) -> i64 {
        span.after.map_or(0, |parent| self.spans[parent].tokens)
    }

    /// The position of each token in its own text.
    pub fn positions(&self) -> Vec<i64> {
        self.spans
            .iter()
            .flat_map(|span| (0..span.tokens).map(|place| self.before(span) + place))
            .collect()
    }

    /// What is added to the scores of span `index`, (tokens, tokens of the span before + tokens) in
    /// `kind`; `None` where plain causal attention says it all. A token sees no further back than
    /// `window` positions, its own included.
    fn bias(
        &self,
        index: usize,
        window: Option<i64>,
        kind: Kind,
        device: Device,
    ) -> Option<Tensor> {
        let span = &self.spans[index];
        let before = self.before(span);
        let keys = before + span.tokens;
        let window = window.filter(|window| *window < keys);
        if before == 0 && window.is_none() {
            return None;
        }
        let seen = Tensor::ones([span.tokens, keys], (Kind::Bool, device)).tril(before);
        Some(bias(
            &window.map_or_else(|| seen.shallow_clone(), |window| seen.triu(before - window + 1)),
            kind,
        ))
    }
}

/// A packing as attention needs it.
pub(super) struct PackedMask {
    lengths: Vec<i64>,
    after: Vec<Option<usize>>,
    biases: Vec<Option<Tensor>>,
}

impl PackedMask {
    pub(super) fn new(packing: &Packing, window: Option<i64>, kind: Kind, device: Device) -> Self {
        Self {
            lengths: packing.spans.iter().map(|span| span.tokens).collect(),
            after: packing.spans.iter().map(|span| span.after).collect(),
            biases: (0..packing.spans.len())
                .map(|index| packing.bias(index, window, kind, device))
                .collect(),
        }
    }

    /// query (1, heads, tokens, head_dim), key and value (1, kv_heads, tokens, head_dim) to (1,
    /// tokens, heads * head_dim), span by span.
    pub(super) fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        scale: f64,
    ) -> Tensor {
        let (_, heads, tokens, head_dim) =
            query.size4().expect("queries are (1, heads, tokens, head_dim)");
        let grouped = key.size()[1] < heads;
        let [queries, keys, values] =
            [query, key, value].map(|of| of.split_with_sizes(&self.lengths, 2));
        let attended: Vec<Tensor> = (0..self.lengths.len())
            .map(|index| {
                let with_before = |of: &[Tensor]| match self.after[index] {
                    Some(parent) => Tensor::cat(&[&of[parent], &of[index]], 2),
                    None => of[index].shallow_clone(),
                };
                let (key, value, bias) =
                    (with_before(&keys), with_before(&values), self.biases[index].as_ref());
                let causal = bias.is_none() && self.lengths[index] > 1;
                Tensor::scaled_dot_product_attention(
                    &queries[index],
                    &key,
                    &value,
                    bias,
                    0.0,
                    causal,
                    scale,
                    grouped,
                )
                .transpose(1, 2)
            })
            .collect();
        Tensor::cat(&attended, 1).reshape([1, tokens, heads * head_dim])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_where_the_span_before_ends() {
        let mut packing = Packing::default();
        let prompt = packing.push(Span { tokens: 3, after: None });
        packing.push(Span { tokens: 2, after: Some(prompt) });
        packing.push(Span { tokens: 1, after: Some(prompt) });
        packing.push(Span { tokens: 2, after: None });
        assert_eq!(packing.positions(), [0, 1, 2, 3, 4, 3, 0, 1]);
    }

    #[test]
    fn a_biased_span_sees_what_precedes_it_within_the_window() {
        let mut packing = Packing::default();
        packing.push(Span { tokens: 2, after: None });
        packing.push(Span { tokens: 3, after: Some(0) });
        let seen = |index: usize, window: Option<i64>| {
            let bias = packing.bias(index, window, Kind::Float, Device::Cpu)?;
            Some(
                Vec::<bool>::try_from(bias.eq(0.0).flatten(0, -1))
                    .unwrap()
                    .into_iter()
                    .map(u8::from)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(seen(0, None), None);
        assert_eq!(seen(0, Some(2)), None);
        assert_eq!(seen(1, None).unwrap(), [1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1]);
        assert_eq!(seen(1, Some(2)).unwrap(), [0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]);
    }
}
