"""Plain batched sampling with `model.generate`, timed.

    python benches/peers/generate.py --model DIR --rows 16 [--random-weights] [--json]

Each row is a prompt of its own. Counted are the tokens truly sampled: up to and with a row's first end-of-sequence token.
"""

import argparse
import json
import statistics
import time

import torch

import peer


def sample(model, prompts, args, new_tokens):
    """Continues each row of `prompts` (rows, tokens); -> the new ids (rows, at most new_tokens), padded after the end."""
    eos = peer.eos_ids(model)
    ids = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=True,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=1.0,
        max_new_tokens=new_tokens,
        pad_token_id=eos[0].item() if len(eos) else 0,
    )
    return ids[:, prompts.shape[1] :]


def sampled_tokens(ids, eos):
    """Tokens of `ids` up to and with each row's first one of `eos`."""
    ended = torch.isin(ids, eos).cumsum(1)
    return ((ended == 0) | ((ended == 1) & torch.isin(ids, eos))).sum().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--rows", type=int, default=16, help="prompts of one batch")
    parser.add_argument("--batches", type=int, default=2, help="timed one after the other, after a short one that is not counted")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--top-k", type=int, default=50)
    peer.add_common_arguments(parser)
    args = parser.parse_args()
    for name in ("rows", "batches", "prompt_tokens", "new_tokens", "top_k"):
        if getattr(args, name) < 1:
            parser.error(f"`{name}` must be at least 1, given {getattr(args, name)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    model = peer.load(args.model, args.dtype, args.random_weights, seed=0)
    warm_up, *batches = peer.prompts((args.batches + 1) * args.rows, args.prompt_tokens, model).split(args.rows)
    torch.manual_seed(1)
    sample(model, warm_up, args, new_tokens=min(4, args.new_tokens))
    seconds, sampled = [], 0
    for batch in batches:
        start = time.perf_counter()
        ids = sample(model, batch, args, args.new_tokens)
        seconds.append(time.perf_counter() - start)
        sampled += sampled_tokens(ids, peer.eos_ids(model))
    names = ("model", "rows", "batches", "prompt_tokens", "new_tokens", "temperature", "top_k", "dtype", "random_weights")
    result = {
        "method": "generate",
        "settings": {name: getattr(args, name) for name in names},
        "seconds_per_batch": statistics.median(seconds),
        "seconds_of_each_batch": seconds,
        "sampled_tokens": sampled,
        "sampled_tokens_per_s": sampled / sum(seconds),
        **peer.facts(),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['sampled_tokens_per_s']:.1f} tokens/s, {args.rows} rows at once, {result['peak_rss_bytes'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
