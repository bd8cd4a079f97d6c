"""A model folder served by `transformers serve` until standard input ends, for tests/it/remote; needs transformers[serving] and torch.

    python tests/judge/serve_transformers.py FOLDER

The first line printed is the address of its OpenAI routes.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request

os.environ["NO_PROXY"] = "127.0.0.1,localhost"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(server, address):
    deadline = time.time() + 120
    while time.time() < deadline and server.poll() is None:
        try:
            return urllib.request.urlopen(address + "/health", timeout=5)
        except OSError:
            time.sleep(0.2)
    sys.exit("transformers serve did not start")


port = free_port()
code = "from transformers.cli.transformers import main; main()"
words = ["serve", sys.argv[1], "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
server = subprocess.Popen([sys.executable, "-c", code, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
try:
    wait(server, f"http://127.0.0.1:{port}")
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    sys.stdin.read()
finally:
    server.terminate()
    server.wait()
