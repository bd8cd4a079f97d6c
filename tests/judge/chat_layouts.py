"""Writes preference sets in the layouts of TRL and of much used sets, and says what TRL makes of each.

    python tests/judge/chat_layouts.py FOLDER

FOLDER gets a file for each layout and expected.json: for each file its pairs as TRL's trainers read them (a prompt that is a text or the turns
of a chat, and two responses), or words of the one error.
"""
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import datasets
from trl.data_utils import maybe_convert_to_chatml, maybe_extract_prompt

FOLDER = Path(sys.argv[1])
expected = {}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def response(value):
    """The text of a response that TRL has as a text or as one turn."""
    if isinstance(value, str):
        return value
    assert len(value) == 1 and value[0]["role"] == "assistant", value
    return value[0]["content"]


def turns(value):
    return value if isinstance(value, str) else [{"role": turn["role"], "content": turn["content"]} for turn in value]


def pair(row):
    row = maybe_extract_prompt(maybe_convert_to_chatml(dict(row)))
    return {"prompt": turns(row["prompt"]), "chosen": response(row["chosen"]), "rejected": response(row["rejected"])}


def write(name, rows):
    table = datasets.Dataset.from_list(rows)
    {"jsonl": table.to_json, "parquet": table.to_parquet}[name.split(".")[-1]](FOLDER / name)
    return table


def layout(name, row):
    """Rows 0 to 5 as `row` makes them of their number, in JSON lines and in Parquet."""
    for kind in ["jsonl", "parquet"]:
        file = f"{name}.{kind}"
        table = write(file, [row(n) for n in range(6)])
        expected[file] = [pair(read) for read in table]


def refused(name, row, words):
    write(f"{name}.jsonl", [row(n) for n in range(6)])
    expected[f"{name}.jsonl"] = words


layout("standard", lambda n: {"prompt": f"The sky in {n}", "chosen": " is blue.", "rejected": " is green."})
layout("standard-implicit", lambda n: {"chosen": f"The sky in {n} is blue.", "rejected": f"The sky in {n} is green."})
layout("hh-rlhf", lambda n: {"chosen": f"\n\nHuman: q{n}\n\nAssistant: Yes.", "rejected": f"\n\nHuman: q{n}\n\nAssistant: No."})
layout(
    "conversational",
    lambda n: {"prompt": [user(f"q{n}")], "chosen": [assistant("yes")], "rejected": [assistant("no")]},
)
layout(
    "conversational-implicit",
    lambda n: {"chosen": [user(f"q{n}"), assistant("yes")], "rejected": [user(f"q{n}"), assistant("no")]},
)
layout(
    "ultrafeedback",
    lambda n: {
        "prompt": f"q{n}",
        "prompt_id": str(n),
        "chosen": [user(f"q{n}"), assistant("yes")],
        "rejected": [user(f"q{n}"), assistant("no")],
        "messages": [user(f"q{n}"), assistant("yes")],
        "score_chosen": 8.5,
        "score_rejected": 7.5,
    },
)
layout(
    "system",
    lambda n: {"chosen": [system("be"), user(f"q{n}"), assistant("yes")], "rejected": [system("be"), user(f"q{n}"), assistant("no")]},
)
layout(
    "several-turns",
    lambda n: {
        "prompt": [user(f"q{n}"), assistant("a"), user("and?")],
        "chosen": [assistant("yes")],
        "rejected": [assistant("no")],
        "source": "synthetic",
    },
)
layout(
    "several-turns-implicit",
    lambda n: {
        "chosen": [user(f"q{n}"), assistant("a"), user("and?"), assistant("yes")],
        "rejected": [user(f"q{n}"), assistant("a"), user("and?"), assistant("no")],
    },
)
layout(
    "more-keys",
    lambda n: {
        "chosen": [user(f"q{n}") | {"name": None, "weight": 1.0}, assistant("yes") | {"name": "m", "weight": 0.0}],
        "rejected": [user(f"q{n}") | {"name": None, "weight": 1.0}, assistant("no") | {"name": "m", "weight": 0.0}],
        "metadata": {"turns": 1, "tags": ["a", "b"]},
    },
)


def shared(role, text):
    return {"from": role, "value": text}


# TRL converts such turns in columns called `conversations` alone; read as if the roles were its own.
for kind in ["jsonl", "parquet"]:
    write(
        f"sharegpt.{kind}",
        [
            {"chosen": [shared("human", f"q{n}"), shared("gpt", "yes")], "rejected": [shared("human", f"q{n}"), shared("gpt", "no")]}
            for n in range(6)
        ],
    )
    expected[f"sharegpt.{kind}"] = [{"prompt": [user(f"q{n}")], "chosen": "yes", "rejected": "no"} for n in range(6)]

chats = [{"chosen": [user(f"q{n}"), assistant("yes, I do")], "rejected": [user(f"q{n}"), assistant("no")]} for n in range(6)]
flat = datasets.Dataset.from_list([{key: json.dumps(value) for key, value in row.items()} for row in chats])
flat.to_csv(FOLDER / "json-in-csv.csv")
expected["json-in-csv.csv"] = [pair(row) for row in chats]
datasets.Dataset.from_list([{key: str(value) for key, value in row.items()} for row in chats]).to_csv(FOLDER / "python-in-csv.csv")
expected["python-in-csv.csv"] = "turns as Python prints them; expected JSON"

refused("unpaired", lambda n: {"prompt": f"q{n}", "completion": "yes", "label": True}, "no column `chosen`; found `prompt`, `completion`, `label`")
refused("messages", lambda n: {"messages": [user(f"q{n}"), assistant("yes")]}, "no column `chosen`; found `messages`")
refused(
    "questions",
    lambda n: {"system": "be", "question": f"q{n}", "chosen": "It is so.", "rejected": "It is not."},
    'hint: set `preferences.columns.prompt = "question"`',
)
refused("no-prompt", lambda n: {"chosen": f"yes {n}", "rejected": f"no {n}"}, "do not begin with the same words")
refused("one-side", lambda n: {"prompt": "q", "chosen": [assistant("yes")], "rejected": "no"}, "one of `chosen` and `rejected` is a text")
refused("nulls", lambda n: {"prompt": f"q{n}", "chosen": "yes", "rejected": None}, "left out: 5 with an empty response")
image = [{"type": "image", "text": None}, {"type": "text", "text": "q"}]
refused(
    "images",
    lambda n: {"prompt": [{"role": "user", "content": image}], "chosen": [assistant("yes")], "rejected": [assistant("no")]},
    "turn 1: the content is",
)

(FOLDER / "expected.json").write_text(json.dumps({"files": expected}))
print(f"{len(expected)} layouts")
