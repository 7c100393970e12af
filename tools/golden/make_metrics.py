"""Writes src/tasks/fixtures/metrics.json: metrics as scikit-learn and scipy give them (null: not defined there).

    python tools/golden/make_metrics.py          (environment: scikit-learn scipy)
"""

import json
import math
import random
import warnings
from pathlib import Path

from scipy import stats
from sklearn import metrics

OUT = Path(__file__).resolve().parents[2] / "src/tasks/fixtures/metrics.json"


def classification(name, truth, predicted):
    return {
        "name": name,
        "truth": truth,
        "predicted": predicted,
        "accuracy": metrics.accuracy_score(truth, predicted),
        "macroF1": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
        "matthews": metrics.matthews_corrcoef(truth, predicted),
        "labels": sorted(set(truth) | set(predicted)),
        "confusion": metrics.confusion_matrix(truth, predicted).tolist(),
    }


def regression(name, truth, predicted):
    defined = lambda value: None if math.isnan(value) else value
    return {
        "name": name,
        "truth": truth,
        "predicted": predicted,
        "mse": metrics.mean_squared_error(truth, predicted),
        "pearson": defined(float(stats.pearsonr(truth, predicted).statistic)),
        "spearman": defined(float(stats.spearmanr(truth, predicted).statistic)),
        "ranks": stats.rankdata(predicted).tolist(),
    }


def main():
    warnings.filterwarnings("ignore")
    rng = random.Random(7)
    truth = [rng.randrange(5) for _ in range(60)]
    noisy = [label if rng.random() < 0.6 else rng.randrange(5) for label in truth]
    binary = [rng.randrange(2) for _ in range(40)]
    flipped = [label if rng.random() < 0.7 else 1 - label for label in binary]
    scores = [round(rng.uniform(0, 5), 3) for _ in range(30)]
    ties = [rng.randrange(4) + 0.5 for _ in range(30)]
    data = {
        "classification": [
            classification("five labels", truth, noisy),
            classification("binary", binary, flipped),
            classification("perfect", [0, 1, 2, 1], [0, 1, 2, 1]),
            classification("all wrong", [0, 1, 0, 1], [1, 0, 1, 0]),
            classification("constant predictions", [0, 1, 2, 1], [1, 1, 1, 1]),
            classification("constant truth", [2, 2, 2], [0, 2, 2]),
            classification("constant and right", [3, 3, 3], [3, 3, 3]),
            classification("a label only in truth, one only in predictions", [0, 0, 1, 10, 1], [0, 7, 1, 0, 1]),
        ],
        "regression": [
            regression("noisy", scores, [round(s + rng.gauss(0, 1.0), 4) for s in scores]),
            regression("ties on both sides", ties, [float(rng.randrange(6)) for _ in ties]),
            regression("monotone, not linear", [1.0, 2.0, 3.0, 4.0], [1.0, 8.0, 27.0, 64.0]),
            regression("negative", [1.0, 2.0, 3.0], [-2.0, -4.0, -6.0]),
            regression("constant predictions", [1.0, 2.0, 3.0], [0.5, 0.5, 0.5]),
            regression("constant truth", [2.0, 2.0, 2.0], [0.1, 0.2, 0.3]),
            regression("far from zero", [1e6 + 1, 1e6 + 2, 1e6 + 4], [1e6 + 3, 1e6 + 1, 1e6 + 9]),
        ],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
