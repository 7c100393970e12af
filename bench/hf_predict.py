"""The peer's predictions: a Hugging Face model with a PEFT adapter over the rows of a file, in eager mode on CPU; prints one JSON line.

Usage:
  python hf_predict.py --model DIR --adapter DIR --input rows.jsonl --output labels.jsonl [--batch 32] [--sort]

As `pipeline(..., batch_size=32)` does: rows in their order, each batch padded to its own longest row, `torch.inference_mode()`. `--sort` takes
rows by length, which a user has to write himself. Labels are those of the adapter's training.json, in its order.

Reported: seconds from the rows read and the model loaded to the last label (tokenisation in), rows per second over them, wall seconds of the
whole process, resident memory after the imports and at its peak (MiB), and accuracy where rows have a label.
"""
import time
T0 = time.time()
import argparse, json, os, resource
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
RSS0 = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

p = argparse.ArgumentParser()
p.add_argument("--model", required=True)
p.add_argument("--adapter", required=True)
p.add_argument("--input", required=True)
p.add_argument("--output", required=True)
p.add_argument("--batch", type=int, default=32)
p.add_argument("--max-length", type=int, default=128)
p.add_argument("--sort", action="store_true")
p.add_argument("--threads", type=int, default=os.cpu_count())
a = p.parse_args()
torch.set_num_threads(a.threads)

rows = [json.loads(line) for line in open(a.input, encoding="utf-8")]
labels = json.load(open(os.path.join(a.adapter, "training.json"), encoding="utf-8"))["labels"]
tok = AutoTokenizer.from_pretrained(a.model)
model = AutoModelForSequenceClassification.from_pretrained(a.model, num_labels=len(labels), dtype=torch.float32)
model = PeftModel.from_pretrained(model, a.adapter).eval()

start = time.time()
ids = [tok(r["text"], truncation=True, max_length=a.max_length)["input_ids"] for r in rows]
order = sorted(range(len(rows)), key=lambda i: -len(ids[i])) if a.sort else range(len(rows))
found = [None] * len(rows)
with torch.inference_mode():
    for s in range(0, len(rows), a.batch):
        chunk = order[s:s + a.batch]
        batch = tok.pad({"input_ids": [ids[i] for i in chunk]}, return_tensors="pt")
        for i, k in zip(chunk, model(**batch).logits.argmax(-1).tolist()): found[i] = labels[k]
seconds = time.time() - start
with open(a.output, "w", encoding="utf-8") as out:
    for label in found: out.write(json.dumps({"label": label}) + "\n")
res = dict(rows=len(rows), seconds=round(seconds, 3), rows_per_second=round(len(rows) / seconds, 2), import_rss_mib=RSS0,
    peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
if "label" in rows[0]: res["accuracy"] = round(sum(f == r["label"] for f, r in zip(found, rows)) / len(rows), 4)
res["wall_s"] = round(time.time() - T0, 2)
print(json.dumps(res))
