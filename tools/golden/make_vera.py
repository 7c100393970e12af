"""Writes test/golden/peft/cases/*-vera*: adapters of PEFT's VeRA on the tiny base models there, and the logits that PEFT gives with them.

    python tools/golden/make_vera.py           (environment: torch transformers==5.17.0 peft==0.21.0)

Trained values are seeded noise; the expected values come from the files loaded anew, one row at a time, float32, eval mode.
"""

import json
import os
import re
import shutil
import sys
import zlib
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT orders target modules by a set
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import peft
import torch
import transformers
from peft import PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "test/golden/peft"
TOLERANCE = 2e-4


def load_base(base, seed):
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(GOLDEN / "bases" / base, num_labels=3, dtype=torch.float32).eval()


def logits(model, tokenizer, rows):
    with torch.no_grad():
        return torch.cat([model(**tokenizer(row["text"], row.get("text_pair"), return_tensors="pt")).logits for row in rows])


def randomise(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if "vera_lambda_d" in name:
                p.copy_(0.5 + 0.5 * noise)
            elif "vera_lambda_b" in name:
                p.copy_(0.3 * noise)
            elif p.requires_grad:
                p.add_(0.3 * noise)


def number(x):
    """The shortest decimal that reads back as the same float32."""
    return float(str(np.float32(x)))


def make(name, base, note, **config):
    folder = GOLDEN / "cases" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lines = (GOLDEN / f"cases/{base}-lora{'-dora' if base == 'bert' else ''}/input.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in lines.splitlines()]
    seed = zlib.crc32(name.encode())
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "bases" / base)
    model = get_peft_model(load_base(base, seed), VeraConfig(task_type="SEQ_CLS", **config))
    randomise(model, seed)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter/README.md").unlink()
    (folder / "adapter/adapter_model.safetensors").chmod(0o644)
    config_file = folder / "adapter/adapter_config.json"
    saved = json.loads(config_file.read_text()) | {"base_model_name_or_path": f"bases/{base}"}
    config_file.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")

    loaded = PeftModel.from_pretrained(load_base(base, 777), folder / "adapter").eval()
    values = logits(loaded, tokenizer, rows)
    assert (values - logits(model.eval(), tokenizer, rows)).abs().max() < 2e-5
    stored = load_file(folder / "adapter/adapter_model.safetensors")
    assert ("base_model.vera_A" in stored) == config.get("save_projection", True)
    # Without the adapter, but with its head and what else it holds in full.
    whole = {re.sub(r"^base_model\.model\.", "", key).replace(".base_layer.", "."): value for key, value in stored.items()}
    bare = load_base(base, 777)
    bare.load_state_dict(whole, strict=False)
    change = (values - logits(bare, tokenizer, rows)).abs().max().item()
    exact = logits(loaded.double(), tokenizer, rows)
    rounding = ((values - exact).abs() / exact.abs().clamp(min=1)).max().item()
    assert change > 0.3 and rounding < TOLERANCE / 8, (name, change, rounding)

    labels = [loaded.config.id2label[i] for i in range(3)]
    top = values.topk(2).values
    assert (top[:, 0] - top[:, 1]).min() > 0.01 and values.std(0).max() > 0.3, name
    expected = [
        {"label": labels[int(row.argmax())], "score": number(row.double().softmax(-1).max()), "logits": [number(x) for x in row]} for row in values
    ]
    case = {
        "base": base, "task": "text-classification", "library": f"peft {peft.__version__}", "tolerance": TOLERANCE, "note": note,
        "max_abs_change": round(change, 4), "float64_diff": float(f"{rounding:.1e}"),
    }
    (folder / "input.jsonl").write_text(lines, encoding="utf-8")
    (folder / "expected.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in expected), encoding="utf-8")
    (folder / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name:24} change {change:.3f}, rounding {rounding:.1e}, {len(stored)} tensors")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    make("bert-vera", "bert", "VeRA on query and value, A and B in the file", r=12, target_modules=["query", "value"])
    make("bert-vera-drawn", "bert", "all-linear: A and B are of the largest sizes, drawn from the seed; biases of the adapted layers",
         r=5, target_modules="all-linear", save_projection=False, projection_prng_key=7, bias="vera_only")
    make("distilbert-vera", "distilbert", "one layer of three, sizes that differ", r=7, target_modules=["q_lin", "lin1", "lin2"], layers_to_transform=[1])
    make("distilbert-vera-drawn", "distilbert", "A and B drawn from seed 0; all biases", r=9, target_modules=["q_lin", "v_lin"], save_projection=False, bias="all")
    make("roberta-vera", "roberta", "targets by a regular expression", r=6, target_modules=r".*\.(query|output\.dense)", projection_prng_key=3)
    make("roberta-vera-drawn", "roberta", "A and B drawn from a seed beyond 32 bits", r=300, target_modules=["value"], save_projection=False, projection_prng_key=2**32 + 11)


if __name__ == "__main__":
    main()
