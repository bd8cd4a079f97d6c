"""Checks the peers on tiny random models: that what is timed is the search, and that what is counted was done.

    python benches/peers/check.py
"""

import json
import stat
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import generate
import peer
import steer
import w2s_ppo

VOCABULARY, EOS = 61, 7
FOLDER = Path(__file__).parent


def tiny(family, seed):
    """Two layers and wide weights, so that distributions are far from flat."""
    torch.manual_seed(seed)
    common = {"vocab_size": VOCABULARY, "bos_token_id": EOS, "eos_token_id": EOS, "initializer_range": 0.3}
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **common)).eval()
    return LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
                                        num_key_value_heads=2, max_position_embeddings=64, **common)).eval()


def settings(beam_width, successors, chunk_len, head="all"):
    return steer.parse(["--base=", "--tuned=", "--untuned=", "--beam-width", str(beam_width), "--successors", str(successors),
                        "--chunk-len", str(chunk_len), "--head", head])


def score_by_hand(guides, prompt, response):
    """Token by token, each from a forward pass of what stands before it, probabilities in f64."""
    total = 0.0
    for sign, guide in zip((1, -1), guides):
        for at in range(len(response)):
            logits = guide(torch.cat([prompt, response[:at]])[None]).logits[0, -1].double()
            total += sign * (logits[response[at]] - logits.exp().sum().log()).item()
    return total


@torch.inference_mode()
def plain_search(base, guides, prompt, beam_width, successors, chunk_len, new_tokens):
    """The same search with neither cache nor batch; -> (response, score, tokens sampled)."""
    beam = [torch.empty(0, dtype=torch.long)] * (beam_width * successors)
    sampled = 0
    ended = lambda response: len(response) > 0 and response[-1] == EOS
    while True:
        for _ in range(min(chunk_len, new_tokens - max(map(len, beam)))):
            logits = torch.stack([base(torch.cat([prompt, response])[None]).logits[0, -1] for response in beam]) / 0.7
            logits[logits < logits.topk(50).values[:, -1:]] = -torch.inf
            tokens = torch.multinomial(logits.softmax(-1), 1)  # one draw for all rows, as the batch draws
            sampled += sum(not ended(response) for response in beam)
            beam = [response if ended(response) else torch.cat([response, token]) for response, token in zip(beam, tokens)]
            if all(map(ended, beam)):
                break
        scores = torch.tensor([score_by_hand(guides, prompt, response) for response in beam])
        kept = scores.topk(beam_width).indices.tolist()
        if max(map(len, beam)) >= new_tokens or all(ended(beam[row]) for row in kept):
            return beam[kept[0]], scores.max().item(), sampled
        beam = [beam[row] for row in kept] * successors


def check_scorer(guides):
    prompt, responses = torch.tensor([3, 9, 27]), [torch.tensor([1, 2, 3, 4, 5]), torch.tensor([8, EOS]), torch.tensor([20, 30, 40, 50, EOS])]
    lengths = torch.tensor([len(response) for response in responses])
    ids = torch.stack([torch.cat([prompt, response, torch.full((5 - len(response),), EOS)]) for response in responses])
    by_hand = torch.tensor([score_by_hand(guides, prompt, response) for response in responses])
    for head in ("all", "response"):
        scores = steer.implicit_reward(guides, ids, len(prompt), lengths, head)
        assert torch.allclose(scores, by_hand, atol=1e-4), (head, scores, by_hand)
        longer = steer.implicit_reward(guides, ids, len(prompt), lengths + torch.tensor([0, 1, 0]), head)
        assert not torch.allclose(longer, by_hand, atol=1e-4), "padding must not count"


def check_search(base, guides, prompt, seed):
    """Plain sampling and best-of-n are special cases; in general it is what the search without cache finds. -> responses that ended"""
    ended = 0
    for rows, chunk_len in product((1, 4), (1, 3, 99)):
        if rows > 1 and chunk_len < 99:
            continue  # only in one chunk do the rows go their own ways to the end
        args = settings(1, rows, chunk_len)
        torch.manual_seed(seed)
        samples = generate.sample(base, prompt.repeat(rows, 1), args, 20)
        count = generate.sampled_tokens(samples, peer.eos_ids(base))
        samples = [row[: (row == EOS).nonzero()[0, 0] + 1] if EOS in row else row for row in samples]
        torch.manual_seed(seed)
        found, score, sampled, fed = steer.steer(base, guides, prompt, args, 20)
        best = max(samples, key=lambda sample: score_by_hand(guides, prompt, sample))
        assert torch.equal(found, best), (rows, chunk_len, found, best)
        assert sampled == count, (rows, chunk_len, sampled, count)
        assert abs(score - score_by_hand(guides, prompt, best)) < 1e-3
        ended += EOS in found
    for (beam_width, successors, chunk_len), head in product([(2, 3, 2), (3, 2, 4), (4, 4, 5)], ("all", "response")):
        torch.manual_seed(seed)
        expected, expected_score, expected_count = plain_search(base, guides, prompt, beam_width, successors, chunk_len, 11)
        torch.manual_seed(seed)
        found, score, sampled, fed = steer.steer(base, guides, prompt, settings(beam_width, successors, chunk_len, head), 11)
        assert torch.equal(found, expected), (beam_width, successors, chunk_len, found, expected)
        assert sampled == expected_count and abs(score - expected_score) < 1e-3
        ended += EOS in found
    return ended


