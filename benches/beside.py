"""Cost of other work on the machine: runs `w2s bench steer` of the demo's small models alone and beside one busy process on each core, in turns.

    python3 benches/beside.py [--w2s target/release/w2s]… [--with NAME=VALUE,…]… [--times 5] [--shape gpt2] [-- further flags of w2s bench]

Needs nothing but Python. `--w2s` and `--with` may be repeated: every program runs with every set of environment variables (`--with ""` adds none),
and each turn runs all of them, so that what else happens on the machine meets all alike. Prints medians and what the busy processes cost.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

SHAPES = Path(__file__).resolve().parent / "shapes"
# The sizes of recipes/demo.toml.
TINY = {"model_type": "gpt2", "vocab_size": 2048, "n_positions": 128, "bos_token_id": 0, "eos_token_id": 0}
BASE = TINY | {"n_layer": 3, "n_head": 5, "n_embd": 160}
GUIDE = TINY | {"n_layer": 2, "n_head": 4, "n_embd": 128}
OURS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def busy(cores):
    processes = [subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) for _ in range(cores)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(program, variables, base, guide, further):
    command = [program, "bench", "steer", "--random-weights", "--base", base, "--tuned", guide, "--untuned", guide, "--json", *further]
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    environment |= dict(pair.split("=", 1) for pair in variables.split(",") if pair)
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(found.stdout)["seconds_per_prompt"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--w2s", action="append", help="may be repeated")
    parser.add_argument("--with", action="append", dest="variables", metavar="NAME=VALUE,…", help="may be repeated")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--shape", help="a folder of benches/shapes for all three models, instead of the demo's sizes")
    parser.add_argument("further", nargs="*")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        base, guide = Path(folder, "base"), Path(folder, "guide")
        for place, config in ((base, BASE), (guide, GUIDE)):
            place.mkdir()
            (place / "config.json").write_text(json.dumps(config))
        if arguments.shape:
            base = guide = SHAPES / arguments.shape
        cases = [(program, variables) for program in arguments.w2s or ["target/release/w2s"] for variables in arguments.variables or [""]]
        alone, beside = ({case: [] for case in cases} for _ in range(2))
        for _ in range(arguments.times):
            for case in cases:
                alone[case].append(measure(*case, base, guide, arguments.further))
            with busy(cores):
                for case in cases:
                    beside[case].append(measure(*case, base, guide, arguments.further))
    print(f"{arguments.times} turns, {cores} cores, seconds a prompt, medians (least to most)\n")
    print("| program | environment | alone | beside | times |")
    print("| --- | --- | ---: | ---: | ---: |")
    for case in cases:
        told = [f"{statistics.median(times):.4f} ({min(times):.4f} to {max(times):.4f})" for times in (alone[case], beside[case])]
        ratio = statistics.median(beside[case]) / statistics.median(alone[case])
        print(f"| {case[0]} | {case[1] or 'as it is'} | {told[0]} | {told[1]} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
