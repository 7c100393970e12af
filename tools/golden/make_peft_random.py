"""Writes cases of Hugging Face PEFT with configs drawn at random, on bases drawn at random (random_bases.py), for all families and tasks.

    python tools/golden/make_peft_random.py OUT [--count N] [--seed S] [--families bert,llama] [--methods lora,prefix] [--only REGEX]

(environment: torch transformers==5.17.0 peft==0.21.0.) Each case follows from its name, and so does each base. Every trained tensor is random and
off zero; the adapter is read back into a base with another head before the logits are computed, float32, one row at a time without padding.
Run them with PEFT_CASES=OUT npx vitest run test/peft-golden.test.ts. Format: test/golden/README.md.
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import traceback
import zlib
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT orders target modules by a set
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
import transformers
from make_peft_variants import randomise
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, VeraConfig, get_peft_model
from random_bases import DECODERS, ENCODERS, make_base
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

TEXTS, TAGS, WORDS, MASKS = "text-classification", "token-classification", "text-generation", "fill-mask"
AUTO = {TEXTS: transformers.AutoModelForSequenceClassification, TAGS: transformers.AutoModelForTokenClassification, WORDS: transformers.AutoModelForCausalLM,
        MASKS: transformers.AutoModelForMaskedLM}
TYPES = {TEXTS: "SEQ_CLS", TAGS: "TOKEN_CLS", WORDS: "CAUSAL_LM"}
MASK_HEADS = {"bert": ["cls"], "roberta": ["lm_head"], "distilbert": ["vocab_transform", "vocab_layer_norm", "vocab_projector"]}
TOLERANCE = 2e-4
BASES_A_FAMILY = 6
ROWS = {
    TEXTS: [
        {"text": "thanks"},
        {"text": "My card was declined at the shop although there is money on it, why?"},
        {"text": "El niño comió piñata – Ελλάδα 北京 🎉 Łódź"},
        {"text": "Refund #99-Z: £17.20 on 1/2/25 (twice?!)"},
        {"text": "Two dogs run on the beach.", "text_pair": "Animals are running near the sea, aren't they?"},
    ],
    TAGS: [
        {"tokens": ["Yes"]},
        {"tokens": ["Grace", "Hopper", "worked", "in", "Arlington", "."]},
        {"tokens": ["the", "late-1980s", "U.S.", "memo", "from", "Łódź", "to", "北京", "café"]},
    ],
    WORDS: [
        {"prompt": "Good", "completion": " morning"},
        {"prompt": "Question: Which river flows through Cairo?\nAnswer:", "completion": " The Nile."},
        {"prompt": "Translate to Spanish: fresh bread 🍞 →", "completion": " pan fresco ñ, 麦"},
    ],
    MASKS: [{"text": "thanks MASK much"}, {"text": "My card MASK declined at the MASK although there is money on it"}, {"text": "MASK Łódź, 北京"}],
}


def linears(family):
    if family == "gpt2":
        return ["c_attn", "c_proj", "c_fc", "attn.c_proj", "mlp.c_proj"]
    if family == "distilbert":
        return ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "ffn.lin2"]
    if family in ENCODERS:
        return ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    return ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def layer_list(family):
    return "h" if family == "gpt2" else "layer" if family in ENCODERS else "layers"


def norms(family):
    return {"gpt2": ["ln_f", "ln_1"], "distilbert": ["sa_layer_norm"], "bert": ["LayerNorm"], "roberta": ["LayerNorm"]}.get(family, ["input_layernorm", "model.norm"])


def tables(family):
    encoder = ["word_embeddings", "position_embeddings", *([] if family == "distilbert" else ["token_type_embeddings"])]
    return ["wte", "wpe"] if family == "gpt2" else encoder if family in ENCODERS else ["embed_tokens"]


# ---------------------------------------------------------------- configs
def draw_targets(r, family, more=()):
    """`more`: modules that are not linear layers of the backbone, which may be adapted too."""
    if more and r.random() < 0.35:
        some = r.sample(linears(family), r.randint(0, 2)) + r.sample(more, r.randint(1, len(more)))
        return {"target_modules": some if r.random() < 0.7 else rf".*({'|'.join(some)})"}
    names = linears(family)
    kind = r.choice(["default", "names", "names", "all", "regex", "odd ones out"])
    if kind == "default" and family != "xlm":
        return {}
    if kind == "all":
        return {"target_modules": "all-linear"}
    some = r.sample(names, r.randint(1, len(names)))
    if kind == "regex":
        last = "|".join(name.split(".")[-1] for name in some)
        return {"target_modules": rf".*{layer_list(family)}\.\d+\..*({last})"}
    if kind == "odd ones out":
        return {"target_modules": "all-linear", "exclude_modules": r.sample([name.split(".")[-1] for name in names], 1)}
    return {"target_modules": some}


def draw_saved(r, family, task):
    choices = [[]] * 5 + [norms(family)[:1], norms(family)]
    if family in ENCODERS:
        choices += [["word_embeddings"], ["position_embeddings"], ["embeddings"], ["layer.0"]]
    if task == WORDS:
        choices += [["lm_head"], ["wte"] if family == "gpt2" else ["embed_tokens"]]
    saved = r.choice(choices)
    return {"modules_to_save": list(saved)} if saved else {}


def draw_lora(r, family, task, layers):
    fields = {"r": r.randint(1, 6), "lora_alpha": r.choice([1, 3, 4, 8]), **draw_targets(r, family, [*tables(family), *(["lm_head"] if task == WORDS else [])]), **draw_saved(r, family, task)}
    fields["lora_dropout"] = r.choice([0.0, 0.1])
    fields["use_rslora"] = r.random() < 0.3
    fields["bias"] = r.choice(["none", "none", "none", "all", "lora_only"])
    extra = r.choice(["", "", "dora", "dora", "lora_bias", "gaussian", "orthogonal", "pissa", "pissa", "mica"])
    if extra == "dora":
        fields["use_dora"] = True
    elif extra == "lora_bias":
        fields |= {"lora_bias": True}
    elif extra != "":
        fields["init_lora_weights"] = extra
        if extra == "orthogonal":
            fields["r"] = 2 * r.randint(1, 2)
        if extra == "pissa":
            fields["r"] = r.randint(1, 3)
    short = [name.split(".")[-1] for name in linears(family)]
    if r.random() < 0.3 and extra not in ("orthogonal", "pissa"):
        fields["rank_pattern"] = {r.choice(short): r.randint(1, 5), rf"{layer_list(family)}\.0\..*": 2}
    if r.random() < 0.3:
        fields["alpha_pattern"] = {r.choice(linears(family)): r.choice([2, 5])}
    if r.random() < 0.25 and not isinstance(fields.get("target_modules"), str) and layers > 1:
        fields["layers_to_transform"] = r.choice([0, [1], [0, layers - 1]])
        if r.random() < 0.5:
            fields["layers_pattern"] = layer_list(family)
    return LoraConfig, fields


def draw_vera(r, family, task, layers):
    some = draw_targets(r, family)
    if family == "distilbert" and not some:
        some = {"target_modules": ["q_lin", "v_lin"]}
    fields = {"r": r.randint(2, 9), "projection_prng_key": r.randint(0, 99), "save_projection": r.random() < 0.6, "bias": r.choice(["none", "none", "all", "vera_only"]),
              "d_initial": r.choice([0.1, 1.0]), **some, **draw_saved(r, family, task)}
    fields.pop("exclude_modules", None)
    return VeraConfig, fields


def draw_ia3(r, family, task, layers):
    saved = draw_saved(r, family, task)
    if r.random() < 0.5 and family != "distilbert":
        return IA3Config, saved
    some = r.sample(linears(family), r.randint(1, 4))
    return IA3Config, {"target_modules": some, "feedforward_modules": r.sample(some, r.randint(0, len(some))), **saved}


def sizes_of(family, config):
    """DistilBERT's config has other names for what PEFT looks up."""
    return {"token_dim": config.dim, "num_layers": config.n_layers, "num_attention_heads": config.n_heads, "num_transformer_submodules": 1} if family == "distilbert" else {}


