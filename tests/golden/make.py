"""Makes the tiny models and the expected logits that tests/models.rs compares with; needs torch and transformers.

    python tests/golden/make.py

Every weight is random, biases and layer norms included, so that no parameter can be left out unnoticed. The weights are drawn large enough
for logits of order one. Each model is a folder in Hugging Face layout; values.json holds the inputs and what transformers answers.
"""

import json
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification, GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).resolve().parent
VOCAB, CONTEXT = 97, 32


def randomise(model, seed):
    """Normal weights; layer norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            drawn = 0.25 * torch.randn(parameter.shape, generator=generator)
            is_norm = ("ln_" in name or "layer_norm" in name or "LayerNorm" in name) and name.endswith("weight")
            parameter.copy_(drawn + 1 if is_norm else drawn)
    return model.eval()


def rounded(tensor):
    return [[float(f"{x:.8g}") for x in row] for row in tensor.float().flatten(0, -2).tolist()]


@torch.no_grad()
def gpt2(name, seed, dtype=torch.float32, **settings):
    sizes = dict(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2)
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, **settings)
    model = randomise(GPT2LMHeadModel(config), seed).to(dtype)
    model.save_pretrained(HERE / name)
    ids = torch.randint(VOCAB, (3, 12), generator=torch.Generator().manual_seed(seed + 1))
    values = {"ids": ids.tolist(), "logits": rounded(model.float()(ids).logits)}
    if dtype != torch.float32:
        values["logits_in_own_dtype"] = rounded(model.to(dtype)(ids).logits)
    return values


@torch.no_grad()
def distilbert(name, seed):
    sizes = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, dim=16, n_layers=2, n_heads=2, hidden_dim=40)
    labels = {0: "NEGATIVE", 1: "POSITIVE"}
    config = DistilBertConfig(**sizes, id2label=labels, label2id={name: id for id, name in labels.items()})
    model = randomise(DistilBertForSequenceClassification(config), seed)
    model.save_pretrained(HERE / name)
    ids = torch.randint(VOCAB, (3, 12), generator=torch.Generator().manual_seed(seed + 1))
    lengths = [12, 5, 9]
    mask = torch.tensor([[int(column < length) for column in range(12)] for length in lengths])
    return {"ids": ids.tolist(), "lengths": lengths, "logits": rounded(model(ids, attention_mask=mask).logits)}


values = {
    "gpt2": gpt2("gpt2", 1),
    "gpt2-scaled": gpt2("gpt2-scaled", 3, scale_attn_by_inverse_layer_idx=True, n_inner=24, layer_norm_epsilon=1e-3),
    "gpt2-bf16": gpt2("gpt2-bf16", 5, dtype=torch.bfloat16),
    "distilbert": distilbert("distilbert", 7),
}
(HERE / "values.json").write_text(json.dumps(values) + "\n")
