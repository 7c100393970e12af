"""Writes src/compare/fixtures/statistics.json: intervals, tests and adjusted p-values as scipy and statsmodels give them.

    python tools/golden/make_statistics.py          (environment: scipy statsmodels)
"""

import json
from pathlib import Path

import numpy as np
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

OUT = Path(__file__).resolve().parents[2] / "src/compare/fixtures/statistics.json"


def interval(name, data, level, seed):
    """scipy's interval with the rows that its generator drew, so that the same resamples can be judged elsewhere."""
    resamples = 200
    result = stats.bootstrap(
        (data,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", vectorized=True, rng=np.random.default_rng(seed)
    )
    rows = np.random.default_rng(seed).integers(0, len(data), (resamples, len(data)))
    assert np.array_equal(np.mean(data[rows], axis=-1), result.bootstrap_distribution)
    low, high = result.confidence_interval
    return {"name": name, "data": data.tolist(), "rows": rows.tolist(), "level": level, "low": float(low), "high": float(high)}


def exchanged(difference, rows, draws):
    """The test itself: rows 0.. of the first method and rows.. of the second change places, all ways of it for at most 12."""
    exact = rows <= 12
    result = stats.permutation_test(
        (np.arange(rows), np.arange(rows) + rows),
        difference,
        permutation_type="samples",
        n_resamples=np.inf if exact else draws,
        rng=np.random.default_rng(1),
    )
    return {"exact": exact, "p": float(result.pvalue)}


def exchange(name, rng, rows, seeds, better):
    """The paired permutation test of F1, of counts (right, wanted, found) summed over rows that two methods exchange."""
    wanted = np.broadcast_to(rng.integers(0, 4, rows), (2, seeds, rows))
    found = rng.integers(0, 4, (2, seeds, rows))
    right = np.minimum(np.minimum(wanted, found), rng.integers(0, 3, (2, seeds, rows)) + np.array([better, 0])[:, None, None])
    counts = np.stack([right, wanted, found], axis=-1)
    both = np.concatenate(counts, axis=1)  # [seeds, 2·rows, 3]

    def difference(x, y):
        sums = [both[:, rows_of.astype(int)].sum(axis=1) for rows_of in (x, y)]
        scores = [2 * each[:, 0] / np.maximum(each[:, 1] + each[:, 2], 1) for each in sums]
        return np.mean(scores[0] - scores[1])

    return {"name": name, "first": counts[0].tolist(), "second": counts[1].tolist(), **exchanged(difference, rows, 50_000)}


def correlation(name, seed, rows, seeds, noise):
    """The paired permutation test of Pearson's correlation between truth and answers, standardised and exchanged between two methods."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 11, rows) / 2
    scales = np.array([1, 4])[:, None, None]  # the second method answers on a wider scale
    answers = scales * (truth + rng.normal(0, 1, (2, seeds, rows)) * np.array(noise)[:, None, None]) + 3
    both = np.concatenate(stats.zscore(answers, axis=-1), axis=-1)  # [seeds, 2·rows]

    def difference(x, y):
        scores = [[stats.pearsonr(each, truth).statistic for each in both[:, rows_of.astype(int)]] for rows_of in (x, y)]
        return np.mean(scores[0]) - np.mean(scores[1])

    return {"name": name, "first": answers[0].tolist(), "second": answers[1].tolist(), "truth": truth.tolist(), **exchanged(difference, rows, 20_000)}


def main():
    rng = np.random.default_rng(5)
    pairs = [(0, 0), (1, 0), (3, 9), (9, 3), (10, 14), (12, 12), (10, 15), (5, 30), (20, 21), (13, 13), (100, 160), (2, 90)]
    permutations = []
    for name, differences in [
        ("ten, shifted", rng.normal(0.8, 1, 10)),
        ("eleven, centred", rng.normal(0, 1, 11)),
        ("right and wrong", np.array([1, 1, 0, -1, 1, 1, 0, 0, 1])),
        ("sixty, shifted", rng.normal(0.3, 1, 60)),
        ("sixty, centred", rng.normal(0, 1, 60)),
    ]:
        exact = len(differences) <= 12
        result = stats.permutation_test(
            (differences, np.zeros_like(differences)),
            lambda x, y, axis: np.sum(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf if exact else 200_000,
            rng=np.random.default_rng(1),
        )
        permutations.append({"name": name, "differences": differences.tolist(), "exact": exact, "p": float(result.pvalue)})
    ps = [[0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.01], [0.9], [0.5, 0.6, 0.7], [0.001, 0.0011, 0.0012, 0.04, 0.05, 0.3]]
    data = {
        "intervals": [
            interval("normal", rng.normal(3, 2, 30), 0.95, 11),
            interval("right or wrong", (rng.random(40) < 0.8).astype(float), 0.95, 12),
            interval("skewed, 90 %", rng.exponential(1, 25), 0.9, 13),
        ],
        "mcnemar": [
            {
                "a": a,
                "b": b,
                "exact": float(mcnemar([[7, a], [b, 7]], exact=True).pvalue) if a + b > 0 else 1.0,
                "corrected": float(mcnemar([[7, a], [b, 7]], exact=False, correction=True).pvalue) if a != b else None,
            }
            for a, b in pairs
        ],
        "permutation": permutations,
        "exchange": [
            exchange("ten rows", rng, 10, 1, 1),
            exchange("eleven rows, two seeds", rng, 11, 2, 0),
            exchange("sixty rows, three seeds", rng, 60, 3, 1),
            exchange("sixty rows, alike", rng, 60, 1, 0),
        ],
        "correlation": [
            correlation("ten rows", 21, 10, 1, [1, 2]),
            correlation("eleven rows, two seeds", 22, 11, 2, [2, 2]),
            correlation("forty rows, two seeds", 23, 40, 2, [2, 3]),
            correlation("forty rows, alike", 24, 40, 1, [2, 2]),
        ],
        "holm": [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in ps],
        "erfc": [{"x": x, "y": float(special.erfc(x))} for x in [0.0, 0.1, 0.5, 1.0, 1.7, 2.5, 2.99, 3.0, 4.0, 6.0]],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
