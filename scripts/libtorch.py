#!/usr/bin/env python3
"""Fetch the libtorch that tch 0.24 needs (2.11.0) into .libtorch/, from the `torch` wheel and pip alone.

    python3 scripts/libtorch.py [--cuda] [--dest .libtorch]

CPU install (default): three pinned wheels, verified by SHA-256, from which only the headers and six shared libraries are
unpacked (about 500 MB). With an NVIDIA driver present, `--cuda` or `CUDA=1`, the whole wheel with its CUDA libraries is
installed instead. Done work is never repeated: wheels that arrived stay in .libtorch/wheels until the unpacking is over, a broken
transfer is resumed by pip, and a stamp written last tells a finished install from a half one.

Only the standard library and pip are needed; pip's own configuration (index, proxy, certificates) applies.
"""
import argparse
import hashlib
import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path

from recent_pip import pip, recent_pip

TORCH = "2.11.0"
# The wheel's Python tag does not matter (no Python of it is used), so one wheel with one checksum serves every Python.
TAGS = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none",
        "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_25_x86_64", "--platform", "manylinux_2_17_x86_64",
        "--platform", "manylinux2014_x86_64", "--platform", "any"]
CPU_WHEELS = {
    f"torch=={TORCH}": "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
    "nvidia-cuda-cupti==13.0.85": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
}
CPU_LIBRARIES = {"libc10.so", "libtorch_cpu.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13"}


def fail(what, hint):
    sys.exit(f"libtorch: {what}\n\nhint: {hint}")


def ready_pip(dest):
    env = recent_pip(dest)
    if env is None:
        fail("pip could not be fetched (see above)", "check the network or pip's index setting, then run the same command again; "
             f"or set LIBTORCH to an unpacked libtorch {TORCH}")
    return env


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch(dest):
    """Download the CPU wheels that are not here yet; pip verifies each against its hash and resumes broken transfers."""
    wheels = dest / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    have = {sha256(path) for path in wheels.glob("*.whl")}
    for requirement, digest in CPU_WHEELS.items():
        if digest in have:
            continue
        lock = dest / "wheel.lock"
        lock.write_text(f"{requirement} --hash=sha256:{digest}\n")
        print(f"libtorch: fetching {requirement}", flush=True)
        code = pip(["download", "-q", "--progress-bar", "off", "--retries", "5", "--resume-retries", "20", "--no-deps",
                    "--only-binary=:all:", "--require-hashes", *TAGS, "-d", str(wheels), "-r", str(lock)], ready_pip(dest))
        if code:
            fail(f"{requirement} could not be fetched (see above)",
                 "check the network or pip's index setting, then run the same command again: wheels that arrived are kept; "
                 f"or set LIBTORCH to an unpacked libtorch {TORCH}")
    return [path for path in wheels.glob("*.whl") if sha256(path) in CPU_WHEELS.values()]


def install_cpu(dest):
    lib, include = dest / "lib", dest / "include"
    for wheel in fetch(dest):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = member.rsplit("/", 1)[-1]
                if name in CPU_LIBRARIES:
                    target = lib / name
                elif member.startswith("torch/include/") and name:
                    target = include / member[len("torch/include/"):]
                else:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    missing = CPU_LIBRARIES - {path.name for path in lib.iterdir()}
    if missing:
        fail(f"the wheels lack {', '.join(sorted(missing))}", "delete .libtorch and run the same command again")
    (lib / "libtorch.so").unlink(missing_ok=True)
    (lib / "libtorch.so").symlink_to("libtorch_cpu.so")


def install_cuda(dest):
    """The whole wheel and the CUDA libraries it names, in the layout their run paths expect; lib/ and include/ are links into it."""
    site = dest / "site"
    print(f"libtorch: fetching torch=={TORCH} with its CUDA libraries (about 3 GB)", flush=True)
    if pip(["install", "-q", "--progress-bar", "off", "--resume-retries", "20", "--target", str(site), "--upgrade", f"torch=={TORCH}"],
           ready_pip(dest)):
        fail("the CUDA build could not be fetched (see above)", "run the same command again, or CUDA=0 for the CPU build")
    for name in ("lib", "include"):
        link = dest / name
        shutil.rmtree(link, ignore_errors=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("site") / "torch" / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dest", type=Path, default=Path(".libtorch"))
    driver = Path("/proc/driver/nvidia/version").exists()
    parser.add_argument("--cuda", action="store_true", default=os.environ.get("CUDA", "1" if driver else "0") == "1")
    options = parser.parse_args()
    if os.environ.get("LIBTORCH") and Path(os.environ["LIBTORCH"]).resolve() != options.dest.resolve():
        print(f"libtorch: LIBTORCH={os.environ['LIBTORCH']} is set and wins; nothing to fetch")
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        fail(f"no pinned wheel for {platform.system()} {platform.machine()}", f"set LIBTORCH to an unpacked libtorch {TORCH}")
    dest = options.dest
    dest.mkdir(parents=True, exist_ok=True)
    stamp, wanted = dest / "stamp", f"{TORCH} {'cuda' if options.cuda else 'cpu'}\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    free = shutil.disk_usage(dest).free
    need = (9 if options.cuda else 2) << 30
    if free < need:
        fail(f"{free >> 20} MiB free in {dest}, {need >> 20} MiB needed", "free some space, or set LIBTORCH to an install elsewhere")
    (install_cuda if options.cuda else install_cpu)(dest)
    shutil.rmtree(dest / "wheels", ignore_errors=True)
    partial = dest / "stamp.partial"
    partial.write_text(wanted)
    partial.rename(stamp)
    print(f"libtorch: {wanted.strip()} is ready in {dest}")


if __name__ == "__main__":
    main()
