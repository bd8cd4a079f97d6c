"""Recomputes the numbers of a run's summary.json from its journals alone: recompute.py RUN. Independent of the program: numpy and the definitions."""
import json, math, pathlib, sys
import numpy as np
RUN, told = pathlib.Path(sys.argv[1]), 0
SUMMARY = json.loads((RUN / "evaluate/summary.json").read_text())
def same(what, ours, theirs, by=1e-9):
    global told
    told += 1
    assert theirs is not None and np.allclose(ours, theirs, rtol=by, atol=by), f"{what}: recomputed {ours}, the summary says {theirs}"
def interval(v):  # the percentile bootstrap, its draws the high halves of SplitMix64's outputs from the state 0
    z = np.arange(1, 10_000 * len(v) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    draws = ((z ^ z >> np.uint64(31)) >> np.uint64(32)) * np.uint64(len(v)) >> np.uint64(32)
    return np.quantile(v[draws.astype(int).reshape(10_000, len(v))].mean(axis=1), [0.025, 0.975])
def t_test(d):  # two-sided; Student's t is √ν · tan θ with a density of cos^(ν − 1) θ
    tail = lambda low: np.trapezoid(np.cos(x := np.linspace(low, np.pi / 2, 1_000_001)) ** (len(d) - 2), x)
    return tail(np.arctan(abs(d.mean()) / (d.std(ddof=1) / len(d) ** 0.5) / (len(d) - 1) ** 0.5)) / tail(0.0)
def grams(n, text): return list(zip(*(text.split()[i:] for i in range(n))))
by_prompt = {}
for row in (row for row in SUMMARY["rows"] if "not_applicable" not in row):
    name, seeds, texts = (row["base"], row["method"]), [], []
    for file in sorted((RUN / "steer" / name[0] / name[1]).glob("seed-*.jsonl"), key=lambda file: int(file.stem[5:])):
        texts += [line["response"] for line in map(json.loads, file.open())]
        seeds.append({line["id"]: line["reward"] for line in map(json.loads, (RUN / "evaluate/gold" / file.relative_to(RUN / "steer")).open())})
    by_prompt[name] = v = np.array([np.mean([seed[id] for seed in seeds]) for id in sorted(seeds[0])])
    means, reward = [np.mean(list(seed.values())) for seed in seeds], row["gold_reward"]
    found = {"mean": v.mean(), "seeds": means, "bootstrap95": interval(v), "ci95": 1.96 * v.std(ddof=1) / len(v) ** 0.5}
    for key, value in {**found, **({"seed_std": np.std(means, ddof=1)} if len(means) > 1 else {})}.items(): same(f"{name} {key}", value, reward.get(key))
    for n in (1, 2, 3): same(f"{name} distinct-{n}", len({g for t in texts for g in grams(n, t)}) / max(1, sum(len(grams(n, t)) for t in texts)), row[f"distinct_{n}"])
    same(f"{name} repetition", np.mean([1 - len(set(g)) / len(g) if (g := grams(4, t)) else 0 for t in texts]), row["repetition_4"])
for it in (it for it in SUMMARY["comparisons"] if it["judge"] == "gold"):
    d = by_prompt[it["base"], it["a"]] - by_prompt[it.get("against", it["base"]), it["b"]]
    w, l = int((d > 0).sum()), int((d < 0).sum())
    signs = min(1, 2 * sum(math.comb(w + l, k) for k in range(min(w, l) + 1)) / 2 ** (w + l))
    for key, value in {"difference": d.mean(), "bootstrap95": interval(d), "wins": w, "losses": l, "p_wins": signs}.items(): same(f"{it} {key}", value, it[key])
    if d.std() > 0: same(f"{it} p", t_test(d), it["p"], 1e-7)
    family = sorted(o["p"] for o in SUMMARY["comparisons"] if "p" in o and all(o.get(k) == it.get(k) for k in ("judge", "base", "against", "b")))
    if "p" in it: same(f"{it} Holm", max(min(1, p * (len(family) - i)) for i, p in enumerate(family) if p <= it["p"]), it["p_holm"])
print(f"{told} numbers are those of the journals")
