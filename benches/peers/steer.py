"""Chunk-level beam search (arXiv 2405.19262, Algorithm 1) as a user of transformers writes it, timed.

    python benches/peers/steer.py --base DIR --tuned DIR --untuned DIR [--random-weights] [--json]

As in the authors' release: one prompt at a time as a batch of W*K rows, the base's KV cache kept across chunks and
reordered by the rows selected, temperature then top-k, and for every chunk a full forward of prompt + response of all rows
through both guides. Finished rows are carried on as padding. Two differences, both less work or none: base and guides share one
vocabulary, so nothing is detokenized, and a response cut by the token budget gets no end-of-sequence token.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import DynamicCache, TemperatureLogitsWarper, TopKLogitsWarper

import peer


def response_logps(model, ids, prompt_tokens, lengths, head):
    """Sum of log p(token) over the `lengths` tokens of each row's response.

    ids: (rows, prompt + response), lengths: (rows,), a response's tokens without its padding -> (rows,) in f32.
    Right padding comes after all that counts, so causal attention needs no mask.
    `head`: the vocabulary head on "all" positions, as in the release, or on those of the "response" only.
    """
    response_tokens = ids.shape[1] - prompt_tokens
    if head == "all":
        logits = model(ids, use_cache=False).logits
        logps = logits.float().log_softmax(-1)[:, prompt_tokens - 1 : -1]  # (rows, response, vocabulary)
    else:
        logits = model(ids, use_cache=False, logits_to_keep=response_tokens + 1).logits
        logps = logits[:, :-1].float().log_softmax(-1)
    logps = logps.gather(2, ids[:, prompt_tokens:, None]).squeeze(2)
    counts = torch.arange(response_tokens) < lengths[:, None]
    return (logps * counts).sum(1)


def implicit_reward(guides, ids, prompt_tokens, lengths, head):
    """Eq. 5a: log π* − log π_ref of each row's response."""
    tuned, untuned = guides
    return response_logps(tuned, ids, prompt_tokens, lengths, head) - response_logps(untuned, ids, prompt_tokens, lengths, head)


@torch.inference_mode()
def steer(base, guides, prompt, args, new_tokens):
    """Searches for the best response to `prompt` (ids); -> (ids of the response, score, tokens sampled, tokens fed to each guide)."""
    rows = args.beam_width * args.successors
    eos = peer.eos_ids(base)
    pad = eos[0] if len(eos) else torch.tensor(0)
    warpers = [TemperatureLogitsWarper(args.temperature), TopKLogitsWarper(args.top_k)]
    ids = prompt.repeat(rows, 1)
    lengths = torch.zeros(rows, dtype=torch.long)
    open_rows = torch.ones(rows, dtype=torch.bool)
    cache = DynamicCache(config=base.config)
    sampled = guide_tokens = 0
    while True:
        for _ in range(min(args.chunk_len, new_tokens - (ids.shape[1] - len(prompt)))):
            fed = ids[:, cache.get_seq_length() :]  # the prompt, then the last token
            logits = base(fed, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
            for warper in warpers:
                logits = warper(ids, logits)
            tokens = torch.multinomial(logits.softmax(-1), num_samples=1).squeeze(1)
            ids = torch.cat([ids, torch.where(open_rows, tokens, pad)[:, None]], dim=1)
            sampled += open_rows.sum().item()
            lengths += open_rows
            open_rows &= ~torch.isin(tokens, eos)
            if not open_rows.any():
                break
        scores = implicit_reward(guides, ids, len(prompt), lengths, args.head)
        guide_tokens += ids.numel()
        scores, kept = scores.topk(args.beam_width)
        if ids.shape[1] - len(prompt) >= new_tokens or not open_rows[kept].any():
            best = kept[0]
            return ids[best, len(prompt) :][: lengths[best]], scores[0].item(), sampled, guide_tokens
        kept = kept.repeat(args.successors)
        ids, lengths, open_rows = ids[kept], lengths[kept], open_rows[kept]
        cache.reorder_cache(kept)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("base", "tuned", "untuned"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR")
    peer.add_common_arguments(parser)
    parser.add_argument("--prompts", type=int, default=2, help="timed one after the other, after a short one that is not counted")
    parser.add_argument("--beam-width", type=int, default=4)
    parser.add_argument("--successors", type=int, default=4)
    parser.add_argument("--chunk-len", type=int, default=5)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--head", choices=["all", "response"], default="all", help="positions on which the guides' vocabulary head runs")
    args = parser.parse_args(argv)
    for name in ("prompt_tokens", "new_tokens", "prompts", "beam_width", "successors", "chunk_len", "top_k"):
        if getattr(args, name) < 1:
            parser.error(f"`{name}` must be at least 1, given {getattr(args, name)}")
    return args


def main():
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    # Seeds differ so that tuned and untuned do: equal guides would score everything 0.
    base, *guides = [
        peer.load(folder, args.dtype, args.random_weights, seed)
        for seed, folder in enumerate([args.base, args.tuned, args.untuned])
    ]
    sizes = {model.config.vocab_size for model in (base, *guides)}
    if len(sizes) > 1:
        raise SystemExit(f"base and guides must share one vocabulary, found sizes {sorted(sizes)}")
    warm_up, *prompts = peer.prompts(args.prompts + 1, args.prompt_tokens, base)
    torch.manual_seed(1)
    steer(base, guides, warm_up, args, new_tokens=min(args.chunk_len + 1, args.new_tokens))
    seconds, sampled, guide_tokens = [], 0, 0
    for prompt in prompts:
        start = time.perf_counter()
        _, _, by_base, by_guides = steer(base, guides, prompt, args, args.new_tokens)
        seconds.append(time.perf_counter() - start)
        sampled += by_base
        guide_tokens += by_guides
    names = ("base", "tuned", "untuned", "prompt_tokens", "new_tokens", "prompts", "beam_width", "successors", "chunk_len",
             "temperature", "top_k", "dtype", "head", "random_weights")
    result = {
        "method": "cbs",
        "settings": {name: getattr(args, name) for name in names},
        "seconds_per_prompt": statistics.median(seconds),
        "seconds_of_each_prompt": seconds,
        "sampled_tokens": sampled,
        "sampled_tokens_per_s": sampled / sum(seconds),
        "guide_tokens": guide_tokens,  # fed to each guide: prompts, and responses as often as they were fed again
        "guide_tokens_per_s": guide_tokens / sum(seconds),
        **peer.facts(),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['seconds_per_prompt']:.2f} s a prompt, {result['sampled_tokens_per_s']:.1f} tokens/s sampled, "
              f"{result['guide_tokens_per_s']:.1f} tokens/s through each guide, {result['peak_rss_bytes'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
