"""Runs a recipe's `[ppo]` and TRL's PPO in turns on the same models and prompts; prints medians and their ratio.

    PYTHONPATH=trl-1.12.0 python benches/peers/compare_ppo.py --w2s target/release/w2s --policy DIR --tuned DIR --untuned DIR --times 3

TRL's reward model has the tuned guide's shape, its value model the policy's. Prompts are random words of the tokenizer, or the first words of
`--texts`. `--generate` adds `w2s bench generate` of the policy to each turn, with as many rows and tokens as the rollouts have. Table on stdout
(`--json`: all figures of every run), progress on stderr. Needs torch, transformers and trl only in the Python that runs the peer (`--python`).
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import DTYPES, median, take_turns
from w2s_ppo import SIZES

HERE = Path(__file__).parent
RANDOM_MODEL = HERE.parents[1] / "scripts" / "random_model.py"
MODELS = ["policy", "tuned", "untuned"]
PARTS = ["rollout_seconds", "reward_seconds", "update_seconds"]
MEASURED = ["samples_per_s", "seconds_per_step", *PARTS, "response_tokens_per_step", "sampled_tokens_per_s", "peak_rss_bytes"]
# The most rows that our rollouts sample together.
ROWS = 64


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--w2s", required=True, metavar="PATH", help="our program")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="a Python with torch, transformers and trl 1.12")
    for name in MODELS:
        parser.add_argument(f"--{name}", required=True, metavar="DIR", help="a model; all of one vocabulary")
    parser.add_argument("--random-weights", action="store_true", help="folders need only a config.json")
    parser.add_argument("--tokenizer", metavar="DIR", help="with --random-weights; default: the policy's folder")
    parser.add_argument("--texts", metavar="FILE", help=".jsonl or .jsonl.gz with text")
    parser.add_argument("--prompt-words", type=int, default=16)
    parser.add_argument("--times", type=int, default=3, help="runs of each")
    for name, default, meaning in SIZES:
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--value", choices=["model", "head"], default="model", help="of ours; the peer's is always a model")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cpu", help="of ours; the peer takes the GPU where torch sees one")
    parser.add_argument("--threads", type=int, help="of both, by OMP_NUM_THREADS; default: what each chooses")
    parser.add_argument("--generate", action="store_true", help="the rollouts' tokens a second beside those of `w2s bench generate`")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for name in ("times", "prompt_words", *(name.replace("-", "_") for name, _, _ in SIZES)):
        if getattr(args, name) < 1:
            parser.error(f"`{name}` must be at least 1, given {getattr(args, name)}")
    args.tokenizer = args.tokenizer or args.policy
    return args


def random_models(args, folder):
    """Folders of the given shapes with random weights, {name: folder}."""
    made = {name: str(folder / name) for name in MODELS}
    for seed, (name, to) in enumerate(made.items()):
        shape = str(Path(getattr(args, name)) / "config.json")
        command = [args.python, str(RANDOM_MODEL), shape, to, "--tokenizer", args.tokenizer, "--dtype", "float32", "--seed", str(seed)]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"no random weights for `{shape}`")
    return made


def random_prompts(tokenizer, count, words):
    """Of words that are a token of their own, at the start of a text and behind a space."""
    vocabulary = json.loads((Path(tokenizer) / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    tokens = set(vocabulary if isinstance(vocabulary, dict) else (token for token, _ in vocabulary))
    known = sorted(token for token in tokens if token.isascii() and token.isalpha() and any(space + token in tokens for space in "Ġ▁"))
    if not known:
        sys.exit(f"`{tokenizer}/tokenizer.json` has no whole words to make prompts of: give --texts")
    draw = random.Random(1)
    return [" ".join(draw.choices(known, k=words)) for _ in range(count)]


def first_words(path, count, words):
    """The first `count` texts that are long enough, cut."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8", newline="\n")
    prompts = []
    with opened as lines:
        for line in lines:
            found = json.loads(line)["text"].split()[:words]
            if len(found) == words and len(prompts) < count:
                prompts.append(" ".join(found))
    return prompts or sys.exit(f"no text of `{path}` has {words} words")


