"""Writes test/golden/gguf: tiny GGUF models with the logits that transformers gives, token ids, and packed blocks with their numbers.

    python tools/golden/make_gguf.py           (environment: torch transformers==5.17.0 gguf==0.19.0 tokenizers)

Logits come from transformers loading the GGUF file itself, on its dequantised weights. Token ids come from the tokenizer that the file was made
from, with the pre-tokenizer that llama.cpp's name stands for (transformers' own conversion takes GPT-2's for all of Llama's files), except for
the SentencePiece one, where they are those of transformers' conversion. Numbers of blocks come from gguf.quants.dequantize.
"""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, quants
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = Path(__file__).resolve().parents[2] / "test/golden/gguf"
TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K".split()
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
HIDDEN, FFN, HEADS, KV, LAYERS = 64, 96, 4, 2, 2
TEXTS = [
    "", " ", "Hello world", " Hello  world ", "In 1984, 1234567 people", "3.14159 and 2,000", "don't we'll I'M he'd", "tab\tand\nnewline\r\n\r\nend",
    "naïve café", "e\u0301 and é", "漢字かな交じり", "数字１２３", "😀👩‍👩‍👧", "مرحبا 123", "  leading", "trailing  ", "a" * 40, "x=y+z;//c",
    "<|end|>", "say <|end|> now", "<|start|>user\nhi<|end|>\n", "under_score ▁ block", "\u00a0nbsp\u2003em", "ÀÁÂ ÿ", "0 00 000 0000", "\n\n\n", "…—“quotes”",
    "if (a[i] != b[j]) { return -1; }", "MixedCASE CamelCase", "zero\u200bwidth", "<s>text</s>", "<tool>",
]
CORPUS = [text for text in TEXTS if "<" not in text] * 3 + ["the cat sat on the mat and the dog ran", "hello world from the other side of the world"] * 20
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIALS = ["<|end|>", "<|start|>", "<pad>"]


