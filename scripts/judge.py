#!/usr/bin/env python3
"""Run the tests that need Python: what others' programs make of our files.

    python3 scripts/judge.py light|heavy

A test says in its #[ignore] which set it needs (tests/it/judge.rs has the words). `light` runs those without torch, `heavy` all. The set's
packages, pinned in tests/judge/<set>.txt, are put into a virtual environment in .judge/<set>/, which is made anew only when the pins or the
Python change; a W2S_PYTHON that is set wins, and nothing is installed. Exits with 1 unless every test of the set ran and passed.

Only the standard library and pip are needed; pip's own configuration (index, proxy, certificates) applies.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from recent_pip import pip, recent_pip

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".judge"
PINS = ROOT / "tests" / "judge"
TESTS = ROOT / "tests" / "it"
OLDEST = {"light": (3, 10), "heavy": (3, 11)}
GIB_NEEDED = {"light": 1, "heavy": 8}
MARK = re.compile(r'#\[ignore = "needs Python( with torch)?(, [^":]*)?: make judge(-heavy)?"\]\s*fn (\w+)\(')
# What some tests read beside their packages, and what it names.
VARIABLES = {
    "W2S_SHARED_DATA": "a folder of real files (CONTRIBUTING.md)",
    "W2S_LLAMA_CPP": "a folder of llama.cpp's sources (CONTRIBUTING.md)",
    "W2S_ALPACA_EVAL": "the program of the alpaca_eval package (docs/alpaca_eval.md)",
    "W2S_INSPECT": "the program of the inspect-ai package (docs/alpaca_eval.md)",
}


def fail(what, hint):
    sys.exit(f"judge: {what}\n\nhint: {hint}")


def declared():
    """(test as cargo names it, set, the variables that it needs) of each test that needs Python."""
    found = []
    for file in sorted(TESTS.rglob("*.rs")):
        text = file.read_text()
        if file == TESTS / "judge.rs":
            continue
        marks = MARK.findall(text)
        if len(marks) != text.count("#[ignore") or any(bool(torch) != bool(heavy) for torch, _, heavy, _ in marks):
            fail(f"{file.relative_to(ROOT)} ignores a test without saying what it needs", "tests/it/judge.rs has the words that are read")
        if "W2S_PYTHON" in text:
            fail(f"{file.relative_to(ROOT)} reads W2S_PYTHON itself, so that a test may do nothing and pass", "use `judge::ask` of tests/it/judge.rs")
        modules = [part for part in file.relative_to(TESTS).with_suffix("").parts if part != "mod"]
        found += [("::".join([*modules, name]), "heavy" if torch else "light", re.findall(r"\w+_\w+", needs)) for torch, needs, _, name in marks]
    if not found:
        fail("no test says that it needs Python", "tests/it/judge.rs has the words that are read")
    return found


def environment(kind):
    """The Python of the set, made where it is not there yet."""
    if os.environ.get("W2S_PYTHON"):
        print(f"judge: W2S_PYTHON={os.environ['W2S_PYTHON']} is set and wins; nothing to install")
        return os.environ["W2S_PYTHON"]
    if sys.version_info < OLDEST[kind]:
        fail("this is Python {}.{}, and the {} set needs {}.{}".format(*sys.version_info[:2], kind, *OLDEST[kind]),
             "put a newer python3 first in PATH, or name a Python that has the packages by W2S_PYTHON")
    home, stamp = HOME / kind, HOME / f"{kind}.stamp"
    python = home / "bin" / "python"
    pins = [PINS / "light.txt"] + [PINS / "heavy.txt"] * (kind == "heavy")
    wanted = f"{sys.version}\n{sys.base_prefix}\n{home}\n" + "".join(file.read_text() for file in pins)
    if stamp.exists() and stamp.read_text() == wanted and python.exists():
        return str(python)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)
    HOME.mkdir(exist_ok=True)
    free = shutil.disk_usage(HOME).free
    if free < GIB_NEEDED[kind] << 30:
        fail(f"{free >> 20} MiB free in {HOME}, {GIB_NEEDED[kind] << 10} MiB needed", "free some space, or set W2S_PYTHON to an environment elsewhere")
    env = recent_pip(HOME)
    if env is None:
        fail("pip could not be fetched (see above)", "check the network or pip's index setting, then run the same command again")
    print(f"judge: installing tests/judge/{pins[-1].name} into {home.relative_to(ROOT)}", flush=True)
    # Without pip inside, for which Debian's python3 would need another package.
    if subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)]).returncode:
        fail(f"{sys.executable} -m venv made no virtual environment (see above)", "install Python's venv module (Debian: python3-venv)")
    into = ["--python", str(python)]
    arguments = [argument for file in pins for argument in ("-r", str(file))]
    # The pins are complete, so nothing is looked up that is not pinned; `check` holds them to it.
    if pip([*into, "install", "-q", "--progress-bar", "off", "--retries", "5", "--resume-retries", "20", "--no-deps", "--only-binary=:all:",
            *arguments], env) or pip([*into, "check"], env):
        fail("the packages could not be installed (see above)",
             "check the network or pip's index setting, then run the same command again; or name a Python that has them by W2S_PYTHON")
    partial = HOME / "stamp.partial"
    partial.write_text(wanted)
    partial.rename(stamp)
    return str(python)


def run(tests, python):
    """Runs the tests; the names of those that passed, and cargo's exit code."""
    command = ["cargo", "test", "--release", "--locked", "--test", "it", "--", "--ignored", "--exact", *tests]
    passed = set()
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ, W2S_PYTHON=python), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            passed.update(re.findall(r"^test ([\w:]+) \.\.\. ok$", line))
    return passed, process.returncode


def main():
    if sys.argv[1:] not in (["light"], ["heavy"]):
        sys.exit(__doc__)
    kind = sys.argv[1]
    tests, left_out = [], []
    for name, needs, variables in declared():
        unset = [variable for variable in variables if not os.environ.get(variable)]
        if needs == "heavy" and kind == "light":
            left_out.append(f"{name} needs torch: make judge-heavy")
        elif unset:
            left_out.append(f"{name} needs {unset[0]}, {VARIABLES[unset[0]]}")
        else:
            tests.append(name)
    passed, code = run(tests, environment(kind))
    for reason in left_out:
        print(f"judge: NOT RUN: {reason}")
    missing = [name for name in tests if name not in passed]
    if missing or code:
        sys.exit(f"judge: {len(missing)} of {len(tests)} tests of the {kind} set did not pass: {', '.join(missing)} (cargo ended with {code})")
    print(f"judge: all {len(tests)} tests of the {kind} set ran and passed")


if __name__ == "__main__":
    main()
