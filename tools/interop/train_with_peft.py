"""Trains a small LoRA for text classification with Hugging Face PEFT and saves it, to be loaded by Peft.js.

    pip install torch transformers==5.17.0 peft==0.21.0
    python tools/interop/train_with_peft.py --model DIR --input rows.jsonl --output DIR [--steps 20] [--target query --target value]

Rows: {"text"[, "text_pair"], "label"}, labels strings or integers. Label ids are the labels' order: integers by value, strings by code point;
they are written to OUTPUT/labels.json.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--input", required=True, help="rows with labels, JSONL")
    parser.add_argument("--output", required=True, help="folder for the adapter")
    parser.add_argument("--target", action="append", help="target module, repeatable (default: query and value); all-linear stands alone")
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--r", type=int, default=8, help="rank")
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--bias", choices=["none", "all", "lora_only"], default="none")
    parser.add_argument("--rslora", action="store_true", help="scale by alpha / sqrt(r)")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row, special tokens included")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    rows = [json.loads(line) for line in Path(options.input).read_text(encoding="utf-8").splitlines() if line.strip()]
    labels = sorted({row["label"] for row in rows})
    if len(labels) < 2:
        sys.exit(f"{options.input} has {len(labels)} label; a classifier needs at least 2")
    id_of = {label: i for i, label in enumerate(labels)}
    torch.manual_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    base = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=len(labels), dtype=torch.float32)
    targets = options.target or ["query", "value"]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=options.r,
        lora_alpha=options.alpha,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        bias=options.bias,
        use_rslora=options.rslora,
    )
    model = get_peft_model(base, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=options.learning_rate, weight_decay=0.0)
    order = []
    for step in range(options.steps):
        while len(order) < options.batch:
            order += torch.randperm(len(rows)).tolist()
        chosen, order = [rows[i] for i in order[: options.batch]], order[options.batch :]
        pairs = [row.get("text_pair") for row in chosen]
        batch = tokenizer(
            [row["text"] for row in chosen],
            [pair or "" for pair in pairs] if any(pairs) else None,
            padding=True, truncation=True, max_length=options.max_length, return_tensors="pt",
        )
        loss = model(**batch, labels=torch.tensor([id_of[row["label"]] for row in chosen])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(json.dumps({"step": step + 1, "loss": loss.item()}), flush=True)
    model.save_pretrained(options.output)
    Path(options.output, "labels.json").write_text(json.dumps(labels, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
