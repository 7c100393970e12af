"""Compares merging and combining with transformers and PEFT, one line a comparison; exit 1 where any is beyond the tolerance.

    pip install torch transformers==5.17.0 peft==0.21.0
    python tools/interop/merge_parity.py --peft "npx peft" --model DIR --adapter a=DIR --adapter b=DIR --input rows.jsonl

Adapters of text classification in PEFT's format; rows {"text"[, "text_pair"]}. For each adapter: `peft merge` writes a checkpoint, which
transformers loads; its logits are compared with `peft predict` on base and adapter, and its weights with PEFT's `merge_and_unload`. For each pair
of LoRA adapters and each of linear and cat: `peft combine`, and PEFT's `add_weighted_adapter`. PEFT refuses adapters that both bring a classifier,
so there they are loaded without, on a base that has the first one's.
"""

import argparse
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

HEADS = ("classifier.", "score.", "pre_classifier.")
PREFIX = "base_model.model."


def classes(**options):
    return dict(dtype=torch.float32, attn_implementation="eager", **options)


def head_of(adapter):
    """The adapter's own tensors of the task's head, by their names in the model."""
    tensors = load_file(Path(adapter) / "adapter_model.safetensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.removeprefix(PREFIX).startswith(HEADS)}


def with_head(model_folder, adapter):
    head = head_of(adapter)
    last = next(head[name] for name in ("score.weight", "classifier.out_proj.weight", "classifier.weight") if name in head)
    labels = last.shape[0]
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, **classes(num_labels=labels))
    assert not model.load_state_dict(head, strict=False).unexpected_keys
    return model


def without_head(adapter, folder):
    """A copy of the adapter that brings no head."""
    folder.mkdir(parents=True)
    config = json.loads((Path(adapter) / "adapter_config.json").read_text())
    config.update(modules_to_save=None, task_type=None)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(Path(adapter) / "adapter_model.safetensors")
    save_file({k: v for k, v in tensors.items() if not k.removeprefix(PREFIX).startswith(HEADS)}, folder / "adapter_model.safetensors", {"format": "pt"})
    return str(folder)


def logits(model, tokenizer, rows, room):
    model.eval()
    out = []
    for row in rows:
        batch = tokenizer(row["text"], row.get("text_pair"), return_tensors="pt", truncation=True, max_length=room)
        with torch.no_grad():
            out.append(model(**batch).logits[0])
    return torch.stack(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peft", default="npx peft", help="how the command line is called")
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--adapter", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--input", required=True, help="rows, JSONL")
    parser.add_argument("--tolerance", type=float, default=2e-4)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    adapters = dict(each.split("=", 1) for each in options.adapter)
    rows = [json.loads(line) for line in Path(options.input).read_text(encoding="utf-8").splitlines() if line.strip()]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    room = min(tokenizer.model_max_length, 512)
    place = Path(tempfile.mkdtemp())
    over = []

    def report(what, difference, note=""):
        if not difference <= options.tolerance:
            over.append(what)
        print(f"{what:58} {difference:.1e}{note}", flush=True)

    def peft(*args):
        done = subprocess.run([*shlex.split(options.peft), *args], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(args)}:\n{done.stderr}")
        return done.stdout

    def predicted(*model):
        lines = peft("predict", *model, "--input", options.input, "--logits").splitlines()
        return torch.tensor([json.loads(line)["logits"] for line in lines])

    def difference(a, b):
        return (a - b).abs().max().item()

    ours = {name: predicted("--model", options.model, "--adapter", adapter) for name, adapter in adapters.items()}
    for name, adapter in adapters.items():
        out = place / f"merged-{name}"
        said = json.loads(peft("merge", "--model", options.model, "--adapter", adapter, "--data", options.input, "--out", str(out), "--json"))
        model, info = AutoModelForSequenceClassification.from_pretrained(out, **classes(), output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
        bare = logits(with_head(options.model, adapter), tokenizer, rows, room)
        report(f"{name}: merge's own figure", said["max_abs_difference"])
        report(
            f"{name}: transformers on the merged checkpoint", difference(logits(model, tokenizer, rows, room), ours[name]),
            f"   (the adapter moves logits by {difference(bare, ours[name]):.2f})",
        )
        if json.loads((Path(adapter) / "adapter_config.json").read_text())["peft_type"] in ("LORA", "IA3"):
            theirs = PeftModel.from_pretrained(with_head(options.model, adapter), without_head(adapter, place / f"merge-{name}")).merge_and_unload()
            mine = model.state_dict()
            report(f"{name}: weights of PEFT's merge_and_unload", max(difference(v, mine[k]) for k, v in theirs.state_dict().items()))
        shutil.rmtree(out)

    loras = [name for name, adapter in adapters.items() if json.loads((Path(adapter) / "adapter_config.json").read_text()).get("use_dora") is False]
    for (a, b), kind, weights in itertools.product(itertools.combinations(loras, 2), ("linear", "cat"), ((0.7, 0.3), (1.5, -0.5))):
        what = f"{kind} of {weights[0]} {a} and {weights[1]} {b}"
        out = place / f"{kind}-{a}-{b}-{weights[1]}"
        named = [word for name in (a, b) for word in ("--adapter", f"{name}={adapters[name]}")]
        peft("combine", "--model", options.model, "--type", kind, *named, f"--weights={weights[0]},{weights[1]}", "--out", str(out))
        model = with_head(options.model, adapters[a])
        plain = {name: without_head(adapters[name], place / f"{out.name}-{name}") for name in (a, b)}
        model = PeftModel.from_pretrained(model, plain[a], adapter_name=a)
        model.load_adapter(plain[b], adapter_name=b)
        model.add_weighted_adapter([a, b], list(weights), "both", combination_type=kind)
        model.set_adapter("both")
        theirs = logits(model, tokenizer, rows, room)
        mine = predicted("--model", options.model, "--adapter", str(out))
        report(f"{what}: PEFT's add_weighted_adapter", difference(theirs, mine), f"   (from {a} alone: {difference(mine, ours[a]):.2f})")
        loaded = PeftModel.from_pretrained(with_head(options.model, adapters[a]), str(out))
        report(f"{what}: PEFT on our file", difference(logits(loaded, tokenizer, rows, room), mine))
    shutil.rmtree(place)
    if over:
        sys.exit(f"beyond {options.tolerance}: {'; '.join(over)}")


if __name__ == "__main__":
    main()
