//! A decoder-only language model: one family's decoder under the head that all families share.

use std::ops::Range;

use tch::{Device, Tensor};

use super::input::Input;
use super::kv_cache::KvCache;
use super::layers::LinearLayer;
use super::segment::Segment;
use crate::error::Result;
use crate::kernels::Weight;

/// Tokens of prompts, padding included, that are read in one forward pass.
const PROMPT_TOKENS: usize = 8192;

/// What callers must know of a language model to feed it.
#[derive(Debug, Clone, PartialEq)]
pub struct LmInfo {
    /// Rows of the embedding; a tokenizer may use fewer.
    pub vocab_size: i64,
    /// Positions the model knows; a longer text does not fit.
    pub context: i64,
    pub n_layer: i64,
    pub hidden_size: i64,
    /// Numbers of the keys and values of one token in one layer.
    pub kv_size: i64,
    pub bos_token_id: Option<i64>,
    pub eos_token_ids: Vec<i64>,
}

/// What a family adds: from ids to hidden states.
pub trait Decoder {
    /// Hidden states after the final norm, (batch, seq, hidden_size), in the weights' kind. With a
    /// cache, which has the positions and the padding of `input`, the new tokens see what their
    /// rows have read and are added to it; no gradient is recorded then.
    ///
    /// # Panics
    /// Where libtorch does: ids or positions out of range, or a batch that differs from the rows of
    /// the cache.
    fn hidden(&self, input: &Input, cache: Option<KvCache>) -> Tensor;

    /// What the first layer reads, (batch, seq, hidden_size).
    fn embed(&self, input: &Input) -> Tensor;

    /// Some layers only, from what the layer before `which` gave, (batch, seq, hidden_size), or
    /// from [`Self::embed`] where `before` is `None`. After the last layer comes the final norm, so
    /// all layers are [`Self::hidden`] without a cache.
    fn layers(&self, input: &Input, before: Option<&Tensor>, which: Range<i64>) -> Tensor;

    /// The embeddings that [`Self::embed`] adds up, (count, hidden_size), each with the rows it
    /// takes, (batch, seq) i64.
    fn embeddings<'a>(&'a self, input: &'a Input) -> Vec<(&'a Tensor, &'a Tensor)>;

    /// The token embedding, (vocab_size, hidden_size).
    fn embedding(&self) -> &Tensor;

    /// The linear layers of all blocks, which LoRA may adapt.
    fn linears(&mut self) -> Vec<LinearLayer<'_>>;
}

pub struct CausalLm {
    info: LmInfo,
    decoder: Box<dyn Decoder>,
    /// (vocab_size, hidden_size); its plain tensor is the embedding's if tied.
    head: Weight,
}

impl CausalLm {
    pub(super) fn new(info: LmInfo, decoder: Box<dyn Decoder>, head: Tensor) -> Self {
        Self { info, decoder, head: Weight::new(&head, false) }
    }

    pub fn info(&self) -> &LmInfo {
        &self.info
    }

    /// Which ids end a sequence; the first ends what is scored and learned.
    pub(super) fn set_eos(&mut self, ids: Vec<i64>) {
        self.info.eos_token_ids = ids;
    }

