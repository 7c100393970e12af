"""Writes test/golden/adapterhub-losses/: what AdapterHub's Python library computes when it trains for ten steps on a tiny BERT.

    python tools/golden/make_adapterhub_losses.py           (environment: torch transformers==4.57.6 adapters==1.3.0)

The base checkpoint is that of test/golden/lora-losses. float32, one thread, all dropout off. Format: test/golden/README.md.
"""

import json
import logging
import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import adapters
import torch
import transformers
from adapters import AutoAdapterModel, DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
from adapters.composition import Fuse, Stack
from make_adapterhub import fill, fusions, save, untie
from torch import nn
from transformers import Trainer, get_linear_schedule_with_warmup

GOLDEN = Path(__file__).resolve().parents[2] / "test/golden"
OUT, BASE = GOLDEN / "adapterhub-losses", GOLDEN / "lora-losses/base"
VOCAB, POSITIONS, STEPS, BATCH = 72, 16, 10, 4
TRAINING = {
    "learning_rate": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05, "lr_scheduler_type": "linear", "warmup_steps": 2,
    "total_steps": STEPS, "max_grad_norm": 1.0,
}


def make_batches():
    """The rows of a batch are of one length: the library's gates also take the mean over padding."""
    g = torch.Generator().manual_seed(41)
    batches = []
    for _ in range(STEPS):
        n = int(torch.randint(3, POSITIONS + 1, (1,), generator=g))
        batches.append([{"ids": torch.randint(1, VOCAB, (n,), generator=g).tolist(), "label": int(torch.randint(0, 3, (1,), generator=g))} for _ in range(BATCH)])
    return batches


def load(files, setup):
    torch.manual_seed(3)
    model = AutoAdapterModel.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager")
    if setup is None:
        model.load_adapter(str(files), use_safetensors=True)
        model.train_adapter("golden")
        model.active_head = "golden"
    else:
        model.load_adapter_setup(str(files), set_active=True, use_safetensors=True)
        if isinstance(setup, Fuse):
            model.train_adapter_fusion(setup)
        else:
            model.train_adapter(setup.last())
        model.set_active_adapters(setup)
        model.active_head = setup.last()
    return model


def inputs(rows):
    ids = torch.tensor([row["ids"] for row in rows])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([row["label"] for row in rows])}


def train(model, batches):
    decayed = Trainer.get_decay_parameter_names(None, model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for name, p in trained.items() if name in decayed], "weight_decay": TRAINING["weight_decay"]},
        {"params": [p for name, p in trained.items() if name not in decayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["learning_rate"], betas=tuple(TRAINING["betas"]), eps=TRAINING["eps"])
    schedule = get_linear_schedule_with_warmup(optimizer, TRAINING["warmup_steps"], STEPS)
    record = {"losses": [], "grad_norms": []}
    model.train()
    for rows in batches:
        loss = model(**inputs(rows)).loss
        loss.backward()
        record["losses"].append(loss.item())
        record["grad_norms"].append(nn.utils.clip_grad_norm_([p for p in trained.values() if p.grad is not None], TRAINING["max_grad_norm"]).item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        penalty = model.base_model.get_fusion_regularization_loss()  # AdapterTrainerCallback.on_step_end: its gradient is the next step's
        if penalty is not None:
            penalty.backward()
    model.eval()
    with torch.no_grad():
        record["final_loss"] = model(**inputs(batches[0])).loss.item()
    record["decayed"] = sorted(name for name in trained if name in decayed)
    record["not_decayed"] = sorted(name for name in trained if name not in decayed)
    return record


def make(name, config, note, batches, setup=None, tied=True):
    folder = OUT / name
    files = folder / "initial"
    folder.mkdir(parents=True)
    configs = config if setup is not None else {"golden": config}
    last = list(configs)[-1]
    torch.manual_seed(31)
    model = AutoAdapterModel.from_pretrained(BASE, dtype=torch.float32)
    for each, c in configs.items():
        model.add_adapter(each, config=c)
    for fuse in fusions(setup):
        model.add_adapter_fusion(fuse.name.split(","), config="dynamic")
    model.add_classification_head(last, num_labels=3)
    start = {n: p.detach().clone() for n, p in model.named_parameters() if ".value.weight" in n}
    fill(model, True, False, torch.Generator().manual_seed(37))
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n in start:
                p.copy_(start[n])  # near the identity: the penalty, which the library's first step does without, is 0 there
    save(model, files, setup, last, False, True, tied)
    if not tied:
        untie(files)
    for file in files.rglob("*_config.json"):  # the model's name is the path it was loaded from
        file.write_text(json.dumps(json.loads(file.read_text()) | {"model_name": "base"}, indent=2, sort_keys=True))
    for file in files.rglob("*.safetensors"):
        file.chmod(0o644)
    record = train(load(files, setup), batches)
    exact = train(load(files, setup).double(), batches)
    rounding = {
        "losses": max(abs(a - b) for a, b in zip(record["losses"], exact["losses"])),
        "grad_norms": max(abs(a / b - 1) for a, b in zip(record["grad_norms"], exact["grad_norms"])),
    }
    (folder / "expected.json").write_text(json.dumps({"note": note, **record, "rounding": rounding}, indent=1) + "\n")
    print(f"{name:16} loss {record['losses'][0]:.4f} -> {record['losses'][-1]:.4f}", len(record["decayed"]), len(record["not_decayed"]), rounding)


def main():
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    batches = make_batches()
    S = SeqBnConfig
    ab = {"a": S(reduction_factor=4), "b": DoubleSeqBnConfig(reduction_factor=6)}
    two = {"a": S(reduction_factor=4), "b": S(reduction_factor=6, non_linearity="gelu")}
    make("seq_bn", S(reduction_factor=4), "Pfeiffer", batches)
    make("double_seq_bn", DoubleSeqBnConfig(reduction_factor=4), "Houlsby", batches)
    make("par_bn", ParBnConfig(), "parallel, scaling 4.0", batches)
    make("scaled_par_bn", ParBnConfig(scaling="learned", reduction_factor=3), "parallel, learned scaling", batches)
    make("gated", S(reduction_factor=4, use_gating=True, scaling="channel"), "gated, scaling by channel", batches)
    make("ln_both", S(reduction_factor=4, ln_before=True, ln_after=True), "norms before and after", batches, tied=False)
    make("ln_after", DoubleSeqBnConfig(reduction_factor=6, ln_after=True, adapter_residual_before_ln=True), "the skip before the norm after", batches)
    make("inv", adapters.SeqBnInvConfig(reduction_factor=4), "an invertible adapter", batches)
    make("compacter", adapters.CompacterConfig(reduction_factor=2), "Compacter", batches)
    make("stack", ab, "b trained on top of a", batches, setup=Stack("a", "b"))
    make("fuse", two, "a fusion of two frozen adapters", batches, setup=Fuse("a", "b"))
    (OUT / "training.json").write_text(json.dumps({"training": TRAINING, "batches": batches}) + "\n")


if __name__ == "__main__":
    main()
