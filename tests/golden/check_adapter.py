"""Opens the adapters that tests/it/lora.rs saved below FOLDER with PEFT and compares logits; makes adapters for it to open. Needs torch,
transformers and peft.

    python tests/golden/check_adapter.py FOLDER

FOLDER/ours.json: {name: {"base", "ids", "logits", "tolerance"}}, where FOLDER/name is an adapter of the folder `base` and the tolerance is a
part of the largest logit. Exits with 1 if one does not open cleanly or differs. Of each name, FOLDER/peft-<name> is made: an adapter that PEFT
wrote, on all linear layers of the same base, with FOLDER/theirs.json: {name: logits}.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from peft_adapter import written


def open_model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


folder = Path(sys.argv[1])
failed = False
theirs = {}
warnings.filterwarnings("error", message="Found missing adapter keys")
for name, expected in json.loads((folder / "ours.json").read_text()).items():
    ids = torch.tensor(expected["ids"])

    def logits(model):
        with torch.no_grad():
            return model.eval()(ids).logits.float()

    base = open_model(expected["base"])
    alone = logits(base)
    adapted = logits(PeftModel.from_pretrained(base, folder / name))
    by_transformers = logits(open_model(folder / name))
    ours = torch.tensor(expected["logits"]).view_as(adapted)
    differences = [(found - ours).abs().max().item() for found in (adapted, by_transformers, alone)]
    print("{}: largest difference by peft {:.2e}, by transformers {:.2e}, without the adapter {:.2e}".format(name, *differences))
    tolerance = expected["tolerance"] * ours.abs().max().item()
    failed |= not max(differences[:2]) < tolerance < 0.1 * differences[2]

    model = written(open_model(expected["base"]), "CAUSAL_LM", folder / f"peft-{name}")
    theirs[name] = logits(model).tolist()
(folder / "theirs.json").write_text(json.dumps(theirs))
sys.exit(failed)
