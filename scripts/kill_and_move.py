#!/usr/bin/env python3
"""Kill a run at random points, move its project between kills, let it end, and compare it with a run that nobody touched.

    python3 scripts/kill_and_move.py RECIPE [--set KEY=VALUE]... [--with PATH]... [--kills 12] [--seed 1] [--keep DIR]

Two project folders are made, each with a copy of the recipe and of every PATH (what the recipe names by relative paths). In one the recipe
runs to its end. In the other it is started again and again, each time under another path, and ended by SIGKILL, SIGTERM or SIGINT after a
random time, until it has been ended so often or comes to its end. Held to account:

- the weights, texts, pairs and metrics of both are the same: files bit for bit, the numbers of steer lines but for their last bits (which
  prompts share a batch is another after a kill; `--set steer.prompts_in_flight=1` keeps those too), times left out;
- nothing is done anew, no task twice, no line of a journal twice, and of each training no step but the one under way.

For the last, the disturbed run keeps a checkpoint of every step (`--every N` for every N-th): that key changes no result, which is a part
of the proof. Only the standard library is needed. Exit status 0: all of it holds.
"""
import argparse
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What says when, from where or how long, and so differs between any two runs.
UNLIKE = {"manifest.json", "plan.json", "recipe.toml", "report.html", ".lock", "adapter_config.json", "curves.svg"}
TIMES = re.compile(r"seconds|(^|/)time|_per_second|peak_rss")
STARTED = re.compile(r" (\S+): (starting|continuing)$")
CONTINUED = re.compile(r" (\S+): continues after step (\d+) of ")
DONE = re.compile(r" (\S+): done in ")


def fail(what):
    sys.exit(f"kill_and_move: {what}")


def project(folder, args):
    """The project in `folder`."""
    folder.mkdir(parents=True)
    shutil.copy(args.recipe, folder)
    for path in args.also:
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / path.name)
    return folder


def command(args, sets=()):
    overrides = [word for key in [*args.set, *sets] for word in ("--set", key)]
    return [str(args.w2s), "run", args.recipe.name, "--out", "run", "--no-progress", *overrides]


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not TIMES.search(key)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def same(left, right):
    """Equal in all but the rounding of numbers."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-5, abs_tol=1e-5)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def whole_lines(path):
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def journals(run):
    return {path.relative_to(run): whole_lines(path) for top in ("steer", "preferences", "evaluate") for path in (run / top).rglob("*.jsonl")}


def steps(run):
    """The last step of each training that the metrics hold."""
    return {line["stage"]: line["step"] for line in map(json.loads, whole_lines(run / "metrics.jsonl").splitlines())}


def read(path):
    """What a file says, times left out; lines in an order that does not depend on when they were written."""
    if path.suffix == ".jsonl":
        lines = [without_times(json.loads(line)) for line in whole_lines(path).splitlines()]
        return sorted(lines, key=lambda line: (str(line.get("stage", "")), line.get("step", 0), str(line.get("id", ""))))
    if path.suffix == ".json" and path.stat().st_size < 1 << 20:
        return without_times(json.loads(path.read_text()))
    return path.read_bytes()


def files(run):
    found = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
    return {path for path in found if path.parts[0] not in ("state", "tensorboard") and path.name not in UNLIKE}


def compare(whole, moved):
    """How many files are the same to the bit, and how many but for last bits and times."""
    if files(whole) != files(moved):
        fail(f"only one of both runs has {sorted(map(str, files(whole) ^ files(moved)))}")
    exact = rounded = 0
    for name in sorted(files(whole)):
        left, right = read(whole / name), read(moved / name)
        if left == right:
            exact += 1
        elif name.parts[0] in ("steer", "evaluate") and same(left, right):
            rounded += 1
        else:
            fail(f"{name} differs: see {whole / name} and {moved / name}")
    return exact, rounded


def checked(log, before, before_lines, done, run, most):
    """Steps that were computed again, or an end with what was wrong."""
    again = 0
    for line in log.splitlines():
        if " WARN " in line and ("anew" in line or "replaced" in line or "left out" in line and "shard" in line):
            fail(f"something is done anew: {line}")
        if (found := STARTED.search(line)) and found[1] in done:
            fail(f"{found[1]} was done and is {found[2]}")
        if found := CONTINUED.search(line):
            lost = before.get(found[1], 0) - int(found[2])
            if lost > most:
                fail(f"{found[1]} had come to step {before[found[1]]}, and {line.strip()}")
            again += max(lost, 0)
        if found := DONE.search(line):
            if found[1] in done:
                fail(f"{found[1]} is done twice")
            done.add(found[1])
    for name, lines in before_lines.items():
        if not whole_lines(run / name).startswith(lines):
            fail(f"{name} was begun again")
    return again


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--with", dest="also", action="append", default=[], type=Path, metavar="PATH")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--w2s", type=Path, default=ROOT / "target/release/w2s")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work here, and leave both projects")
    args = parser.parse_args()
    args.w2s = args.w2s.resolve()
    scratch = args.keep or Path(tempfile.mkdtemp(prefix="kill-and-move-"))
    draw = random.Random(args.seed)

    whole = project(scratch / "whole", args)
    started = time.monotonic()
    if subprocess.run(command(args), cwd=whole, stdout=subprocess.DEVNULL, stderr=(whole / "log").open("w")).returncode:
        fail(f"the undisturbed run failed: see {whole / 'log'}")
    seconds = time.monotonic() - started
    trained = json.loads((whole / "run/plan.json").read_text())["training"]
    tables = [name for name in ("pretrain", "gold", "sft", "reward_model", "dpo", "ppo") if trained.get(name)]
    sets = [f"{table}.training.checkpoint_every={args.every}" for table in tables]
    print(f"undisturbed: {seconds:.1f} s", flush=True)

    place = project(scratch / "place-0", args)
    done, again, kills, attempt = set(), 0, 0, 0
    while True:
        attempt += 1
        run = place / "run"
        before, before_lines = steps(run), journals(run)
        log = place / f"log-{attempt}"
        child = subprocess.Popen(command(args, sets), cwd=place, stdout=subprocess.DEVNULL, stderr=log.open("w"))
        how, after = "ends", None
        try:
            # Twice the time between kills if it were spread evenly: some starts then come to nothing, some far.
            after = None if kills == args.kills else draw.uniform(0.05, 0.5 + 2 * seconds / args.kills)
            status = child.wait(after)
        except subprocess.TimeoutExpired:
            by = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            child.send_signal(by)
            status, how, kills = child.wait(), by.name, kills + 1
        again += checked(log.read_text(), before, before_lines, done, run, args.every)
        print(f"start {attempt}: {how} after {after or 0:.1f} s, {len(done)} tasks done", flush=True)
        if how == "ends":
            if status:
                fail(f"the run failed: see {log}")
            break
        there = scratch / f"place-{attempt}" / "deeper" / "project"
        there.parent.mkdir(parents=True)
        place = place.rename(there)

    exact, rounded = compare(whole / "run", place / "run")
    last = subprocess.run(command(args), cwd=place, capture_output=True, text=True, check=True).stderr
    if repeated := [line for line in last.splitlines() if STARTED.search(line)]:
        fail(f"the finished run does something again: {repeated}")
    print(f"{kills} kills, {len(done)} tasks each done once, {again} steps computed again")
    print(f"{exact} files are the same to the bit but for times, {rounded} but for last bits too")
    if not args.keep:
        shutil.rmtree(scratch)


main()