def split(digits):
    return [pre_tokenizers.Split(Regex(WORDS % digits), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def bytelevel(pre):
    """The tokenizer that `pre` names, trained on a few lines: the truth for the ids."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    steps = {
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "qwen2": split(r"\p{N}"),
        "llama-bpe": split(r"\p{N}{1,3}"),
    }[pre]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    if pre == "llama-bpe":
        start = SPECIALS[1]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))])
    return tokenizer


def write_tokenizer(w, pre):
    tokenizer = bytelevel(pre)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list([token for token, _ in vocab])
    w.add_token_types([3 if token in SPECIALS else 4 if token == "<tool>" else 1 for token, _ in vocab])
    w.add_token_merges([" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]])
    w.add_bos_token_id(tokenizer.token_to_id("<|start|>"))
    w.add_eos_token_id(tokenizer.token_to_id("<|end|>"))
    w.add_pad_token_id(tokenizer.token_to_id("<pad>"))
    w.add_chat_template("{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}")
    return len(vocab), [tokenizer.encode(text).ids for text in TEXTS]


def write_sentencepiece(w):
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    letters = sorted({c for text in CORPUS for c in text if c.isascii() and c.isprintable() and c != " "}) + ["▁"]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.train_from_iterator([text for text in CORPUS if text.isascii()], trainers.BpeTrainer(vocab_size=160, show_progress=False))
    merged = [token for token, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1]) if len(token) > 1 and "\n" not in token]
    tokens = pieces + merged + [c for c in letters]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * len(pieces) + [-float(i) for i in range(len(tokens) - len(pieces))])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(tokens) - len(pieces)))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    return len(tokens), None


def llama_names(rows, heads_norms, biases):
    q, kv = HIDDEN, HIDDEN // HEADS * KV
    layer = {"attn_norm.weight": [HIDDEN], "ffn_norm.weight": [HIDDEN], "attn_q.weight": [q, HIDDEN], "attn_k.weight": [kv, HIDDEN]}
    layer |= {"attn_v.weight": [kv, HIDDEN], "attn_output.weight": [HIDDEN, q]}
    layer |= {"ffn_gate.weight": [FFN, HIDDEN], "ffn_up.weight": [FFN, HIDDEN], "ffn_down.weight": [HIDDEN, FFN]}
    if biases:
        layer |= {"attn_q.bias": [q], "attn_k.bias": [kv], "attn_v.bias": [kv]}
    if heads_norms:
        layer |= {"attn_q_norm.weight": [HIDDEN // HEADS], "attn_k_norm.weight": [HIDDEN // HEADS]}
    return {"token_embd.weight": [rows, HIDDEN], "output_norm.weight": [HIDDEN]}, layer


def gpt2_names(rows):
    layer = {}
    for norm in ["attn_norm", "ffn_norm"]:
        layer |= {f"{norm}.weight": [HIDDEN], f"{norm}.bias": [HIDDEN]}
    for name, out, inside in [("attn_qkv", 3 * HIDDEN, HIDDEN), ("attn_output", HIDDEN, HIDDEN), ("ffn_up", FFN, HIDDEN), ("ffn_down", HIDDEN, FFN)]:
        layer |= {f"{name}.weight": [out, inside], f"{name}.bias": [out]}
    top = {"token_embd.weight": [rows, HIDDEN], "position_embd.weight": [128, HIDDEN], "output_norm.weight": [HIDDEN], "output_norm.bias": [HIDDEN]}
    return top, layer


def make(name, arch, pre, seed, untied=False):
    rng = np.random.default_rng(seed)
    path = OUT / f"{name}.gguf"
    w = GGUFWriter(path, arch)
    w.add_name(name)
    w.add_context_length(128)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    if arch == "gpt2":
        w.add_layer_norm_eps(1e-5)
    else:
        w.add_head_count_kv(KV)
        w.add_layer_norm_rms_eps(1e-5)
        w.add_rope_freq_base(10000.0)
        w.add_rope_dimension_count(HIDDEN // HEADS) if arch == "llama" else None
        w.add_key_length(HIDDEN // HEADS) if arch == "qwen3" else None
    rows, ids = write_sentencepiece(w) if pre == "spm" else write_tokenizer(w, pre)
    top, layer = gpt2_names(rows) if arch == "gpt2" else llama_names(rows, arch == "qwen3", arch == "qwen2")
    shapes = top | {f"blk.{i}.{key}": shape for i in range(LAYERS) for key, shape in layer.items()}
    if untied:
        shapes["output.weight"] = [rows, HIDDEN]
    packings = ["Q4_1", "Q8_0", "Q4_0", "Q5_1", "Q5_0", "F16"]
    for i, (key, shape) in enumerate(shapes.items()):
        data = rng.normal(0, 0.1, shape).astype(np.float32) + (1 if "norm.weight" in key else 0)
        packing = GGMLQuantizationType[packings[i % len(packings)]] if len(shape) == 2 else GGMLQuantizationType.F32
        w.add_tensor(key, quants.quantize(data, packing), raw_dtype=packing)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    if ids is None:
        tokenizer = AutoTokenizer.from_pretrained(OUT, gguf_file=path.name)
        ids = [tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        ids = [[1, *each] for each in ids]
    # what transformers does not take from the metadata
    unread = {"qwen3": {"head_dim": HIDDEN // HEADS}, "gpt2": {"n_positions": 128, "n_inner": FFN}}.get(arch, {})
    model = AutoModelForCausalLM.from_pretrained(OUT, gguf_file=path.name, dtype=torch.float32, **unread).eval()
    tokens = rng.integers(0, rows, 12).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, -1].tolist()
    return {"ids": ids, "tokens": tokens, "logits": [round(x, 6) for x in logits]}


def blocks():
    rng = np.random.default_rng(1)
    found = {}
    for name in TYPES:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        count = 4 if block > 1 else 64
        data = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if name in ("F32", "F16", "BF16"):
            data = quants.quantize(rng.normal(0, 1, (1, count)).astype(np.float32), GGMLQuantizationType[name]).view(np.uint8)
        for at in HALVES.get(name, []):
            data[:, at : at + 2] = rng.normal(0, 0.05, (count, 1)).astype(np.float16).view(np.uint8)
        numbers = quants.dequantize(data.reshape(1, -1), GGMLQuantizationType[name]).astype("<f4")
        found[name] = {"bytes": base64.b64encode(data.tobytes()).decode(), "numbers": base64.b64encode(numbers.tobytes()).decode()}
    return found


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    cases = [("llama", "llama", "smollm"), ("llama3", "llama", "llama-bpe"), ("spm", "llama", "spm"), ("qwen2", "qwen2", "qwen2"), ("qwen3", "qwen3", "qwen2"), ("gpt2", "gpt2", "gpt-2")]
    models_ = {name: make(name, arch, pre, seed, untied=name in ("spm", "qwen3")) for seed, (name, arch, pre) in enumerate(cases)}
    (OUT / "expected.json").write_text(json.dumps({"texts": TEXTS, "models": models_}) + "\n")
    (OUT / "blocks.json").write_text(json.dumps(blocks()) + "\n")


main()
