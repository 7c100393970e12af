"""Logits of a base model with an adapter in AdapterHub's format, as Python's `adapters` computes them:

    python adapterhub_logits.py --model BASE --adapter FOLDER --input rows.jsonl [--static] [--safetensors]

One JSON object a row on stdout, {"logits": [...]}; compare with `peft predict --model BASE --adapter FOLDER --input rows.jsonl --logits`.
FOLDER holds one adapter, or a composition with adapter_setup.json. --static uses transformers' own class with `adapters.init`, as the head's
files name it, or as a causal language model where there is no head: rows are then {"prompt"}, logits those at its last position. Without it, the library's AutoAdapterModel, which converts heads. The library reads .bin files by default; --safetensors asks for
the others. Fails where tensors are missing or unexpected.
"""
import argparse
import json
import os

import adapters
import torch
import transformers

p = argparse.ArgumentParser()
p.add_argument("--model", required=True)
p.add_argument("--adapter", required=True)
p.add_argument("--input", required=True)
p.add_argument("--static", action="store_true")
p.add_argument("--safetensors", action="store_true")
a = p.parse_args()

tokenizer = transformers.AutoTokenizer.from_pretrained(a.model)
if a.static:
    head_file = os.path.join(a.adapter, "head_config.json")
    if os.path.exists(head_file):
        head = json.load(open(head_file))
        model = getattr(transformers, head["model_class"]).from_pretrained(a.model, num_labels=head["num_labels"], dtype=torch.float32)
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    adapters.init(model)
else:
    model = adapters.AutoAdapterModel.from_pretrained(a.model, dtype=torch.float32)

chosen = {"use_safetensors": True} if a.safetensors else {}
if os.path.exists(os.path.join(a.adapter, "adapter_setup.json")):
    model.load_adapter_setup(a.adapter, set_active=True, **chosen)
else:
    info = {}
    model.load_adapter(a.adapter, set_active=True, **chosen, loading_info=info)
    assert not info.get("missing_keys") and not info.get("unexpected_keys"), info
model.eval()

for line in open(a.input, encoding="utf-8"):
    row = json.loads(line)
    batch = tokenizer(row.get("prompt", row.get("text")), row.get("text_pair"), return_tensors="pt", truncation=True)
    with torch.no_grad():
        logits = model(**batch).logits[0]
        print(json.dumps({"logits": (logits[-1] if "prompt" in row else logits).tolist()}))
