"""Adds cases to test/golden/peft/cases/: adapters that Hugging Face PEFT saved on the tiny bases there, and the logits that it gives.

    python tools/golden/make_peft_variants.py [--out DIR] [--bases DIR] [--all] [--only REGEX]

(environment: torch transformers==5.17.0 peft==0.21.0.) Without options: the committed cases. --all: many more, for a folder elsewhere.
Every trained tensor is random and off zero; the adapter is read back into a base with another head before the logits are computed, float32,
one row at a time. Rows are those of the cases bert-lora-dora and bert-token-lora.
"""

import argparse
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
import peft
import torch
import transformers
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "test/golden/peft"
TEXTS, TAGS = "text-classification", "token-classification"
AUTO = {TEXTS: AutoModelForSequenceClassification, TAGS: AutoModelForTokenClassification}
TYPES = {TEXTS: "SEQ_CLS", TAGS: "TOKEN_CLS"}
TOLERANCE = 2e-4
PROMPT = "Is this café's message good, bad or neither?"


def rows_of(task):
    case = {TEXTS: "bert-lora-dora", TAGS: "bert-token-lora"}[task]
    return [json.loads(line) for line in (GOLDEN / "cases" / case / "input.jsonl").read_text().splitlines()]


def encode(tokenizer, task, row):
    if task == TEXTS:
        return tokenizer(row["text"], row.get("text_pair"), return_tensors="pt"), None
    encoding = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
    words = encoding.word_ids()
    return encoding, [words.index(i) for i in range(len(row["tokens"]))]


