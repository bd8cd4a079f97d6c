"""A pip that resumes broken downloads, for libtorch.py and judge.py; the user's own is left alone, and its configuration (index, proxy,
certificates) applies.
"""
import os
import shutil
import subprocess
import sys

PIP = ("pip==25.3", "9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd")  # the first with --resume-retries is 25.1


def pip(args, env=None):
    return subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *args], env=env).returncode


def recent_pip(dest):
    """An environment in which `python3 -m pip` is that pip, kept in `dest`; None where it could not be fetched."""
    home = dest / "pip"
    if not (home / "pip").is_dir():
        lock = dest / "pip.lock"
        lock.write_text(f"{PIP[0]} --hash=sha256:{PIP[1]}\n")
        partial = dest / "pip.partial"
        shutil.rmtree(partial, ignore_errors=True)
        if pip(["install", "-q", "--target", str(partial), "--no-deps", "--require-hashes", "-r", str(lock)]):
            return None
        partial.rename(home)
    return dict(os.environ, PYTHONPATH=str(home.resolve()))