def write_prompts(args, folder):
    count = (args.steps + 1) * args.batch_size
    if args.texts:
        prompts = first_words(args.texts, count, args.prompt_words)
    else:
        prompts = random_prompts(args.tokenizer, count, args.prompt_words)
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return str(file)


def commands(args, models, prompts):
    shared = ["--policy", models["policy"], "--prompts", prompts, "--dtype", args.dtype, "--temperature", str(args.temperature)]
    shared += [word for name, _, _ in SIZES for word in (f"--{name}", str(getattr(args, name.replace("-", "_"))))]
    guides = ["--tuned", models["tuned"], "--untuned", models["untuned"]]
    threads = ["--threads", str(args.threads)] if args.threads else []
    lines = {
        "w2s": [sys.executable, str(HERE / "w2s_ppo.py"), "--w2s", args.w2s, *shared, *guides, "--value", args.value, "--device", args.device],
        "peer": [args.python, str(HERE / "ppo.py"), *shared, "--guide", models["tuned"], "--value", models["policy"], *threads],
    }
    if args.generate:
        sizes = {"prompts": args.steps * args.batch_size, "prompts-in-flight": min(args.batch_size, ROWS), "prompt-tokens": args.prompt_words,
                 "new-tokens": args.max_new_tokens}
        bench = [args.w2s, "bench", "generate", "--base", models["policy"], "--dtype", DTYPES[args.dtype], "--device", args.device, "--json"]
        lines["generate"] = bench + [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    return lines


def shown(figures):
    if "samples_per_s" not in figures:
        return f"{figures['sampled_tokens_per_s']:.0f} tokens a second"
    return f"{figures['samples_per_s']:.2f} rollouts a second"


def split(medians):
    """Shares of the three parts' time."""
    seconds = [medians[part] for part in PARTS]
    return {part.removesuffix("_seconds"): share / sum(seconds) for part, share in zip(PARTS, seconds)}


def main():
    args = parse()
    wanted = {"w2s": MEASURED, "peer": MEASURED, "generate": ["sampled_tokens_per_s"]}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        models = random_models(args, folder) if args.random_weights else {name: getattr(args, name) for name in MODELS}
        runs = take_turns(args, commands(args, models, write_prompts(args, folder)), wanted, shown)
    medians = {name: {key: median(done, key) for key in wanted[name]} for name, done in runs.items()}
    ratios = [ours["samples_per_s"] / theirs["samples_per_s"] for ours, theirs in zip(runs["w2s"], runs["peer"])]
    speed, memory = (medians["w2s"][key] / medians["peer"][key] for key in ("samples_per_s", "peak_rss_bytes"))
    splits = {name: split(medians[name]) for name in ("w2s", "peer")}
    report = {"ratio": speed, "ratio_of_each_turn": ratios, "memory_ratio": memory, "split": splits, "medians": medians}
    if args.generate:
        turns = zip(runs["w2s"], runs["generate"])
        report["rollout_ratio_of_each_turn"] = [ours["sampled_tokens_per_s"] / bench["sampled_tokens_per_s"] for ours, bench in turns]
        report["rollout_ratio"] = medians["w2s"]["sampled_tokens_per_s"] / medians["generate"]["sampled_tokens_per_s"]
    if args.json:
        print(json.dumps(report | {"runs": runs}))
        return
    print(f"medians of {args.times} | w2s | peer\n--- | ---: | ---:")
    for key in MEASURED:
        print(f"{key} | {medians['w2s'][key]:.4g} | {medians['peer'][key]:.4g}")
    for part in splits["w2s"]:
        print(f"share of {part} | {splits['w2s'][part]:.1%} | {splits['peer'][part]:.1%}")
    print(f"\nratio of the rollouts a second, w2s / peer: {speed:.2f} (turns: {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"ratio of the peak memory, w2s / peer: {memory:.2f}")
    if args.generate:
        turns = report["rollout_ratio_of_each_turn"]
        print(f"tokens a second: rollouts {medians['w2s']['sampled_tokens_per_s']:.0f}, `bench generate` "
              f"{medians['generate']['sampled_tokens_per_s']:.0f}, ratio {report['rollout_ratio']:.2f} (turns: {min(turns):.2f} to {max(turns):.2f})")


if __name__ == "__main__":
    main()
