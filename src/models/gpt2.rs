//! GPT-2 (124M to 1.5B): the `GPT2LMHeadModel` of transformers, head tied to the embedding.

use serde::{Deserialize, Serialize};
use tch::nn::{Init, Path};
use tch::{Device, Kind, Tensor};

use super::attention::{attend, causal_mask};
use super::{CausalLm, Input, KvCache, LmInfo};

/// `config.json` of `model_type = "gpt2"`; the fields that matter to inference, under their own names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Config {
    pub vocab_size: i64,
    #[serde(default = "default_positions")]
    pub n_positions: i64,
    pub n_embd: i64,
    pub n_layer: i64,
    pub n_head: i64,
    #[serde(default)]
    pub n_inner: Option<i64>,
    #[serde(default = "gelu_new")]
    pub activation_function: String,
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    #[serde(default = "yes")]
    pub scale_attn_weights: bool,
    #[serde(default)]
    pub scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    pub bos_token_id: Option<i64>,
}

fn default_positions() -> i64 {
    1024
}
fn gelu_new() -> String {
    "gelu_new".into()
}
fn default_epsilon() -> f64 {
    1e-5
}
fn yes() -> bool {
    true
}

impl Gpt2Config {
    /// The shape of a model trained from scratch; everything else as in OpenAI's GPT-2.
    pub fn scratch(vocab_size: i64, n_positions: i64, n_embd: i64, n_layer: i64, n_head: i64, bos_token_id: Option<i64>) -> Self {
        Self {
            vocab_size,
            n_positions,
            n_embd,
            n_layer,
            n_head,
            n_inner: None,
            activation_function: gelu_new(),
            layer_norm_epsilon: default_epsilon(),
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            bos_token_id,
        }
    }

    pub fn info(&self, eos_token_ids: Vec<i64>) -> LmInfo {
        LmInfo {
            vocab_size: self.vocab_size,
            context: self.n_positions,
            n_layer: self.n_layer,
            hidden_size: self.n_embd,
            bos_token_id: self.bos_token_id,
            eos_token_ids,
        }
    }

    /// Every way in which this config cannot be computed.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.activation_function != "gelu_new" {
            problems.push(format!("`activation_function` is `{}`; supported: gelu_new", self.activation_function));
        }
        if self.n_head < 1 || self.n_embd % self.n_head.max(1) != 0 {
            problems.push(format!("`n_embd` = {} is not a multiple of `n_head` = {}", self.n_embd, self.n_head));
        }
        for (name, value) in [("vocab_size", self.vocab_size), ("n_positions", self.n_positions), ("n_embd", self.n_embd)] {
            if value < 1 {
                problems.push(format!("`{name}` must be positive, not {value}"));
            }
        }
        problems
    }
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    fn new(p: Path, size: i64, epsilon: f64) -> Self {
        Self { weight: p.var("weight", &[size], Init::Const(1.0)), bias: p.var("bias", &[size], Init::Const(0.0)), epsilon }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.epsilon, false)
    }
}

/// transformers' Conv1D: a linear layer whose weight is stored (in, out).
#[derive(Debug)]
struct Conv1d {
    weight: Tensor,
    bias: Tensor,
}

impl Conv1d {
    fn new(p: Path, size_in: i64, size_out: i64) -> Self {
        Self { weight: p.var("weight", &[size_in, size_out], Init::Const(0.0)), bias: p.var("bias", &[size_out], Init::Const(0.0)) }
    }

    /// (batch, seq, in) → (batch, seq, out)
    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight.tr(), Some(&self.bias))
    }
}

#[derive(Debug)]
struct Attention {
    c_attn: Conv1d,
    c_proj: Conv1d,
    n_head: i64,
    scale: f64,
}

