"""Writes test/golden/lora-losses/: what Hugging Face PEFT computes when it trains LoRA, or VeRA, for ten steps on a tiny BERT.

    python tools/golden/make_losses.py           (environment: torch transformers==5.17.0 peft==0.21.0)

One base checkpoint for all variants; per variant the initial adapter as PEFT saved it, the batches, losses and gradient norms, the first
step's gradients and the final adapter. float32, one thread, all dropout off. Format: test/golden/README.md.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT orders target modules by a set
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from peft import LoraConfig, PeftModel, TaskType, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel, get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import get_parameter_names

OUT = Path(__file__).resolve().parents[2] / "test/golden/lora-losses"
VOCAB, POSITIONS, STEPS, BATCH = 72, 16, 10, 4
# The patterns of transformers 5.17's Trainer.get_decay_parameter_names.
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
TRAINING = {
    "learning_rate": 1e-2,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "lr_scheduler_type": "linear",
    "warmup_steps": 2,
    "total_steps": STEPS,
    "max_grad_norm": 1.0,
}


def make_base():
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, max_position_embeddings=POSITIONS,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    model = BertModel(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0, 0.25)
            if name.endswith("LayerNorm.weight"):
                p.add_(1)
    model.save_pretrained(OUT / "base")


def make_batches(regression):
    g = torch.Generator().manual_seed(17 + regression)
    batches = []
    for _ in range(STEPS):
        rows = []
        for n in torch.randint(2, POSITIONS + 1, (BATCH,), generator=g).tolist():
            ids = torch.randint(1, VOCAB, (n,), generator=g).tolist()
            split = int(torch.randint(1, n + 1, (1,), generator=g))
            label = round(float(torch.rand(1, generator=g)) * 5, 2) if regression else int(torch.randint(0, 3, (1,), generator=g))
            rows.append({"ids": ids, "token_type_ids": [0] * split + [1] * (n - split), "label": label})
        assert len({len(row["ids"]) for row in rows}) > 1
        batches.append(rows)
    return batches


def tensors(rows, regression):
    width = max(len(row["ids"]) for row in rows)
    pad = lambda key: torch.tensor([row[key] + [0] * (width - len(row[key])) for row in rows])
    mask = torch.tensor([[1] * len(row["ids"]) + [0] * (width - len(row["ids"])) for row in rows])
    labels = torch.tensor([row["label"] for row in rows], dtype=torch.float32 if regression else torch.long)
    return {"input_ids": pad("ids"), "token_type_ids": pad("token_type_ids"), "attention_mask": mask, "labels": labels}


def load_base(num_labels):
    torch.manual_seed(23)  # the head is new
    return BertForSequenceClassification.from_pretrained(OUT / "base", num_labels=num_labels, dtype=torch.float32, attn_implementation="eager")


def save_adapter(model, folder, keep_config):
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config_file = folder / "adapter_config.json"
    if keep_config:
        config = json.loads(config_file.read_text())
        config["base_model_name_or_path"] = "../../base"
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    else:
        config_file.unlink()
    (folder / "adapter_model.safetensors").chmod(0o644)


def file_key(name):
    """The key under which PEFT saves a parameter (adapter "default")."""
    return re.sub(r"(\.modules_to_save)?\.default(?=\.|$)", "", name).replace("magnitude_vector.weight", "magnitude_vector")


def train(model, batches, micro, regression, training):
    decayed = set(get_parameter_names(model, [nn.LayerNorm], NO_DECAY))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for name, p in trained.items() if name in decayed], "weight_decay": training["weight_decay"]},
        {"params": [p for name, p in trained.items() if name not in decayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training["learning_rate"], betas=tuple(training["betas"]), eps=training["eps"])
    schedule = get_linear_schedule_with_warmup(optimizer, training["warmup_steps"], training["total_steps"])
    model.train()
    record = {"losses": [], "grad_norms": [], "learning_rates": []}
    first = {}
    for step, rows in enumerate(batches):
        loss_sum = 0.0
        start = 0
        for size in micro:
            loss = model(**tensors(rows[start : start + size], regression)).loss * (size / len(rows))
            loss.backward()
            loss_sum += loss.item()
            start += size
        assert start == len(rows)
        if step == 0:
            first = {file_key(name): p.grad.clone() for name, p in trained.items() if p.grad is not None}
        record["losses"].append(loss_sum)
        record["grad_norms"].append(nn.utils.clip_grad_norm_(trained.values(), training["max_grad_norm"]).item())
        record["learning_rates"].append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        record["final_loss"] = model(**tensors(batches[0], regression)).loss.item()  # of the first batch again, after the last step
    unused = [name for name, p in trained.items() if file_key(name) not in first]
    record["decayed"] = sorted(file_key(name) for name in trained if name in decayed and file_key(name) in first)
    record["not_decayed"] = sorted(file_key(name) for name in trained if name not in decayed and file_key(name) in first)
    return record, first, unused


def gaps(ours, exact):
    return max((ours[key].double() - exact[key].double()).abs().max().item() for key in exact)


def lora_config(**options):
    return LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, **options)


def make(name, note, num_labels=3, micro=(BATCH,), training=TRAINING, method=lora_config, **options):
    folder = OUT / name
    regression = num_labels == 1
    model = get_peft_model(load_base(num_labels), method(task_type=TaskType.SEQ_CLS, modules_to_save=["classifier"], **options))
    torch.manual_seed(29)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_B" in key or "lora_embedding_A" in key or "vera_lambda_b" in key:
                p.normal_(0, 0.05)  # off zero, so that what it multiplies has gradients from the first step on
            if "classifier.modules_to_save" in key:
                p.normal_(0, 0.25)
    save_adapter(model, folder / "initial", keep_config=True)
    # What is trained is what the files hold.
    model = PeftModel.from_pretrained(load_base(num_labels), folder / "initial", is_trainable=True)
    if options.get("bias", "none") != "none":
        assert any(key.endswith("base_layer.bias") and p.requires_grad for key, p in model.named_parameters())
    batches = make_batches(regression)
    record, first, unused = train(model, batches, micro, regression, training)
    assert not unused, unused
    save_adapter(model, folder / "final", keep_config=False)
    saved = load_file(folder / "final/adapter_model.safetensors")
    assert set(first) <= set(saved), set(first) - set(saved)
    # Softmax does not see a constant added to all scores: the exact gradient of a key's bias is 0, what float32 finds is rounding, and
    # AdamW makes steps of it. These parameters go where they like, without effect on anything else.
    noise = sorted(key for key in first if ".key." in key and key.endswith("bias"))
    assert all(first[key].abs().max() < 1e-6 if key in noise else first[key].abs().max() > 1e-4 for key in first), name
    # The same in float64 says how much of any difference may be rounding.
    exact_model = PeftModel.from_pretrained(load_base(num_labels), folder / "initial", is_trainable=True).double()
    exact, exact_first, _ = train(exact_model, batches, micro, regression, training)
    final = {file_key(key): p.detach() for key, p in exact_model.named_parameters() if p.requires_grad and file_key(key) not in noise}
    rounding = {
        "losses": max(abs(a - b) for a, b in zip(record["losses"], exact["losses"])),
        "grad_norms": max(abs(a / b - 1) for a, b in zip(record["grad_norms"], exact["grad_norms"])),
        "gradients": gaps(first, exact_first),
        "final": gaps(saved, final),
    }
    save_file(first, folder / "gradients.safetensors", metadata={"format": "pt"})
    (folder / "gradients.safetensors").chmod(0o644)
    expected = {"note": note, "num_labels": num_labels, "micro_batches": list(micro), "training": training, **record, "noise": noise, "rounding": rounding, "batches": batches}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{name:20} loss {record['losses'][0]:.4f} -> {record['losses'][-1]:.4f}, norms {min(record['grad_norms']):.2f}..{max(record['grad_norms']):.2f},",
          f"{len(first)} trained,", {key: f"{value:.1e}" for key, value in rounding.items()})
    return expected


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    make_base()
    for file in (OUT / "base").iterdir():
        file.chmod(0o644)
    query_value = make("query-value", "r 4, alpha 8 on query and value, the head in modules_to_save", target_modules=["query", "value"])
    split = make("accumulation", "query-value in micro-batches of 3 rows and 1 row; the loss is the mean over all 4", micro=(3, 1), target_modules=["query", "value"])
    gap = max(abs(a - b) for a, b in zip(query_value["losses"], split["losses"]))
    assert gap < 1e-5, gap
    make(
        "all-linear", "all-linear, rsLoRA, rank_pattern, alpha_pattern, bias lora_only", target_modules="all-linear", use_rslora=True, bias="lora_only",
        rank_pattern={"query": 2, "intermediate.dense": 3, r"layer\.1\.attention\.output\.dense": 5}, alpha_pattern={"query": 5, "value": 3},
    )
    make("bias-all", "query-value with bias all; more decay, and a limit that only some steps exceed", target_modules=["query", "value"], bias="all",
         training=TRAINING | {"weight_decay": 0.1, "max_grad_norm": 2.0})
    make("regression", "one label, mean squared error", num_labels=1, target_modules=["query", "value"])
    tables = ["word_embeddings", "position_embeddings", "token_type_embeddings"]
    make("embeddings", "query and all embedding tables, in ranks of their own", target_modules=["query", *tables],
         rank_pattern={"position_embeddings": 3, "token_type_embeddings": 1}, alpha_pattern={"word_embeddings": 5})
    make("embeddings-dora", "DoRA on word and position embeddings and values, rsLoRA", target_modules=["value", *tables[:2]], use_dora=True, use_rslora=True)
    make("vera", "VeRA with r 16 on layers of three shapes, bias vera_only", method=VeraConfig, r=16, d_initial=0.5, bias="vera_only",
         target_modules=["query", "value", "dense"])


if __name__ == "__main__":
    main()
