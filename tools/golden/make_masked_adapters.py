"""Writes test/golden/masked/hub-<case>/: adapters with masked_lm heads as Python's `adapters` saves them, over the base of the case `bert`.

    python tools/golden/make_masked_adapters.py             (environment: torch adapters==1.3.0; after make_masked.py)

`adapter/` is what save_adapter(..., with_head=True, use_safetensors=True) wrote, or save_adapter_setup for a stack. AdapterHub's own heads
undo the invertible adapter of the first active adapter before their last matrix; the script asserts that it matters.
"""

import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import make_masked as base
import torch
import transformers
from adapters import BertAdapterModel
from adapters.composition import Stack


def make(name, note, adapters, head=None):
    folder = base.OUT / f"hub-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model = BertAdapterModel.from_pretrained(base.OUT / "bert", dtype=torch.float32)
    last = list(adapters)[-1]
    for each, config in adapters.items():
        model.add_adapter(each, config=config)
    model.add_masked_lm_head(last, **(head or {}))
    model.set_active_adapters(Stack(*adapters) if len(adapters) > 1 else last)
    model.eval()
    words = model.bert.embeddings.word_embeddings.weight
    torch.manual_seed(len(name))
    with torch.no_grad():
        for p_name, p in model.named_parameters():
            if any(part in p_name for part in ("adapters.", "heads.")) and p is not words:
                p.copy_(1 + 0.3 * torch.randn_like(p)) if p_name.endswith("2.weight") and p.ndim == 1 else p.normal_(0, 0.3)
    place = folder / "adapter"
    place.mkdir(parents=True)
    if len(adapters) > 1:
        model.save_adapter_setup(place, Stack(*adapters), head_setup=last, use_safetensors=True)
    else:
        model.save_adapter(place, last, with_head=True, use_safetensors=True)
    expected = base.evaluate(model)
    if any("inv" in config for config in adapters.values()):
        invertible = model.bert.get_invertible_adapter()
        forward = invertible.forward
        invertible.forward = lambda x, rev=False: x if rev else forward(x)
        moved = base.distance(expected, base.evaluate(model))
        assert moved > 1e-2, (name, moved)
        print(f"{name:16} not undoing the invertible adapter moves the numbers by {moved:.3g}")
    for file in folder.rglob("*.json"):
        saved = json.loads(file.read_text())
        if "model_name" in saved:
            file.write_text(json.dumps(saved | {"model_name": "bert"}, indent=2, sort_keys=True) + "\n")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    (folder / "expected.json").write_text(json.dumps({"note": note} | expected) + "\n")


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    make("seq_bn", "a masked_lm head without invertible adapters", {"lang": "seq_bn[reduction_factor=4]"})
    make("seq_bn_inv", "the invertible adapter is undone before the last matrix", {"lang": "seq_bn_inv[reduction_factor=4]"})
    make("head-layers", "three layers, tanh", {"lang": "seq_bn_inv[reduction_factor=4]"}, {"layers": 3, "activation_function": "tanh"})
    make("stack", "of a stack the first adapter's is undone", {"lang": "seq_bn_inv[reduction_factor=4]", "task": "seq_bn[reduction_factor=4]"})


if __name__ == "__main__":
    main()
