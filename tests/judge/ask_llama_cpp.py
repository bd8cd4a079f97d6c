"""Greedy answers of llama.cpp's server to GPT-2 folders, for tests/it/llama_cpp.rs; needs xllamacpp, openai and what to_gguf.py needs.

    python tests/judge/ask_llama_cpp.py REQUEST ANSWER

REQUEST: {"folders": [path, …], "prompts": [{"text", "ids"}, …], "max_new_tokens"}. ANSWER: for each folder and prompt the ids that the server
makes of the text, its answer to the ids by its own route, and its answer to the text by the `openai` client.
"""

import json
import sys
import tempfile
from pathlib import Path

import openai
from llama_cpp_server import ask, serve
from to_gguf import convert


def answers(address, prompts, max_new_tokens):
    client = openai.OpenAI(base_url=address + "/v1", api_key="none", timeout=60, max_retries=0)
    for prompt in prompts:
        native = ask(address, "/completion", {
            "prompt": prompt["ids"], "n_predict": max_new_tokens, "temperature": 0, "top_k": 1, "return_tokens": True, "cache_prompt": False,
        })
        completion = client.completions.create(model="w2s", prompt=prompt["text"], max_tokens=max_new_tokens, temperature=0)
        yield {
            "prompt_ids": ask(address, "/tokenize", {"content": prompt["text"], "parse_special": True})["tokens"],
            "ids": native["tokens"],
            "text": native["content"],
            "ended": native["stop_type"] == "eos",
            "openai_text": completion.choices[0].text,
            "openai_ended": completion.choices[0].finish_reason == "stop",
            "openai_prompt_tokens": completion.usage.prompt_tokens,
        }


request = json.loads(Path(sys.argv[1]).read_text())
found = []
for folder in request["folders"]:
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        convert(Path(folder), Path(file.name))
        server = serve(file.name)
        found.append(list(answers(server.listening_address, request["prompts"], request["max_new_tokens"])))
        del server
Path(sys.argv[2]).write_text(json.dumps(found))
