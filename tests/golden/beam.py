"""Makes beam.json, which tests/it/beam.rs compares with: transformers' beam search of two tiny models; needs torch and transformers.

    python tests/golden/beam.py

End tokens are chosen so that some answers end early and others are cut off at the budget.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
PROMPTS = [[5, 17, 60], [88, 3, 41, 9, 12], [30]]
SETTINGS = [
    {"beam_width": width, "length_penalty": penalty, "early_stopping": early, "max_new_tokens": new}
    for width, new in [(2, 12), (3, 7), (5, 16)]
    for penalty in [0.0, 1.0, 2.0, -1.0]
    for early in [False, True]
]
END_TOKENS = {"gpt2": [[92], [55, 81]], "llama": [[59], [44, 87]]}


def answer(model, prompt, end, setting):
    ids = torch.tensor([prompt])
    generated = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=setting["beam_width"],
        length_penalty=setting["length_penalty"],
        early_stopping=setting["early_stopping"],
        max_new_tokens=setting["max_new_tokens"],
        eos_token_id=end,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    new = generated.sequences[0, len(prompt) :].tolist()
    ends = [place for place, token in enumerate(new) if token in end]
    return new[: ends[0] + 1] if ends else new


def main():
    cases = []
    for name, ends in END_TOKENS.items():
        model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()
        for end in ends:
            for setting in SETTINGS:
                answers = [answer(model, prompt, end, setting) for prompt in PROMPTS]
                cases.append({"model": name, "end": end, **setting, "answers": answers})
    lengths = [(len(ids) == case["max_new_tokens"], ids[-1] in case["end"]) for case in cases for ids in case["answers"]]
    print(len(cases), "cases;", sum(ended for _, ended in lengths), "answers ended,", sum(not ended for _, ended in lengths), "cut off")
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "beam.json").write_text(json.dumps({"prompts": PROMPTS})[:-1] + ', "cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
