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
        "holm": [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in ps],
        "erfc": [{"x": x, "y": float(special.erfc(x))} for x in [0.0, 0.1, 0.5, 1.0, 1.7, 2.5, 2.99, 3.0, 4.0, 6.0]],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
