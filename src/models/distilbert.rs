//! DistilBERT with a sequence-classification head: transformers' `DistilBertForSequenceClassification`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::nn::{Init, Path};
use tch::{Device, Kind, Tensor};

use super::attention::{additive, attend};

/// `config.json` of `model_type = "distilbert"`; the fields that matter to inference, under their own names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistilBertConfig {
    pub vocab_size: i64,
    #[serde(default = "default_positions")]
    pub max_position_embeddings: i64,
    pub dim: i64,
    pub n_layers: i64,
    pub n_heads: i64,
    pub hidden_dim: i64,
    #[serde(default = "gelu")]
    pub activation: String,
    #[serde(default)]
    pub pad_token_id: i64,
    /// Label names by index, as strings; transformers leaves them out for two unnamed labels.
    #[serde(default = "unnamed_labels")]
    pub id2label: BTreeMap<String, String>,
    #[serde(default)]
    pub label2id: BTreeMap<String, i64>,
}

fn default_positions() -> i64 {
    512
}
fn gelu() -> String {
    "gelu".into()
}
fn unnamed_labels() -> BTreeMap<String, String> {
    [("0".into(), "LABEL_0".into()), ("1".into(), "LABEL_1".into())].into()
}

impl DistilBertConfig {
    /// The shape of a sentiment classifier trained from scratch.
    pub fn scratch(vocab_size: i64, max_position_embeddings: i64, dim: i64, n_layers: i64, n_heads: i64, hidden_dim: i64) -> Self {
        Self {
            vocab_size,
            max_position_embeddings,
            dim,
            n_layers,
            n_heads,
            hidden_dim,
            activation: gelu(),
            pad_token_id: 0,
            id2label: [("0".into(), "NEGATIVE".into()), ("1".into(), "POSITIVE".into())].into(),
            label2id: [("NEGATIVE".into(), 0), ("POSITIVE".into(), 1)].into(),
        }
    }

    /// Every way in which this config cannot be computed.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.activation != "gelu" {
            problems.push(format!("`activation` is `{}`; supported: gelu", self.activation));
        }
        if self.n_heads < 1 || self.dim % self.n_heads.max(1) != 0 {
            problems.push(format!("`dim` = {} is not a multiple of `n_heads` = {}", self.dim, self.n_heads));
        }
        problems
    }

    /// The index of the label that means a positive text, by its name; `None` where no name says so or there are not two labels.
    pub fn positive_label(&self) -> Option<i64> {
        let named = |wanted: &str| self.id2label.iter().find(|(_, name)| name.to_uppercase().contains(wanted));
        let (index, _) = named("POSITIVE").or_else(|| named("LABEL_1"))?;
        index.parse().ok().filter(|_| self.id2label.len() == 2)
    }
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(p: Path, size_in: i64, size_out: i64) -> Self {
        Self { weight: p.var("weight", &[size_out, size_in], Init::Const(0.0)), bias: p.var("bias", &[size_out], Init::Const(0.0)) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// BERT's LayerNorm, epsilon 1e-12.
#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    fn new(p: Path, size: i64) -> Self {
        Self { weight: p.var("weight", &[size], Init::Const(1.0)), bias: p.var("bias", &[size], Init::Const(0.0)) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), 1e-12, false)
    }
}

#[derive(Debug)]
struct Attention {
    q_lin: Linear,
    k_lin: Linear,
    v_lin: Linear,
    out_lin: Linear,
    n_heads: i64,
}

impl Attention {
    fn new(p: Path, config: &DistilBertConfig) -> Self {
        let linear = |name: &str| Linear::new(&p / name, config.dim, config.dim);
        Self { q_lin: linear("q_lin"), k_lin: linear("k_lin"), v_lin: linear("v_lin"), out_lin: linear("out_lin"), n_heads: config.n_heads }
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Tensor {
        let shape = x.size();
        let (batch, seq, dim) = (shape[0], shape[1], shape[2]);
        let heads = |tensor: Tensor| tensor.view([batch, seq, self.n_heads, -1]).transpose(1, 2); // (batch, n_heads, seq, head_dim)
        let scale = ((dim / self.n_heads) as f64).powf(-0.5);
        let [query, keys, values] = [&self.q_lin, &self.k_lin, &self.v_lin].map(|linear| heads(linear.forward(x)));
        let attended = attend(&query, &keys, &values, Some(mask), scale);
        self.out_lin.forward(&attended.transpose(1, 2).reshape([batch, seq, dim]))
    }
}

#[derive(Debug)]
struct Layer {
    attention: Attention,
    sa_layer_norm: LayerNorm,
    lin1: Linear,
    lin2: Linear,
    output_layer_norm: LayerNorm,
}

impl Layer {
    fn new(p: Path, config: &DistilBertConfig) -> Self {
        Self {
            attention: Attention::new(&p / "attention", config),
            sa_layer_norm: LayerNorm::new(&p / "sa_layer_norm", config.dim),
            lin1: Linear::new(&p / "ffn" / "lin1", config.dim, config.hidden_dim),
            lin2: Linear::new(&p / "ffn" / "lin2", config.hidden_dim, config.dim),
            output_layer_norm: LayerNorm::new(&p / "output_layer_norm", config.dim),
        }
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Tensor {
        let x = self.sa_layer_norm.forward(&(self.attention.forward(x, mask) + x));
        let ffn = self.lin2.forward(&self.lin1.forward(&x).gelu("none"));
        self.output_layer_norm.forward(&(ffn + x))
    }
}

#[derive(Debug)]
pub struct DistilBert {
    word_embeddings: Tensor,
    position_embeddings: Tensor,
    layer_norm: LayerNorm,
    layers: Vec<Layer>,
    pre_classifier: Linear,
    classifier: Linear,
}

impl DistilBert {
    pub fn new(p: Path, config: &DistilBertConfig) -> Self {
        let embeddings = &p / "distilbert" / "embeddings";
        let table = |name: &str, size: i64| (&embeddings / name).var("weight", &[size, config.dim], Init::Const(0.0));
        let layers = &p / "distilbert" / "transformer" / "layer";
        Self {
            word_embeddings: table("word_embeddings", config.vocab_size),
            position_embeddings: table("position_embeddings", config.max_position_embeddings),
            layer_norm: LayerNorm::new(&embeddings / "LayerNorm", config.dim),
            layers: (0..config.n_layers).map(|layer| Layer::new(&layers / layer, config)).collect(),
            pre_classifier: Linear::new(&p / "pre_classifier", config.dim, config.dim),
            classifier: Linear::new(&p / "classifier", config.dim, config.id2label.len() as i64),
        }
    }

    pub fn device(&self) -> Device {
        self.word_embeddings.device()
    }

    /// `ids` (batch, seq) i64, `mask` (batch, seq) bool, false for padding; returns (batch, num_labels). The first token must be real.
    pub fn logits(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        let seq = ids.size()[1];
        let mask = additive(&mask.unsqueeze(1).unsqueeze(1), self.word_embeddings.kind()); // (batch, 1, 1, seq)
        let positions = Tensor::arange(seq, (Kind::Int64, self.device()));
        let embedded = Tensor::embedding(&self.word_embeddings, ids, -1, false, false)
            + Tensor::embedding(&self.position_embeddings, &positions, -1, false, false);
        let mut x = self.layer_norm.forward(&embedded); // (batch, seq, dim)
        for layer in &self.layers {
            x = layer.forward(&x, &mask);
        }
        self.classifier.forward(&self.pre_classifier.forward(&x.select(1, 0)).relu())
    }
}
