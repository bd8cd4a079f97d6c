"""Makes likelihood.json, which tests/it/likelihood.rs compares with: the log-probability of responses under a base, and the exact KL divergence from it of a
mixture (emulated fine-tuning) and of another model, by transformers in f64.

    python tests/golden/likelihood.py

Needs torch and transformers, and the models and tokenizers that make.py and generate.py made.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
BASE, TUNED, UNTUNED, TOKENIZER = "gpt2", "llama", "mistral", "gpt2"
# Of different lengths, so that batches are padded; the third is empty but for its end.
ANSWERS = [(" a film", " a  good film (A)!", True), ("a", " don't", False), ("(A, b)!", "", True), ("one", " a film a film b", True)]
TEMPERATURES, WEIGHT = (1.0, 0.7), 1.5

tokenizer = AutoTokenizer.from_pretrained(HERE / "tokenizers" / TOKENIZER)
models = {name: AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float64) for name in (BASE, TUNED, UNTUNED)}


@torch.no_grad()
def logits(name, prompt, response):
    """Those that predict the response's tokens."""
    ids = torch.tensor([prompt + response])
    return models[name](ids).logits[0, len(prompt) - 1 : -1].double()


def said(prompt, response, temperature, weights):
    of = {name: logits(name, prompt, response) for name in models}
    base = of[BASE].log_softmax(-1)
    sampled = sum(weight * of[name] for name, weight in weights.items())
    p, q = ((x / temperature).log_softmax(-1) for x in (sampled, of[BASE]))
    tokens = torch.tensor(response)
    return {
        "tokens": len(response),
        "base_logprob": base.gather(-1, tokens[:, None]).sum().item(),
        "kl": (p.exp() * (p - q)).sum().item(),
    }


ways = {"eft": {BASE: 1.0, TUNED: WEIGHT, UNTUNED: -WEIGHT}, "other": {TUNED: 1.0}}
encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
values = []
for prompt, response, ends in ANSWERS:
    end = [models[BASE].config.eos_token_id] if ends else []
    ids = [encode(prompt), encode(response) + end]
    for way, weights in ways.items():
        for temperature in TEMPERATURES:
            values.append(
                {"prompt": prompt, "response": response, "ends": ends, "way": way, "temperature": temperature}
                | said(*ids, temperature, weights)
            )
(HERE / "likelihood.json").write_text(json.dumps({"weight": WEIGHT, "values": values}) + "\n")
