"""Writes src/train/fixtures/schedules.json: learning rates as transformers' schedulers give them.

    python tools/golden/make_schedules.py        (environment: torch transformers==5.17.0)
"""

import json
import warnings
from pathlib import Path

import torch
from transformers import TrainingArguments, get_scheduler

OUT = Path(__file__).resolve().parents[2] / "src/train/fixtures/schedules.json"
CASES = [(5e-4, 0, 10), (2e-3, 3, 12), (1e-2, 1, 2), (1.0, 5, 5), (0.1, 8, 5), (3e-5, 7, 40), (1e-3, 0, 1)]
RATIOS = [(0.0, 10), (0.06, 100), (0.1, 5), (0.03, 7), (0.5, 3), (0.07, 100), (0.29, 100), (0.999, 1000)]


def rates(kind, learning_rate, warmup_steps, total_steps, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    # `constant` takes no warm-up steps: get_scheduler ignores them there.
    scheduler = get_scheduler(kind, optimizer, num_warmup_steps=warmup_steps, num_training_steps=total_steps)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def main():
    warnings.filterwarnings("ignore")
    schedules = [
        {
            "type": kind,
            "learning_rate": learning_rate,
            "warmup_steps": warmup_steps,
            "total_steps": total_steps,
            "rates": rates(kind, learning_rate, warmup_steps, total_steps, total_steps + 2),
        }
        for kind in ("linear", "cosine", "constant", "constant_with_warmup")
        for learning_rate, warmup_steps, total_steps in CASES
    ]
    # TrainingArguments takes a share of the steps as a warmup_steps below 1.
    ratios = [
        {
            "ratio": ratio,
            "total_steps": total,
            "warmup_steps": TrainingArguments(output_dir="unused", warmup_steps=ratio, use_cpu=True, report_to=[]).get_warmup_steps(total),
        }
        for ratio, total in RATIOS
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"schedules": schedules, "warmup": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
