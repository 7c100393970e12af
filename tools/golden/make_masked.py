"""Writes test/golden/masked/<case>/: tiny random masked language models with the numbers that transformers and PEFT compute from them.

    python tools/golden/make_masked.py             (environment: torch transformers==5.17.0 peft==0.21.0)

Each case is loaded back from its files before anything is computed (float32, eval mode, each row alone). Cases with `adapter/` hold a
LoRA adapter as PEFT saved it, without task_type, since PEFT has none for this task. Where a case exists to catch one mistake, the script
makes that mistake and asserts that the numbers move. make_masked_adapters.py writes those of Python's `adapters` beside them.
Format: test/golden/README.md.
"""

import json
import os
import shutil
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, RobertaConfig, RobertaForMaskedLM

OUT = Path(__file__).resolve().parents[2] / "test/golden/masked"
VOCAB = 44
MASK = 4
BERT = dict(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, max_position_embeddings=20)
DISTIL = dict(vocab_size=VOCAB, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=20)
LENGTHS = [2, 5, 9, 12]


def rows():
    g = torch.Generator().manual_seed(11)
    result = []
    for n in LENGTHS:
        whole = torch.randint(5, VOCAB, (n,), generator=g)
        masks = sorted(torch.randperm(n, generator=g)[: max(1, n // 3)].tolist())
        ids = whole.clone()
        ids[masks] = MASK
        result.append({"ids": ids.tolist(), "masks": masks, "labels": whole[masks].tolist()})
    return result


def randomise(model, seed):
    """Large weights everywhere, biases off zero, norms off one: nothing may cancel a mistake."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                p.copy_(1 + 0.3 * torch.randn_like(p))
            else:
                p.normal_(0, 0.3)


def evaluate(model):
    """Logits at the masks of each row, and the mean cross-entropy over all masked tokens."""
    model.eval()
    results, losses = [], []
    with torch.no_grad():
        for row in rows():
            logits = model(input_ids=torch.tensor([row["ids"]])).logits[0, row["masks"]]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"]), reduction="none"))
            results.append(row | {"logits": logits.tolist()})
    return {"rows": results, "loss": torch.cat(losses).mean().item()}


def distance(a, b):
    pairs = zip(a["rows"], b["rows"])
    return max((torch.tensor(x["logits"]) - torch.tensor(y["logits"])).abs().max().item() for x, y in pairs)


def make(name, note, cls, config, mistake=None, lora=None):
    folder = OUT / name
    model = cls(config)
    randomise(model, zlib.crc32(name.encode()))
    model.save_pretrained(folder)
    loaded = cls.from_pretrained(folder, dtype=torch.float32)
    if lora:
        from peft import LoraConfig, PeftModel, get_peft_model

        plain = evaluate(loaded)
        tuned = get_peft_model(loaded, LoraConfig(r=2, lora_alpha=3, target_modules=lora))
        for p_name, p in tuned.named_parameters():
            if "lora_" in p_name:
                torch.nn.init.normal_(p, std=0.4)
        tuned.save_pretrained(folder / "adapter")
        (folder / "adapter/README.md").unlink()
        path = folder / "adapter/adapter_config.json"
        saved = json.loads(path.read_text())
        assert saved["task_type"] is None
        path.write_text(json.dumps(saved | {"base_model_name_or_path": name, "target_modules": sorted(lora)}, indent=2, sort_keys=True) + "\n")
        loaded = PeftModel.from_pretrained(cls.from_pretrained(folder, dtype=torch.float32), folder / "adapter")
        assert distance(plain, evaluate(loaded)) > 0.1
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    expected = evaluate(loaded)
    if mistake:
        moved = distance(expected, evaluate(mistake(loaded)))
        assert moved > 1e-2, (name, moved)
        print(f"{name:16} the mistake moves the numbers by {moved:.3g}")
    (folder / "expected.json").write_text(json.dumps({"note": note} | expected) + "\n")


def hidden_act_in_head(model):
    class Relu(torch.nn.Module):
        def forward(self, x):
            return model.lm_head.layer_norm(torch.relu(model.lm_head.dense(x)))

    decoder = model.lm_head.decoder
    model.lm_head.forward = lambda h, **_: decoder(Relu()(h))
    return model


def tied(model):
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    return model


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    make("bert", "BertForMaskedLM: cls.predictions, gelu", BertForMaskedLM, BertConfig(**BERT))
    make("bert-relu", "the head's activation is hidden_act", BertForMaskedLM, BertConfig(**BERT, hidden_act="relu"))
    make("bert-untied", "tie_word_embeddings false: a decoder matrix of its own", BertForMaskedLM, BertConfig(**BERT, tie_word_embeddings=False), mistake=tied)
    make("bert-lora", "LoRA by PEFT without task_type; the head stays the base's", BertForMaskedLM, BertConfig(**BERT), lora=["query", "value"])
    make("roberta", "RobertaForMaskedLM: lm_head with gelu whatever hidden_act is", RobertaForMaskedLM, RobertaConfig(**BERT, hidden_act="relu", type_vocab_size=1, pad_token_id=1),
         mistake=hidden_act_in_head)
    make("distilbert", "DistilBertForMaskedLM: vocab_transform, vocab_layer_norm, vocab_projector", DistilBertForMaskedLM, DistilBertConfig(**DISTIL))


if __name__ == "__main__":
    main()
