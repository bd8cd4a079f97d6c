"""Makes statistics.json, which src/report/statistics/tests/golden.rs compares with: intervals, tests and corrections of scipy, statsmodels and numpy.

    python -m pip install scipy statsmodels
    python tests/golden/statistics.py

The values are in 1/1024, so that JSON holds them exactly.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower, normal_power

HERE = Path(__file__).resolve().parent
RESAMPLES = 10_000
RANDOM = np.random.default_rng(43)


def drawn(n):
    """The indices of all resamples of n values: SplitMix64 from the state 0, its outputs' high halves scaled."""
    z = np.arange(1, RESAMPLES * n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z = z ^ z >> np.uint64(31)
    return ((z >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)).astype(np.int64).reshape(RESAMPLES, n)


def interval(values):
    return np.quantile(values[drawn(len(values))].mean(axis=1), [0.025, 0.975]).tolist()


def by_scipy(*samples):
    statistic = (lambda a, b, axis: a.mean(axis) - b.mean(axis)) if len(samples) == 2 else np.mean
    found = stats.bootstrap(samples, statistic, paired=True, n_resamples=RESAMPLES, method="percentile", rng=RANDOM)
    return list(found.confidence_interval)


def pair(n, gain):
    """Values of two methods on the same prompts, ties among them; what everyone makes of them."""
    b = (1024 * RANDOM.gamma(2.0, size=n)).round() / 1024
    a = (1024 * (0.6 * b + gain + RANDOM.standard_t(4, size=n))).round() / 1024
    a[:: max(2, n // 5)] = b[:: max(2, n // 5)]
    wins, losses = int((a > b).sum()), int((a < b).sum())
    error = stats.sem(a - b)
    detectable = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error
    power = normal_power(detectable / (a - b).std(ddof=1), n, 0.05)
    assert abs(power - 0.8) < 1e-5, power
    if n > 30:
        by_t = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8) * (a - b).std(ddof=1)
        assert 0 < by_t / detectable - 1 < 2 / n, (by_t, detectable)
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "bootstrap95": interval(a),
        "scipy_bootstrap95": by_scipy(a),
        "difference_bootstrap95": interval(a - b),
        "scipy_difference_bootstrap95": by_scipy(a, b),
        "p": float(stats.ttest_rel(a, b).pvalue),
        "wins": wins,
        "losses": losses,
        "p_wins": float(stats.binomtest(wins, wins + losses).pvalue),
        "p_mcnemar": float(mcnemar([[0, wins], [losses, 0]], exact=True).pvalue),
        "standard_error": float(error),
        "detectable": float(detectable),
    }


def main():
    warnings.simplefilter("error")
    sizes = [(2, 1.0), (3, 0.0), (7, 0.2), (60, 0.3), (60, 4.0), (200, 0.05), (805, 0.1), (805, -1.0)]
    pairs = [pair(n, gain) for n, gain in sizes]
    families = [[p["p"] for p in pairs], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.02, 0.02], [1.0, 0.9], [0.03]]
    families = [{"p": p, "holm": multipletests(p, method="holm")[1].tolist()} for p in families]
    signs = [[0, 1], [5, 0], [1, 9], [30, 12], [400, 405], [700, 105]]
    signs = [{"wins": w, "losses": l, "p_wins": float(stats.binomtest(w, w + l).pvalue)} for w, l in signs]
    text = json.dumps({"draws": drawn(7)[[0, 1, -1]].tolist(), "pairs": pairs, "families": families, "signs": signs})
    (HERE / "statistics.json").write_text(text + "\n")


main()
