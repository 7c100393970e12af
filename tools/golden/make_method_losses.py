"""Writes test/golden/method-losses/: the losses of ten AdamW steps of Hugging Face PEFT's methods, and of BitFit, on the tiny bases of test/golden/peft.

    python tools/golden/make_method_losses.py           (environment: torch transformers==5.17.0 peft==0.21.0)

batches.json is common to all. Per case: expected.json, and initial.safetensors with the trained parameters before the first step, under their
names without PEFT's wrappers; completions.json: the batches of the language models. What a method must itself compute from the base (PiSSA, a prompt's text) is left out. float32, one thread, all
dropout off, Trainer's rule for weight decay. Format: test/golden/README.md.
"""

import copy
import json
import os
import shutil
import sys
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT orders target modules by a set
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from make_losses import NO_DECAY
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, VeraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.trainer_pt_utils import get_parameter_names

GOLDEN = Path(__file__).resolve().parents[2] / "test/golden"
OUT = GOLDEN / "method-losses"
STEPS, BATCH, LABELS, PAD = 10, 4, 3, {"bert": 0, "distilbert": 0, "roberta": 1, "gpt2": 0, "llama": 0}
LANGUAGE_MODELS = ("gpt2", "llama")
OPTIMIZER = {"learning_rate": 5e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05, "max_grad_norm": 1.0}
NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "roberta": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"attention_dropout": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
}
PROMPT = "Is this café's message good, bad or neither?"
PROMPT_SIZES = {"distilbert": {"token_dim": 32, "num_layers": 3, "num_attention_heads": 4, "num_transformer_submodules": 1}}


def load_base(base, dtype):
    torch.manual_seed(23)  # the head is new
    if base in LANGUAGE_MODELS:
        return AutoModelForCausalLM.from_pretrained(GOLDEN / "peft/bases" / base, dtype=dtype, attn_implementation="eager", **NO_DROPOUT[base])
    return AutoModelForSequenceClassification.from_pretrained(GOLDEN / "peft/bases" / base, num_labels=LABELS, dtype=dtype, attn_implementation="eager", **NO_DROPOUT[base])


def make_batches():
    g = torch.Generator().manual_seed(31)
    draw = lambda low, high, n: torch.randint(low, high, (n,), generator=g).tolist()
    return [[{"ids": draw(5, 280, n), "label": draw(0, LABELS, 1)[0]} for n in draw(2, 13, BATCH)] for _ in range(STEPS)]


def make_completions():
    """Rows of ids, of which those from `prompt` on are to be learned."""
    g = torch.Generator().manual_seed(47)
    draw = lambda low, high, n: torch.randint(low, high, (n,), generator=g).tolist()
    return [[{"ids": draw(0, 300, n), "prompt": draw(1, n - 1, 1)[0]} for n in draw(4, 14, BATCH)] for _ in range(STEPS)]


def tensors(rows, pad):
    width = max(len(row["ids"]) for row in rows)
    return {
        "input_ids": torch.tensor([row["ids"] + [pad] * (width - len(row["ids"])) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row["ids"]) + [0] * (width - len(row["ids"])) for row in rows]),
        "labels": torch.tensor([row["label"] if "label" in row else [-100] * row["prompt"] + row["ids"][row["prompt"] :] + [-100] * (width - len(row["ids"])) for row in rows]),
    }


def bare(name):
    """A parameter's name without PEFT's wrappers; plain prompts are called what they are in files."""
    name = name.removeprefix("base_model.").removeprefix("model.").replace(".modules_to_save", "").replace(".default", "")
    name = name.replace(".base_layer.", ".")
    return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name


