"""Makes the tiny models and the expected answers that tests/it/models.rs and tests/it/rewards.rs compare with; needs torch and transformers.

    python tests/golden/make.py [NAME]...

Every weight is random, biases and norms included, so that no parameter can be left out unnoticed. The weights are drawn large enough
for logits of order one. Each model is a folder in Hugging Face layout; values.json holds the inputs and what transformers answers.
With names, only those are made again.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

HERE = Path(__file__).resolve().parent
VOCAB, CONTEXT = 97, 32
ROWS, COLUMNS = 3, 12
LENGTHS = [12, 5, 9]


def randomise(model, seed):
    """Normal weights; norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            drawn = 0.25 * torch.randn(parameter.shape, generator=generator)
            is_norm = ("ln_" in name or "norm" in name.lower()) and name.endswith("weight")
            parameter.copy_(drawn + 1 if is_norm else drawn)
    return model.eval()


def rounded(tensor):
    return [[float(f"{x:.7g}") for x in row] for row in tensor.float().flatten(0, -2).tolist()]


def draw_ids(seed, lowest=0):
    return torch.randint(lowest, VOCAB, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(seed + 1))


def length_mask():
    return torch.tensor([[int(column < length) for column in range(COLUMNS)] for length in LENGTHS])


@torch.no_grad()
def causal_lm(name, seed, model, dtype=torch.float32):
    randomise(model, seed).to(dtype).save_pretrained(HERE / name)
    ids = draw_ids(seed)
    # Opened again, because `to` also rounds the rotation's frequencies, which from_pretrained keeps in f32.
    logits = lambda dtype: rounded(type(model).from_pretrained(HERE / name, dtype=dtype).eval()(ids).logits)
    values = {"ids": ids.tolist(), "logits": logits(torch.float32)}
    if dtype != torch.float32:
        values["logits_in_own_dtype"] = logits(dtype)
    return values


def gpt2(name, seed, dtype=torch.float32, **settings):
    sizes = dict(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2)
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, **settings)
    return causal_lm(name, seed, GPT2LMHeadModel(config), dtype)


LLAMA_SIZES = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=CONTEXT,
    bos_token_id=1,
    eos_token_id=2,
)


@torch.no_grad()
def classifier(name, seed, model):
    randomise(model, seed).save_pretrained(HERE / name)
    ids = draw_ids(seed)
    return {"ids": ids.tolist(), "lengths": LENGTHS, "logits": rounded(model(ids, attention_mask=length_mask()).logits)}


LABELS = dict(id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1})


def distilbert(name, seed):
    sizes = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, dim=16, n_layers=2, n_heads=2, hidden_dim=40)
    return classifier(name, seed, DistilBertForSequenceClassification(DistilBertConfig(**sizes, **LABELS)))


def bert(name, seed):
    sizes = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    config = BertConfig(**sizes, intermediate_size=40, layer_norm_eps=1e-6, **LABELS)
    return classifier(name, seed, BertForSequenceClassification(config))


def reward_values(seed, scores, lowest=3):
    return {"ids": draw_ids(seed, lowest).tolist(), "lengths": LENGTHS, "rewards": [float(f"{x:.7g}") for x in scores.flatten().tolist()]}


@torch.no_grad()
def scored(name, seed, model):
    """transformers' sequence classification with one label; the padding id is in no text, because transformers finds the end by it."""
    randomise(model, seed).save_pretrained(HERE / name)
    ids = torch.where(length_mask().bool(), draw_ids(seed, 3), model.config.pad_token_id)
    return reward_values(seed, model(ids, attention_mask=length_mask()).logits)


@torch.no_grad()
def headed(name, seed, prefix, head, shards):
    """A reward model of the UltraRM or Starling kind: transformers' Llama below a scalar head, saved by torch.save under its own names."""
    config = LlamaConfig(**LLAMA_SIZES)
    model = randomise(LlamaForCausalLM(config).model, seed)
    weight = torch.randn(1, config.hidden_size, generator=torch.Generator().manual_seed(seed + 2))
    state = {f"{prefix}.{key}": value for key, value in model.state_dict().items()} | {f"{head}.weight": weight}
    # A view on the storage of another layout and place: what torch.save stores as it is.
    key = f"{prefix}.layers.0.mlp.up_proj.weight"
    state[key] = torch.cat([torch.zeros(5, 24), state[key].t().contiguous()])[5:].t()
    state[f"{prefix}.norm.weight"] = torch.nn.Parameter(state[f"{prefix}.norm.weight"])
    hidden = model(draw_ids(seed, 3), attention_mask=length_mask()).last_hidden_state
    scores = torch.stack([hidden[row, length - 1] @ weight[0] for row, length in enumerate(LENGTHS)])
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config.save_pretrained(folder)
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        weight_map = {}
        for shard in range(shards):
            part = {key: value for index, (key, value) in enumerate(state.items()) if index % shards == shard}
            file = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
            torch.save(part, folder / file)
            weight_map |= dict.fromkeys(part, file)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1))
    return reward_values(seed, scores)


ROPE_31 = dict(
    rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8
)
MAKERS = {
    "gpt2": lambda name: gpt2(name, 1),
    "gpt2-scaled": lambda name: gpt2(name, 3, scale_attn_by_inverse_layer_idx=True, n_inner=24, layer_norm_epsilon=1e-3),
    "gpt2-bf16": lambda name: gpt2(name, 5, dtype=torch.bfloat16),
    "distilbert": lambda name: distilbert(name, 7),
    "llama": lambda name: causal_lm(name, 9, LlamaForCausalLM(LlamaConfig(**LLAMA_SIZES)), torch.bfloat16),
    "llama-31": lambda name: causal_lm(
        name,
        11,
        LlamaForCausalLM(
            LlamaConfig(
                **LLAMA_SIZES | dict(eos_token_id=[2, 5]),
                head_dim=6,
                rope_parameters=ROPE_31,
                attention_bias=True,
                mlp_bias=True,
                tie_word_embeddings=True,
            )
        ),
        torch.bfloat16,
    ),
    "mistral": lambda name: causal_lm(
        name, 13, MistralForCausalLM(MistralConfig(**LLAMA_SIZES, sliding_window=5)), torch.bfloat16
    ),
    "qwen2": lambda name: causal_lm(
        name,
        15,
        Qwen2ForCausalLM(
            Qwen2Config(**LLAMA_SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=True)
        ),
        torch.bfloat16,
    ),
    "bert": lambda name: bert(name, 17),
    "llama-reward": lambda name: scored(
        name, 19, LlamaForSequenceClassification(LlamaConfig(**LLAMA_SIZES, num_labels=1, pad_token_id=0))
    ),
    "gpt2-reward": lambda name: scored(
        name,
        21,
        GPT2ForSequenceClassification(
            GPT2Config(
                vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, num_labels=1, bos_token_id=0, eos_token_id=0, pad_token_id=0
            )
        ),
    ),
    "ultrarm": lambda name: headed(name, 23, "model", "regression_head", 1),
    "starling": lambda name: headed(name, 25, "transformer", "v_head", 2),
}

path = HERE / "values.json"
values = json.loads(path.read_text()) if path.exists() else {}
for name in sys.argv[1:] or MAKERS:
    values[name] = MAKERS[name](name)
    for file in sorted((HERE / name).glob("*.safetensors")):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values()), name
path.write_text(json.dumps(values) + "\n")
