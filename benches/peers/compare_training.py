"""Runs `w2s bench sft|dpo` and TRL's trainer in turns on the same shape and pairs; prints medians and their ratio.

    python benches/peers/compare_training.py dpo --w2s target/release/w2s --config benches/shapes/gpt2 --tokenizer DIR --pairs FILE

The model has the shape of `--config` and random weights; `--tokenizer` is a folder with tokenizer.json and tokenizer_config.json. Table on stdout
(`--json`: all figures of every run), progress on stderr. Needs torch, transformers and trl only in the Python that runs the peer.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from compare import DTYPES, median, take_turns

PEER = Path(__file__).with_name("train.py")
MEASURED = ["seconds_per_step", "text_tokens", "text_tokens_per_s", "peak_rss_bytes"]
LIMITS = ["matmul_flops_per_s", "limit_fraction"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sft", "dpo"])
    parser.add_argument("--w2s", required=True, metavar="PATH", help="our program")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="a Python with torch, transformers and trl")
    parser.add_argument("--config", required=True, metavar="DIR", help="a folder with config.json")
    parser.add_argument("--tokenizer", required=True, metavar="DIR")
    parser.add_argument("--pairs", required=True, metavar="FILE", help=".jsonl or .jsonl.gz with prompt, chosen and rejected")
    parser.add_argument("--times", type=int, default=3, help="runs of each")
    for name, default in (("batch-size", 8), ("micro-batch-size", 8), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cpu", help="of ours; the peer takes the GPU where torch sees one")
    parser.add_argument("--threads", type=int, help="of both, by OMP_NUM_THREADS; default: what each chooses")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def commands(args, folder):
    shared = [args.what, "--base", folder, "--random-weights", "--pairs", args.pairs, "--json"]
    for name in ("batch-size", "micro-batch-size", "steps"):
        shared += [f"--{name}", str(getattr(args, name.replace("-", "_")))]
    threads = ["--threads", str(args.threads)] if args.threads else []
    return {
        "w2s": [args.w2s, "bench", *shared, "--dtype", DTYPES[args.dtype], "--device", args.device],
        "peer": [args.python, str(PEER), *shared, "--dtype", args.dtype, *threads],
    }


def main():
    args = parse()
    wanted = {"w2s": MEASURED + LIMITS, "peer": MEASURED}
    with tempfile.TemporaryDirectory() as folder:
        for file in [Path(args.config) / "config.json", *Path(args.tokenizer).glob("tokenizer*.json")]:
            shutil.copy(file, folder)
        runs = take_turns(args, commands(args, folder), wanted, lambda figures: f"{figures['text_tokens_per_s']:.0f} tokens of text a second")
    medians = {name: {key: median(done, key) for key in MEASURED} for name, done in runs.items()}
    medians["w2s"].update({key: median(runs["w2s"], key) for key in LIMITS})
    ratios = [ours["text_tokens_per_s"] / theirs["text_tokens_per_s"] for ours, theirs in zip(runs["w2s"], runs["peer"])]
    speed, memory = (medians["w2s"][key] / medians["peer"][key] for key in ("text_tokens_per_s", "peak_rss_bytes"))
    if args.json:
        print(json.dumps({"ratio": speed, "ratio_of_each_turn": ratios, "memory_ratio": memory, "medians": medians, "runs": runs}))
        return
    print(f"medians of {args.times} | w2s | peer\n--- | ---: | ---:")
    for key in MEASURED + LIMITS:
        print(f"{key} | {medians['w2s'][key]:.4g} | " + (f"{medians['peer'][key]:.4g}" if key in MEASURED else ""))
    print(f"\nratio of the tokens of text a second, w2s / peer: {speed:.2f} (turns: {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"ratio of the peak memory, w2s / peer: {memory:.2f}")


if __name__ == "__main__":
    main()
