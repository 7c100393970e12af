"""Golden candidates of sampling: logits, and the probabilities after transformers' processors and warpers in the order of GenerationMixin.

Run with torch and transformers 5.17: python tools/golden/make_sampling.py. Writes src/generate/fixtures/sampling.json.
"""

import itertools
import json
from pathlib import Path

import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

torch.manual_seed(0)
VOCAB = 24
rows = [torch.randn(VOCAB) * 3, torch.randn(VOCAB) * 0.5, torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0] + [-1.0] * (VOCAB - 5))]
seen = [3, 3, 7, 11]

cases = []
for row, (temperature, top_k, top_p, min_p, penalty) in itertools.product(
    rows, itertools.product([1.0, 0.3, 1.7], [0, 1, 4, 30], [1.0, 0.9, 0.5], [0.0, 0.2], [1.0, 1.3])
):
    if top_p < 1 and row is rows[2]:
        continue  # which of equal tokens stay depends on torch's sort
    scores = row[None].clone()
    ids = torch.tensor([seen])
    if penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
    if temperature != 1:
        scores = TemperatureLogitsWarper(temperature)(ids, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(ids, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(ids, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(ids, scores)
    probabilities = scores.softmax(-1)[0]
    kept = {str(i): round(p, 7) for i, p in enumerate(probabilities.tolist()) if p > 0}
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": penalty}
    cases.append({"row": next(i for i, each in enumerate(rows) if each is row), **options, "kept": kept})

out = Path(__file__).parents[2] / "src/generate/fixtures/sampling.json"
lines = ",\n".join(json.dumps(case) for case in cases)
out.write_text(f'{{"seen": {seen}, "rows": {json.dumps([row.tolist() for row in rows])}, "cases": [\n{lines}\n]}}\n')
print(len(cases), "cases")