def build(base, case, dtype):
    model = load_base(base, dtype)
    if case["method"] == "bitfit":
        for name, p in model.named_parameters():
            p.requires_grad_(name.endswith("bias") or "classifier" in name)
    else:
        torch.manual_seed(37)
        config = {"tokenizer_name_or_path": str(GOLDEN / "peft/bases" / base)} if "prompt_tuning_init_text" in case["config"] else {}
        config |= {key: copy.deepcopy(value) for key, value in case["config"].items() if key != "loraplus_lr_ratio"}  # PEFT adds to the lists
        if case["method"] not in ("lora", "ia3", "vera"):
            config |= PROMPT_SIZES.get(base, {})
        model = get_peft_model(model, case["kind"](task_type="CAUSAL_LM" if base in LANGUAGE_MODELS else "SEQ_CLS", **config))
        g = torch.Generator().manual_seed(41)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "vera_lambda_b" in name:
                    p.normal_(0, 0.3, generator=g)
                if "lora_B" in name and not case["config"].get("init_lora_weights", "").startswith("pissa"):
                    p.normal_(0, 0.05, generator=g)  # off zero, so that A has gradients from the first step on
    g = torch.Generator().manual_seed(43)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and "classifier" in name:
                p.copy_(0.25 * torch.randn(p.shape, generator=g))
    return model.to(dtype)


