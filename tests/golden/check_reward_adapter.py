"""Opens the adapters of reward models that tests/it/reward_model.rs saved below FOLDER with PEFT and compares rewards; makes such adapters for it to
open. Needs torch, transformers and peft.

    python tests/golden/check_reward_adapter.py FOLDER

FOLDER/ours.json: {name: {"base", "ids", "rewards", "tolerance"}}, where FOLDER/name is an adapter of the language model in the folder `base` and the
tolerance is a part of the largest reward. Exits with 1 if one does not open cleanly or differs. Of each name, FOLDER/peft-<name> is made: an adapter
that PEFT wrote, with FOLDER/theirs.json: {name: rewards}.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from peft_adapter import written


def open_base(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=0, dtype=torch.float32)


folder = Path(sys.argv[1])
failed = False
theirs = {}
warnings.filterwarnings("error", message="Found missing adapter keys")
for name, expected in json.loads((folder / "ours.json").read_text()).items():
    ids = torch.tensor(expected["ids"])

    def rewards(model):
        with torch.no_grad():
            return model.eval()(ids).logits.float().squeeze(1)

    adapted = PeftModel.from_pretrained(open_base(expected["base"]), folder / name)
    ours = torch.tensor(expected["rewards"])
    difference = (rewards(adapted) - ours).abs().max().item()
    with adapted.disable_adapter():
        alone = (rewards(adapted) - ours).abs().max().item()
    print(f"{name}: largest difference {difference:.2e} of {ours.abs().max():.2f}, without the adapter {alone:.2e}")
    failed |= not difference < expected["tolerance"] * ours.abs().max().item() < 0.1 * alone

    model = written(open_base(expected["base"]), "SEQ_CLS", folder / f"peft-{name}")
    theirs[name] = rewards(model).tolist()
(folder / "theirs.json").write_text(json.dumps(theirs))
sys.exit(failed)
