"""Writes cases of AdapterHub's Python library: adapters as it saved them, with the logits that it computes after loading them again.

    python tools/golden/make_adapterhub.py OUT [--small] [--only REGEX]     (environment: torch transformers==4.57.6 adapters==1.3.0)

--small writes the cases that the project keeps, to test/golden/adapterhub. Bases: those of test/golden/peft, copied unless --small, and odd
ones made here. Each case has a seed of its own made from its name. float32, one thread, eval mode, one row at a time without padding.
Format: test/golden/README.md.
"""

import argparse
import json
import logging
import os
import re
import shutil
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
import adapters
import numpy as np
import torch
import transformers
from adapterhub_cases import ALL, NAMES, TEXT, TOKEN
from adapterhub_decoder_cases import WORDS
from adapters import AutoAdapterModel
from adapters.composition import Fuse
from safetensors.torch import save_file
from tokenizers import Tokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "test/golden"
TOLERANCE = 2e-4
ROWS = {
    TEXT: [
        {"text": "thanks"},
        {"text": "My card was declined at the shop although there is money on it, why?"},
        {"text": "El niño comió piñata – Ελλάδα 北京 🎉 Łódź"},
        {"text": "Two dogs run on the beach.", "text_pair": "Animals are running near the sea, aren't they?"},
    ],
    TOKEN: [
        {"tokens": ["Yes"]},
        {"tokens": ["Grace", "Hopper", "worked", "in", "Arlington", "."]},
        {"tokens": ["the", "late-1980s", "U.S.", "memo", "from", "Łódź", "to", "北京", "café"]},
    ],
    WORDS: [
        {"prompt": "Good", "completion": " morning"},
        {"prompt": "Question: Which river flows through Cairo?\nAnswer:", "completion": " The Nile."},
        {"prompt": "Translate to Spanish: fresh bread 🍞 →", "completion": " pan fresco ñ, 麦"},
    ],
}
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
ADAPTER_PATH = r"\b(adapters|invertible_adapters|shared_parameters|adapter_fusion_layer)\."


# ---------------------------------------------------------------- bases
def make_odd_bases(bases):
    """Widths that few things divide, other numbers of layers, other activations and epsilons, keys with and without prefix, trained heads."""
    from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification,
                              GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                              Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, RobertaConfig, RobertaModel)
    common = {"initializer_range": 0.25}
    make_base(bases, "bert-odd", "bert", lambda v: BertForMaskedLM(BertConfig(
        vocab_size=v, hidden_size=21, num_attention_heads=3, num_hidden_layers=3, intermediate_size=25, max_position_embeddings=60,
        hidden_act="gelu_new", layer_norm_eps=1e-5, **common)))
    make_base(bases, "roberta-odd", "roberta", lambda v: RobertaModel(RobertaConfig(
        vocab_size=v, hidden_size=20, num_attention_heads=2, num_hidden_layers=1, intermediate_size=30, max_position_embeddings=60,
        type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2, **common)))
    make_base(bases, "distilbert-odd", "distilbert", lambda v: DistilBertForSequenceClassification(DistilBertConfig(
        vocab_size=v, dim=18, n_heads=3, n_layers=2, hidden_dim=22, max_position_embeddings=60, activation="relu", id2label=NAMES, label2id={v: k for k, v in NAMES.items()}, **common)))
    make_base(bases, "bert-classes", "bert", lambda v: BertForSequenceClassification(BertConfig(
        vocab_size=v, hidden_size=16, num_attention_heads=2, num_hidden_layers=2, intermediate_size=20, max_position_embeddings=60,
        id2label=NAMES, label2id={v: k for k, v in NAMES.items()}, **common)))
    make_base(bases, "gpt2-odd", "gpt2", lambda v: GPT2LMHeadModel(GPT2Config(
        vocab_size=v, n_embd=18, n_head=3, n_layer=3, n_inner=25, n_positions=90, layer_norm_epsilon=1e-3, **common)))
    sizes = dict(num_attention_heads=4, num_hidden_layers=2, intermediate_size=22, max_position_embeddings=90, pad_token_id=None, **common)
    make_base(bases, "llama-odd", "llama", lambda v: LlamaForCausalLM(LlamaConfig(
        vocab_size=v, hidden_size=24, num_key_value_heads=2, attention_bias=True, rms_norm_eps=1e-3, tie_word_embeddings=False, **sizes)))
    make_base(bases, "mistral-odd", "llama", lambda v: MistralForCausalLM(MistralConfig(
        vocab_size=v, hidden_size=16, num_key_value_heads=1, sliding_window=4, tie_word_embeddings=True, **sizes)))
    make_base(bases, "qwen2-odd", "llama", lambda v: Qwen2ForCausalLM(Qwen2Config(
        vocab_size=v, hidden_size=16, num_key_value_heads=2, tie_word_embeddings=False, **sizes)))
    make_base(bases, "qwen3-odd", "llama", lambda v: Qwen3ForCausalLM(Qwen3Config(
        vocab_size=v, hidden_size=20, head_dim=6, num_key_value_heads=2, tie_word_embeddings=True, **sizes)))


