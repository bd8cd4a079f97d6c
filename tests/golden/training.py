"""Trains the tiny gpt2 of this folder with TRL's SFTTrainer and DPOTrainer and writes the loss of every step to training.json, which a test of
tests/it/parity.rs compares with; needs torch, transformers, trl and datasets.

    python tests/golden/training.py

f32, no dropout, batches in the order of the file, AdamW with decay, warm-up and cosine, clipping by norm. The schedule is ours: its warm-up counts
from 1, where TRL's own has rate 0 in the first step. A pair is [prompt, chosen, rejected] in
token ids; SFT learns the chosen responses. Responses prefer even tokens when chosen and odd ones when rejected, so that there is something to learn.
"""

import importlib.metadata
import json
import math
import tempfile
from pathlib import Path

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
VOCAB = 97
STEPS, BATCH = 50, 4
SETTINGS = {"learning_rate": 2e-3, "warmup_ratio": 0.1, "weight_decay": 0.1, "max_grad_norm": 1.0, "beta": 0.3, "steps": STEPS, "batch_size": BATCH}


def draw_pairs(seed):
    generator = torch.Generator().manual_seed(seed)
    number = lambda low, high: torch.randint(low, high, (), generator=generator).item()
    response = lambda odd: [2 * number(0, 48) + (odd if number(0, 4) else 1 - odd) for _ in range(number(2, 12))]
    return [[[number(0, VOCAB) for _ in range(number(2, 9))], response(0), response(1)] for _ in range(STEPS * BATCH)]


def fresh_model():
    model = AutoModelForCausalLM.from_pretrained(HERE / "gpt2", dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def numbered_tokenizer():
    """The trainers ask for one; nothing is tokenized."""
    words = {f"t{i}": i for i in range(VOCAB)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="t0")), eos_token="t0", pad_token="t0")


def rate_factor(step):
    warmup = math.ceil(SETTINGS["warmup_ratio"] * STEPS)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))


def record(trainer_class):
    class Recording(trainer_class):
        losses = ()

        def create_scheduler(self, num_training_steps, optimizer=None):
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rate_factor)
            return self.lr_scheduler

        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            self.losses += ((loss[0] if isinstance(loss, tuple) else loss).item(),)
            return loss

    return Recording


def train(trainer_class, config_class, rows, **more):
    reference = {"ref_model": fresh_model()} if trainer_class is trl.DPOTrainer else {}
    with tempfile.TemporaryDirectory() as folder:
        config = config_class(
            output_dir=folder, max_steps=STEPS, per_device_train_batch_size=BATCH, gradient_checkpointing=False, bf16=False, use_cpu=True,
            learning_rate=SETTINGS["learning_rate"], weight_decay=SETTINGS["weight_decay"], max_grad_norm=SETTINGS["max_grad_norm"], report_to="none", save_strategy="no",
            logging_strategy="no", train_sampling_strategy="sequential", **more,
        )
        trainer = record(trainer_class)(
            fresh_model(), args=config, **reference, train_dataset=Dataset.from_list(rows), processing_class=numbered_tokenizer()
        )
        trainer.train()
        return [float(f"{loss:.7g}") for loss in trainer.losses]


def main():
    pairs = draw_pairs(5)
    labelled = [
        {"input_ids": prompt + chosen, "labels": [-100] * len(prompt) + chosen} for prompt, chosen, _ in pairs
    ]
    preferences = [{"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected} for prompt, chosen, rejected in pairs]
    golden = {
        "trl": importlib.metadata.version("trl"), "torch": torch.__version__, "settings": SETTINGS, "pairs": pairs,
        "sft": train(trl.SFTTrainer, trl.SFTConfig, labelled),
        "dpo": train(trl.DPOTrainer, trl.DPOConfig, preferences, beta=SETTINGS["beta"]),
    }
    (HERE / "training.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    for name in ("sft", "dpo"):
        print(name, golden[name][:3], "…", golden[name][-3:])


if __name__ == "__main__":
    main()
