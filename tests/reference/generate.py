"""Tiny random models with real tokenizers, and their greedy texts, for tests/it/real_tokenizers.rs; needs torch and transformers.

    python tests/reference/generate.py REQUEST ANSWER

REQUEST: {"tokenizers": folder, "out": folder, "prompts": […], "new_tokens": n}. Makes a folder in `out` for each family. ANSWER: for each family
and prompt the ids that were read and the text that was written, by AutoTokenizer and `generate` with all their defaults.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
    Qwen2Config, Qwen2ForCausalLM,
)

request = json.loads(Path(sys.argv[1]).read_text())
tokenizers, out = Path(request["tokenizers"]), Path(request["out"])
SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    initializer_range=0.3,
)
ROPE_31 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
# No Qwen2 vocabulary is at hand: GPT-2's, read as Qwen2Tokenizer reads one.
QWEN2 = {
    "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "add_prefix_space": False, "bos_token": None, "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>", "unk_token": None, "clean_up_tokenization_spaces": False,
}
FAMILIES = {
    "gpt2": ("gpt2", lambda size: GPT2LMHeadModel(GPT2Config(
        vocab_size=size, n_positions=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=50256, eos_token_id=50256))),
    "llama-2": ("llama-2", lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, bos_token_id=1, eos_token_id=2, **SIZES))),
    "llama-3.1": ("llama-3", lambda size: LlamaForCausalLM(LlamaConfig(
        vocab_size=size, bos_token_id=128000, eos_token_id=[128001, 128008, 128009], rope_parameters=ROPE_31, **SIZES))),
    "mistral": ("zephyr", lambda size: MistralForCausalLM(MistralConfig(vocab_size=size, bos_token_id=1, eos_token_id=2, sliding_window=64, **SIZES))),
    "qwen2": ("gpt2", lambda size: Qwen2ForCausalLM(Qwen2Config(vocab_size=size + 47, bos_token_id=50256, eos_token_id=50256, **SIZES))),
}


@torch.no_grad()
def answers(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for prompt in request["prompts"]:
        read = tokenizer(prompt, return_tensors="pt")
        ids = read["input_ids"].long()
        # `generate` starts an empty sequence from BOS, but does not take one of no tokens.
        inputs = {"input_ids": ids, "attention_mask": read["attention_mask"].long()} if ids.shape[1] else {}
        sequence = model.generate(**inputs, do_sample=False, max_new_tokens=request["new_tokens"])[0].tolist()
        count = max(ids.shape[1], 1)
        text, begun = (tokenizer.decode(some, skip_special_tokens=True) for some in (sequence, sequence[:count]))
        yield {"class": type(tokenizer).__name__, "ids": sequence[:count], "text": text.removeprefix(begun)}


answer = {}
for seed, (name, (tokenizer, make)) in enumerate(FAMILIES.items()):
    folder = out / name
    folder.mkdir()
    for file in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(tokenizers / tokenizer / file, folder)
    if name == "qwen2":
        (folder / "tokenizer_config.json").write_text(json.dumps(QWEN2))
    size = 1 + max(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].values())
    torch.manual_seed(seed)
    make(max(size, 128256) if tokenizer == "llama-3" else size).save_pretrained(folder)
    answer[name] = list(answers(folder))
Path(sys.argv[2]).write_text(json.dumps(answer))