def make_base(bases, name, like, build):
    folder = bases / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(GOLDEN / "peft/bases" / like / file, folder / file)
    vocab = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(zlib.crc32(name.encode()))
    model = build(vocab).float()
    with torch.no_grad():
        for path, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(0.2 * torch.randn(p.shape) + (1 if re.search(r"norm.*weight", path, re.I) else 0))
            else:
                p.copy_((0.45 if re.search("embed|wte|wpe", path) else 0.15 if re.search(r"attention.output|out_lin", path) else 0.25) * torch.randn(p.shape))
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


# ---------------------------------------------------------------- models
STATIC = {TEXT: "AutoModelForSequenceClassification", TOKEN: "AutoModelForTokenClassification", WORDS: "AutoModelForCausalLM"}


def fresh(base, task, static, outputs):
    torch.manual_seed(777)
    if not static:
        return AutoAdapterModel.from_pretrained(base, dtype=torch.float32).eval()
    own = json.loads((base / "config.json").read_text()).get("id2label")
    kw = {} if task == WORDS or own is not None and len(own) == outputs else {"num_labels": outputs}
    model = getattr(transformers, STATIC[task]).from_pretrained(base, dtype=torch.float32, ignore_mismatched_sizes=True, **kw)
    adapters.init(model)
    return model.eval()


def fill(model, with_head, static, g):
    """Seeded values for all that adapters, fusions and heads hold, far from where they start."""
    rn = lambda p: torch.randn(p.shape, generator=g)
    ours = re.compile(ADAPTER_PATH + r"([\w,-]+)\.")
    count = 0
    with torch.no_grad():
        for n, p in model.named_parameters():
            head = "heads." in n or (static and with_head and re.match(r"(classifier|pre_classifier)\b", n))
            if not head and not ours.search(n):
                continue
            count += 1
            if "adapter_norm" in n or re.search(r"adapter_down\.0\.weight$", n) and p.ndim == 1:
                p.copy_(1 + 0.3 * rn(p) if n.endswith("weight") else 0.25 * rn(p))
            elif n.endswith("scaling"):
                p.copy_(1 + 0.5 * rn(p))
            elif "phm_rule" in n:
                p.copy_(0.6 * rn(p))
            elif re.search(r"\.W(_\w+)*$", n):
                p.copy_(0.7 * rn(p))
            elif n.endswith("adapter_fusion_layer.value.weight") or ".value.weight" in n:
                p.copy_(torch.eye(p.shape[0]) + 0.1 * rn(p))
            elif "adapter_fusion_layer" in n:
                p.copy_((0.12 if p.ndim == 2 else 0.3) * rn(p))
            elif "invertible_adapters" in n:
                p.copy_((0.3 if p.ndim == 2 else 0.25) * rn(p))
            elif "adapter_" in n and p.ndim == 2:
                p.copy_((0.35 if "adapter_down" in n else 0.45) * rn(p))
            elif "gate" in n:
                p.copy_(0.5 * rn(p))
            else:
                p.copy_((0.25 if p.ndim == 1 else 0.4) * rn(p))
    assert count > 0


class Rows:
    def __init__(self, base, task):
        if json.loads((base / "config.json").read_text())["model_type"] in DECODERS:
            self.items = [decoder_item(Tokenizer.from_file(str(base / "tokenizer.json")), task, row) for row in ROWS[task] if "text_pair" not in row]
            return
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        types = json.loads((base / "config.json").read_text())["model_type"] == "bert"
        self.items = []
        for row in ROWS[task]:
            if task == TEXT:
                e = tokenizer(row["text"], row.get("text_pair"))
                first = None
            else:
                pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in row["tokens"]]
                ids = [tokenizer.cls_token_id, *sum(pieces, []), tokenizer.sep_token_id]
                e = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": [0] * len(ids)}
                first = [1 + sum(map(len, pieces[:i])) for i in range(len(pieces))]
            self.items.append(({k: torch.tensor([e[k]]) for k in ("input_ids", "attention_mask", *(["token_type_ids"] if types else []))}, first))

    def logits(self, model):
        out = []
        for inputs, first in self.items:
            with torch.no_grad():
                y = model(**inputs).logits[0]
            out.append(y if first is None else y[first])
        return out


