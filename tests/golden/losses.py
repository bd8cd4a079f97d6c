"""Makes losses.json, which tests/it/losses.rs compares with: what TRL's and transformers' own code computes; needs torch, transformers and trl.

    python tests/golden/losses.py

TRL's losses are inside the `compute_loss` of its trainers. Those methods are called here on a stand-in for the trainer that holds just the
settings they read; the model below DPO and the reward loss hands out fixed numbers, so that both sides see the same tensors. Made with trl 1.16.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM
from trl import DPOTrainer, RewardTrainer, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import add_fused_lm_head

HERE = Path(__file__).resolve().parent
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"]
# Tokens of the chosen and of the rejected response of each pair.
LENGTHS = [(7, 3), (1, 6), (4, 4), (5, 8), (2, 2), (8, 1)]
# TRL's `sigmoid` smooths nothing. Its `aot` is the smoothed sigmoid of differences that it sorts within the batch, so with one pair in the
# batch, as here, it is conservative DPO.
OBJECTIVES = [("sigmoid", 0.0, "sigmoid"), ("sigmoid", 0.1, "aot"), ("sigmoid", 0.4, "aot"), ("ipo", 0.0, "ipo"), ("hinge", 0.0, "hinge")]


class Accelerator:
    """One process: nothing to gather."""

    device = torch.device("cpu")
    parallelism_config = None

    def gather(self, tensor):
        return tensor

    gather_for_metrics = gather


def stand_in(**settings):
    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    model = SimpleNamespace(training=True)
    return SimpleNamespace(
        accelerator=Accelerator(), model=model, aux_loss_enabled=False, _metrics=metrics, _total_train_tokens=0, _tp_size=1, **settings
    )


def token_logps(generator, lengths):
    """Log-probabilities of each response's tokens in 1/1024, so that their sums are the same in any order."""
    return [(-8192 * torch.rand(length, generator=generator)).round() / 1024 for length in lengths]


def dpo_pair(trl_loss, beta, smoothing, policy, reference):
    """TRL's loss of one pair, its gradient by the two responses' first tokens, and its metrics. The prompt is one token."""
    tokens = torch.nn.utils.rnn.pad_sequence(policy, batch_first=True).requires_grad_()
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row) + 1, dtype=torch.long) for row in policy], batch_first=True)
    completion_mask = mask.clone()
    completion_mask[:, 0] = 0
    zeros = torch.zeros_like(tokens)
    outputs = SimpleNamespace(log_probs=tokens * mask[:, 1:], entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    trainer = stand_in(
        beta=beta,
        label_smoothing=smoothing,
        loss_types=[trl_loss],
        loss_weights=[1.0],
        ld_alpha=None,
        use_weighting=False,
        f_divergence_type="reverse_kl",
        precompute_ref_logps=True,
    )
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": mask,
        "completion_mask": completion_mask,
        "ref_chosen_logps": reference[0].sum()[None],
        "ref_rejected_logps": reference[1].sum()[None],
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    loss.backward()
    metrics = {name: trainer._metrics["train"][name][-1] for name in METRICS}
    return {"loss": loss.item(), "gradients": tokens.grad[:, 0].tolist(), "metrics": metrics}


def dpo():
    generator = torch.Generator().manual_seed(31)
    policy = [token_logps(generator, lengths) for lengths in LENGTHS]
    reference = [token_logps(generator, lengths) for lengths in LENGTHS]
    cases = []
    for loss, smoothing, trl_loss in OBJECTIVES:
        for beta in [0.05, 0.1, 0.5]:
            pairs = [dpo_pair(trl_loss, beta, smoothing, *pair) for pair in zip(policy, reference)]
            cases.append({"objective": {"loss": loss, "beta": beta, "label_smoothing": smoothing}, "pairs": pairs})
    as_lists = lambda rows: [[row.tolist() for row in pair] for pair in rows]
    return {"policy": as_lists(policy), "reference": as_lists(reference), "cases": cases}


def reward():
    rewards = (3 * torch.randn(12, 1, generator=torch.Generator().manual_seed(32))).requires_grad_()
    trainer = stand_in(args=SimpleNamespace(center_rewards_coefficient=None))
    inputs = {"attention_mask": torch.ones(12, 1, dtype=torch.long)}
    loss = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=rewards), inputs)
    loss.backward()
    accuracy = trainer._metrics["train"]["accuracy"][-1]
    return {"rewards": rewards.flatten().tolist(), "loss": loss.item(), "gradients": rewards.grad.flatten().tolist(), "accuracy": accuracy}


def cross_entropy():
    """The tiny GPT-2's mean loss per token on prompts and responses, padded by TRL's collator."""
    generator = torch.Generator().manual_seed(33)
    draw = lambda tokens: torch.randint(1, 97, (tokens,), generator=generator).tolist()
    examples = [(draw(prompt), draw(response)) for prompt, response in [(5, 9), (1, 3), (12, 16), (8, 1)]]
    # -100 is what both libraries leave out of the loss.
    rows = {
        "response": [{"input_ids": p + r, "labels": [-100] * len(p) + r} for p, r in examples],
        "all": [{"input_ids": p + r} for p, r in examples],
    }
    model = AutoModelForCausalLM.from_pretrained(HERE / "gpt2", dtype=torch.float32).eval()
    fused = AutoModelForCausalLM.from_pretrained(HERE / "gpt2", dtype=torch.float32).eval()
    add_fused_lm_head(fused, outputs=("log_probs", "entropy", "is_top1"))
    losses = {}
    for on in rows:
        batch = DataCollatorForLanguageModeling(pad_token_id=0)(rows[on])
        trainer = stand_in(
            args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=False), compute_loss_func=None, label_smoother=None
        )
        with torch.no_grad():
            losses[on] = {
                "trl": SFTTrainer.compute_loss(trainer, fused, dict(batch)).item(),
                "transformers": model(**batch).loss.item(),
            }
    return {"examples": [{"prompt": p, "response": r} for p, r in examples], "losses": losses}


if __name__ == "__main__":
    values = {"dpo": dpo(), "reward": reward(), "cross_entropy": cross_entropy()}
    (HERE / "losses.json").write_text(json.dumps(values) + "\n")
