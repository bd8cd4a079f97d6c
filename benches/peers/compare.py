"""Runs `w2s bench steer` and the transformers peer in turns on the same shapes; prints medians and their ratio.

    python benches/peers/compare.py --w2s target/release/w2s --base DIR --tuned DIR --untuned DIR --random-weights --times 5

In turns, so that a machine that grows slower or faster does so for both. Table on stdout (`--json`: all figures of every run),
progress on stderr. Needs torch and transformers only in the Python that runs the peer (`--python`).
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

PEER = Path(__file__).with_name("steer.py")
DTYPES = {"bf16": "bfloat16", "f32": "float32"}  # the peer's word, ours
SHAPES = {"prompt-tokens": 16, "new-tokens": 50, "beam-width": 4, "successors": 4, "chunk-len": 5}
MEASURED = ["seconds_per_prompt", "sampled_tokens_per_s", "guide_tokens_per_s", "peak_rss_bytes"]
LIMITS = ["limit_seconds_per_prompt", "limit_fraction"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--w2s", required=True, metavar="PATH", help="our program")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="a Python with torch and transformers")
    parser.add_argument("--times", type=int, default=3, help="runs of each")
    for name in ("base", "tuned", "untuned"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR")
    for name, default in SHAPES.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--prompts", type=int, default=16, help="of our runs")
    parser.add_argument("--prompts-in-flight", type=int, default=8, help="of our runs")
    parser.add_argument("--peer-prompts", type=int, default=2, help="of the peer's runs, one after the other")
    parser.add_argument("--threads", type=int, help="of both, by OMP_NUM_THREADS; default: what each chooses")
    parser.add_argument("--w2s-args", default="", help="more arguments for ours, as one word: --w2s-args='--x 1'")
    parser.add_argument("--peer-args", default="", help="more arguments for the peer: --peer-args='--head response'")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.times < 1:
        parser.error(f"`times` must be at least 1, given {args.times}")
    return args


def commands(args):
    """The two command lines, {name: words}."""
    shared = [word for name in ("base", "tuned", "untuned") for word in (f"--{name}", getattr(args, name))]
    shared += [word for name in SHAPES for word in (f"--{name}", str(getattr(args, name.replace("-", "_"))))]
    shared += ["--random-weights"] * args.random_weights + ["--json"]
    ours = ["--prompts", str(args.prompts), "--prompts-in-flight", str(args.prompts_in_flight), "--dtype", DTYPES[args.dtype]]
    peer = ["--prompts", str(args.peer_prompts), "--dtype", args.dtype]
    peer += ["--threads", str(args.threads)] if args.threads else []
    return {
        "w2s": [args.w2s, "bench", "steer", *shared, *ours, *shlex.split(args.w2s_args)],
        "peer": [args.python, str(PEER), *shared, *peer, *shlex.split(args.peer_args)],
    }


def run(name, command, wanted, environment):
    """The JSON object that `command` prints; its stderr passes through."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    except OSError as error:
        sys.exit(f"{name}: {error}")
    if done.returncode:
        sys.exit(f"{name}: exit code {done.returncode} of `{shlex.join(command)}`")
    try:
        figures = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        sys.exit(f"{name}: stdout is no JSON ({error}): {done.stdout[:200]!r}")
    missing = [key for key in wanted if not isinstance(figures, dict) or not isinstance(figures.get(key), (int, float))]
    if missing:
        sys.exit(f"{name}: no number for {', '.join(f'`{key}`' for key in missing)} in {done.stdout[:200]!r}")
    return figures


def take_turns(args, lines, wanted, shown):
    """The figures of every run, {name: list}: each command once a turn. `wanted` names the numbers each must give, {name: keys}; `shown` puts one
    run's figures in words."""
    environment = dict(os.environ, **({"OMP_NUM_THREADS": str(args.threads)} if args.threads else {}))
    for name, command in lines.items():
        print(f"{name}: {shlex.join(command)}", file=sys.stderr)
    runs = {name: [] for name in lines}
    for turn in range(args.times):
        for name, command in lines.items():
            runs[name].append(run(name, command, wanted[name], environment))
            print(f"{turn + 1}/{args.times} {name}: {shown(runs[name][-1])}", file=sys.stderr)
    return runs


def median(runs, key):
    return statistics.median(figures[key] for figures in runs)


def main():
    args = parse()
    lines = commands(args)
    wanted = {"w2s": MEASURED + LIMITS, "peer": MEASURED}
    runs = take_turns(args, lines, wanted, lambda figures: f"{figures['seconds_per_prompt']:.3f} s a prompt")
    medians = {name: {key: median(done, key) for key in MEASURED} for name, done in runs.items()}
    medians["w2s"].update({key: median(runs["w2s"], key) for key in LIMITS})
    ratios = [theirs["seconds_per_prompt"] / ours["seconds_per_prompt"] for ours, theirs in zip(runs["w2s"], runs["peer"])]
    ratio = medians["peer"]["seconds_per_prompt"] / medians["w2s"]["seconds_per_prompt"]
    if args.json:
        print(json.dumps({"ratio": ratio, "ratio_of_each_turn": ratios, "medians": medians, "commands": lines, "runs": runs}))
        return
    print(f"medians of {args.times} | w2s | peer\n--- | ---: | ---:")
    for key in MEASURED + LIMITS:
        print(f"{key} | {medians['w2s'][key]:.4g} | " + (f"{medians['peer'][key]:.4g}" if key in MEASURED else ""))
    print(f"\nratio of the seconds, peer / w2s: {ratio:.2f} (turns: {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