def check_counts(folder):
    """The commands themselves, on a folder with only a config.json, and compare.py with a stand-in for w2s."""
    model = folder / "model"
    GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, bos_token_id=EOS, eos_token_id=None).save_pretrained(model)
    dirs = [f"--{name}={model}" for name in ("base", "tuned", "untuned")]
    shapes = ["--prompt-tokens=4", "--new-tokens=7", "--chunk-len=3", "--beam-width=2", "--successors=3", "--random-weights", "--json"]

    def run(script, *words):
        return subprocess.run([sys.executable, FOLDER / script, *words], capture_output=True, text=True)

    def printed(script, *words):
        done = run(script, *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    for dtype in ("f32", "bf16"):
        figures = printed("steer.py", *dirs, *shapes, "--dtype", dtype, "--threads=1")
        assert figures["sampled_tokens"] == 2 * 6 * 7 and figures["guide_tokens"] == 2 * 6 * (7 + 10 + 11), figures
        assert figures["threads"] == 1 and len(figures["seconds_of_each_prompt"]) == 2
    figures = printed("generate.py", f"--model={model}", "--rows=3", "--new-tokens=5", "--random-weights", "--json")
    assert figures["sampled_tokens"] == 2 * 3 * 5, figures

    stand_in = folder / "w2s"
    keys = ["seconds_per_prompt", "limit_seconds_per_prompt", "limit_fraction", "sampled_tokens_per_s", "guide_tokens_per_s", "peak_rss_bytes"]
    log = folder / "log"
    stand_in.write_text(f"#!{sys.executable}\nimport json, sys\nopen({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
                        f"print(json.dumps(dict.fromkeys({keys}, 1e-3)))\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    figures = printed("compare.py", f"--w2s={stand_in}", "--times=2", "--threads=1", *dirs, *shapes, "--peer-args=--head response")
    assert [len(runs) for runs in figures["runs"].values()] == [2, 2]
    assert figures["runs"]["peer"][0]["settings"]["head"] == "response"
    assert figures["ratio"] == figures["medians"]["peer"]["seconds_per_prompt"] / 1e-3
    asked = log.read_text().splitlines()
    assert len(asked) == 2 and asked[0].startswith("bench steer --base ") and "--dtype bfloat16" in asked[0], asked
    keys.pop()
    stand_in.write_text(f"#!{sys.executable}\nimport json\nprint(json.dumps(dict.fromkeys({keys}, 1e-3)))\n")
    done = run("compare.py", f"--w2s={stand_in}", *dirs, *shapes)
    assert done.returncode == 1 and "`peak_rss_bytes`" in done.stderr, done.stderr


def check_ppo_figures(run):
    """From journals by hand: the first step is left out, as is what no step of PPO wrote."""
    journal = run / "ppo/policy/L-inf/seed-1/steps.jsonl"
    journal.parent.mkdir(parents=True)
    seconds = [(99, 99, 99), (1, 2, 3), (2, 3, 5), (6, 4, 4)]
    steps = [{"tokens": 50 + 5 * i, "rollouts": 8, "seconds": dict(zip(("rollout", "reward", "update"), of))} for i, of in enumerate(seconds)]
    journal.write_text("".join(json.dumps(step) + "\n" for step in steps))
    lines = [{"time": time, "seconds/update": 1.0, "peak_rss_bytes": time * 10} for time in (100, 106, 116, 132)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [{"time": 5, "objective": 1}, *lines]))
    assert w2s_ppo.figures(run) == {
        "samples_per_s": 0.8, "seconds_per_step": 10, "rollout_seconds": 2, "reward_seconds": 3, "update_seconds": 4,
        "response_tokens_per_step": 480, "sampled_tokens_per_s": 240, "peak_rss_bytes": 1320,
    }, w2s_ppo.figures(run)


def main():
    torch.set_num_threads(1)
    ended = searches = 0
    for family in ("gpt2", "llama"):
        base, *guides = [tiny(family, seed) for seed in range(3)]
        check_scorer(guides)
        for seed, prompt in enumerate(peer.prompts(4, 5, base)):
            ended += check_search(base, guides, prompt, seed)
            searches += 10
    assert 0 < ended < searches, "both ended and truncated responses must occur"
    ids = torch.tensor([[1, 2, 3], [1, EOS, EOS], [EOS, EOS, EOS]])
    assert generate.sampled_tokens(ids, torch.tensor([EOS])) == 3 + 2 + 1
    with tempfile.TemporaryDirectory() as folder:
        check_counts(Path(folder))
        check_ppo_figures(Path(folder) / "run")
    print(f"all as it should be; {ended} of {searches} responses ended by themselves")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
