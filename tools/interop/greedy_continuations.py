"""Greedy continuations of 20 prompts by `peft generate` beside transformers' (float32), and where they part.

    python tools/interop/greedy_continuations.py --model FOLDER [--tokens 64] [--reference FILE] [--peft "node dist/cli/main.js"]

`--reference` keeps Python's side for further runs. Where texts part, the gap between transformers' two largest logits there is printed: a gap
near float32's rounding is a tie, which either may win. Needs torch and transformers. Exit code 1 where texts part at more than 1e-3.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "The three laws of thermodynamics are",
    "Dear Sir or Madam,\n\n",
    "1, 1, 2, 3, 5, 8,",
    "To make a good cup of tea, you",
    "In 1969, Neil Armstrong",
    "SELECT name FROM users WHERE",
    "The difference between a virus and a bacterium is",
    "Q: What is the largest planet in the solar system?\nA:",
    "She opened the door and",
    "Photosynthesis is the process by which",
    "import numpy as np\n\n",
    "The best way to learn a language is",
    "Roses are red,",
    "A train leaves the station at 9:00 and travels at 60 km/h.",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
]


def reference(folder: str, tokens: int) -> list[dict]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        start = time.time()
        out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, output_scores=True, return_dict_in_generate=True)
        seconds = time.time() - start
        ids = out.sequences[0, inputs.input_ids.shape[1] :].tolist()
        gaps = [float(top[0] - top[1]) for top in (score[0].topk(2).values for score in out.scores)]
        lengths = [len(tokenizer.decode(ids[:i], skip_special_tokens=True)) for i in range(1, len(ids) + 1)]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        rows.append({"prompt": prompt, "text": text, "tokens": len(ids), "gaps": gaps, "lengths": lengths, "seconds": seconds})
        print(f"transformers {len(rows)}/{len(PROMPTS)}: {len(ids) / seconds:.1f} tokens/s", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--reference")
    parser.add_argument("--peft", default="node dist/cli/main.js")
    args = parser.parse_args()
    kept = Path(args.reference) if args.reference else None
    if kept is not None and kept.exists():
        rows = json.loads(kept.read_text())
    else:
        rows = reference(args.model, args.tokens)
        if kept is not None:
            kept.write_text(json.dumps(rows))
    parted = 0
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "prompts.jsonl"
        written = Path(folder) / "texts.jsonl"
        given.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
        command = [*args.peft.split(), "generate", "--model", args.model, "--input", str(given), "--output", str(written)]
        subprocess.run([*command, "--max-new-tokens", str(args.tokens)], check=True)
        texts = [json.loads(line) for line in written.read_text().splitlines()]
    for row, got in zip(rows, texts, strict=True):
        if got["text"] == row["text"] and got["tokens"] == row["tokens"]:
            continue
        same = next((i for i, (a, b) in enumerate(zip(got["text"], row["text"])) if a != b), min(len(got["text"]), len(row["text"])))
        at = next((i for i, length in enumerate(row["lengths"]) if length > same), row["tokens"] - 1)
        gap = row["gaps"][at]
        parted += gap > 1e-3
        print(f"{row['prompt']!r} parts at token {at}, where the two largest logits are {gap:.2e} apart:")
        print(f"  transformers {row['text'][same : same + 40]!r}\n  peft         {got['text'][same : same + 40]!r}")
    equal = sum(got["text"] == row["text"] for row, got in zip(rows, texts))
    print(f"{equal} of {len(rows)} continuations of up to {args.tokens} tokens are equal; {parted} part without a tie")
    return int(parted > 0)


if __name__ == "__main__":
    sys.exit(main())
