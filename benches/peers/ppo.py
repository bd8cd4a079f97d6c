"""PPO with TRL, timed: what a user of TRL's trainer gets on the same policy and the same prompts as a recipe's `[ppo]` stage.

    python -m pip install --target trl-1.12.0 --no-deps trl==1.12.0
    PYTHONPATH=trl-1.12.0 python benches/peers/ppo.py --policy DIR --guide DIR --prompts FILE

1.12 is the last TRL that has PPO (`trl.experimental.ppo`). TRL's own defaults but for what the options say, no gradient checkpointing (slower, and
our side does without); responses end at EOS. The reference is a copy of the policy. Reward and value model are sequence classifiers of the guide's
shape, or the value model of `--value`'s, with a new head of one label: TRL scores the whole response once, and its value model is always a second
model that is trained whole. Prompts get no special tokens. `--dtype bf16` is f32 weights with bf16 autocast (TRL's `bf16=True`). Loading and the
first step are not timed. Prints one JSON object.
"""

import argparse
import contextlib
import copy
import gzip
import importlib.metadata
import json
import statistics
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

import peer


class Clock(TrainerCallback):
    """When each part of each step ended, and the response tokens of each step."""

    def __init__(self):
        self.ends = {"generate": [], "score": [], "step": []}
        self.response_tokens = []

    def end(self, part):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends[part].append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.end("step")

    def seconds(self):
        """Of each step after the first, whole and by part."""
        started, ends = self.ends["step"][:-1], {part: ends[1:] for part, ends in self.ends.items()}
        starts = {"seconds_per_step": started, "rollout_seconds": started, "reward_seconds": ends["generate"], "update_seconds": ends["score"]}
        stops = {"seconds_per_step": "step", "rollout_seconds": "generate", "reward_seconds": "score", "update_seconds": "step"}
        return {name: [end - start for start, end in zip(starts[name], ends[stops[name]])] for name in starts}


def watch(clock, eos):
    """Tells the clock where TRL's step is: it samples by `batch_generation`; the whitening of advantages is the last thing before the updates."""
    generation, whiten = ppo_trainer.batch_generation, ppo_trainer.masked_whiten

    def batch_generation(model, queries, *args):
        sequences, logits = generation(model, queries, *args)
        clock.end("generate")
        ended = (sequences[:, queries.shape[1]:] == eos).cumsum(1)
        # The first EOS belongs to the response.
        clock.response_tokens.append(int((ended == 0).sum() + (ended.max(1).values > 0).sum()))
        return sequences, logits

    def masked_whiten(*args, **kwargs):
        whitened = whiten(*args, **kwargs)
        clock.end("score")
        return whitened

    ppo_trainer.batch_generation, ppo_trainer.masked_whiten = batch_generation, masked_whiten


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", required=True, metavar="DIR", help="a model, or config.json and tokenizer with --random-weights")
    parser.add_argument("--guide", required=True, metavar="DIR", help="gives shape and body of the reward model; the policy's vocabulary")
    parser.add_argument("--value", metavar="DIR", help="gives shape and body of the value model; default: the guide's")
    parser.add_argument("--prompts", required=True, metavar="FILE", help=".jsonl or .jsonl.gz with prompt")
    parser.add_argument("--steps", type=int, default=5, help="timed batches of rollouts")
    parser.add_argument("--batch-size", type=int, default=64, help="rollouts of one step")
    parser.add_argument("--minibatches", type=int, default=4, help="updates of one epoch")
    parser.add_argument("--epochs", type=int, default=4, help="passes over one batch of rollouts")
    parser.add_argument("--max-new-tokens", type=int, default=53)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--dtype", choices=peer.DTYPES, default="f32")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument("--random-weights", action="store_true", help="folders need only a config.json")
    return parser.parse_args(words)


def prompts(path, count):
    """The first `count` prompts of a file, from its start again where it has fewer."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8", newline="\n")
    with opened as lines:
        texts = [json.loads(line)["prompt"] for line in lines]
    return [texts[i % len(texts)] for i in range(count)]


def classifier(folder, random_weights, seed):
    """A body of the folder's shape with a random head of one label."""
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(folder, num_labels=1)
    if random_weights:
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return AutoModelForSequenceClassification.from_pretrained(folder, config=config, dtype=torch.float32)


def trainer(args, tokenizer, data, folder, clock):
    policy = peer.load(args.policy, "f32", args.random_weights, seed=1)
    config = PPOConfig(
        output_dir=folder, total_episodes=len(data), response_length=args.max_new_tokens, temperature=args.temperature, stop_token="eos",
        # One pass of the model for each minibatch, so that each is an update: TRL counts minibatches as accumulation steps.
        per_device_train_batch_size=args.batch_size, gradient_accumulation_steps=1, num_mini_batches=args.minibatches,
        num_ppo_epochs=args.epochs, local_rollout_forward_batch_size=args.batch_size, num_sample_generations=0,
        gradient_checkpointing=False, bf16=args.dtype == "bf16", use_cpu=not torch.cuda.is_available(), report_to="none",
        save_strategy="no", disable_tqdm=True,
    )
    return PPOTrainer(
        config, processing_class=tokenizer, model=policy, ref_model=copy.deepcopy(policy), train_dataset=data, callbacks=[clock],
        reward_model=classifier(args.guide, args.random_weights, seed=2),
        value_model=classifier(args.value or args.guide, args.random_weights, seed=3),
    )


def main():
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.policy, padding_side="left")
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        # As in TRL's examples: it must be another token than EOS, and no model sees it.
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    texts = prompts(args.prompts, (args.steps + 1) * args.batch_size)
    data = Dataset.from_list([{"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts])
    clock = Clock()
    watch(clock, tokenizer.eos_token_id)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        trainer(args, tokenizer, data, folder, clock).train()
    medians = {name: statistics.median(of) for name, of in clock.seconds().items()}
    tokens = statistics.median(clock.response_tokens[1:])
    print(json.dumps({
        "what": "ppo", "dtype": args.dtype, "steps": args.steps, "batch_size": args.batch_size,
        "updates_per_step": args.epochs * args.minibatches, "samples_per_s": args.batch_size / medians["seconds_per_step"], **medians,
        "response_tokens_per_step": tokens, "sampled_tokens_per_s": tokens / medians["rollout_seconds"],
        "trl": importlib.metadata.version("trl"), **peer.facts(),
    }))


if __name__ == "__main__":
    main()
