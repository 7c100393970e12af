"""Writes test/golden/bert/<case>/: tiny random BERT checkpoints with the numbers that transformers computes from them.

    python tools/golden/make_bert.py             (environment: torch transformers==5.17.0)

Every case is loaded back from its files by transformers before anything is computed (float32, eager attention, eval mode, each row alone,
no padding). Where a case exists to catch one mistake, the script makes that mistake and asserts that the numbers move.
relative_key position embeddings are gone from transformers 5, so there is no case for them. Format: test/golden/README.md.
"""

import copy
import json
import os
import shutil
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification, BertModel

OUT = Path(__file__).resolve().parents[2] / "test/golden/bert"
VOCAB = 72
TINY = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=16,
    initializer_range=0.25,
    num_labels=3,
)
ONE_LAYER = {"num_hidden_layers": 1}
HEAD, PLAIN, BARE = BertForSequenceClassification, BertModel, "BertModel without pooler"
LENGTHS = [1, 2, 5, 9, 16]  # 16: every position there is
HIDDEN_ROW = 3
MOVED = 1e-3  # a mistake must move some number by this much; gelu and its tanh form differ by 5e-4 at most


def rows(types):
    g = torch.Generator().manual_seed(5)
    result = []
    for n in LENGTHS:
        ids = torch.randint(1, VOCAB, (n,), generator=g).tolist()
        result.append({"ids": ids, "token_type_ids": [0 if types == 1 or i < (n + 1) // 2 else 1 for i in range(n)]})
    return result


def randomise(model, seed, tiny_embeddings):
    """Large weights everywhere, biases off zero, norms off one: nothing may cancel a mistake."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                p.copy_(1 + 0.3 * torch.randn_like(p))
            else:
                # Louder where that makes the activation count more.
                deviation = 3.0 if name == "classifier.weight" else 1.0 if ".output.dense.weight" in name and "attention" not in name else 0.25
                p.normal_(0, deviation)
            if tiny_embeddings and "embeddings." in name and "LayerNorm" not in name:
                p.mul_(0.02)  # so small that the first norm's eps decides


def evaluate(model, inputs, use_types=True):
    model.eval()
    results = []
    with torch.no_grad():
        for row in inputs:
            types = {"token_type_ids": torch.tensor([row["token_type_ids"]])} if use_types else {}
            ids = torch.tensor([row["ids"]])
            encoder = model.bert if hasattr(model, "bert") else model
            encoded = encoder(input_ids=ids, **types)
            result = {"hidden": encoded.last_hidden_state[0]}
            if encoded.pooler_output is not None:
                result["pooler_output"] = encoded.pooler_output[0]
            if isinstance(model, HEAD):
                result["logits"] = model(input_ids=ids, **types).logits[0]
            results.append(result)
    return results


def distance(a, b):
    key = "logits" if "logits" in a[0] else "hidden"
    return max((x[key] - y[key]).abs().max().item() for x, y in zip(a, b))


def load(cls, folder):
    extra = {"add_pooling_layer": False} if cls is BARE else {}
    real = PLAIN if cls is BARE else cls
    model, info = real.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **extra)
    assert not info["missing_keys"] and not info["mismatched_keys"], (folder, info)
    return model


def rewrite(folder, change):
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def legacy(tensors):
    renamed = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in tensors.items()}
    return renamed | {"bert.embeddings.position_ids": torch.arange(16)[None]}


def with_position_ids(tensors):
    return tensors | {"embeddings.position_ids": torch.arange(16)[None]}


def make(name, note, cls=HEAD, mistake=None, save=None, change=None, dtype=torch.float32, stored_as=None, **config):
    folder = OUT / name
    tiny_embeddings = config.pop("tiny_embeddings", False)
    settings = BertConfig(**(TINY | config))
    real = PLAIN if cls is BARE else stored_as or cls
    model = real(settings, add_pooling_layer=False) if cls is BARE else real(settings)
    randomise(model, zlib.crc32(name.encode()), tiny_embeddings)
    model.to(dtype).save_pretrained(folder, **(save or {}))
    if change:
        rewrite(folder, change)
    for file in folder.iterdir():
        file.chmod(0o644)
    loaded = load(cls, folder)
    inputs = rows(settings.type_vocab_size)
    results = evaluate(loaded, inputs)
    if settings.type_vocab_size == 1:
        assert distance(results, evaluate(loaded, inputs, use_types=False)) == 0
    if mistake:
        wrong_config = copy.deepcopy(loaded.config)
        for key, value in mistake.items():
            setattr(wrong_config, key, value)
        wrong_config._attn_implementation = "eager"
        wrong = type(loaded)(wrong_config)
        wrong.load_state_dict(loaded.state_dict())
        moved = distance(results, evaluate(wrong, inputs))
        assert moved > MOVED, (name, moved)
        print(f"{name:16} {mistake} moves the numbers by {moved:.3g}")
    shown = [key for key in ("logits", "pooler_output") if key in results[0]][:1]
    expected = {
        "note": note,
        "class": cls if isinstance(cls, str) else cls.__name__,
        "rows": [row | {key: result[key].tolist() for key in shown} for row, result in zip(inputs, results)],
        "hidden": {"row": HIDDEN_ROW, "last_hidden_state": results[HIDDEN_ROW]["hidden"].tolist()},
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    make("gelu", "the default: exact gelu, keys with the bert. prefix", mistake={"hidden_act": "gelu_new"})
    make("relu", "hidden_act relu", hidden_act="relu", mistake={"hidden_act": "gelu"}, **ONE_LAYER)
    make("gelu-new", "hidden_act gelu_new: the tanh form", hidden_act="gelu_new", mistake={"hidden_act": "gelu"}, **ONE_LAYER)
    make("gelu-tanh", "hidden_act gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh", mistake={"hidden_act": "gelu"}, **ONE_LAYER)
    make("silu", "hidden_act silu", hidden_act="silu", mistake={"hidden_act": "gelu"}, **ONE_LAYER)
    make("swish", "hidden_act swish, another name of silu", hidden_act="swish", mistake={"hidden_act": "gelu"}, **ONE_LAYER)
    make("eps-1e-2", "layer_norm_eps 1e-2", layer_norm_eps=1e-2, mistake={"layer_norm_eps": 1e-12}, **ONE_LAYER)
    make("eps-1e-5", "layer_norm_eps 1e-5 behind tiny embeddings", layer_norm_eps=1e-5, tiny_embeddings=True, mistake={"layer_norm_eps": 1e-12}, **ONE_LAYER)
    make("eps-1e-12", "layer_norm_eps 1e-12 behind tiny embeddings", tiny_embeddings=True, mistake={"layer_norm_eps": 1e-5}, **ONE_LAYER)
    make("one-type", "type_vocab_size 1: all types 0", type_vocab_size=1, **ONE_LAYER)
    make("no-prefix", "saved from BertModel: keys without bert., no classifier", cls=PLAIN)
    make("no-pooler", "saved from BertModel(add_pooling_layer=False): neither pooler nor classifier", cls=BARE)
    make("pretraining", "saved from BertForPreTraining: bert. prefix, cls.* keys to ignore, no classifier", cls=PLAIN, stored_as=BertForPreTraining)
    make("legacy", "LayerNorm.gamma and .beta, bert.embeddings.position_ids (int64)", change=legacy)
    make("position-ids", "keys without prefix and embeddings.position_ids (int64)", cls=PLAIN, change=with_position_ids, **ONE_LAYER)
    make("bf16", "stored as bfloat16", dtype=torch.bfloat16)
    make("f16", "stored as float16", dtype=torch.float16, **ONE_LAYER)
    make("sharded", "three shards and model.safetensors.index.json", save={"max_shard_size": "20KB"})
    make("regression", "num_labels 1, problem_type regression", num_labels=1, problem_type="regression", **ONE_LAYER)
    make("odd", "hidden 30, 3 heads of 10, intermediate 37, 5 labels, 1 layer", hidden_size=30, num_attention_heads=3, intermediate_size=37,
         num_labels=5, **ONE_LAYER)


if __name__ == "__main__":
    main()