def optimizer_of(model, case):
    options = {"betas": tuple(OPTIMIZER["betas"]), "eps": OPTIMIZER["eps"]}
    decayed = set(get_parameter_names(model, [nn.LayerNorm], NO_DECAY))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if "loraplus_lr_ratio" in case["config"]:
        optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=OPTIMIZER["learning_rate"], loraplus_lr_ratio=case["config"]["loraplus_lr_ratio"],
            loraplus_weight_decay=OPTIMIZER["weight_decay"], **options,
        )
    else:
        groups = [
            {"params": [p for name, p in trained.items() if name in decayed], "weight_decay": OPTIMIZER["weight_decay"]},
            {"params": [p for name, p in trained.items() if name not in decayed], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER["learning_rate"], **options)
    names = {id(p): bare(name) for name, p in trained.items()}
    decays = sorted(plain(names[id(p)], case) for group in optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"])
    return optimizer, list(trained.values()), decays


def plain(name, case):
    """Prompts that are trained themselves bear the name that they have in files."""
    trained_itself = case["method"] == "prompt-tuning" or (case["method"] == "prefix-tuning" and not case["config"].get("prefix_projection"))
    return "prompt_embeddings" if trained_itself and name == "prompt_encoder.embedding.weight" else name


def train(model, base, case, batches):
    optimizer, trained, decays = optimizer_of(model, case)
    model.train()
    losses, norms = [], []
    for rows in batches:
        loss = model(**tensors(rows, PAD[base])).loss
        loss.backward()
        losses.append(loss.item())
        norms.append(nn.utils.clip_grad_norm_(trained, OPTIMIZER["max_grad_norm"]).item())
        optimizer.step()
        optimizer.zero_grad()
    return losses, norms, decays


def make(base, name, method, kind=None, computed=(), **config):
    case = {"method": method, "kind": kind, "config": config}
    batches = make_completions() if base in LANGUAGE_MODELS else make_batches()
    model = build(base, case, torch.float32)
    initial = {plain(bare(key), case): p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    losses, norms, decays = train(model, base, case, batches)
    exact, _, _ = train(build(base, case, torch.float32).double(), base, case, batches)
    rounding = max(abs(a / b - 1) for a, b in zip(losses, exact))
    assert rounding < 2e-6, (name, rounding)
    folder = OUT / f"{base}-{name}"
    folder.mkdir()
    save_file({key: value for key, value in initial.items() if not any(each in key for each in computed)}, folder / "initial.safetensors", metadata={"format": "pt"})
    (folder / "initial.safetensors").chmod(0o644)
    expected = {"base": base, "method": method, "config": config, "optimizer": OPTIMIZER, "losses": losses, "grad_norms": norms,
                "trained": sorted(initial), "decayed": decays, "rounding": rounding}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{base}-{name:20} {losses[0]:.4f} -> {losses[-1]:.4f}, norms {min(norms):.2f}..{max(norms):.2f}, rounding {rounding:.1e}", flush=True)


def language_models():
    for base, targets in (("gpt2", ["c_attn", "mlp.c_proj"]), ("llama", ["q_proj", "v_proj", "down_proj"])):
        lora = lambda name, **fields: make(base, name, "lora", LoraConfig, **({"r": 2, "lora_alpha": 4, "target_modules": targets} | fields))
        lora("lora")
        lora("dora", use_dora=True, rank_pattern={targets[0]: 3})
        lora("tied", modules_to_save=["lm_head"], target_modules=targets[:1])
        make(base, "vera", "vera", VeraConfig, r=5, projection_prng_key=3, d_initial=0.5, target_modules=targets)
        make(base, "prefix", "prefix-tuning", PrefixTuningConfig, num_virtual_tokens=3)
        make(base, "prefix-projection", "prefix-tuning", PrefixTuningConfig, num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=4)
        make(base, "prompt-text", "prompt-tuning", PromptTuningConfig, ("prompt_embeddings",), num_virtual_tokens=6, prompt_tuning_init="TEXT", prompt_tuning_init_text=PROMPT)
        make(base, "p-tuning", "p-tuning", PromptEncoderConfig, num_virtual_tokens=3, encoder_hidden_size=5)
        make(base, "p-tuning-lstm", "p-tuning", PromptEncoderConfig, num_virtual_tokens=3, encoder_reparameterization_type="LSTM", encoder_hidden_size=4, encoder_num_layers=2)
        make(base, "ia3", "ia3", IA3Config)
        if base == "gpt2":
            make(base, "bitfit", "bitfit")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    (OUT / "batches.json").write_text(json.dumps(make_batches()) + "\n")
    (OUT / "completions.json").write_text(json.dumps(make_completions()) + "\n")
    language_models()
    for base in ("bert", "roberta", "distilbert"):
        targets = ["q_lin", "v_lin"] if base == "distilbert" else ["query", "value"]
        lora = lambda name, computed=(), **fields: make(base, name, "lora", LoraConfig, computed, **({"r": 2, "lora_alpha": 4, "target_modules": targets} | fields))
        lora("rslora", use_rslora=True, lora_bias=True, bias="lora_only")
        lora("dora", use_dora=True, rank_pattern={targets[0]: 3})
        lora("pissa", computed=("lora_A", "lora_B"), init_lora_weights="pissa", target_modules=targets[:1])
        lora("gaussian", init_lora_weights="gaussian", modules_to_save=["layer.1.output_layer_norm" if base == "distilbert" else "layer.1.output.LayerNorm"])
        lora("loraplus", loraplus_lr_ratio=4.0, use_dora=True, bias="all")
        make(base, "prompt-text", "prompt-tuning", PromptTuningConfig, ("prompt_embeddings",), num_virtual_tokens=6, prompt_tuning_init="TEXT", prompt_tuning_init_text=PROMPT)
        make(base, "p-tuning", "p-tuning", PromptEncoderConfig, num_virtual_tokens=3, encoder_hidden_size=5)
        make(base, "p-tuning-lstm", "p-tuning", PromptEncoderConfig, num_virtual_tokens=3, encoder_reparameterization_type="LSTM", encoder_hidden_size=4, encoder_num_layers=2)
        modules = {"target_modules": ["k_lin", "v_lin", "lin2"], "feedforward_modules": ["lin2"]} if base == "distilbert" else {}
        make(base, "ia3", "ia3", IA3Config, **modules)
        make(base, "bitfit", "bitfit")
        if base != "distilbert":  # PEFT has no prefix tuning for it
            make(base, "prefix", "prefix-tuning", PrefixTuningConfig, num_virtual_tokens=3)
            make(base, "prefix-projection", "prefix-tuning", PrefixTuningConfig, num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=4)


if __name__ == "__main__":
    main()