def draw_prefix(r, family, task, layers):
    fields = {"num_virtual_tokens": r.randint(1, 9), **draw_saved(r, family, task)}
    if r.random() < 0.4:
        fields |= {"prefix_projection": True, "encoder_hidden_size": r.randint(3, 20)}
    return PrefixTuningConfig, fields


def draw_prompt(r, family, task, layers):
    fields = {"num_virtual_tokens": r.randint(1, 12), **draw_saved(r, family, task)}
    init = r.choice(["RANDOM", "TEXT", "SAMPLE_VOCAB"])
    if init == "TEXT":
        fields |= {"prompt_tuning_init_text": "Is this message good, bad or neither?", "tokenizer_name_or_path": "the base's"}
    return PromptTuningConfig, fields | {"prompt_tuning_init": init}


def draw_ptuning(r, family, task, layers):
    fields = {"num_virtual_tokens": r.randint(1, 9)}
    if r.random() < 0.5:
        fields |= {"encoder_reparameterization_type": "LSTM", "encoder_num_layers": r.choice([1, 2, 3])}
    if r.random() < 0.5:
        fields["encoder_hidden_size"] = r.randint(4, 20)
    return PromptEncoderConfig, fields | draw_saved(r, family, task)


DRAW = {"lora": draw_lora, "vera": draw_vera, "ia3": draw_ia3, "prefix": draw_prefix, "prompt": draw_prompt, "ptuning": draw_ptuning}
WEIGHTS = {"lora": 6, "vera": 2, "ia3": 2, "prefix": 2, "prompt": 2, "ptuning": 1, "bitfit": 1}


