"""Reads a GGUF adapter with the Python package gguf and compares it with the PEFT adapter that it was made from.

    peft export --model MODEL --adapter ADAPTER --out lora.gguf
    python tools/interop/gguf_adapter.py ADAPTER lora.gguf HEADS KV_HEADS     (environment: gguf numpy safetensors)

HEADS and KV_HEADS are the base's, for Llama's queries and keys, whose rows llama.cpp reorders as convert_hf_to_gguf.py's `permute` does; 0 0 for
the other architectures. For Llama's layer names only. Ends with the largest difference between updates, or with an error.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import load_file

NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def permute(weights, heads):
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def main(folder, file, heads, kv_heads):
    reader = GGUFReader(file)
    field = {name: value.contents() for name, value in reader.fields.items()}
    assert field["general.type"] == "adapter" and field["adapter.type"] == "lora", field
    config = json.loads((Path(folder) / "adapter_config.json").read_text())
    assert not config.get("rank_pattern") and not config.get("alpha_pattern"), "patterns are not looked at here"
    r = config["r"]
    scale = config["lora_alpha"] / (r**0.5 if config.get("use_rslora") else r)
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    own = load_file(Path(folder) / "adapter_model.safetensors")
    most = 0.0
    for key, A in own.items():
        if not (match := re.fullmatch(r"base_model\.model\.model\.layers\.(\d+)\.\w+\.(\w+)\.lora_A\.weight", key)):
            assert "lora_B" in key, f"{key} is not of a layer"
            continue
        name = f"blk.{match[1]}.{NAMES[match[2]]}.weight"
        a, b = tensors.pop(f"{name}.lora_a"), tensors.pop(f"{name}.lora_b")
        update = own[key.replace("lora_A", "lora_B")] @ A * scale
        turned = {"attn_q": heads, "attn_k": kv_heads}.get(NAMES[match[2]], 0)
        assert a.shape == A.shape and b.shape[1] == r, (name, a.shape, b.shape)
        most = max(most, np.abs(b @ a * (field["adapter.lora.alpha"] / b.shape[1]) - (permute(update, turned) if turned else update)).max())
    assert not tensors, f"left over: {sorted(tensors)}"
    print(f"{field['general.architecture']}, alpha {field['adapter.lora.alpha']}: {len(own) // 2} layers, largest difference {most:.2e}")


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
