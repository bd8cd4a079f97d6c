"""Makes tokenizers/ and generate.json, which tests/it/prompts.rs compares with: the ids that transformers reads of a prompt, and its greedy text.

    python tests/golden/generate.py

Needs torch and transformers. The tokenizers are tiny but made as those of published models are: their pipelines, special tokens, post-processors
and tokenizer_config.json. Each fits one of the models that make.py makes. AutoTokenizer and `generate` are asked, with all their defaults.
"""

import json
import shutil
import string
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
VOCAB, NEW_TOKENS = 97, 8
# `END` stands for the family's end token.
PROMPTS = ["", " a film", "a film", "a  good  film", "don't 12 it", "xENDy", "ENDx", "a END", "one\ntwo ", "(A, b)!"]

WORDS_31 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS_QWEN = WORDS_31.replace("{1,3}", "")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def added(tokens, vocab):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": vocab[token], "content": token} | flags for token in tokens]


def before(token, vocab):
    """A post-processor that puts this token before a text."""
    special, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    pair = [special, text, {"SpecialToken": {"id": token, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    tokens = {token: {"id": token, "ids": [vocab[token]], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": [special, text], "pair": pair, "special_tokens": tokens}


def definition(special, rest, merges, byte_fallback, **parts):
    tokens = special + rest + ["".join(merge) for merge in merges]
    tokens += [letter for letter in string.ascii_uppercase + string.punctuation + string.digits if letter not in tokens]
    vocab = {token: id for id, token in enumerate(tokens[:VOCAB])}
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>" if byte_fallback else None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": byte_fallback, "byte_fallback": byte_fallback, "ignore_merges": False}
    model |= {"vocab": vocab, "merges": merges}
    parts = {key: part(vocab) if callable(part) else part for key, part in parts.items()}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(special, vocab)} | parts | {"model": model}


def byte_level(special, words=None, normalizer=None, post_processor=BYTE_LEVEL):
    """Bytes are written as GPT-2 writes them; with a pattern of its own for words, or GPT-2's."""
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False}
    sequence = {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}
    pre_tokenizer = sequence if words else BYTE_LEVEL
    merges = [["Ġ", "f"], ["i", "l"], ["Ġf", "il"], ["Ġfil", "m"], ["Ġ", "a"], ["1", "2"], ["'", "t"], ["o", "o"]]
    parts = {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": BYTE_LEVEL}
    return definition(special, ["Ġ", "Ċ", *string.ascii_lowercase, *"12'(),!A"], merges, False, **parts)


def marked_spaces(special):
    """SentencePiece as Llama 2 has it: a space is marked, and one put before every text."""
    mark = "\u2581"
    normalizers = [{"type": "Prepend", "prepend": mark}, {"type": "Replace", "pattern": {"String": " "}, "content": mark}]
    decoders = [{"type": "Replace", "pattern": {"String": mark}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    merges = [[mark, mark], [mark, "f"], ["i", "l"], [mark + "f", "il"], [mark + "fil", "m"], [mark, "a"], ["1", "2"], ["o", "o"]]
    parts = {"normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": None}
    parts |= {"post_processor": lambda vocab: before("<s>", vocab), "decoder": {"type": "Sequence", "decoders": decoders}}
    return definition(special, ["<0x0A>", mark, *string.ascii_lowercase, *"12'(),!A"], merges, True, **parts)


LLAMA = ["<unk>", "<s>", "</s>"]
LLAMA_CONFIG = {
    "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False,
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
}
LLAMA_31 = ["<|pad|>", "<|begin_of_text|>", "<|eot_id|>", "<|reserved_0|>", "<|reserved_1|>", "<|end_of_text|>"]
# Name: the model of make.py, the end token, tokenizer.json, tokenizer_config.json.
FAMILIES = {
    "gpt2": ("gpt2", "<|endoftext|>", byte_level(["<|endoftext|>"]), {"model_max_length": 1024}),
    "gpt2-prefix-space": (
        "gpt2",
        "<|endoftext|>",
        byte_level(["<|endoftext|>"]),
        {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True, "add_bos_token": True, "bos_token": "<|endoftext|>"},
    ),
    "llama-2": ("llama", "</s>", marked_spaces(LLAMA), LLAMA_CONFIG),
    "llama-2-no-prefix-space": ("llama", "</s>", marked_spaces(LLAMA), LLAMA_CONFIG | {"add_prefix_space": False}),
    "llama-31": (
        "llama-31",
        "<|eot_id|>",
        byte_level(
            LLAMA_31,
            WORDS_31,
            post_processor=lambda vocab: {"type": "Sequence", "processors": [BYTE_LEVEL, before("<|begin_of_text|>", vocab)]},
        ),
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    ),
    "mistral": ("mistral", "</s>", marked_spaces(LLAMA), LLAMA_CONFIG),
    "qwen2": (
        "qwen2",
        "<|im_end|>",
        byte_level(["<|im_start|>", "<|endoftext|>", "<|im_end|>"], WORDS_QWEN, normalizer={"type": "NFC"}),
        {
            "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "add_prefix_space": False, "bos_token": None,
            "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
        },
    ),
}


@torch.no_grad()
def answers(folder, end):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for prompt in PROMPTS:
        prompt = prompt.replace("END", end)
        read = tokenizer(prompt, return_tensors="pt")
        ids = read["input_ids"].long()
        # `generate` starts an empty sequence from BOS, but does not take one of no tokens.
        inputs = {"input_ids": ids, "attention_mask": read["attention_mask"].long()} if ids.shape[1] else {}
        sequence = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)[0].tolist()
        count = max(ids.shape[1], 1)
        said = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
        text, begun = said(sequence), said(sequence[:count])
        assert text.startswith(begun), (text, begun)
        yield {"prompt": prompt, "ids": sequence[:count], "new_ids": sequence[count:], "text": text[len(begun) :]}


values = {}
for name, (model, end, tokenizer, config) in FAMILIES.items():
    own = HERE / "tokenizers" / name
    own.mkdir(parents=True, exist_ok=True)
    (own / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")
    (own / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        for file in [*(HERE / model).iterdir(), *own.iterdir()]:
            shutil.copy(file, folder)
        values[name] = {"model": model, "answers": list(answers(folder, end))}
(HERE / "generate.json").write_text(json.dumps(values) + "\n")
