//! Names and shapes of all tensors of a model as its config asks for them, known without building
//! it: what the headers of its weights are compared with before any work.

use std::collections::BTreeMap;

use super::bert::{self, BertConfig};
use super::config::{ClassifierConfig, LmConfig};
use super::distilbert::{self, DistilBertConfig};
use super::encoder::BlockNames;
use super::gpt2::Gpt2Config;
use super::llama_config::LlamaConfig;

/// Shapes by the names of the variables.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// A linear layer by its name in the whole model, such as `transformer.h.0.attn.c_attn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinearShape {
    pub name: String,
    pub n_in: i64,
    pub n_out: i64,
}

/// Shapes of the decoder with `head`, the name of the head's weight and its rows, if it has one of
/// its own.
pub(super) fn of_decoder(config: &LmConfig, head: Option<(&str, i64)>) -> Shapes {
    let decoder = match config {
        LmConfig::Gpt2(config) => gpt2(config),
        LmConfig::Llama(config) => llama(config),
    };
    let mut shapes: Shapes = decoder
        .into_iter()
        .map(|(name, shape)| (format!("{}.{name}", config.prefix()), shape))
        .collect();
    shapes.extend(head.map(|(name, rows)| (name.to_owned(), vec![rows, embedding(config)[1]])));
    shapes
}

/// Shapes of a language model; a tied head is the embedding.
pub(super) fn of_lm(config: &LmConfig) -> Shapes {
    of_decoder(config, (!config.tied()).then(|| ("lm_head.weight", config.vocab_size())))
}

/// The shape of the token embedding: (vocab_size, hidden_size).
pub(super) fn embedding(config: &LmConfig) -> [i64; 2] {
    let width = match config {
        LmConfig::Gpt2(config) => config.n_embd,
        LmConfig::Llama(config) => config.hidden_size,
    };
    [config.vocab_size(), width]
}

pub(super) fn of_classifier(config: &ClassifierConfig) -> Shapes {
    match config {
        ClassifierConfig::DistilBert(config) => distilbert(config),
        ClassifierConfig::Bert(config) => bert(config),
    }
}

/// The layers that adapters may stand on: the matrices of the blocks.
pub(super) fn linears(config: &LmConfig) -> Vec<LinearShape> {
    let transposed = matches!(config, LmConfig::Gpt2(_));
    let of_block = |name: &str| name.contains(".h.") || name.contains(".layers.");
    let layers = of_lm(config).into_iter().filter_map(|(name, shape)| {
        let &[rows, columns] = &shape[..] else { return None };
        let name = name.strip_suffix(".weight").filter(|name| of_block(name))?.to_owned();
        let (n_in, n_out) = if transposed { (rows, columns) } else { (columns, rows) };
        Some(LinearShape { name, n_in, n_out })
    });
    layers.collect()
}

fn gpt2(config: &Gpt2Config) -> Shapes {
    let (size, inner) = (config.n_embd, config.inner());
    let mut shapes = Shapes::from([
        ("wte.weight".to_owned(), vec![config.vocab_size, size]),
        ("wpe.weight".to_owned(), vec![config.n_positions, size]),
    ]);
    norm(&mut shapes, "ln_f", size);
    for index in 0..config.n_layer {
        let at = |name: &str| format!("h.{index}.{name}");
        norm(&mut shapes, &at("ln_1"), size);
        norm(&mut shapes, &at("ln_2"), size);
        // (in, out), the transpose of other linear layers.
        for (name, n_in, n_out) in [
            ("attn.c_attn", size, 3 * size),
            ("attn.c_proj", size, size),
            ("mlp.c_fc", size, inner),
            ("mlp.c_proj", inner, size),
        ] {
            shapes.insert(at(&format!("{name}.weight")), vec![n_in, n_out]);
            shapes.insert(at(&format!("{name}.bias")), vec![n_out]);
        }
    }
    shapes
}

fn llama(config: &LlamaConfig) -> Shapes {
    let (size, inner) = (config.hidden_size, config.intermediate_size);
    let (queries, keys) =
        (config.num_attention_heads * config.head_dim(), config.kv_heads() * config.head_dim());
    let ((in_bias, out_bias), mlp_bias) = (config.biases(), config.has_mlp_bias());
    let mut shapes = Shapes::from([
        ("embed_tokens.weight".to_owned(), vec![config.vocab_size, size]),
        ("norm.weight".to_owned(), vec![size]),
    ]);
    for index in 0..config.num_hidden_layers {
        let at = |name: &str| format!("layers.{index}.{name}");
        shapes.insert(at("input_layernorm.weight"), vec![size]);
        shapes.insert(at("post_attention_layernorm.weight"), vec![size]);
        for (name, n_in, n_out, bias) in [
            ("self_attn.q_proj", size, queries, in_bias),
            ("self_attn.k_proj", size, keys, in_bias),
            ("self_attn.v_proj", size, keys, in_bias),
            ("self_attn.o_proj", queries, size, out_bias),
            ("mlp.gate_proj", size, inner, mlp_bias),
            ("mlp.up_proj", size, inner, mlp_bias),
            ("mlp.down_proj", inner, size, mlp_bias),
        ] {
            linear(&mut shapes, &at(name), n_in, n_out, bias);
        }
    }
    shapes
}

