"""Writes src/ops/fixtures/nf4.json: numbers as bitsandbytes 0.4x's blockwise NF4 stores them, block size 64, by numpy alone.

The table and the borders are those of its csrc (dDequantizeNF4, dQuantizeNF4); a number goes to the upper of two neighbours where it is larger than
the border between them, and the first of two codes stands in the upper half of a byte. Run: python tools/golden/make_nf4.py
"""

import json
from pathlib import Path

import numpy as np

TABLE = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    dtype=np.float32,
)
# csrc/kernels.cu, dQuantizeNF4: from the lowest border to the highest
BORDERS = np.array(
    [
        -0.8480964004993439,
        -0.6106329262256622,
        -0.4599952697753906,
        -0.33967943489551544,
        -0.23460740596055984,
        -0.13791173323988914,
        -0.045525018125772476,
        0.03979014977812767,
        0.1202552504837513,
        0.2035212516784668,
        0.2920137718319893,
        0.3893125355243683,
        0.5016634166240692,
        0.6427869200706482,
        0.8614784777164459,
    ],
    dtype=np.float32,
)


def quantize(weight: np.ndarray, block: int = 64) -> tuple[np.ndarray, np.ndarray]:
    flat = weight.astype(np.float32).reshape(-1, block)
    absmax = np.abs(flat).max(axis=1)
    normalised = flat / np.where(absmax == 0, np.float32(1), absmax)[:, None]
    codes = np.searchsorted(BORDERS, normalised.reshape(-1), side="left").astype(np.uint8)
    return (codes[0::2] << 4) | codes[1::2], absmax


def main() -> None:
    rng = np.random.default_rng(7)
    weight = rng.normal(size=(8, 48)).astype(np.float32) * rng.uniform(0.01, 3, size=(8, 1)).astype(np.float32)
    weight[2, 32:] = 0  # with the next row's first half: a block of zeros
    weight[3, :48] = 0
    packed, absmax = quantize(weight)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)
    restored = (TABLE[codes].reshape(-1, 64) * absmax[:, None]).reshape(weight.shape)
    out = Path(__file__).parents[2] / "src/ops/fixtures/nf4.json"
    out.parent.mkdir(exist_ok=True)
    fields = {"weight": weight, "packed": packed, "absmax": absmax, "restored": restored}
    out.write_text(json.dumps({"shape": [8, 48], **{k: v.reshape(-1).astype(float).tolist() for k, v in fields.items()}}) + "\n")


if __name__ == "__main__":
    main()
