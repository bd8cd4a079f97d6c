"""Writes a model folder with random weights, to try loading and speed at sizes that are not at hand; needs numpy.

    python scripts/random_model.py CONFIG FOLDER [--tokenizer FOLDER] [--dtype bfloat16] [--shard-gib 5]

CONFIG is a config.json, or one of the shapes below. The weights are drawn small enough to give finite logits and mean nothing. Shards are
written one after the other, so that memory stays at one tensor.
"""

import argparse
import json
import shutil
import struct
from pathlib import Path

import numpy

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}
GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "activation_function": "gelu_new",
    "vocab_size": 50257,
    "n_positions": 1024,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
SHAPES = {
    "llama-2-7b": LLAMA
    | {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    "tinyllama-1.1b": LLAMA
    | {
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
    },
    "gpt2": GPT2 | {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-large": GPT2 | {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": GPT2 | {"n_embd": 1600, "n_layer": 48, "n_head": 25},
}
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def gpt2_tensors(config):
    width, inner = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]
    yield "transformer.wte.weight", (config["vocab_size"], width)
    yield "transformer.wpe.weight", (config["n_positions"], width)
    for layer in range(config["n_layer"]):
        p = f"transformer.h.{layer}"
        for norm in ("ln_1", "ln_2"):
            yield f"{p}.{norm}.weight", (width,)
            yield f"{p}.{norm}.bias", (width,)
        for name, n_in, n_out in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            yield f"{p}.{name}.weight", (n_in, n_out)
            yield f"{p}.{name}.bias", (n_out,)
    yield "transformer.ln_f.weight", (width,)
    yield "transformer.ln_f.bias", (width,)


def llama_tensors(config):
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    kv = (config.get("num_key_value_heads") or heads) * head
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}"
        yield f"{p}.input_layernorm.weight", (width,)
        for name, rows, columns in (
            ("self_attn.q_proj", heads * head, width),
            ("self_attn.k_proj", kv, width),
            ("self_attn.v_proj", kv, width),
            ("self_attn.o_proj", width, heads * head),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ):
            yield f"{p}.{name}.weight", (rows, columns)
            if config["model_type"] == "qwen2" and name.split(".")[1] in ("q_proj", "k_proj", "v_proj"):
                yield f"{p}.{name}.bias", (rows,)
        yield f"{p}.post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (config["vocab_size"], width)


def values(name, shape, dtype, generator):
    count = int(numpy.prod(shape))
    if len(shape) == 1:
        drawn = numpy.full(count, 0.0 if name.endswith("bias") else 1.0, numpy.float32)
    else:
        # One block of normal numbers, repeated from a drawn start: as good as fresh ones for this, and as fast as the disk.
        block = generator.standard_normal(1 << 20, numpy.float32) * 0.02
        drawn = numpy.resize(numpy.roll(block, int(generator.integers(1 << 20))), count)
    if dtype == "float32":
        return drawn.tobytes()
    if dtype == "float16":
        return drawn.astype(numpy.float16).tobytes()
    return (drawn.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help=f"a config.json, or one of {', '.join(SHAPES)}")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="its tokenizer.json and tokenizer_config.json are copied")
    parser.add_argument("--dtype", choices=BYTES, default="bfloat16")
    parser.add_argument("--shard-gib", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1, help="of the weights")
    arguments = parser.parse_args()
    if arguments.config not in SHAPES and not Path(arguments.config).is_file():
        parser.error(f"CONFIG is a config.json or one of {', '.join(SHAPES)}, not {arguments.config}")
    files = [arguments.tokenizer / name for name in ("tokenizer.json", "tokenizer_config.json")] if arguments.tokenizer else []
    if missing := [str(file) for file in files if not file.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    config = SHAPES.get(arguments.config) or json.loads(Path(arguments.config).read_text())
    tensors = list((gpt2_tensors if config["model_type"] == "gpt2" else llama_tensors)(config))
    shards, limit = [[]], arguments.shard_gib * 2**30
    size = lambda part: sum(int(numpy.prod(shape)) * BYTES[arguments.dtype] for _, shape in part)
    for tensor in tensors:
        if shards[-1] and size(shards[-1]) + size([tensor]) > limit:
            shards.append([])
        shards[-1].append(tensor)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    generator = numpy.random.default_rng(arguments.seed)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, end = {"__metadata__": {"format": "pt"}}, 0
        for tensor, shape in shard:
            start, end = end, end + size([(tensor, shape)])
            header[tensor] = {"dtype": NAMES[arguments.dtype], "shape": shape, "data_offsets": [start, end]}
            weight_map[tensor] = name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(arguments.folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor, shape in shard:
                file.write(values(tensor, shape, arguments.dtype, generator))
        print(f"{name}: {end / 2**30:.2f} GiB")
    if len(shards) > 1:
        index = {"metadata": {"total_size": size(tensors)}, "weight_map": weight_map}
        (arguments.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    (arguments.folder / "config.json").write_text(json.dumps(config | {"torch_dtype": arguments.dtype}, indent=1))
    for file in files:
        shutil.copy(file, arguments.folder)


main()