def decoder_item(tokenizer, task, row):
    """A row's input and the places of the logits that are read."""
    if task == TEXT:
        ids, places = tokenizer.encode(row["text"]).ids, None
    elif task == TOKEN:
        e = tokenizer.encode(row["tokens"], is_pretokenized=True)
        ids, places = e.ids, [e.word_ids.index(i) for i in range(len(row["tokens"]))]
    else:
        prompt, completion = tokenizer.encode(row["prompt"]).ids, tokenizer.encode(row["completion"], add_special_tokens=False).ids
        ids, places = prompt + completion, list(range(len(prompt) - 1, len(prompt) + len(completion) - 1))
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}, places


def gap(a, b):
    return max(((x.double() - y.double()).abs() / y.double().abs().clamp(min=1)).max().item() for x, y in zip(a, b))


def short(x):
    return float(str(np.float32(x)))


# ---------------------------------------------------------------- one case
class Maker:
    def __init__(self, out, only, small):
        self.out, self.only, self.small, self.made = out, only, small, []
        self.failed = []

    def wanted(self, name, keep):
        return (keep or not self.small) and (self.only is None or re.search(self.only, name))

    def base(self, name):
        own = self.out / "bases" / name
        return own if own.exists() else GOLDEN / "peft/bases" / name

    def case(self, name, *args, **kw):
        try:
            self.make(name, *args, **kw)
        except Exception as e:
            self.failed.append(name)
            print(f"{name:55} FAILED {type(e).__name__}: {e}", flush=True)

    def make(self, name, base, config, note, task=TEXT, setup=None, fusion=None, fmt="safetensors", static=False, head={}, labels=None, outputs=3,
             edit=None, refused=None, keep=False, with_head=True, convert=False):
        """`config` is one adapter's, or a dict of them by name used as `setup` says. `edit` changes the saved files before they are loaded."""
        if not self.wanted(name, keep):
            return
        path = self.base(base)
        rows = Rows(path, task)
        configs = config if isinstance(config, dict) and setup is not None else {"golden": config}
        last = list(configs)[-1]
        folder = self.out / "cases" / name
        safe = fmt == "safetensors"
        problem = None
        for attempt in range(30):
            g = torch.Generator().manual_seed(zlib.crc32(f"{name} {attempt}".encode()))
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            files = folder / "adapter"
            model = fresh(path, task, static, outputs)
            for each, c in configs.items():
                model.add_adapter(each, config=c)
            for fuse in fusions(setup):
                model.add_adapter_fusion(fuse.name.split(","), config=fusion or "dynamic")
            if not static:
                id2label = None if outputs == 1 else labels
                if task == TEXT:
                    model.add_classification_head(last, num_labels=outputs, id2label=id2label, **head)
                elif task == WORDS:
                    model.add_causal_lm_head(last, **head)
                else:
                    model.add_tagging_head(last, num_labels=outputs, id2label=id2label, **head)
            model.set_active_adapters(setup or last)
            model.eval()
            fill(model, with_head, static, g)
            if fmt == "untied":  # .bin, then safetensors with the aliased norm under both its names
                save(model, files, setup, last, static, with_head, False)
                untie(files)
            else:
                save(model, files, setup, last, static, with_head, safe)
            for file in files.rglob("*_config.json"):  # the model's name is the path it was loaded from
                content = json.loads(file.read_text())
                file.write_text(json.dumps(content | {"model_name": base}, indent=2, sort_keys=True))
            if edit is not None:
                edit(files)
            if refused is not None and "python" in refused:
                self.write(folder, base, task, note, None, None, labels, refused)
                return
            loaded = load(path, files, task, setup, static and not convert, outputs, fmt != "bin", with_head, last)
            if convert:
                loaded.set_active_adapters(last)
            got = rows.logits(loaded)
            loaded.set_active_adapters(None)
            if not static or convert:
                loaded.active_head = last
            plain = rows.logits(loaded)
            if not edit and not convert:
                assert gap(got, rows.logits(model)) < 2e-5, (name, "the live model and the loaded one differ")
            try:
                noise = gap(got, rows.logits(model.double())) if not edit and not convert else 0.0
                # the files' own values may differ from the live model's after an edit: then the loaded one in float64
                if edit or convert:
                    again = load(path, files, task, setup, static and not convert, outputs, fmt != "bin", with_head, last)
                    if convert:
                        again.set_active_adapters(last)
                    noise = gap(got, rows.logits(again.double()))
                assert noise < TOLERANCE / 8, ("rounding", noise)
                assert gap(got, plain) > 0.05, "changes too little"
                spread = torch.stack([y.reshape(-1)[:2] for y in got]).std(0).max().item() if outputs > 1 else 1
                assert spread > 0.1, "rows too much alike"
                if outputs > 1 and task != WORDS:
                    margins = [(t := y.topk(2, -1).values)[..., 0] - t[..., 1] for y in got]
                    assert min(m.min().item() for m in margins) > 0.01, "too close to call"
                self.write(folder, base, task, note, got, noise, loaded.config.id2label, refused, rows)
                return
            except AssertionError as e:
                problem = e
        raise problem

    def write(self, folder, base, task, note, got, noise, labels, refused, rows=None):
        case = {"base": base, "task": task, "library": f"adapters {adapters.__version__}", "tolerance": TOLERANCE, "note": note}
        if refused is not None:
            case["refused"] = refused
        if got is not None:
            case["rounding"] = float(f"{noise:.1e}")
            expected = []
            for i, y in enumerate(got):
                if task == WORDS:
                    inputs, places = rows.items[i]
                    logs = torch.log_softmax(y.double(), -1)
                    logprob = logs[range(len(places)), inputs["input_ids"][0, [p + 1 for p in places]]].sum().item()
                    expected.append({"logprob": logprob, "tokens": len(places), "logits": [short(v) for v in y[0]]})
                    continue
                answer = {"logits": [short(v) for v in y] if y.ndim == 1 else [[short(v) for v in r] for r in y]}
                if y.shape[-1] > 1:
                    key = "label" if y.ndim == 1 else "tags"
                    ids = y.argmax(-1)
                    answer = {key: labels[int(ids)] if y.ndim == 1 else [labels[int(i)] for i in ids], **answer}
                expected.append(answer)
            (folder / "expected.jsonl").write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in expected))
        (folder / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n")
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)
        self.made.append(folder.name)
        print(f"{folder.name:55}", "" if got is None else f"rounding {noise:.0e} most {max(y.abs().max().item() for y in got):.2f}", flush=True)


