"""A GPT-2 folder served by llama.cpp with eight slots until standard input ends, for tests/it/remote; needs xllamacpp and what to_gguf.py needs.

    python tests/judge/serve_llama_cpp.py FOLDER

The first line printed is the address of its OpenAI routes.
"""

import json
import sys
import tempfile
from pathlib import Path

from llama_cpp_server import serve
from to_gguf import convert

SLOTS = 8

folder = Path(sys.argv[1])
with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
    convert(folder, Path(file.name))
    context = json.loads((folder / "config.json").read_text())["n_positions"]
    server = serve(file.name, slots=SLOTS, context=SLOTS * context)
    print(server.listening_address + "/v1", flush=True)
    sys.stdin.read()
