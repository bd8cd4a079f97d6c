"""Opens the adapters of reward models that tests/reward_model.rs saved below FOLDER with PEFT and compares rewards; makes such adapters for it to
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
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification


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

    found = rewards(PeftModel.from_pretrained(open_base(expected["base"]), folder / name))
    ours = torch.tensor(expected["rewards"])
    difference = (found - ours).abs().max().item()
    print(f"{name}: largest difference {difference:.2e} of {ours.abs().max():.2f}")
    failed |= not difference < expected["tolerance"] * ours.abs().max().item()

    torch.manual_seed(1)
    config = LoraConfig(r=3, lora_alpha=7, target_modules="all-linear", task_type="SEQ_CLS")
    model = get_peft_model(open_base(expected["base"]), config)
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder / f"peft-{name}")
    theirs[name] = rewards(model).tolist()
(folder / "theirs.json").write_text(json.dumps(theirs))
sys.exit(failed)
