"""Cost of steering against each of its settings: runs `w2s bench steer` with random weights, one setting changed at a time, and prints a table.

    python3 benches/grid.py --w2s target/release/w2s [--dtype bf16] [--base DIR --guide DIR] [-- further flags of w2s bench]

Needs nothing but Python. Every row is one run; what is not varied is W, K, L = 4, 4, 5, 16-token prompts, 50 new tokens and 8 prompts in flight.
"""

import argparse
import json
import subprocess
from pathlib import Path

SHAPES = Path(__file__).resolve().parent / "shapes"
USUAL = {"beam-width": 4, "successors": 4, "chunk-len": 5, "prompt-tokens": 16, "new-tokens": 50, "prompts": 8, "prompts-in-flight": 8}
GRID = [
    ("W x K", [{"beam-width": w, "successors": k} for w, k in [(1, 1), (2, 2), (4, 4), (8, 8)]]),
    ("L", [{"chunk-len": length} for length in (1, 2, 5, 10, 25, 50)]),
    ("new tokens", [{"new-tokens": tokens} for tokens in (50, 100, 200, 500)]),
    ("prompt tokens", [{"prompt-tokens": tokens} for tokens in (16, 128, 512)]),
    ("in flight", [{"prompts-in-flight": count, "prompts": max(8, count)} for count in (1, 2, 4, 8, 16, 32, 64)]),
]


def measure(w2s, base, guide, dtype, settings, further):
    command = [w2s, "bench", "steer", "--base", base, "--tuned", guide, "--untuned", guide, "--random-weights", "--dtype", dtype, "--json"]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))] + further
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--w2s", default="target/release/w2s")
    parser.add_argument("--base", default=str(SHAPES / "gpt2"))
    parser.add_argument("--guide", default=str(SHAPES / "gpt2"))
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--only", action="append", choices=[name for name, _ in GRID], help="may be repeated")
    parser.add_argument("further", nargs="*")
    arguments = parser.parse_args()
    print("| varied | value | s a prompt | ms a sampled token | limit_fraction | peak, GB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, variations in GRID:
        if arguments.only and name not in arguments.only:
            continue
        for changed in variations:
            settings = {**USUAL, **changed}
            report = measure(arguments.w2s, arguments.base, arguments.guide, arguments.dtype, settings, arguments.further)
            value = " x ".join(str(value) for key, value in changed.items() if key != "prompts")
            token = 1000 / report["sampled_tokens_per_s"]
            print(
                f"| {name} | {value} | {report['seconds_per_prompt']:.3f} | {token:.2f} | {report['limit_fraction']:.2f} "
                f"| {report['peak_rss_bytes'] / 1e9:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
