"""SFT or DPO with TRL, timed: what a user of TRL's trainers gets on the same model and the same pairs as `w2s bench sft|dpo`.

    python benches/peers/train.py dpo --base DIR --random-weights --pairs FILE --json

TRL's own defaults but for the number of steps, no gradient checkpointing (slower, and our side does without) and no dropout; batches are
padded as TRL's collator pads them, the reference's log-probabilities are computed as TRL does it, in every step. `--dtype bf16` is f32 weights
with bf16 autocast (TRL's `bf16=True`). Loading and the first step are not timed.
"""

import argparse
import contextlib
import copy
import gzip
import importlib.metadata
import json
import tempfile
import time
from pathlib import Path

import torch
import trl
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback

import peer


class Clock(TrainerCallback):
    """Times the steps after the first."""

    started = ended = None

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        self.started = self.started or now
        self.ended = now


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sft", "dpo"])
    parser.add_argument("--base", required=True, metavar="DIR", help="a model, or config.json and tokenizer with --random-weights")
    parser.add_argument("--pairs", required=True, metavar="FILE", help=".jsonl or .jsonl.gz with prompt, chosen and rejected")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--micro-batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    peer.add_common_arguments(parser)
    return parser.parse_args(words)


def rows(path, count):
    """The first `count` rows of a file, from its start again where it has fewer."""
    opened = gzip.open(path, "rt", encoding="utf-8") if str(path).endswith(".gz") else open(path, encoding="utf-8", newline="\n")
    with opened as lines:
        all_rows = [json.loads(line) for line in lines]
    return [{key: all_rows[i % len(all_rows)][key] for key in ("prompt", "chosen", "rejected")} for i in range(count)]


def trainer(args, model, tokenizer, data, folder, clock):
    common = {
        "output_dir": folder, "max_steps": args.steps + 1, "per_device_train_batch_size": args.micro_batch_size,
        "gradient_accumulation_steps": args.batch_size // args.micro_batch_size, "gradient_checkpointing": False, "learning_rate": 1e-6,
        "bf16": args.dtype == "bf16", "use_cpu": not torch.cuda.is_available(), "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
        "logging_strategy": "no", "dataset_num_proc": None, "train_sampling_strategy": "sequential",
    }
    if args.what == "sft":
        data = Dataset.from_list([{"prompt": row["prompt"], "completion": row["chosen"]} for row in data])
        return trl.SFTTrainer(model, args=trl.SFTConfig(**common), train_dataset=data, processing_class=tokenizer, callbacks=[clock])
    data = Dataset.from_list(data)
    reference = copy.deepcopy(model)  # TRL would load it from the folder, where there may be no weights
    config = trl.DPOConfig(beta=0.1, **common)
    return trl.DPOTrainer(
        model, ref_model=reference, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
    )


def text_tokens(args, tokenizer, data):
    """Tokens of prompt, response and the end of sequence in all timed steps, padding not counted."""
    sides = ["chosen"] if args.what == "sft" else ["chosen", "rejected"]
    length = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return sum(length(row["prompt"]) + length(row[side]) + 1 for row in data for side in sides)


def main():
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    # Weights in f32: with `bf16` they are the masters, and autocast makes the copies.
    model = peer.load(args.base, "f32", args.random_weights, seed=1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    data = rows(Path(args.pairs), (args.steps + 1) * args.batch_size)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        trainer(args, model, tokenizer, data, folder, clock).train()
    seconds = clock.ended - clock.started
    counted = text_tokens(args, tokenizer, data[args.batch_size:])
    report = {
        "what": args.what, "dtype": args.dtype, "steps": args.steps, "seconds_per_step": seconds / args.steps,
        "text_tokens": counted, "text_tokens_per_s": counted / seconds, "trl": importlib.metadata.version("trl"), **peer.facts(),
    }
    print(json.dumps(report) if args.json else "\n".join(f"{key}: {value}" for key, value in report.items()))


if __name__ == "__main__":
    main()