impl Attention {
    fn new(p: Path, config: &Gpt2Config, layer: i64) -> Self {
        let head_dim = config.n_embd / config.n_head;
        let mut scale = if config.scale_attn_weights { (head_dim as f64).powf(-0.5) } else { 1.0 };
        if config.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f64;
        }
        Self {
            c_attn: Conv1d::new(&p / "c_attn", config.n_embd, 3 * config.n_embd),
            c_proj: Conv1d::new(&p / "c_proj", config.n_embd, config.n_embd),
            n_head: config.n_head,
            scale,
        }
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>, cache: Option<(&mut KvCache, usize)>) -> Tensor {
        let shape = x.size();
        let (batch, seq, n_embd) = (shape[0], shape[1], shape[2]);
        let heads = |tensor: Tensor| tensor.view([batch, seq, self.n_head, -1]).transpose(1, 2); // (batch, n_head, seq, head_dim)
        let [query, keys, values]: [Tensor; 3] = match self.c_attn.forward(x).split(n_embd, 2).try_into() {
            Ok(parts) => parts,
            Err(_) => unreachable!("3 · n_embd columns split by n_embd"),
        };
        let (query, keys, values) = (heads(query), heads(keys), heads(values));
        let attended = match cache {
            Some((cache, layer)) => {
                let (keys, values) = cache.append(layer, &keys, &values);
                attend(&query, &keys, &values, mask, self.scale)
            }
            None => attend(&query, &keys, &values, mask, self.scale),
        };
        self.c_proj.forward(&attended.transpose(1, 2).reshape([batch, seq, n_embd]))
    }
}

#[derive(Debug)]
struct Mlp {
    c_fc: Conv1d,
    c_proj: Conv1d,
}

impl Mlp {
    fn new(p: Path, config: &Gpt2Config) -> Self {
        let n_inner = config.n_inner.unwrap_or(4 * config.n_embd);
        Self { c_fc: Conv1d::new(&p / "c_fc", config.n_embd, n_inner), c_proj: Conv1d::new(&p / "c_proj", n_inner, config.n_embd) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.c_proj.forward(&self.c_fc.forward(x).gelu("tanh"))
    }
}

#[derive(Debug)]
struct Block {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(p: Path, config: &Gpt2Config, layer: i64) -> Self {
        let epsilon = config.layer_norm_epsilon;
        Self {
            ln_1: LayerNorm::new(&p / "ln_1", config.n_embd, epsilon),
            attn: Attention::new(&p / "attn", config, layer),
            ln_2: LayerNorm::new(&p / "ln_2", config.n_embd, epsilon),
            mlp: Mlp::new(&p / "mlp", config),
        }
    }

    fn forward(&self, x: Tensor, mask: Option<&Tensor>, cache: Option<(&mut KvCache, usize)>) -> Tensor {
        let x = &x + self.attn.forward(&self.ln_1.forward(&x), mask, cache);
        &x + self.mlp.forward(&self.ln_2.forward(&x))
    }
}

#[derive(Debug)]
pub struct Gpt2 {
    wte: Tensor,
    wpe: Tensor,
    h: Vec<Block>,
    ln_f: LayerNorm,
    info: LmInfo,
}

impl Gpt2 {
    /// Variables under `transformer.…`, as transformers saves them; to be filled by a loader or an initialisation.
    pub fn new(p: Path, config: &Gpt2Config, eos_token_ids: Vec<i64>) -> Self {
        let p = p / "transformer";
        let wte = (&p / "wte").var("weight", &[config.vocab_size, config.n_embd], Init::Const(0.0));
        let wpe = (&p / "wpe").var("weight", &[config.n_positions, config.n_embd], Init::Const(0.0));
        let h = (0..config.n_layer).map(|layer| Block::new(&p / "h" / layer, config, layer)).collect();
        let ln_f = LayerNorm::new(&p / "ln_f", config.n_embd, config.layer_norm_epsilon);
        Self { wte, wpe, h, ln_f, info: config.info(eos_token_ids) }
    }

    fn kind(&self) -> Kind {
        self.wte.kind()
    }
}

impl CausalLm for Gpt2 {
    fn info(&self) -> &LmInfo {
        &self.info
    }

    fn device(&self) -> Device {
        self.wte.device()
    }

    fn hidden(&self, input: &Input, mut cache: Option<&mut KvCache>) -> Tensor {
        let shape = input.ids.size();
        let (batch, new) = (shape[0], shape[1]);
        let (columns, valid) = match &mut cache {
            Some(cache) => {
                let valid = cache.grow(batch, new, input.valid);
                (cache.columns(), valid)
            }
            None => (new, input.valid.map(Tensor::shallow_clone)),
        };
        let mask = causal_mask(new, columns, valid.as_ref(), self.kind(), self.device());
        let mut x =
            Tensor::embedding(&self.wte, input.ids, -1, false, false) + Tensor::embedding(&self.wpe, input.positions, -1, false, false); // (batch, new, n_embd)
        for (layer, block) in self.h.iter().enumerate() {
            x = block.forward(x, mask.as_ref(), cache.as_deref_mut().map(|cache| (cache, layer)));
        }
        self.ln_f.forward(&x)
    }

    fn logits(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(&self.wte, None::<&Tensor>)
    }
}