class Maker:
    def __init__(self, options):
        self.options = options

    def load(self, base, task, seed):
        torch.manual_seed(seed)  # the head is new
        labels = {} if "id2label" in json.loads((self.options.bases / base / "config.json").read_text()) else {"num_labels": 3}
        return AUTO[task].from_pretrained(self.options.bases / base, dtype=torch.float32, attn_implementation="eager", **labels).eval()

    def logits(self, model, base, task, virtual):
        tokenizer = AutoTokenizer.from_pretrained(self.options.bases / base)
        out = []
        for row in rows_of(task):
            encoding, firsts = encode(tokenizer, task, row)
            with torch.no_grad():
                logits = model(**encoding).logits[0]
            out.append(logits if firsts is None else logits[virtual:][firsts])
        return out

    def make(self, name, base, config, task=TEXTS, note=""):
        if self.options.only and not re.search(self.options.only, name):
            return
        folder = self.options.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seed = zlib.crc32(name.encode())
        kind, fields = config
        if fields.get("tokenizer_name_or_path"):
            fields["tokenizer_name_or_path"] = str(self.options.bases / base)
        made = kind(task_type=TYPES[task], **fields)
        model = get_peft_model(self.load(base, task, seed), made)
        randomise(model, torch.Generator().manual_seed(seed))
        model.eval().save_pretrained(folder / "adapter")
        (folder / "adapter/README.md").unlink()
        (folder / "adapter/adapter_model.safetensors").chmod(0o644)
        said = folder / "adapter/adapter_config.json"
        published = json.loads(said.read_text())
        if published.get("tokenizer_name_or_path"):
            published["tokenizer_name_or_path"] = f"org/{base}"
        published["base_model_name_or_path"] = f"org/{base}"
        loaded = published | ({"prompt_tuning_init": "RANDOM", "tokenizer_kwargs": None} if "prompt_tuning_init" in published else {})
        said.write_text(json.dumps(loaded))
        read = PeftModel.from_pretrained(self.load(base, task, 777), folder / "adapter").eval()
        said.write_text(json.dumps(published, indent=2, sort_keys=True) + "\n")
        virtual = made.num_virtual_tokens if kind in (PromptTuningConfig, PromptEncoderConfig) else 0
        numbers = self.logits(read, base, task, virtual)
        live = self.logits(model, base, task, virtual)
        assert max((a - b).abs().max() for a, b in zip(numbers, live)) < 2e-5, "the adapter read back differs"
        spread = torch.stack([each.reshape(-1)[:2] for each in numbers]).std(0).max().item()
        assert spread > 0.1, f"rows too much alike: {spread}"
        labels = read.config.id2label
        with (folder / "expected.jsonl").open("w") as file:
            for row, logits in zip(rows_of(task), numbers):
                best = [labels[int(i)] for i in logits.reshape(-1, logits.shape[-1]).argmax(-1)]
                said_of = {"label": best[0]} if task == TEXTS else {"tokens": row["tokens"], "tags": best}
                file.write(json.dumps(said_of | {"logits": logits.tolist()}, ensure_ascii=False) + "\n")
        with (folder / "input.jsonl").open("w") as file:
            for row in rows_of(task):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        case = {"base": base, "task": task, "library": f"peft {peft.__version__}", "tolerance": TOLERANCE, "note": note}
        (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
        print(f"{name:36} spread {spread:.2f}", flush=True)


def randomise(model, generator):
    """Moves every trained tensor off its start."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            noise = torch.randn(p.shape, generator=generator)
            if "magnitude" in name or (p.ndim == 1 and name.endswith("weight")):
                p.mul_((1 + 0.3 * noise).clamp(min=0.3))
            elif "ia3_l" in name:
                p.copy_(1 + 0.5 * noise)
            elif "classifier" in name and p.ndim == 2:
                p.copy_(0.4 * noise)
            else:
                p.add_(0.2 * noise)


def lora(**fields):
    return LoraConfig, {"r": 4, "lora_alpha": 6, "target_modules": ["query", "value"]} | fields


def distil(**fields):
    return lora(**({"target_modules": ["q_lin", "v_lin"]} | fields))


def prompt(**fields):
    return PromptTuningConfig, {"num_virtual_tokens": 20} | fields


TEXT = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": PROMPT, "tokenizer_name_or_path": "the base's"}
# DistilBERT's config has other names for what PEFT looks up.
DISTIL_SIZES = {"token_dim": 32, "num_layers": 3, "num_attention_heads": 4, "num_transformer_submodules": 1}


def committed(make):
    # ranks at which the singular values leave a gap: torch decomposes in float32, and errs by its rounding over the gap
    make("bert-lora-pissa", "bert", lora(init_lora_weights="pissa", target_modules="all-linear", rank_pattern={"query": 3, "intermediate.dense": 5}),
         note="init_lora_weights pissa: the base loses its largest singular part when the adapter is loaded; then A and B are the file's")
    make("distilbert-lora-bias", "distilbert", distil(lora_bias=True, init_lora_weights=False, use_rslora=True, bias="lora_only"),
         note="lora_B.bias, scaled as the update is")
    make("roberta-lora-saved", "roberta", lora(r=2, modules_to_save=["position_embeddings", "LayerNorm"], layers_to_transform=[1], layers_pattern="layer"),
         note="modules_to_save: an embedding table and every LayerNorm; one layer adapted")
    make("roberta-ia3", "roberta", (IA3Config, {}))
    make("roberta-prefix", "roberta", (PrefixTuningConfig, {"num_virtual_tokens": 4}))
    make("bert-token-prompt-text", "bert-tags", prompt(num_virtual_tokens=9, **TEXT), task=TAGS, note="prompt_tuning_init TEXT; token classification")
    make("distilbert-prompt", "distilbert", prompt(num_virtual_tokens=3, **DISTIL_SIZES))
    make("roberta-ptuning", "roberta", (PromptEncoderConfig, {"num_virtual_tokens": 4, "encoder_hidden_size": 10}))


    make("bert-lora-tables", "bert", lora(target_modules=".*(word|position|token_type)_embeddings|.*query", rank_pattern={"token_type_embeddings": 1}, alpha_pattern={"position_embeddings": 2}),
         note="embedding tables adapted beside queries")
    make("roberta-dora-tables", "roberta", lora(target_modules=["word_embeddings", "position_embeddings", "value"], use_dora=True))


def more(make):
    for base, adapt in (("bert", lora), ("roberta", lora), ("distilbert", distil)):
        make(f"{base}-x-pissa-dora", base, adapt(init_lora_weights="pissa", use_dora=True))
        make(f"{base}-x-pissa-rslora", base, adapt(init_lora_weights="pissa", use_rslora=True, alpha_pattern={"value": 3}, lora_dropout=0.2))
        for init in ("gaussian", "orthogonal", "eva", "mica"):
            make(f"{base}-x-{init}", base, adapt(init_lora_weights=init))
        make(f"{base}-x-bias", base, adapt(lora_bias=True, bias="all"))
        make(f"{base}-x-embeddings", base, adapt(modules_to_save=["word_embeddings"]))
        make(f"{base}-x-norms", base, adapt(modules_to_save=["layer_norm" if base == "distilbert" else "LayerNorm"]))
        make(f"{base}-x-layer", base, adapt(modules_to_save=["layer.1"], layers_to_transform=0))
        make(f"{base}-x-last-dense", base, adapt(target_modules="all-linear", exclude_modules=["key", "k_lin", "pre_classifier"], rank_pattern={r"layer\.1\..*": 2}, use_dora=True))
        make(f"{base}-x-regex", base, adapt(target_modules=r".*layer\.[01]\..*(query|q_lin|key|k_lin)", exclude_modules=r".*1\.attention.*(query|q_lin)"))
        sizes = DISTIL_SIZES if base == "distilbert" else {}
        make(f"{base}-x-prompt-text", base, prompt(num_virtual_tokens=20, **TEXT, **sizes))
        make(f"{base}-x-prompt-short", base, prompt(num_virtual_tokens=3, **TEXT, **sizes))
        make(f"{base}-x-prompt-vocabulary", base, prompt(prompt_tuning_init="SAMPLE_VOCAB", **sizes))
        make(f"{base}-x-ptuning-lstm", base, (PromptEncoderConfig, {"num_virtual_tokens": 4, "encoder_reparameterization_type": "LSTM", "encoder_num_layers": 3, **sizes}))
        make(f"{base}-x-prompt-saved", base, prompt(num_virtual_tokens=4, modules_to_save=["LayerNorm"], **sizes))
        if base != "distilbert":  # PEFT has no prefix tuning and no default IA3 targets for DistilBERT
            make(f"{base}-x-prefix-projection", base, (PrefixTuningConfig, {"num_virtual_tokens": 4, "prefix_projection": True, "init_weights": "zero"}))
            make(f"{base}-x-ia3-saved", base, (IA3Config, {"modules_to_save": ["LayerNorm"]}))
    make("bert-x-pooler", "bert", lora(modules_to_save=["pooler"]))
    make("distilbert-x-ia3", "distilbert", (IA3Config, {"target_modules": ["k_lin", "lin2"], "feedforward_modules": ["lin2"]}))
    for name, config in (("pissa", lora(init_lora_weights="pissa")), ("dora", lora(use_dora=True)), ("bias", lora(lora_bias=True)), ("prefix", (PrefixTuningConfig, {"num_virtual_tokens": 4})),
                         ("ptuning", (PromptEncoderConfig, {"num_virtual_tokens": 4})), ("ia3", (IA3Config, {}))):
        make(f"bert-token-x-{name}", "bert-tags", config, task=TAGS)
        make(f"roberta-token-x-{name}", "roberta", config, task=TAGS)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=GOLDEN / "cases")
    parser.add_argument("--bases", type=Path, default=GOLDEN / "bases")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    maker = Maker(options)
    (more if options.all else committed)(maker.make)


if __name__ == "__main__":
    main()