    pub(super) fn linears(&mut self) -> Vec<LinearLayer<'_>> {
        self.decoder.linears()
    }

    pub fn device(&self) -> Device {
        self.embedding().device()
    }

    /// [`Decoder::hidden`] without a cache.
    pub fn hidden(&self, input: &Input) -> Tensor {
        self.decoder.layers(input, None, 0..self.info.n_layer)
    }

    /// [`Decoder::embedding`].
    pub(super) fn embedding(&self) -> &Tensor {
        self.decoder.embedding()
    }

    /// [`Decoder::embed`].
    pub fn embed(&self, input: &Input) -> Tensor {
        self.decoder.embed(input)
    }

    /// Adds to the gradients of the embeddings what the gradient (batch, seq, hidden_size) at
    /// [`Self::embed`] says of them.
    pub fn add_embedding_gradient(&self, input: &Input, gradient: &Tensor) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (embedding, rows) in self.decoder.embeddings(input) {
            if embedding.requires_grad() {
                drop(gradient_of(embedding)?.f_index_add_(
                    0,
                    &rows.f_flatten(0, -1)?,
                    &gradient.f_flatten(0, -2)?,
                )?);
            }
        }
        Ok(())
    }

    /// [`Decoder::layers`].
    pub fn layers(&self, input: &Input, before: Option<&Tensor>, which: Range<i64>) -> Tensor {
        self.decoder.layers(input, before, which)
    }

    /// [`Decoder::hidden`] of new tokens, ids (rows, new) i64 on any device, padded on the right
    /// where a row has fewer; the padding's ids must be legal, and its hidden states mean nothing.
    pub fn read(&self, ids: &Tensor, cache: KvCache) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let ids = ids.to_device(self.device());
        let positions = cache.positions().to_device(self.device());
        self.decoder.hidden(
            &Input { ids: &ids, positions: &positions, valid: None, packing: None },
            Some(cache),
        )
    }

    /// Reads prompts, right-padded together: for each a segment that has it as its prefix, and the
    /// hidden state of its last token, (1, hidden_size).
    ///
    /// # Panics
    /// If a prompt is empty, or where libtorch does.
    pub fn read_prompts(&self, prompts: &[Vec<i64>]) -> Vec<(Segment, Tensor)> {
        let mut read = Vec::with_capacity(prompts.len());
        let mut rest = prompts;
        while !rest.is_empty() {
            let mut count = 1;
            let width = |count: usize| rest[..count].iter().map(Vec::len).max().unwrap_or(0);
            while count < rest.len() && (count + 1) * width(count + 1) <= PROMPT_TOKENS {
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let width = now.iter().map(Vec::len).max().unwrap_or(0);
            let padded: Vec<i64> =
                now.iter().flat_map(|ids| (0..width).map(|j| ids[j.min(ids.len() - 1)])).collect();
            let ids = Tensor::from_slice(&padded).view([count as i64, width as i64]);
            let mut segments: Vec<Segment> = now.iter().map(|_| Segment::new(1)).collect();
            let new = now.iter().map(|ids| ids.len() as i64).collect();
            let hidden = self.read(&ids, KvCache::new(segments.iter_mut().collect(), new));
            for (row, (segment, ids)) in segments.iter().zip(now).enumerate() {
                let last = hidden.select(0, row as i64).narrow(0, ids.len() as i64 - 1, 1).copy();
                read.push((segment.share(0), last));
            }
            rest = later;
        }
        read
    }

    /// Reads prompts, right-padded together, as the rows of one segment that share nothing, and the
    /// hidden state of each one's last token, (prompts, hidden_size). For many short prompts with
    /// few continuations each: attention then is one call for all of them, which saves more than
    /// reading a short prefix once for two rows would.
    ///
    /// # Panics
    /// If a prompt is empty, or where libtorch does.
    pub fn read_prompts_as_rows(&self, prompts: &[Vec<i64>]) -> (Segment, Tensor) {
        let lengths: Vec<i64> = prompts.iter().map(|ids| ids.len() as i64).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let padded: Vec<i64> = prompts
            .iter()
            .flat_map(|ids| (0..width as usize).map(|j| ids[j.min(ids.len() - 1)]))
            .collect();
        let ids = Tensor::from_slice(&padded).view([prompts.len() as i64, width]);
        let mut segment = Segment::new(prompts.len());
        // (prompts, width, hidden_size)
        let hidden = self.read(&ids, KvCache::new(vec![&mut segment], lengths.clone()));
        let last: Vec<i64> = lengths
            .iter()
            .enumerate()
            .map(|(row, length)| row as i64 * width + length - 1)
            .collect();
        let flat = hidden.flatten(0, 1);
        let last = flat.index_select(0, &Tensor::from_slice(&last).to_device(flat.device()));
        (segment, last)
    }

    /// The weight of the language model head, (vocab_size, hidden_size); the embedding itself where
    /// the two are tied.
    pub fn head(&self) -> &Weight {
        &self.head
    }

    pub(super) fn head_mut(&mut self) -> &mut Weight {
        &mut self.head
    }

    /// The language model head: (.., hidden_size) to (.., vocab_size), in the weights' kind;
    /// callers take the log-softmax in f32.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.head.product(hidden, None)
    }
}

/// The gradient of a leaf, zero where it has none yet. It aliases the leaf's own.
pub fn gradient_of(leaf: &Tensor) -> Result<Tensor> {
    if !leaf.grad().defined() {
        tch::with_grad(|| {
            (leaf.f_flatten(0, -1)?.f_narrow(0, 0, 1)?.f_sum(leaf.kind())? * 0.0).f_backward()
        })?;
    }
    Ok(leaf.grad())
}