# ---------------------------------------------------------------- one case
def encode(tokenizer, task, row):
    """Ids, type ids, and what is read of the logits."""
    if task == TEXTS:
        e = tokenizer.encode(row["text"], row.get("text_pair"))
        return e.ids, e.type_ids, None
    if task == MASKS:
        e = tokenizer.encode(row["text"])
        return e.ids, e.type_ids, [i for i, token in enumerate(e.tokens) if token in ("[MASK]", "<mask>")]
    if task == TAGS:
        e = tokenizer.encode(row["tokens"], is_pretokenized=True)
        return e.ids, [0] * len(e.ids), [e.word_ids.index(i) for i in range(len(row["tokens"]))]
    prompt, completion = tokenizer.encode(row["prompt"]).ids, tokenizer.encode(row["completion"], add_special_tokens=False).ids
    return prompt + completion, [0] * len(prompt + completion), (len(prompt), completion)


def answers(model, tokenizer, rows, task, virtual, typed):
    out = []
    for row in rows:
        ids, types, reads = encode(tokenizer, task, row)
        feeds = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if typed:
            feeds["token_type_ids"] = torch.tensor([types])
        with torch.no_grad():
            logits = model(**feeds).logits[0]
        if task == TEXTS:
            out.append({"logits": logits})
            continue
        logits = logits[virtual:]
        if task in (TAGS, MASKS):
            out.append({"logits": logits[reads]})
            continue
        length, completion = reads
        logs = torch.log_softmax(logits[length - 1 : length - 1 + len(completion)].double(), -1)
        out.append({"logprob": logs[range(len(completion)), completion].sum(), "tokens": len(completion), "logits": logits[length - 1]})
    return out


def gap(a, b):
    return max(((x["logits"].double() - y["logits"].double()).abs() / y["logits"].double().abs().clamp(min=1)).max().item() for x, y in zip(a, b))


