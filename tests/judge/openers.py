"""Opens what tests/it/model_folders/openers.rs saved in transformers and PEFT and compares numbers; needs torch, transformers and peft.

    python tests/judge/openers.py ROWS.json

A row has `name`, `folder`, `base` (of an adapter), `kind` (lm, classifier or reward), `texts` and their `ids`, and what w2s made of them: `expected`, the
last logits of each text, those of the labels, or the reward; of an lm also `greedy`, the ids of the first text continued, and them `decoded`; `chat`, the texts
as a chat, where there is a template. Prints a table of rows and openers: the largest difference of a number as a part of the largest, `-` where there is nothing to open, or `no:` and why not.
Exits with 1 where one does not open or differs.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

TOLERANCE = 1e-4
transformers.utils.logging.set_verbosity_error()
warnings.filterwarnings("error", message="Found missing adapter keys")


def differs(found, row):
    """By how much, of the largest number."""
    found, expected = (torch.tensor(rows, dtype=torch.float64) for rows in (found, row["expected"]))
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    assert difference < TOLERANCE, f"differs by {difference:.1e}"
    return f"{difference:.0e}"


def answers(model, tokenizer, row):
    """What the model says of the texts, asked as its users ask: with all that the tokenizer makes of them."""
    with torch.no_grad():
        logits = [model.eval()(**tokenizer(text, return_tensors="pt")).logits[0] for text in row["texts"]]
    return [(logit[-1] if row["kind"] == "lm" else logit).tolist() for logit in logits]


def in_batch(model, tokenizer, row):
    """The same of all texts together, the shorter one padded."""
    with torch.no_grad():
        return model.eval()(**tokenizer(row["texts"], padding=True, return_tensors="pt")).logits.tolist()


def same_ids(row):
    tokenizer = AutoTokenizer.from_pretrained(row["folder"])
    assert [tokenizer(text)["input_ids"] for text in row["texts"]] == row["ids"], "other ids"
    if row["kind"] == "lm":
        assert tokenizer.decode(row["greedy"], skip_special_tokens=True) == row["decoded"], "another text"
    if "chat" in row:
        turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), row["texts"])]
        chat = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert chat == row["chat"], "another chat"
    unknown = set(tokenizer(row["texts"][0])) - {"input_ids", "attention_mask"}
    assert not unknown, f"makes {unknown}, which the model does not take"
    return "same"


def auto_model(row):
    tokenizer = AutoTokenizer.from_pretrained(row["folder"])
    if row["kind"] == "lm":
        return differs(answers(AutoModelForCausalLM.from_pretrained(row["folder"], dtype="float32"), tokenizer, row), row)
    if row["base"] and row["kind"] == "reward":
        # The config is the base's, which knows of no labels and no padding.
        own = {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    else:
        own = {}
    model = AutoModelForSequenceClassification.from_pretrained(row["folder"], dtype="float32", **own)
    one, many = answers(model, tokenizer, row), in_batch(model, tokenizer, row)
    return max(differs(one, row), differs(many, row), key=float)


def by_pipeline(row):
    if row["kind"] == "lm":
        generate = pipeline("text-generation", model=row["folder"], dtype="float32")
        new = len(row["greedy"]) - len(row["ids"][0])
        found = generate(row["texts"][0], max_new_tokens=new, do_sample=False, return_full_text=True)[0]["generated_text"]
        assert found == row["decoded"], f"{found!r} instead of {row['decoded']!r}"
        return "same text"
    if row["base"]:
        return "- (asks the base for its labels)"
    classify = pipeline("text-classification", model=row["folder"], dtype="float32")
    scores = classify(row["texts"], function_to_apply="none", top_k=None, batch_size=len(row["texts"]))
    label = classify.model.config.label2id
    return differs([[score["score"] for score in sorted(labels, key=lambda score: label[score["label"]])] for labels in scores], row)


def by_peft(row, auto):
    if not row["base"]:
        return "-"
    tokenizer = AutoTokenizer.from_pretrained(row["folder"])
    own = {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id} if row["kind"] == "reward" else {}
    if auto:
        of_kind = AutoPeftModelForCausalLM if row["kind"] == "lm" else AutoPeftModelForSequenceClassification
        model = of_kind.from_pretrained(row["folder"], **own)
    else:
        of_kind = AutoModelForCausalLM if row["kind"] == "lm" else AutoModelForSequenceClassification
        model = PeftModel.from_pretrained(of_kind.from_pretrained(row["base"], dtype="float32", **own), row["folder"])
    found = [differs(answers(model, tokenizer, row), row)]
    if row["kind"] == "reward":
        found.append(differs(in_batch(model, tokenizer, row), row))
    return max(found, key=float)


OPENERS = {
    "AutoTokenizer": same_ids,
    "AutoModel…": auto_model,
    "pipeline": by_pipeline,
    "PeftModel": lambda row: by_peft(row, False),
    "AutoPeftModel…": lambda row: by_peft(row, True),
}


def attempt(opener, row):
    try:
        return opener(row)
    except Exception as error:
        return f"no: {type(error).__name__}: {' '.join(str(error).split())[:160]}"


rows = json.loads(Path(sys.argv[1]).read_text())
print(f"transformers {transformers.__version__}")
table = [["saved", *OPENERS]] + [[row["name"], *(attempt(opener, row) for opener in OPENERS.values())] for row in rows]
for line in table:
    print("| " + " | ".join(line) + " |")
sys.exit(len(table) < 2 or any(cell.startswith("no:") for line in table for cell in line))
