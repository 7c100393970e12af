"""Adds cases to test/golden/peft/cases: every method on every task of every family, as far as other scripts there do not, small configs and few rows.

    python tools/golden/make_peft_cells.py [--only REGEX]

(environment: torch transformers==5.17.0 peft==0.21.0.) The bases bert-m, roberta-m, xlm-roberta-m, camembert-m and distilbert-m, which have
masked-language heads, are drawn by random_bases.py where they are not there yet.
"""

import argparse
import json
import re
import shutil

import torch
import transformers
from make_peft_random import MASK_HEADS, MASKS, ROWS, TAGS, TEXTS, WORDS, Maker
from make_peft_variants import GOLDEN
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, VeraConfig
from random_bases import make_base

NUMBER = "number"
SHORT = {TEXTS: "text", NUMBER: "number", TAGS: "tags", MASKS: "mask", WORDS: "words"}
FEW = {TEXTS: ROWS[TEXTS][1:], NUMBER: ROWS[TEXTS][2:], TAGS: ROWS[TAGS][1:], MASKS: ROWS[MASKS][1:], WORDS: ROWS[WORDS][:2]}
ALL = "lora dora vera ia3 bitfit prefix prompt ptuning head".split()
BASES = {
    "bert-m": ("bert", lambda config, kind: "PreTraining" in str(config["architectures"])),
    "roberta-m": ("roberta", lambda config, kind: config["model_type"] == "roberta" and "MaskedLM" in str(config["architectures"])),
    "xlm-roberta-m": ("roberta", lambda config, kind: config["model_type"] == "xlm-roberta" and kind == "Unigram" and "MaskedLM" in str(config["architectures"])),
    "camembert-m": ("roberta", lambda config, kind: config["model_type"] == "camembert" and kind == "Unigram" and "MaskedLM" in str(config["architectures"])),
    "distilbert-m": ("distilbert", lambda config, kind: "MaskedLM" in str(config["architectures"])),
}


def draw_base(name):
    family, fits = BASES[name]
    folder = GOLDEN / "bases" / name
    for i in range(400):
        if folder.exists():
            return
        make_base(folder, family, f"{name} {i}")
        config = json.loads((folder / "config.json").read_text())
        kind = json.loads((folder / "tokenizer.json").read_text())["model"]["type"]
        if not fits(config, kind) or "id2label" in config or sum(file.stat().st_size for file in folder.iterdir()) > 80_000:
            shutil.rmtree(folder)


def config_of(method, family, task):
    # PEFT knows layers to adapt for some model types only
    pair = {"distilbert": {"target_modules": ["q_lin", "v_lin"]}, "bert": {"target_modules": ["query", "value"]}, "roberta": {"target_modules": ["query", "value"]}}.get(family, {})
    scaled = {"distilbert": ["k_lin", "ffn.lin2"], "bert": ["key", "output.dense"], "roberta": ["key", "output.dense"]}.get(family)
    if method in ("bitfit", "head"):
        return method
    if method == "lora":
        return LoraConfig, {"r": 2, "lora_alpha": 3, **pair}
    if method == "dora":
        return LoraConfig, {"r": 2, "use_dora": True, **pair}
    if method == "vera":
        return VeraConfig, {"r": 4, "d_initial": 1.0, "projection_prng_key": 5, "save_projection": False, **pair}
    if method == "ia3":
        return IA3Config, {"target_modules": scaled, "feedforward_modules": scaled[1:]} if scaled else {}
    if method == "prefix":
        return PrefixTuningConfig, {"num_virtual_tokens": 2}
    if method == "prompt":
        return PromptTuningConfig, {"num_virtual_tokens": 3}
    return PromptEncoderConfig, {"num_virtual_tokens": 2, "encoder_hidden_size": 5}


def cells(make):
    without = lambda *names: [method for method in ALL if method not in names]
    every = lambda base, family, task, methods: [make(base, family, task, method) for method in methods]
    for base, family in (("bert-m", "bert"), ("roberta-m", "roberta"), ("distilbert-m", "distilbert")):
        no_prefix = ("prefix",) if family == "distilbert" else ()  # PEFT refuses it
        every("roberta" if family == "roberta" else base, family, NUMBER, without(*no_prefix))
        every(base, family, TAGS, without(*no_prefix))
        every(base, family, MASKS, without("head", *no_prefix))
        make(base, family, MASKS, "lora", "own-head", {"modules_to_save": MASK_HEADS[family]})
    every("xlm-roberta-m", "roberta", TEXTS, ALL)
    every("camembert-m", "roberta", TEXTS, ["lora", "dora", "ia3", "prompt"])
    for base in ("xlm-roberta-m", "camembert-m"):
        for task in (NUMBER, TAGS, MASKS):
            make(base, "roberta", task, "lora")
    for base, family in (("gpt2", "gpt2"), ("llama", "llama"), ("mistral-6", "mistral"), ("qwen2", "qwen2"), ("qwen3-3", "qwen3")):
        no_biases = ("bitfit",) if base in ("llama", "mistral-6") else ()
        for task in (TEXTS, TAGS):
            every(base, family, task, without(*no_biases))
    every("mistral-6", "mistral", WORDS, ["dora", "ia3", "ptuning"])
    every("qwen2", "qwen2", WORDS, ["dora", "vera", "bitfit", "prompt", "ptuning"])
    every("qwen3-3", "qwen3", WORDS, ["vera", "ia3", "bitfit", "prompt"])
    make("gpt2", "gpt2", NUMBER, "lora")
    make("qwen2", "qwen2", NUMBER, "lora")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    only = parser.parse_args().only
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in BASES:
        draw_base(name)
    maker = Maker(GOLDEN)

    def make(base, family, task, method, extra="", fields=None):
        name = "-".join(["cell", base, SHORT[task], method, *([extra] if extra else [])])
        if only is not None and not re.search(only, name):
            return
        config = config_of(method, family, task)
        maker.outputs = 1 if task == NUMBER else 3
        kind = TEXTS if task == NUMBER else task
        if fields is not None:
            config = (config[0], config[1] | fields)
        maker.make(name, base, family, kind, config, rows=FEW[task])

    cells(make)
    print(f"not made: {', '.join(maker.failed) or 'none'}")


if __name__ == "__main__":
    main()