class Maker:
    def __init__(self, out, bases=None):
        self.out, self.bases = out, bases or out / "bases"
        self.failed = []
        self.outputs = 3

    def load(self, base, task, seed):
        torch.manual_seed(seed)  # the head is new
        own = json.loads((self.bases / base / "config.json").read_text())
        labels = {} if task in (WORDS, MASKS) or "id2label" in own else {"num_labels": self.outputs}
        model = AUTO[task].from_pretrained(self.bases / base, dtype=torch.float32, attn_implementation="eager", **labels).eval()
        if task == TEXTS and model.config.pad_token_id is None:
            model.config.pad_token_id = -7  # no token of the rows is padding: the head reads the last one
        return model

    def make(self, name, base, family, task, config, rows=None, attempts=4, **files):
        for attempt in range(attempts):
            try:
                return self.attempt(f"{name}", attempt, base, family, task, config, rows or ROWS[task], **files)
            except Exception as e:
                problem = e
                if not isinstance(e, AssertionError):
                    break
        shutil.rmtree(self.out / "cases" / name, ignore_errors=True)
        self.failed.append(name)
        print(f"{name:36} NOT MADE {type(problem).__name__}: {str(problem)[:160]}", flush=True)
        if os.environ.get("TRACE"):
            traceback.print_exception(problem)

    def attempt(self, name, attempt, base, family, task, config, rows, stored="safetensors", dtype=None, note=""):
        folder = self.out / "cases" / name
        shutil.rmtree(folder, ignore_errors=True)
        files = folder / "adapter"
        files.mkdir(parents=True)
        seed = zlib.crc32(f"{name} {attempt}".encode())
        tokenizer = Tokenizer.from_file(str(self.bases / base / "tokenizer.json"))
        if task == MASKS:
            rows = [{"text": row["text"].replace("MASK", "<mask>" if tokenizer.token_to_id("[MASK]") is None else "[MASK]")} for row in rows]
        if family in DECODERS:  # not all of them have a token between texts
            rows = [row for row in rows if "text_pair" not in row]
        read, live, virtual = (self.plain if isinstance(config, str) else self.peft)(files, base, family, task, config, seed, stored, dtype)
        numbers = answers(read, tokenizer, rows, task, virtual, family == "bert")
        if live is not None and dtype is None:
            assert gap(numbers, answers(live, tokenizer, rows, task, virtual, family == "bert")) < 2e-5, "the adapter read back differs"
        assert torch.stack([each["logits"].reshape(-1)[:2] for each in numbers]).std(0).max() > 0.05, "rows too much alike"
        labels = read.config.id2label
        rounding = gap(numbers, answers(read.double(), tokenizer, rows, task, virtual, family == "bert"))
        assert rounding < TOLERANCE / 8, f"rounding {rounding}"
        with (folder / "expected.jsonl").open("w") as file:
            for row, answer in zip(rows, numbers):
                short = lambda values: [short(each) for each in values] if isinstance(values, list) else float(f"{values:.8g}")
                said = {}
                if task == MASKS:
                    said = {"text": row["text"]}
                elif task == TEXTS and answer["logits"].numel() == 1:
                    said = {"label": float(f"{answer['logits'].item():.8g}")}
                elif task != WORDS:
                    values = answer["logits"].reshape(-1, answer["logits"].shape[-1])
                    best = [labels[int(i)] for i in values.argmax(-1)]
                    assert (values.topk(2).values @ torch.tensor([1.0, -1.0])).min() > 0.005, "too close to call"
                    said = {"label": best[0]} if task == TEXTS else {"tokens": row["tokens"], "tags": best}
                else:
                    said = {"logprob": answer["logprob"].item(), "tokens": answer["tokens"]}
                file.write(json.dumps(said | {"logits": short(answer["logits"].tolist())}, ensure_ascii=False) + "\n")
        with (folder / "input.jsonl").open("w") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        case = {"base": base, "task": task, "library": f"peft {peft.__version__}", "tolerance": TOLERANCE, "note": note, "rounding": float(f"{rounding:.1e}")}
        (folder / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n")
        print(f"{name:36} {base:14} {task:21} rounding {rounding:.0e} {note}", flush=True)

    def peft(self, files, base, family, task, config, seed, stored, dtype):
        kind, fields = config
        if fields.get("tokenizer_name_or_path"):
            fields = fields | {"tokenizer_name_or_path": str(self.bases / base)}
        model = self.load(base, task, seed)
        prompt = kind in (PrefixTuningConfig, PromptTuningConfig, PromptEncoderConfig)
        made = kind(task_type=TYPES.get(task, "FEATURE_EXTRACTION" if prompt else None), **fields, **(sizes_of(family, model.config) if prompt else {}))
        model = get_peft_model(model, made)
        randomise(model, torch.Generator().manual_seed(seed))
        model.eval().save_pretrained(files, safe_serialization=stored != "bin")
        (files / "README.md").unlink(missing_ok=True)
        cast_files(files, dtype)
        said = files / "adapter_config.json"
        published = json.loads(said.read_text()) | {"base_model_name_or_path": f"org/{base}"}
        if published.get("tokenizer_name_or_path"):
            published["tokenizer_name_or_path"] = f"org/{base}"
        # what a prompt starts from is not looked up when it is read
        said.write_text(json.dumps(published | ({"prompt_tuning_init": "RANDOM", "tokenizer_kwargs": None} if "prompt_tuning_init" in published else {})))
        read = PeftModel.from_pretrained(self.load(base, task, 777), files).eval()
        said.write_text(json.dumps(published, indent=2, sort_keys=True) + "\n")
        return read, model, made.num_virtual_tokens if prompt and kind is not PrefixTuningConfig else 0

    def plain(self, files, base, family, task, config, seed, stored, dtype):
        """PEFT has no BitFit and no adapter of a head alone: what is trained under the base model's own names. `config`: bitfit or head."""
        model = self.load(base, task, seed)
        g = torch.Generator().manual_seed(seed)
        kept = {}
        with torch.no_grad():
            for name, p in model.named_parameters():
                head = re.match(r"(pre_)?classifier|score", name)
                if head or (config == "bitfit" and name.endswith("bias")):
                    p.add_((0.4 if p.ndim == 2 else 0.3) * torch.randn(p.shape, generator=g))
                    kept[name.removeprefix(f"{model.base_model_prefix}.")] = p.detach().clone()
        assert config == "head" or any(name.endswith("bias") and not re.match(r"(pre_)?classifier|score", name) for name in kept), "no biases"
        save_file(kept, files / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {"peft_type": {"bitfit": "BITFIT", "head": "HEAD"}[config], "task_type": TYPES.get(task), "base_model_name_or_path": f"org/{base}"}
        (files / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        return model, None, 0


def cast_files(files, dtype):
    path = files / "adapter_model.safetensors"
    if path.exists():
        path.chmod(0o644)
        if dtype is not None:
            save_file({key: value.to(dtype) for key, value in load_file(path).items()}, path, metadata={"format": "pt"})


def draw_case(maker, name, families, methods):
    r = random.Random(name)
    family = r.choice(families)
    base = f"{family}-{r.randint(1, BASES_A_FAMILY)}"
    task = r.choice([TEXTS, TAGS, MASKS] if family in ENCODERS else [TEXTS, TAGS, WORDS, WORDS, WORDS])
    maker.outputs = r.choice([1, 3, 3, 4]) if task == TEXTS else r.choice([2, 3])
    method = r.choices(methods, [WEIGHTS[each] for each in methods])[0]
    if (family, method) == ("distilbert", "prefix"):
        method = "prompt"  # PEFT refuses it, or with task_type FEATURE_EXTRACTION has no effect but a mask of the wrong size
    if not (maker.bases / base).exists():
        make_base(maker.bases / base, family, base)
    layers = transformers.AutoConfig.from_pretrained(maker.bases / base).num_hidden_layers
    config = method if method == "bitfit" else DRAW[method](r, family, task, layers)
    with_head = re.search("MaskedLM|PreTraining", (maker.bases / base / "config.json").read_text())
    if task == MASKS and method != "bitfit" and (not with_head or r.random() < 0.2):  # a head that the base lacks comes with the adapter
        config[1]["modules_to_save"] = [*config[1].get("modules_to_save", []), *MASK_HEADS[family]]
    files = {} if method == "bitfit" else {"stored": r.choice(["safetensors", "safetensors", "bin"]), "dtype": r.choice([None, None, None, torch.bfloat16, torch.float16])}
    if files.get("stored") == "bin":
        files["dtype"] = None
    maker.make(f"{name}-{family}-{method}", base, family, task, config, **files, note=str(config if method == "bitfit" else config[1]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", default="a")
    parser.add_argument("--families", default=",".join((*ENCODERS, *DECODERS)))
    parser.add_argument("--methods", default=",".join(WEIGHTS))
    parser.add_argument("--only")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    maker = Maker(options.out)
    for i in range(options.count):
        name = f"{options.seed}{i:03}"
        if options.only is None or re.search(options.only, name):
            draw_case(maker, name, options.families.split(","), options.methods.split(","))
    print(f"{options.count - len(maker.failed)} cases made, {len(maker.failed)} not")


if __name__ == "__main__":
    main()
