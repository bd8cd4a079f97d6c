"""Opens the models that tests/it/models.rs saved below FOLDER in transformers and compares logits; needs torch and transformers.

    python tests/golden/check_saved.py FOLDER

FOLDER/expected.json: {name: {"class", "ids", "logits", "tolerance"}}, where FOLDER/name is the model and the tolerance is a
part of the largest logit. Exits with 1 if one does not open cleanly or differs.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

folder = Path(sys.argv[1])
failed = False
for name, expected in json.loads((folder / "expected.json").read_text()).items():
    model, report = getattr(transformers, expected["class"]).from_pretrained(folder / name, output_loading_info=True)
    complaints = {key: found for key, found in report.items() if found}
    with torch.no_grad():
        logits = model.eval()(torch.tensor(expected["ids"])).logits
    ours = torch.tensor(expected["logits"]).view_as(logits)
    difference = (logits.float() - ours).abs().max().item()
    tokens = model.generation_config.eos_token_id if hasattr(model, "generation_config") and model.can_generate() else None
    print(f"{name}: {model.dtype}, largest difference {difference:.2e} of {ours.abs().max():.2f}, eos {tokens}, complaints {complaints}")
    failed |= bool(complaints) or not difference < expected["tolerance"] * ours.abs().max().item()
sys.exit(failed)
