//! DistilBERT (arXiv 1910.01108) with its sequence classification head, as Hugging Face defines it: learned positions, post-norm blocks,
//! and a classifier on the first token.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::attention::{Mask, attend, split_heads};
use super::init::Fill;
use super::layers::{Embedding, LayerNorm, Linear};

const LAYER_NORM_EPSILON: f64 = 1e-12; // fixed in the reference, not in the config

/// `config.json` under its own names. Keys that do not matter here are kept in `extra` and saved again.
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
    /// The labels' names by index.
    #[serde(default = "default_labels", deserialize_with = "labels")]
    pub id2label: BTreeMap<i64, String>,
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
            id2label: BTreeMap::from([(0, "NEGATIVE".to_owned()), (1, "POSITIVE".to_owned())]),
            extra: Map::new(),
        }
    }
}

impl DistilBertConfig {
    /// Everything that keeps this config from being built.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("dim", self.dim),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("hidden_dim", self.hidden_dim),
        ];
        problems.extend(sizes.iter().filter(|(_, size)| *size < 1).map(|(name, size)| format!("`{name}` must be positive, not {size}")));
        if self.n_heads > 0 && self.dim % self.n_heads != 0 {
            problems.push(format!("`n_heads` = {} does not divide `dim` = {}", self.n_heads, self.dim));
        }
        if self.activation != "gelu" {
            problems.push(format!("`activation` = `{}` is not supported, only `gelu`", self.activation));
        }
        if !self.id2label.keys().copied().eq(0..self.id2label.len() as i64) || self.id2label.is_empty() {
            problems.push(format!("`id2label` must name the labels 0, 1, …, not {:?}", self.id2label));
        } else if let Err(problem) = self.positive_label() {
            problems.push(problem);
        }
        problems
    }

    pub fn num_labels(&self) -> i64 {
        self.id2label.len() as i64
    }

    /// The label called POSITIVE, else the one whose name contains it, else LABEL_1; upper and lower case are the same.
    pub fn positive_label(&self) -> Result<i64, String> {
        let rules: [fn(&str) -> bool; 3] = [|name| name == "POSITIVE", |name| name.contains("POSITIVE"), |name| name == "LABEL_1"];
        for rule in rules {
            let found: Vec<i64> = self.id2label.iter().filter(|(_, name)| rule(&name.to_uppercase())).map(|(id, _)| *id).collect();
            match found[..] {
                [] => {}
                [label] => return Ok(label),
                _ => break,
            }
        }
        let names = self.id2label.values().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(format!(
            "`id2label` does not say which label is the positive one: {names}\n\nhint: call exactly one label `POSITIVE` in config.json"
        ))
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

pub struct DistilBert {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
    layer: Vec<Block>,
    pre_classifier: Linear,
    classifier: Linear,
    kind: Kind,
}

impl DistilBert {
    /// Makes the variables, all zeros, in the store of `root`; `config` must be free of [`DistilBertConfig::problems`].
    pub fn new(root: &Path, config: &DistilBertConfig) -> Self {
        let p = root / "distilbert";
        let embeddings = &p / "embeddings";
        Self {
            word_embeddings: Embedding::new(&(&embeddings / "word_embeddings"), config.vocab_size, config.dim),
            position_embeddings: Embedding::new(&(&embeddings / "position_embeddings"), config.max_position_embeddings, config.dim),
            layer_norm: LayerNorm::new(&(&embeddings / "LayerNorm"), config.dim, LAYER_NORM_EPSILON),
            layer: (0..config.n_layers).map(|index| Block::new(&(&p / "transformer" / "layer" / index), config)).collect(),
            pre_classifier: Linear::new(&(root / "pre_classifier"), config.dim, config.dim),
            classifier: Linear::new(&(root / "classifier"), config.dim, config.num_labels()),
            kind: root.kind(),
        }
    }

    /// ids (batch, seq) i64, mask (batch, seq) bool with the real tokens true and the first always real; (batch, num_labels) in the
    /// weights' kind.
    ///
    /// # Panics
    /// Where libtorch does: ids out of range, or more tokens than `max_position_embeddings`.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        let (_, seq) = ids.size2().expect("ids are (batch, seq)");
        let mask = Mask::keys(mask, self.kind);
        let positions = Tensor::arange(seq, (Kind::Int64, ids.device())).unsqueeze(0); // (1, seq)
        let embedded = self.word_embeddings.forward(ids) + self.position_embeddings.forward(&positions);
        let mut hidden = self.layer_norm.forward(&embedded); // (batch, seq, dim)
        for block in &self.layer {
            hidden = block.forward(&hidden, &mask);
        }
        let first = hidden.select(1, 0); // (batch, dim)
        self.classifier.forward(&self.pre_classifier.forward(&first).relu())
    }
}

struct Block {
    q_lin: Linear,
    k_lin: Linear,
    v_lin: Linear,
    out_lin: Linear,
    sa_layer_norm: LayerNorm,
    lin1: Linear,
    lin2: Linear,
    output_layer_norm: LayerNorm,
    n_heads: i64,
    scale: f64,
}

impl Block {
    fn new(p: &Path, config: &DistilBertConfig) -> Self {
        let (attention, ffn, dim) = (p / "attention", p / "ffn", config.dim);
        Self {
            q_lin: Linear::new(&(&attention / "q_lin"), dim, dim),
            k_lin: Linear::new(&(&attention / "k_lin"), dim, dim),
            v_lin: Linear::new(&(&attention / "v_lin"), dim, dim),
            out_lin: Linear::new(&(&attention / "out_lin"), dim, dim),
            sa_layer_norm: LayerNorm::new(&(p / "sa_layer_norm"), dim, LAYER_NORM_EPSILON),
            lin1: Linear::new(&(&ffn / "lin1"), dim, config.hidden_dim),
            lin2: Linear::new(&(&ffn / "lin2"), config.hidden_dim, dim),
            output_layer_norm: LayerNorm::new(&(p / "output_layer_norm"), dim, LAYER_NORM_EPSILON),
            n_heads: config.n_heads,
            scale: ((dim / config.n_heads) as f64).powf(-0.5),
        }
    }

    /// (batch, seq, dim) to the same shape.
    fn forward(&self, hidden: &Tensor, mask: &Mask) -> Tensor {
        let [query, key, value] = [&self.q_lin, &self.k_lin, &self.v_lin].map(|lin| split_heads(&lin.forward(hidden), self.n_heads));
        let attended = self.out_lin.forward(&attend(&query, &key, &value, mask, self.scale));
        let hidden = self.sa_layer_norm.forward(&(attended + hidden));
        let expanded = self.lin1.forward(&hidden).gelu("none");
        self.output_layer_norm.forward(&(self.lin2.forward(&expanded) + hidden))
    }
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn default_range() -> f64 {
    0.02
}

fn default_labels() -> BTreeMap<i64, String> {
    BTreeMap::from([(0, "LABEL_0".to_owned()), (1, "LABEL_1".to_owned())])
}

/// JSON keys are text, and serde does not turn them into numbers beside a flattened field.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<i64, String>, D::Error> {
    let by_text = BTreeMap::<String, String>::deserialize(deserializer)?;
    let by_number = by_text.into_iter().map(|(id, name)| match id.parse() {
        Ok(id) => Ok((id, name)),
        Err(_) => Err(D::Error::custom(format!("`id2label` has the key `{id}`, which is not a number"))),
    });
    by_number.collect()
}
