"""Makes ppo.json, which tests/it/losses.rs compares with: what the PPO of trl 0.11.4 computes; needs torch, transformers and datasets.

    python -m pip install --target trl-0.11.4 --no-deps trl==0.11.4 tyro docstring_parser shtab typeguard
    PYTHONPATH=trl-0.11.4 python tests/golden/ppo.py

That is the last TRL whose losses are methods that can be called; in later ones (`trl.experimental.ppo`, gone since 1.13) the same lines are inside
`train`. The methods are called here on a stand-in for the trainer that holds just the settings they read. They compute in f64, on numbers that f32
holds exactly, so that a difference is one of ours.
"""

import json
from pathlib import Path
from types import MethodType, SimpleNamespace
from unittest import mock

import torch
from torch.nn.utils.rnn import pad_sequence
from trl import PPOTrainer
from trl.trainer import AdaptiveKLController

HERE = Path(__file__).resolve().parent
# Tokens of each response.
LENGTHS = [7, 1, 4, 12, 2, 9]
MASK = pad_sequence([torch.ones(length, dtype=torch.float64) for length in LENGTHS], batch_first=True)
GENERATOR = torch.Generator().manual_seed(41)


def draw(scale, shift=0.0):
    """Normal numbers of each token in 1/1024, and 0 beyond the responses."""
    drawn = scale * torch.randn(MASK.shape, generator=GENERATOR, dtype=torch.float64) + shift
    return (1024 * drawn).round() / 1024 * MASK


def rows(tensor):
    return [row[:length].tolist() for row, length in zip(tensor, LENGTHS)]


def trainer(**settings):
    return SimpleNamespace(config=SimpleNamespace(**settings))


def rewards(logps, reference, scores, kl_coefficient):
    """A score on the last token, and the divergence from the reference taken off every token."""
    stand_in = trainer(kl_penalty="kl")
    stand_in.kl_ctl = SimpleNamespace(value=kl_coefficient)
    stand_in._kl_penalty = MethodType(PPOTrainer._kl_penalty, stand_in)
    made, _, _ = PPOTrainer.compute_rewards(stand_in, scores, logps, reference, MASK)
    return {"scores": scores.tolist(), "kl_coefficient": kl_coefficient, "rewards": rows(made)}


def advantages(token_rewards, values, gamma, lam):
    stand_in = trainer(gamma=gamma, lam=lam, whiten_rewards=False)
    _, whitened, returns = PPOTrainer.compute_advantages(stand_in, values, token_rewards, MASK)
    with mock.patch("trl.trainer.ppo_trainer.masked_whiten", lambda values, mask: values):
        _, plain, _ = PPOTrainer.compute_advantages(stand_in, values, token_rewards, MASK)
    return {"gamma": gamma, "lambda": lam, "advantages": rows(plain), "returns": rows(returns), "whitened": rows(whitened)}


def losses(tokens, clip, value_clip):
    """Means over all tokens, and their gradients by each token's log-probability and value."""
    stand_in = trainer(cliprange=clip, cliprange_value=value_clip, vf_coef=1.0, ratio_threshold=10.0)
    logps, values = (tokens[name].clone().requires_grad_() for name in ("logps", "values"))
    logits = torch.zeros(*MASK.shape, 2)  # for the entropy, which is not compared
    policy_loss, value_loss, stats = PPOTrainer.loss(
        stand_in, tokens["old_logps"], tokens["old_values"], logits, values, logps, MASK, tokens["advantages"], tokens["returns"]
    )
    policy_loss.backward()
    value_loss.backward()
    names = {"policy/clipfrac": "policy_clipfrac", "val/clipfrac": "value_clipfrac", "policy/approxkl": "approxkl"}
    return {
        "clip": clip, "value_clip": value_clip, "policy_loss": policy_loss.item(), "value_loss": value_loss.item(),
        **{ours: stats[theirs].item() for theirs, ours in names.items()},
        "logp_gradients": rows(logps.grad), "value_gradients": rows(values.grad),
    }


def adaptive_kl():
    controller = AdaptiveKLController(0.2, 6.0, 10000)
    steps = []
    for kl, samples in [(0.0, 256), (2.5, 256), (5.0, 64), (6.0, 256), (6.5, 256), (7.5, 128), (30.0, 256), (-1.5, 256), (5.9, 512)]:
        controller.update(kl, samples)
        steps.append({"kl": kl, "samples": samples, "coefficient": float(controller.value)})
    return {"coefficient": 0.2, "target": 6.0, "horizon": 10000, "steps": steps}


if __name__ == "__main__":
    old_logps = draw(1.0, -3.0).clamp(max=0.0)
    old_values = draw(1.0)
    tokens = {
        "old_logps": old_logps, "logps": old_logps + draw(0.3), "reference": old_logps + draw(0.5),
        "old_values": old_values, "values": old_values + draw(0.3), "returns": old_values + draw(1.0),
        "advantages": draw(1.0), "rewards": draw(1.0, 0.2),
    }
    golden = {
        "tokens": {name: rows(tensor) for name, tensor in tokens.items()},
        "rewards": rewards(old_logps, tokens["reference"], draw(2.0)[:, 0], 0.05),
        "advantages": [
            advantages(tokens["rewards"], old_values, gamma, lam) for gamma, lam in [(1.0, 0.95), (1.0, 1.0), (0.99, 0.9), (0.5, 0.0)]
        ],
        "losses": [losses(tokens, *clips) for clips in [(0.2, 0.2), (0.05, 0.5), (0.4, 0.1)]],
        "adaptive_kl": adaptive_kl(),
    }
    (HERE / "ppo.json").write_text(json.dumps(golden) + "\n")
