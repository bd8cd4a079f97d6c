"""Converts the folders of tests/it/model_folders/openers.rs by llama.cpp's own converters and has llama.cpp answer; needs torch, transformers, gguf,
sentencepiece, xllamacpp and a folder of llama.cpp's sources.

    python tests/judge/convert.py ROWS.json LLAMA_CPP

Rows are those of openers.py; of an adapter the base is converted too. Prints a table: whether the converter takes the folder, and whether llama.cpp makes
the same ids of the first text and continues it greedily by the same ids; or `not supported by the tool:` and what the converter says. Exits with 1 where
one that is supported does otherwise, or where the tool now supports what `UNSUPPORTED` says it does not.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_cpp_server import ask, serve

# What the converters cannot do, by (kind, whether it is an adapter, a part of the name), and a part of what they say.
UNSUPPORTED = [
    ("reward", False, "", r"Model \w+ForSequenceClassification is not supported"),
    # It turns A and B of Conv1D layers, which PEFT keeps as those of linear ones.
    ("lm", True, "gpt2, tokenizer", r"llama.cpp does not load it"),
    ("lm", True, "own tokenizer", r"BPE pre-tokenizer was not recognized"),
    ("lm", False, "own tokenizer", r"BPE pre-tokenizer was not recognized"),
    ("classifier", False, "own tokenizer", r"BPE pre-tokenizer was not recognized"),
]


class Refused(Exception):
    pass


def convert(script, *arguments):
    run = subprocess.run([sys.executable, Path(sys.argv[2]) / script, *arguments, "--outtype", "f32"], capture_output=True, text=True)
    if run.returncode:
        raise Refused(run.stderr.strip().splitlines()[-1])


def answer(row, scratch):
    model, lora = scratch / "model.gguf", None
    convert("convert_hf_to_gguf.py", row["base"] or row["folder"], "--outfile", model)
    if row["base"]:
        lora = scratch / "lora.gguf"
        convert("convert_lora_to_gguf.py", row["folder"], "--base", row["base"], "--outfile", lora)
    if row["kind"] != "lm":
        return "converts"
    try:
        server = serve(model, lora)
    except Exception as error:
        raise Refused(f"llama.cpp does not load it: {error}") from error
    address, prompt = server.listening_address, row["ids"][0]
    found = ask(address, "/tokenize", {"content": row["texts"][0], "add_special": True})["tokens"]
    assert found == prompt, f"other ids: {found}, not {prompt}"
    new = len(row["greedy"]) - len(prompt)
    body = {"prompt": prompt, "n_predict": new, "temperature": 0, "top_k": 1, "return_tokens": True, "cache_prompt": False}
    found = ask(address, "/completion", body)["tokens"]
    assert prompt + found == row["greedy"], f"continues by {found}, not {row['greedy'][len(prompt):]}"
    return "same ids"


def attempt(row):
    expected = [says for kind, adapter, name, says in UNSUPPORTED
                if (kind, adapter) == (row["kind"], bool(row["base"])) and name in row["name"]]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            said = answer(row, Path(scratch))
        except (Refused, AssertionError) as error:
            if expected and re.search(expected[0], str(error)):
                return f"not supported by the tool: {error}"
            return f"no: {error}"
    return f"no: the tool supports it now ({said})" if expected else said


rows = json.loads(Path(sys.argv[1]).read_text())
failed = not rows
for row in rows:
    said = attempt(row)
    failed |= said.startswith("no:")
    print(f"| {row['name']} | {said[:200]} |", flush=True)
sys.exit(failed)
