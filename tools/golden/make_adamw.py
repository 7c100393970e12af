"""Writes test/golden/adamw.json: five steps of torch.optim.AdamW on three parameters, and clip_grad_norm_.

    python tools/golden/make_adamw.py            (environment: torch)
"""

import json
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parents[2] / "test/golden/adamw.json"
OPTIONS = {"betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.1}
RATES = [1e-2, 2e-2, 5e-3, 0.0, 3e-3]
PARAMS = [
    {"path": "a.weight", "size": 7, "lr_scale": 1.0, "decay": True},
    {"path": "a.bias", "size": 3, "lr_scale": 1.0, "decay": False},
    {"path": "b.weight", "size": 5, "lr_scale": 16.0, "decay": True},
]


def floats(tensor):
    return [float(x) for x in tensor.flatten()]


def main():
    torch.manual_seed(11)
    values = [torch.nn.Parameter(torch.randn(p["size"])) for p in PARAMS]
    initial = [floats(v.detach()) for v in values]
    groups = [
        {"params": [v], "lr": 0.0, "weight_decay": OPTIONS["weight_decay"] if p["decay"] else 0.0} for v, p in zip(values, PARAMS)
    ]
    optimizer = torch.optim.AdamW(groups, betas=tuple(OPTIONS["betas"]), eps=OPTIONS["eps"])
    steps = []
    for number, rate in enumerate(RATES):
        for group, p in zip(optimizer.param_groups, PARAMS):
            group["lr"] = rate * p["lr_scale"]
        # Magnitudes from 1e-6 to 10, and a zero, so that eps and its place count.
        grads = [torch.randn(p["size"]) * 10.0 ** torch.randint(-6, 2, (p["size"],)) for p in PARAMS]
        grads[0][number % 7] = 0.0
        for value, grad in zip(values, grads):
            value.grad = grad.clone()
        optimizer.step()
        steps.append({"learning_rate": rate, "grads": [floats(g) for g in grads], "values": [floats(v.detach()) for v in values]})
    state = {
        "step": len(RATES),
        "m": [floats(optimizer.state[v]["exp_avg"]) for v in values],
        "v": [floats(optimizer.state[v]["exp_avg_sq"]) for v in values],
    }

    clips = []
    for max_norm in (1.0, 0.05, 1e6):
        params = [torch.nn.Parameter(torch.zeros(n)) for n in (6, 1, 9)]
        for p in params:
            p.grad = torch.randn_like(p) * 3
        grads = [floats(p.grad) for p in params]
        norm = torch.nn.utils.clip_grad_norm_(params, max_norm)
        clips.append({"max_norm": max_norm, "grads": grads, "norm": float(norm), "clipped": [floats(p.grad) for p in params]})

    params = [{key: p[key] for key in ("path", "lr_scale", "decay")} | {"values": v} for p, v in zip(PARAMS, initial)]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"options": OPTIONS, "params": params, "steps": steps, "state": state, "clip": clips}, indent=1) + "\n")


if __name__ == "__main__":
    main()
