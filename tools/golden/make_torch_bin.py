"""Writes src/io/fixtures/: files that torch.save made, and what torch reads from them.

    python tools/golden/make_torch_bin.py        (environment: torch)

torch-save.bin          a state dict: every dtype that is read, views of other tensors, a tied parameter, `_metadata`
torch-save-protocol4.bin  the same with pickle protocol 4
torch-save-legacy.bin   the format of torch before 1.6, a bare pickle
torch-save.json         {name: {dtype, shape, values}}; values of floats as float32
"""
import collections
import json
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parents[2] / "src/io/fixtures"
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}

torch.manual_seed(1)
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
state = module.state_dict()  # an OrderedDict with `_metadata`; num_batches_tracked is int64
assert isinstance(state, collections.OrderedDict) and state._metadata
block = torch.randn(4, 5, 3)
state["block"] = block
state["transposed"] = block.permute(2, 0, 1)
state["slice"] = block[1:3, ::2, 1]
state["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
state["tied"] = state["parameter"]
state["scalar"] = torch.tensor(2.5)
state["empty"] = torch.zeros(0, 7)
state["row"] = torch.arange(6, dtype=torch.float32).expand(1, -1)
for dtype in (torch.float64, torch.float16, torch.bfloat16):
    state[NAMES[dtype]] = torch.randn(3, 2).to(dtype).t()
for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
    state[NAMES[dtype]] = torch.tensor([0, 1, 2], dtype=dtype)
state["größe.重み"] = torch.ones(1)

OUT.mkdir(exist_ok=True)
torch.save(state, OUT / "torch-save.bin")
torch.save(state, OUT / "torch-save-protocol4.bin", pickle_protocol=4)
torch.save({"a": torch.ones(2)}, OUT / "torch-save-legacy.bin", _use_new_zipfile_serialization=False)
read = torch.load(OUT / "torch-save.bin", weights_only=True)
expected = {
    name: {"dtype": NAMES[t.dtype], "shape": list(t.shape), "values": (t.float() if t.is_floating_point() else t.long()).flatten().tolist()}
    for name, t in read.items()
}
(OUT / "torch-save.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
