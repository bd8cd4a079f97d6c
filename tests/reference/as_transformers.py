"""What transformers makes of texts and chats, for tests/it/real_tokenizers.rs; needs transformers.

    python tests/reference/as_transformers.py REQUEST ANSWER

REQUEST: {"folders": {name: path}, "texts": […], "chats": [[{"role", "content"}, …], …], "templates": {name: source or null}}, where a
template of null is the folder's own. ANSWER: for each name its sizes, special ids, and for each text and chat what came of it.
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

request = json.loads(Path(sys.argv[1]).read_text())


def chat(tokenizer, template, messages, flag):
    try:
        text = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=flag, tokenize=False)
    except Exception as error:
        return {"raises": str(error)}
    return {"text": text, "ids": tokenizer(text, add_special_tokens=False)["input_ids"]}


answer = {}
for name, folder in request["folders"].items():
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = []
    for text in request["texts"]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        with_special = tokenizer.encode(text)
        cut = ids[: len(ids) * 2 // 3]
        decoded = [tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False) for some in (ids, with_special, cut)]
        texts.append({"ids": ids, "with_special": with_special, "decoded": decoded})
    answer[name] = {
        "size": len(tokenizer),
        "largest": max(tokenizer.get_vocab().values()),
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "texts": texts,
    }
    if name in request["templates"]:
        template = request["templates"][name]
        answer[name]["chats"] = [[chat(tokenizer, template, messages, flag) for flag in (False, True)] for messages in request["chats"]]
Path(sys.argv[2]).write_text(json.dumps(answer))
