"""Plain sampling by `w2s bench generate` and by llama.cpp's server in turns, from the same GPT-2 folder; prints medians and their ratio.

    python benches/peers/llama_cpp.py --w2s target/release/w2s --model DIR --rows 16 [--dtype f32|bf16] [--times 5] [--json]

Each row is a sample of 50 tokens (temperature 0.7, the 50 likeliest) after a prompt of 16: for llama.cpp, `n` samples of one prompt that it
reads once (`/completion`, end of sequence ignored); for w2s as many prompts in flight, all of which it reads. Counted on both sides: tokens
sampled, over the seconds from prompts to texts. Needs xllamacpp, gguf, safetensors and numpy; the model a tokenizer of GPT-2's kind.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import xllamacpp

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/judge"))
from to_gguf import convert  # noqa: E402

os.environ["NO_PROXY"] = "127.0.0.1"
PROMPT_TOKENS, NEW_TOKENS = 16, 50


def serve(file, rows, threads):
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.port = 0
    params.n_parallel = rows
    params.n_ctx = rows * 128
    params.n_gpu_layers = 0
    params.fit_params = False
    params.warmup = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def peer_rate(address, rows, seed):
    """Tokens a second of one request."""
    body = {
        "prompt": [(7919 * (seed + 1) * (j + 1)) % 50000 for j in range(PROMPT_TOKENS)], "n_predict": NEW_TOKENS, "n": rows, "temperature": 0.7,
        "top_k": 50, "top_p": 1, "min_p": 0, "ignore_eos": True, "seed": seed, "cache_prompt": False, "samplers": ["top_k", "temperature"],
    }
    request = urllib.request.Request(address + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as reply:
        answers = json.load(reply)
    seconds = time.perf_counter() - started
    answers = answers if isinstance(answers, list) else [answers]
    assert len(answers) == rows and all(answer["tokens_predicted"] == NEW_TOKENS for answer in answers), "every sample whole"
    return rows * NEW_TOKENS / seconds


def our_rate(w2s, model, rows, dtype, threads):
    command = [w2s, "bench", "generate", "--base", model, "--prompts", str(3 * rows), "--prompts-in-flight", str(rows), "--json"]
    command += ["--prompt-tokens", str(PROMPT_TOKENS), "--new-tokens", str(NEW_TOKENS), "--dtype", {"f32": "float32", "bf16": "bfloat16"}[dtype]]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)["sampled_tokens_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--w2s", required=True, metavar="PATH")
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rates = {"w2s": [], "llama.cpp": []}
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        convert(Path(args.model), Path(file.name), args.dtype)
        for turn in range(args.times):
            rates["w2s"].append(our_rate(args.w2s, args.model, args.rows, args.dtype, args.threads))
            # A server of its own for each turn: its threads must not be there beside ours.
            server = serve(file.name, args.rows, args.threads)
            peer_rate(server.listening_address, args.rows, 1000 + turn)
            rates["llama.cpp"].append(statistics.median(peer_rate(server.listening_address, args.rows, turn * 10 + i) for i in range(3)))
            del server
    medians = {name: statistics.median(values) for name, values in rates.items()}
    if args.json:
        print(json.dumps({"rows": args.rows, "dtype": args.dtype, "tokens_per_s": rates, "ratio": medians["w2s"] / medians["llama.cpp"]}))
    else:
        for name, values in rates.items():
            print(f"{name:9} {medians[name]:8.1f} tokens/s   ({', '.join(f'{value:.1f}' for value in values)})")
        print(f"ratio     {medians['w2s'] / medians['llama.cpp']:8.2f}")


if __name__ == "__main__":
    main()
