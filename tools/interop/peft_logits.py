"""Prints what Hugging Face PEFT computes with a base model and an adapter: one JSON object a row, {"logits": [...]}.

    pip install torch transformers==5.17.0 peft==0.21.0
    python tools/interop/peft_logits.py --model DIR --adapter DIR --input rows.jsonl

Each row is computed alone, without padding, in float32, so the numbers compare with `peft predict --logits`. The task comes from the adapter's
config; the number of labels from its classifier, or from --num-labels. Rows: {"text"[, "text_pair"]} for SEQ_CLS, {"tokens"} for TOKEN_CLS (logits
at each word's first piece), {"prompt"} for CAUSAL_LM (logits at the last position).
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

TASKS = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
    "CAUSAL_LM": AutoModelForCausalLM,
}
HEADS = ("classifier", "score")


def labels_of(adapter):
    """Rows of the head's last weight in adapter_model.safetensors: `classifier.weight`, `classifier.out_proj.weight` or `score.weight`."""
    with safe_open(Path(adapter) / "adapter_model.safetensors", "pt") as file:
        for key in file.keys():
            parts = key.split(".")
            if parts[-1] != "weight" or any(part.startswith("lora_") or part == "original_module" for part in parts):
                continue
            if any(head in parts for head in HEADS) and "dense" not in parts:
                return file.get_slice(key).get_shape()[0]
    return None


def load(model_folder, adapter, num_labels=None):
    config = PeftConfig.from_pretrained(adapter)
    task = getattr(config.task_type, "value", config.task_type)
    if task not in TASKS:
        sys.exit(f"adapter_config.json says task_type {task!r}; this script knows {', '.join(TASKS)}")
    extra = {}
    if task != "CAUSAL_LM":
        num_labels = num_labels or labels_of(adapter)
        if num_labels is None:
            sys.exit("the adapter has no classifier: give --num-labels")
        extra["num_labels"] = num_labels
    base = TASKS[task].from_pretrained(model_folder, dtype=torch.float32, attn_implementation="eager", **extra)
    return task, PeftModel.from_pretrained(base, adapter).eval()


def encode(tokenizer, task, row, room):
    if task == "CAUSAL_LM":
        return tokenizer(row["prompt"]), None
    if task == "TOKEN_CLS":
        encoded = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=room)
        words = encoded.word_ids()
        return encoded, [i for i, word in enumerate(words) if word is not None and word not in words[:i]]
    return tokenizer(row["text"], row.get("text_pair"), truncation=True, max_length=room), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--adapter", required=True, help="folder with adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--input", required=True, help="rows, JSONL")
    parser.add_argument("--num-labels", type=int, help="labels of the head; default: read from the adapter's classifier")
    parser.add_argument("--max-length", type=int, help="tokens a row, special tokens included; default: what the model's positions allow")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    task, model = load(options.model, options.adapter, options.num_labels)
    room = options.max_length or getattr(model.config, "max_position_embeddings", None)
    with open(options.input, encoding="utf-8") as file, torch.no_grad():
        for line in filter(str.strip, file):
            encoded, first_pieces = encode(tokenizer, task, json.loads(line), room)
            # Prompt learning leaves token_type_ids out itself.
            batch = {key: torch.tensor([value]) for key, value in encoded.items() if key in ("input_ids", "attention_mask", "token_type_ids")}
            logits = model(**batch).logits[0]
            if task == "CAUSAL_LM":
                logits = logits[-1]
            elif task == "TOKEN_CLS":
                # Virtual tokens that stand in front of the text have logits of their own.
                offset = logits.shape[0] - len(encoded["input_ids"])
                logits = logits[[offset + i for i in first_pieces]]
            print(json.dumps({"logits": logits.tolist()}), flush=True)


if __name__ == "__main__":
    main()
