"""Writes src/core/fixtures/torch-uniform.json: what torch's CPU generator gives for uniform_, and PEFT's frozen VeRA matrices. torch 2.15, PEFT 0.21.0."""
import json
from pathlib import Path

import torch
from peft.tuners.vera.model import _kaiming_init

FOLDER = Path(__file__).resolve().parents[2] / "src/core/fixtures"


def uniform(seed, size, low, high):
    values = torch.empty(size).uniform_(low, high, generator=torch.Generator(device="cpu").manual_seed(seed))
    return {"seed": seed, "size": size, "low": low, "high": high, "bits": bits(values)}


def matrices(seed, r, out, inner):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    a = _kaiming_init((r, inner), generator=generator)
    b = _kaiming_init((out, r), generator=generator)
    return {"seed": seed, "r": r, "in": inner, "out": out, "A": bits(a), "B": bits(b)}


def bits(values):
    """float32 as the 32-bit integers that hold it; of long ones every 97th and the last."""
    flat = values.flatten().view(torch.int32).tolist()
    return flat if len(flat) <= 32 else flat[::97] + flat[-1:]


golden = {
    # below and above 16 elements, where torch's normal_ changes its algorithm; past the generator's 624 words; seeds beyond 32 bits and below 0
    "uniform": [
        uniform(0, 1, 0, 1), uniform(0, 15, -1, 1), uniform(0, 16, -1, 1), uniform(1, 32, -0.3, 0.7), uniform(42, 5000, -0.1, 0.1),
        uniform(2**32 + 5, 8, -1, 1), uniform(2**53 - 1, 8, -1, 1), uniform(-3, 8, -1, 1),
    ],
    "matrices": [matrices(0, 3, 5, 4), matrices(7, 16, 96, 48), matrices(-1, 2, 3, 7)],
}
FOLDER.mkdir(exist_ok=True)
(FOLDER / "torch-uniform.json").write_text(json.dumps(golden) + "\n")
