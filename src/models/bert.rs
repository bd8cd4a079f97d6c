//! BERT (arXiv 1810.04805) with its sequence classification head, as Hugging Face defines it:
//! learned positions, one segment, post-norm blocks, and a classifier on the pooled first token.

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

/// `config.json` under its own names. Keys that do not matter here are kept in `extra` and saved
/// again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    pub vocab_size: i64,
    pub max_position_embeddings: i64,
    pub hidden_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    #[serde(default = "default_segments")]
    pub type_vocab_size: i64,
    #[serde(default = "gelu")]
    pub hidden_act: String,
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    #[serde(default)]
    pub pad_token_id: Option<i64>,
    #[serde(default)]
    pub id2label: Labels,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl BertConfig {
    /// Everything that keeps this config from being built.
    pub fn problems(&self) -> Vec<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
        ];
        let mut problems = size_problems(("num_hidden_layers", self.num_hidden_layers), &sizes);
        if self.num_attention_heads > 0 && self.hidden_size % self.num_attention_heads != 0 {
            let (heads, size) = (self.num_attention_heads, self.hidden_size);
            problems.push(format!(
                "`num_attention_heads` = {heads} does not divide `hidden_size` = {size}"
            ));
        }
        if self.hidden_act != "gelu" {
            problems.push(format!(
                "`hidden_act` = `{}` is not supported, only `gelu`",
                self.hidden_act
            ));
        }
        if self.position_embedding_type != "absolute" {
            problems.push(format!(
                "`position_embedding_type` = `{}` is not supported, only `absolute`",
                self.position_embedding_type
            ));
        }
        problems.extend(self.id2label.problem());
        problems
    }

    pub(super) fn initial(&self, name: &str) -> Fill {
        if name.ends_with(".bias") {
            Fill::Zeros
        } else if name.ends_with("LayerNorm.weight") {
            Fill::Ones
        } else {
            Fill::Normal(self.initializer_range)
        }
    }
}

pub(super) const NAMES: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    inner: "intermediate.dense",
    out: "output.dense",
    norm: "output.LayerNorm",
};

pub(super) struct Bert {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
    layer: Vec<EncoderBlock>,
    pooler: Linear,
    classifier: Linear,
    kind: Kind,
}

impl Bert {
    /// Makes the variables, all zeros, in the store of `root`; `config` must be free of
    /// [`BertConfig::problems`].
    pub fn new(root: &Path, config: &BertConfig) -> Self {
        let p = root / "bert";
        let embeddings = &p / "embeddings";
        let (size, epsilon) = (config.hidden_size, config.layer_norm_eps);
        let sizes = BlockSizes {
            hidden: size,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            epsilon,
        };
        Self {
            word_embeddings: Embedding::new(
                &(&embeddings / "word_embeddings"),
                config.vocab_size,
                size,
            ),
            position_embeddings: Embedding::new(
                &(&embeddings / "position_embeddings"),
                config.max_position_embeddings,
                size,
            ),
            token_type_embeddings: Embedding::new(
                &(&embeddings / "token_type_embeddings"),
                config.type_vocab_size,
                size,
            ),
            layer_norm: LayerNorm::new(&(&embeddings / "LayerNorm"), size, epsilon),
            layer: (0..config.num_hidden_layers)
                .map(|index| EncoderBlock::new(&(&p / "encoder" / "layer" / index), &NAMES, &sizes))
                .collect(),
            pooler: Linear::new(&(&p / "pooler" / "dense"), size, size),
            classifier: Linear::new(&(root / "classifier"), size, config.id2label.count()),
            kind: root.kind(),
        }
    }
}

impl SequenceClassifier for Bert {
    fn forward(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        let (_, seq) = ids.size2().expect("ids are (batch, seq)");
        let mask = Mask::keys(mask, self.kind);
        let positions = Tensor::arange(seq, (Kind::Int64, ids.device())).unsqueeze(0); // (1, seq)
        let first_segment = self.token_type_embeddings.weight.narrow(0, 0, 1); // (1, size)
        let embedded = self.word_embeddings.forward(ids)
            + first_segment
            + self.position_embeddings.forward(&positions);
        let mut hidden = self.layer_norm.forward(&embedded); // (batch, seq, size)
        for block in &self.layer {
            hidden = block.forward(&hidden, &mask);
        }
        let first = hidden.select(1, 0); // (batch, size)
        self.classifier.forward(&self.pooler.forward(&first).tanh())
    }

    fn linears(&mut self) -> Vec<LinearLayer<'_>> {
        let blocks = self.layer.iter_mut().enumerate();
        let layers = blocks.flat_map(|(index, block)| {
            block.linears(&format!("bert.encoder.layer.{index}"), &NAMES)
        });
        layers
            .chain([
                self.pooler.layer("bert.pooler.dense".to_owned()),
                self.classifier.layer("classifier".to_owned()),
            ])
            .collect()
    }
}

fn default_segments() -> i64 {
    2
}

fn default_epsilon() -> f64 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}