fn distilbert(config: &DistilBertConfig) -> Shapes {
    let size = config.dim;
    let mut shapes = Shapes::new();
    embeddings(
        &mut shapes,
        "distilbert.embeddings",
        &[
            ("word_embeddings", config.vocab_size),
            ("position_embeddings", config.max_position_embeddings),
        ],
        size,
    );
    for index in 0..config.n_layers {
        encoder_block(
            &mut shapes,
            &format!("distilbert.transformer.layer.{index}"),
            &distilbert::NAMES,
            size,
            config.hidden_dim,
        );
    }
    linear(&mut shapes, "pre_classifier", size, size, true);
    linear(&mut shapes, "classifier", size, config.id2label.count(), true);
    shapes
}

fn bert(config: &BertConfig) -> Shapes {
    let size = config.hidden_size;
    let mut shapes = Shapes::new();
    let tables = [
        ("word_embeddings", config.vocab_size),
        ("position_embeddings", config.max_position_embeddings),
        ("token_type_embeddings", config.type_vocab_size),
    ];
    embeddings(&mut shapes, "bert.embeddings", &tables, size);
    for index in 0..config.num_hidden_layers {
        encoder_block(
            &mut shapes,
            &format!("bert.encoder.layer.{index}"),
            &bert::NAMES,
            size,
            config.intermediate_size,
        );
    }
    linear(&mut shapes, "bert.pooler.dense", size, size, true);
    linear(&mut shapes, "classifier", size, config.id2label.count(), true);
    shapes
}

fn embeddings(shapes: &mut Shapes, at: &str, tables: &[(&str, i64)], size: i64) {
    shapes.extend(
        tables.iter().map(|(name, rows)| (format!("{at}.{name}.weight"), vec![*rows, size])),
    );
    norm(shapes, &format!("{at}.LayerNorm"), size);
}

fn encoder_block(shapes: &mut Shapes, at: &str, names: &BlockNames, size: i64, inner: i64) {
    for name in [names.query, names.key, names.value, names.attention_out] {
        linear(shapes, &format!("{at}.{name}"), size, size, true);
    }
    linear(shapes, &format!("{at}.{}", names.inner), size, inner, true);
    linear(shapes, &format!("{at}.{}", names.out), inner, size, true);
    norm(shapes, &format!("{at}.{}", names.attention_norm), size);
    norm(shapes, &format!("{at}.{}", names.norm), size);
}

fn linear(shapes: &mut Shapes, name: &str, n_in: i64, n_out: i64, bias: bool) {
    shapes.insert(format!("{name}.weight"), vec![n_out, n_in]);
    if bias {
        shapes.insert(format!("{name}.bias"), vec![n_out]);
    }
}

fn norm(shapes: &mut Shapes, name: &str, size: i64) {
    shapes.insert(format!("{name}.weight"), vec![size]);
    shapes.insert(format!("{name}.bias"), vec![size]);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::Device;

    use super::super::{Classifier, Lm, RewardModel};
    use super::*;

    fn built(parameters: Vec<(String, tch::Tensor)>) -> Shapes {
        parameters.into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
    }

    fn lm(config: Value) -> LmConfig {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        LmConfig::read(folder.path()).unwrap()
    }

    /// Every family, with each switch that adds or leaves out tensors, both ways.
    fn language_models() -> Vec<LmConfig> {
        let gpt2 = |tied: bool, inner: Value| {
            lm(json!({
                "model_type": "gpt2", "vocab_size": 11, "n_positions": 7, "n_embd": 8,
                "n_layer": 2, "n_head": 2, "n_inner": inner, "tie_word_embeddings": tied
            }))
        };
        let llama = |family: &str, on: bool, head_dim: Value| {
            lm(json!({
                "model_type": family, "vocab_size": 11, "hidden_size": 8, "intermediate_size": 6,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "head_dim": head_dim, "attention_bias": on, "mlp_bias": on,
                "tie_word_embeddings": on
            }))
        };
        let mut configs = vec![gpt2(true, Value::Null), gpt2(false, json!(5))];
        for family in ["llama", "mistral", "qwen2"] {
            configs.extend([llama(family, false, Value::Null), llama(family, true, json!(4))]);
        }
        configs
    }

    #[test]
    fn shapes_are_those_of_the_variables_that_are_built() {
        for config in language_models() {
            let name = format!("{config:?}");
            let model = Lm::new(config.clone(), 1, Device::Cpu).unwrap();
            assert_eq!(of_lm(&config), built(model.parameters()), "{name}");
            let reward = RewardModel::new(config.clone(), 1, Device::Cpu).unwrap();
            assert_eq!(
                of_decoder(&config, Some(("score.weight", 1))),
                built(reward.parameters()),
                "{name}"
            );
        }
        let distilbert = DistilBertConfig {
            dim: 8,
            n_layers: 2,
            n_heads: 2,
            hidden_dim: 6,
            vocab_size: 11,
            ..DistilBertConfig::default()
        };
        let bert: BertConfig = serde_json::from_value(json!({
            "vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 8,
            "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6,
            "id2label": { "0": "a", "1": "b", "2": "positive" }
        }))
        .unwrap();
        for config in [ClassifierConfig::DistilBert(distilbert), ClassifierConfig::Bert(bert)] {
            assert_eq!(
                of_classifier(&config),
                built(Classifier::new(config.clone(), 1, Device::Cpu).unwrap().parameters())
            );
        }
    }

    #[test]
    fn linears_are_those_that_lora_adapts() {
        for config in language_models() {
            let mut model = Lm::new(config.clone(), 1, Device::Cpu).unwrap();
            let mut layers: Vec<LinearShape> = (model.model.linears().iter())
                .map(|layer| {
                    let (n_out, n_in) = layer.weight.size();
                    LinearShape { name: format!("{}.{}", config.prefix(), layer.name), n_in, n_out }
                })
                .collect();
            layers.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(linears(&config), layers, "{config:?}");
        }
    }
}