def fusions(setup):
    if not hasattr(setup, "children"):
        return []
    return ([setup] if isinstance(setup, Fuse) else []) + [f for child in setup.children for f in fusions(child)]


def save(model, files, setup, last, static, with_head, safe):
    if setup is None:
        model.save_adapter(str(files), last, with_head=with_head, use_safetensors=safe)
    else:
        model.save_adapter_setup(str(files), setup, head_setup=last, use_safetensors=safe)


def load(path, files, task, setup, static, outputs, safe, with_head, last):
    model = fresh(path, task, static, outputs)
    info = {}
    if setup is None:
        model.load_adapter(str(files), set_active=True, with_head=with_head, use_safetensors=safe, loading_info=info)
        assert not info.get("missing_keys") and not info.get("unexpected_keys"), info
    else:
        model.load_adapter_setup(str(files), set_active=True, use_safetensors=safe)
    return model.eval()


def untie(files):
    """Every .bin rewritten as safetensors; tensors that share memory are copied."""
    names = {"pytorch_adapter.bin": "adapter", "pytorch_model_head.bin": "model_head", "pytorch_model_adapter_fusion.bin": "model_adapter_fusion"}
    for file in list(files.rglob("*.bin")):
        tensors = {k: v.clone().contiguous() for k, v in torch.load(file, weights_only=True).items()}
        save_file(tensors, file.with_name(names[file.name] + ".safetensors"))
        file.unlink()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out", type=Path)
    p.add_argument("--only")
    p.add_argument("--small", action="store_true")
    a = p.parse_args()
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    if a.only is None:
        shutil.rmtree(a.out / "cases", ignore_errors=True)
    bases = a.out / "bases"
    if a.only is None or not bases.exists():
        make_odd_bases(bases)
        if not a.small:
            for name in ("bert", "roberta", "distilbert", "gpt2", "llama"):
                shutil.copytree(GOLDEN / "peft/bases" / name, bases / name, dirs_exist_ok=True)
        for task, rows in ROWS.items():
            (a.out / f"{task}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    m = Maker(a.out, a.only, a.small)
    for cases in ALL:
        cases(m)
    print(len(m.made), "cases,", len(m.failed), "failed")
    raise SystemExit(len(m.failed) > 0)


if __name__ == "__main__":
    main()
