"""PPO with w2s, timed: one training of a temporary recipe's `[ppo]`, and from its journals the figures that ppo.py prints of TRL's.

    python benches/peers/w2s_ppo.py --w2s target/release/w2s --policy DIR --tuned DIR --untuned DIR --prompts FILE

The guide pair's reward is paid once, at the end of the response, as TRL pays its own. What no option names has the recipe's default. The
reward's time is the two guides'; values and the log-probabilities of policy and reference are in the update's. Loading and the first step
are not counted. Prints one JSON object.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import DTYPES

# The options of ppo.py, with its defaults.
SIZES = [
    ("steps", 5, "timed batches of rollouts"),
    ("batch-size", 64, "rollouts of one step"),
    ("minibatches", 4, "updates of one epoch"),
    ("epochs", 4, "passes over one batch of rollouts"),
    ("max-new-tokens", 53, "of one rollout"),
]

RECIPE = """
[run]
name = "ppo"
device = {device}
dtype = {dtype}

[data]
source = {data}
train = 0
validation = 0
test = 0
prompt = {{ min_words = {words}, max_words = {words} }}

[models]
policy = {{ id = {policy}, bos = false }}
tuned = {{ id = {tuned}, bos = false }}
untuned = {{ id = {untuned}, bos = false }}

[ppo]
policy = "policy"
tuned = "tuned"
untuned = "untuned"
chunk_len = "inf"
value = {value}
prompts = {prompts}
max_new_tokens = {max_new_tokens}
temperature = {temperature}
ppo_epochs = {epochs}
minibatch_size = {minibatch_size}

[ppo.training]
steps = {steps}
batch_size = {batch_size}
"""


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--w2s", required=True, metavar="PATH", help="our program")
    for name in ("policy", "tuned", "untuned"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR", help="a model folder")
    parser.add_argument("--prompts", required=True, metavar="FILE", help=".jsonl or .jsonl.gz with prompt, all of the same number of words")
    parser.add_argument("--value", choices=["model", "head"], default="model", help="model: as TRL, a second model that is trained whole")
    for name, default, meaning in SIZES:
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.batch_size % args.minibatches:
        parser.error(f"`minibatches` must divide the batch of {args.batch_size}, given {args.minibatches}")
    return args


def read_prompts(path, count):
    """The first `count` prompts of a file, from its start again where it has fewer, as ppo.py takes them."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8", newline="\n")
    with opened as lines:
        prompts = [json.loads(line)["prompt"] for line in lines]
    return [prompts[i % len(prompts)] for i in range(count)]


def write_data(folder, prompts):
    """The three splits as the recipe reads them: a prompt is all of a text but its last word. -> the words of a prompt"""
    words = {len(prompt.split()) for prompt in prompts}
    if len(words) != 1:
        sys.exit(f"prompts must all have the same number of words, found {sorted(words)}")
    folder.mkdir()
    for split, chosen in (("train", prompts), ("validation", prompts[:1]), ("test", prompts[:1])):
        rows = [json.dumps({"text": f"{prompt} end", "label": number % 2}) for number, prompt in enumerate(chosen)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return words.pop()


def write_recipe(args, folder):
    """recipe.toml and its data below `folder`, with one step more than are timed; every prompt is read once."""
    prompts = read_prompts(args.prompts, (args.steps + 1) * args.batch_size)
    words = write_data(folder / "data", prompts)
    # A JSON string without escapes of its own is a TOML string.
    quoted = {name: json.dumps(str(Path(getattr(args, name)).resolve()), ensure_ascii=False) for name in ("policy", "tuned", "untuned")}
    file = folder / "recipe.toml"
    file.write_text(RECIPE.format(
        device=json.dumps(args.device), dtype=json.dumps(DTYPES[args.dtype]), data=json.dumps("data"), words=words, value=json.dumps(args.value),
        prompts=len(prompts), max_new_tokens=args.max_new_tokens, temperature=args.temperature, epochs=args.epochs,
        minibatch_size=args.batch_size // args.minibatches, steps=args.steps + 1, batch_size=args.batch_size, **quoted,
    ), encoding="utf-8")
    return file


def figures(run):
    """Of the journals of a run: medians of its steps after the first, each from the end of the step before to its own."""
    lines = lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    steps = lines(run / "ppo/policy/L-inf/seed-1/steps.jsonl")[1:]
    metrics = [line for line in lines(run / "metrics.jsonl") if "seconds/update" in line]
    walls = [line["time"] - before["time"] for before, line in zip(metrics, metrics[1:])]
    medians = {f"{part}_seconds": statistics.median(step["seconds"][part] for step in steps) for part in ("rollout", "reward", "update")}
    seconds, tokens = statistics.median(walls), statistics.median(step["tokens"] * step["rollouts"] for step in steps)
    return {
        "samples_per_s": steps[0]["rollouts"] / seconds, "seconds_per_step": seconds, **medians, "response_tokens_per_step": tokens,
        "sampled_tokens_per_s": tokens / medians["rollout_seconds"], "peak_rss_bytes": max(line["peak_rss_bytes"] for line in metrics),
    }


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        command = [args.w2s, "run", str(write_recipe(args, folder)), "--only", "ppo", "--no-progress", "--out", str(folder / "run")]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(done.returncode)
        report = figures(folder / "run")
    what = {"what": "ppo", "dtype": args.dtype, "value": args.value, "steps": args.steps, "batch_size": args.batch_size}
    print(json.dumps(what | {"updates_per_step": args.epochs * args.minibatches} | report))


if __name__ == "__main__":
    main()
