//! DistilBERT (arXiv 1910.01108) with its sequence classification head, as Hugging Face defines it:
//! learned positions, post-norm blocks, and a classifier on the first token.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::attention::Mask;
use super::config_keys::{default_range, gelu, size_problems};
use super::encoder::{BlockNames, BlockSizes, EncoderBlock, SequenceClassifier};
use super::init::Fill;
use super::labels::Labels;
use super::layers::{Embedding, LayerNorm, Linear, LinearLayer};

const LAYER_NORM_EPSILON: f64 = 1e-12; // fixed in the reference, not in the config

/// `config.json` under its own names. Keys that do not matter here are kept in `extra` and saved
/// again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistilBertConfig {
    pub vocab_size: i64,
    pub max_position_embeddings: i64,
    pub dim: i64,
    pub n_layers: i64,
    pub n_heads: i64,
    pub hidden_dim: i64,
    #[serde(default = "gelu")]
    pub activation: String,
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    #[serde(default)]
    pub pad_token_id: Option<i64>,
    #[serde(default)]
    pub id2label: Labels,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for DistilBertConfig {
    /// The released DistilBERT (66 M parameters) with the labels NEGATIVE and POSITIVE.
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            max_position_embeddings: 512,
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            activation: gelu(),
            initializer_range: default_range(),
            pad_token_id: Some(0),
            id2label: Labels::sentiment(),
            extra: Map::new(),
        }
    }
}

impl DistilBertConfig {
    /// Everything that keeps this config from being built.
    pub fn problems(&self) -> Vec<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("dim", self.dim),
            ("n_heads", self.n_heads),
            ("hidden_dim", self.hidden_dim),
        ];
        let mut problems = size_problems(("n_layers", self.n_layers), &sizes);
        if self.n_heads > 0 && self.dim % self.n_heads != 0 {
            problems
                .push(format!("`n_heads` = {} does not divide `dim` = {}", self.n_heads, self.dim));
        }
        if self.activation != "gelu" {
            problems.push(format!(
                "`activation` = `{}` is not supported, only `gelu`",
                self.activation
            ));
        }
        problems.extend(self.id2label.problem());
        problems
    }

    pub(super) fn initial(&self, name: &str) -> Fill {
        if name.ends_with(".bias") {
            Fill::Zeros
        } else if name.ends_with("layer_norm.weight") || name.ends_with("LayerNorm.weight") {
            Fill::Ones
        } else {
            Fill::Normal(self.initializer_range)
        }
    }
}

pub(super) const NAMES: BlockNames = BlockNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    inner: "ffn.lin1",
    out: "ffn.lin2",
    norm: "output_layer_norm",
};

pub(super) struct DistilBert {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
    layer: Vec<EncoderBlock>,
    pre_classifier: Linear,
    classifier: Linear,
    kind: Kind,
}

impl DistilBert {
    /// Makes the variables, all zeros, in the store of `root`; `config` must be free of
    /// [`DistilBertConfig::problems`].
    pub fn new(root: &Path, config: &DistilBertConfig) -> Self {
        let p = root / "distilbert";
        let embeddings = &p / "embeddings";
        let sizes = BlockSizes {
            hidden: config.dim,
            inner: config.hidden_dim,
            heads: config.n_heads,
            epsilon: LAYER_NORM_EPSILON,
        };
        Self {
            word_embeddings: Embedding::new(
                &(&embeddings / "word_embeddings"),
                config.vocab_size,
                config.dim,
            ),
            position_embeddings: Embedding::new(
                &(&embeddings / "position_embeddings"),
                config.max_position_embeddings,
                config.dim,
            ),
            layer_norm: LayerNorm::new(
                &(&embeddings / "LayerNorm"),
                config.dim,
                LAYER_NORM_EPSILON,
            ),
            layer: (0..config.n_layers)
                .map(|index| {
                    EncoderBlock::new(&(&p / "transformer" / "layer" / index), &NAMES, &sizes)
                })
                .collect(),
            pre_classifier: Linear::new(&(root / "pre_classifier"), config.dim, config.dim),
            classifier: Linear::new(&(root / "classifier"), config.dim, config.id2label.count()),
            kind: root.kind(),
        }
    }
}

impl SequenceClassifier for DistilBert {
    fn forward(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        let (_, seq) = ids.size2().expect("ids are (batch, seq)");
        let mask = Mask::keys(mask, self.kind);
        let positions = Tensor::arange(seq, (Kind::Int64, ids.device())).unsqueeze(0); // (1, seq)
        let embedded =
            self.word_embeddings.forward(ids) + self.position_embeddings.forward(&positions);
        let mut hidden = self.layer_norm.forward(&embedded); // (batch, seq, dim)
        for block in &self.layer {
            hidden = block.forward(&hidden, &mask);
        }
        let first = hidden.select(1, 0); // (batch, dim)
        self.classifier.forward(&self.pre_classifier.forward(&first).relu())
    }

    fn linears(&mut self) -> Vec<LinearLayer<'_>> {
        let blocks = self.layer.iter_mut().enumerate();
        let layers = blocks.flat_map(|(index, block)| {
            block.linears(&format!("distilbert.transformer.layer.{index}"), &NAMES)
        });
        layers
            .chain([
                self.pre_classifier.layer("pre_classifier".to_owned()),
                self.classifier.layer("classifier".to_owned()),
            ])
            .collect()
    }
}
