"""Writes a GPT-2 folder in Hugging Face layout as GGUF for llama.cpp, f32 or with its matrices in bf16; needs gguf, safetensors and numpy.

    python tests/judge/to_gguf.py FOLDER FILE [f32|bf16]
"""

import json
import sys
from pathlib import Path

import gguf
from safetensors.numpy import load_file


KINDS = {
    "f32": (gguf.LlamaFileType.ALL_F32, gguf.GGMLQuantizationType.F32),
    "bf16": (gguf.LlamaFileType.MOSTLY_BF16, gguf.GGMLQuantizationType.BF16),
}


def convert(folder, file, kind="f32"):
    config, tokenizer, roles = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json", "tokenizer_config.json"))
    assert config["model_type"] == "gpt2" and tokenizer["pre_tokenizer"]["type"] == "ByteLevel", "a GPT-2 with its own kind of tokenizer"
    writer = gguf.GGUFWriter(file, "gpt2")
    of_file, of_matrix = KINDS[kind]
    writer.add_file_type(of_file)
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])

    ids = dict(tokenizer["model"]["vocab"])
    kinds = dict.fromkeys(ids.values(), gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        ids[added["content"]] = added["id"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    assert sorted(ids.values()) == list(range(config["vocab_size"])), "a token for each row of the embedding"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(ids, key=ids.get))
    writer.add_token_types([kinds[id] for id in range(len(ids))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(ids[roles["eos_token"]])
    # Whoever asks puts BOS in front where it belongs.
    writer.add_add_bos_token(False)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config["n_layer"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        # Conv1D holds (in, out), llama.cpp wants (out, in). Without `output.weight` it takes the embedding, as a tied head does.
        linear = name.endswith(".weight") and any(part in name for part in ("c_attn", "c_proj", "c_fc"))
        tensor = (tensor.T if linear else tensor).astype("float32", order="C")
        of_tensor = of_matrix if linear or name.endswith("wte.weight") else gguf.GGMLQuantizationType.F32
        name = names.get_name(name, (".weight", ".bias"))
        writer.add_tensor(name, gguf.quants.quantize(tensor, of_tensor), raw_dtype=of_tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
