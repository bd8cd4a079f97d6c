"""Renders chats by the chat templates of others as transformers does, for tests/it/chat.rs; needs transformers.

    python tests/judge/templates.py OUT FOLDER…

Of each FOLDER every `.jinja` file and every template in a tokenizer_config.json below it. OUT: a list of {name, source, special, cases: [{messages,
add_generation_prompt, rendered or error}]}.
"""

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
SYSTEM = {"role": "system", "content": " You are brief.\n"}
FIRST = {"role": "user", "content": "Héllo  <b>\"there\"</b>, what's 2 % 3?\n"}
ANSWER = {"role": "assistant", "content": " It is 2.\n\nAs said. "}
THOUGHT = {"role": "assistant", "content": "<think>\nA remainder.\n</think>\n\n It is 2."}
SECOND = {"role": "user", "content": "And {{ 4 }}?"}
CHATS = {
    "one turn": [FIRST],
    "system": [SYSTEM, FIRST],
    "two turns": [FIRST, ANSWER, SECOND],
    "system, two turns": [SYSTEM, FIRST, THOUGHT, SECOND],
    "answered": [SYSTEM, FIRST, ANSWER],
    "thought": [FIRST, THOUGHT],
    "an empty turn": [SYSTEM, {"role": "user", "content": ""}],
    "two of a role": [FIRST, SECOND],
}


def templates(folder):
    for file in sorted(folder.rglob("*.jinja")):
        yield str(file.relative_to(folder)), file.read_text()
    for file in sorted(folder.rglob("tokenizer_config.json")):
        found = json.loads(file.read_text()).get("chat_template") or []
        for each in [{"name": "default", "template": found}] if isinstance(found, str) else found:
            yield f"{file.parent.name} {each['name']}", each["template"]


def cases(source):
    for name, messages in CHATS.items():
        for ends in (True, False):
            case = {"name": name, "messages": messages, "add_generation_prompt": ends}
            try:
                rendered, _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=ends, **SPECIAL)
                yield case | {"rendered": rendered[0]}
            except Exception as error:
                yield case | {"error": f"{type(error).__name__}: {error}"}


found = [{"name": name, "source": source, "special": SPECIAL, "cases": list(cases(source))}
         for folder in map(Path, sys.argv[2:]) for name, source in templates(folder)]
Path(sys.argv[1]).write_text(json.dumps(found))
