"""Compares model.safetensors of folders two by two, as the `safetensors` package reads it, for tests/it/model_folders.rs; needs safetensors.

    python tests/judge/same_tensors.py OURS THEIRS [OURS THEIRS …]

Exits with 1 where names, shapes, kinds, bytes or the metadata differ. Nothing is converted, so that no kind is beyond it.
"""

import sys
from pathlib import Path

from safetensors import deserialize, safe_open


def read(folder):
    file = Path(folder) / "model.safetensors"
    with safe_open(file, "np") as opened:
        names, metadata = set(opened.keys()), opened.metadata()
    tensors = dict(deserialize(file.read_bytes()))
    assert set(tensors) == names, f"{file}: the package's two readers differ"
    return tensors, metadata


failed = False
for ours, theirs in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    (found, metadata), (expected, expected_metadata) = read(ours), read(theirs)
    differ = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
    print(f"{theirs}: {len(expected)} tensors, {len(differ)} differ: {sorted(differ)[:5]}, metadata {metadata}")
    failed |= bool(differ) or not expected or metadata != expected_metadata
sys.exit(failed)
