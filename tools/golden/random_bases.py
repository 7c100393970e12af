"""Tiny random models for the random cases: every family in several sizes, tokenizers of several kinds, and weights stored in the ways that the hub has.

Tokenizers learn from this project's own pages. All of a base follows from its name.
"""

import json
import random
import re
import shutil
import zlib
from collections import Counter
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
ENCODERS, DECODERS = ("bert", "roberta", "distilbert"), ("gpt2", "llama", "mistral", "qwen2", "qwen3")
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
NAMES = {0: "negative", 1: "neutral", 2: "positive"}


def corpus():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [line.strip() for page in pages for line in page.read_text().splitlines() if len(line.strip()) > 30]
    return ["Crème brûlée à Zürich, naïve façade, Łódź – “quotes”", "Ελλάδα 北京 🎉 piñata"] * 3 + lines


# ---------------------------------------------------------------- tokenizers
def word_piece(vocab, cased):
    t = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=not cased, strip_accents=None)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece(prefix="##")
    words, pieces, chars = Counter(), Counter(), Counter()
    for line in corpus():
        for word, _ in t.pre_tokenizer.pre_tokenize_str(t.normalizer.normalize_str(line)):
            words[word] += 1
            chars.update(word)
            for n in (2, 3):
                pieces.update("##" + word[i : i + n] for i in range(1, len(word) - n + 1))
    most = lambda counts, n: [key for key, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:n]]
    letters = sorted(most(chars, 70))
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters if c.isalnum()), *most(words, 60), *most(pieces, 400)]
    t.model = models.WordPiece({name: i for i, name in enumerate(list(dict.fromkeys(names))[:vocab])}, unk_token="[UNK]", max_input_chars_per_word=100)
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    t.post_processor = processors.TemplateProcessing(single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
                                                     special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])
    return t, {"tokenizer_class": "BertTokenizer", "do_lower_case": not cased, "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]",
               "cls_token": "[CLS]", "mask_token": "[MASK]"}


ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}


def byte_level(vocab, prefix):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=max(vocab, 270), special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=prefix)
    return t, {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": prefix, **ROBERTA}


def unigram(vocab, newer):
    """As XLM-R's and CamemBERT's: a Unigram model over ▁words; newer files split at ▁ alone."""
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    words = pre_tokenizers.Metaspace(prepend_scheme="always")
    t.pre_tokenizer = words if newer else pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=vocab, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], unk_token="<unk>", show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return t, {"tokenizer_class": "PreTrainedTokenizerFast", **ROBERTA}


def gpt2_bpe(vocab, prefix):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=max(vocab, 262), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=True)])
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": prefix, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}


def split_bpe(vocab, bos):
    """As Llama 3's (with a first token) and Qwen's (without)."""
    t = Tokenizer(models.BPE())
    t.normalizer = None if bos else normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=max(vocab, 265), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    if not bos:
        t.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        t.post_processor = processors.ByteLevel(trim_offsets=False)
        return t, {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    t.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])])
    return t, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


def sentence_bpe(vocab, newer):
    """As Llama 2's and Mistral's: ▁words, and bytes for what is unknown; newer files put ▁ in front of the first word only, and not in a normalizer."""
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    lines = [piece for line in corpus() for piece in re.findall(r" ?[^ ]+", line)]
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=max(vocab, 259) + 90, special_tokens=specials, limit_alphabet=60, show_progress=False))
    model = json.loads(t.to_str())
    model["added_tokens"] = [each for each in model["added_tokens"] if each["id"] < 3]
    if newer:
        model["normalizer"] = None
        model["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    t = Tokenizer.from_str(json.dumps(model))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return t, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def tokenizer_of(family, r):
    vocab = r.randint(240, 330)
    if family == "bert" or family == "distilbert":
        return word_piece(vocab, r.random() < 0.5)
    if family == "roberta":
        return byte_level(vocab, r.random() < 0.4) if r.random() < 0.5 else unigram(vocab, r.random() < 0.5)
    if family == "gpt2":
        return gpt2_bpe(vocab, r.random() < 0.3)
    if family.startswith("qwen"):
        return split_bpe(vocab, bos=False)
    return split_bpe(vocab, bos=True) if r.random() < 0.5 else sentence_bpe(vocab, r.random() < 0.5)


# ---------------------------------------------------------------- models
def config_of(family, vocab, r):
    layers, positions = r.choice([1, 2, 2, 3]), r.choice([150, 160, 201])
    kv, groups, head = r.choice([1, 2]), r.choice([1, 2, 3]), r.choice([4, 6, 8])
    heads = kv * groups
    eps = r.choice([1e-12, 1e-6, 1e-5, 1e-3])
    labels = {"id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}} if r.random() < 0.4 else {}
    if family in ("bert", "roberta"):
        sizes = dict(vocab_size=vocab, hidden_size=heads * head * 2, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=r.randint(20, 50),
                     layer_norm_eps=eps, hidden_act=r.choice(["gelu", "gelu_new", "relu", "silu"]), **labels)
        if family == "bert":
            return transformers.BertConfig(max_position_embeddings=positions, **sizes)
        kind = r.choice([transformers.RobertaConfig, transformers.XLMRobertaConfig, transformers.CamembertConfig])
        return kind(max_position_embeddings=positions + 2, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, **sizes)
    if family == "distilbert":
        return transformers.DistilBertConfig(vocab_size=vocab, dim=heads * head * 2, n_heads=heads, n_layers=layers, hidden_dim=r.randint(20, 50),
                                             activation=r.choice(["gelu", "relu"]), max_position_embeddings=positions, **labels)
    tied = r.random() < 0.5
    if family == "gpt2":
        return transformers.GPT2Config(vocab_size=vocab, n_embd=heads * head * 2, n_head=heads, n_layer=layers, n_inner=r.choice([None, 30]), n_positions=positions,
                                       layer_norm_epsilon=eps, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True, **labels)
    rope = r.choice([{"rope_type": "default"}, {"rope_type": "default"}, {"rope_type": "linear", "factor": 2.0},
                     {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 40}])
    common = dict(vocab_size=vocab, hidden_size=heads * head + (4 if family == "qwen3" else 0), intermediate_size=r.randint(20, 50), num_hidden_layers=layers,
                  num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=positions, rms_norm_eps=eps, tie_word_embeddings=tied,
                  rope_parameters={"rope_theta": r.choice([5000.0, 1e6]), **rope}, bos_token_id=0, eos_token_id=1, **labels)
    if family == "llama":
        return transformers.LlamaConfig(attention_bias=r.random() < 0.3, mlp_bias=r.random() < 0.3, **common)
    if family == "mistral":
        return transformers.MistralConfig(sliding_window=r.choice([3, 7, 200]), head_dim=head, **common)
    if family == "qwen2":
        window = dict(use_sliding_window=True, sliding_window=5, max_window_layers=1) if r.random() < 0.4 else {}
        return transformers.Qwen2Config(**window, **common)
    return transformers.Qwen3Config(head_dim=head, attention_bias=r.random() < 0.4, **common)


def randomise_base(model, g):
    seen = set()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.data_ptr() in seen:
                continue
            seen.add(p.data_ptr())
            noise = torch.randn(p.shape, generator=g)
            if p.ndim == 1:
                p.copy_(0.2 * noise + (1 if name.endswith("weight") else 0))
            else:
                p.copy_((0.45 if re.search("embed|wte|wpe", name) else 0.15 if re.search(r"attention.output|out_lin", name) else 0.25) * noise)


def make_base(folder, family, name):
    r = random.Random(zlib.crc32(name.encode()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, config_json = tokenizer_of(family, r)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config_json | {"clean_up_tokenization_spaces": False, "model_max_length": 150}, indent=1))
    config = config_of(family, tokenizer.get_vocab_size() + r.choice([0, 0, 11]), r)
    torch.manual_seed(1)
    if family in ENCODERS:
        kinds = [transformers.AutoModel, transformers.AutoModelForPreTraining]  # with a pooler, where the family has one
    else:
        kinds = [transformers.AutoModelForCausalLM] * 3 + ([transformers.AutoModel] if config.tie_word_embeddings else [])
    model = r.choice(kinds).from_config(config).float().eval()
    randomise_base(model, torch.Generator().manual_seed(zlib.crc32(name.encode())))
    model = model.to(r.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16]))
    stored = r.choice(["one file", "one file", "shards", "bin"])
    model.save_pretrained(folder, max_shard_size="25KB" if stored == "shards" else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if stored == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    if r.random() < 0.5:
        as_version_4(folder / "config.json")
    for file in folder.iterdir():
        file.chmod(0o644)
    print(f"base {name}: {type(model).__name__}, {tokenizer.get_vocab_size()} tokens, {stored}, {model.dtype}", flush=True)


def as_version_4(file):
    """The fields as transformers 4 spelled them."""
    c = json.loads(file.read_text())
    if "dtype" in c:
        c["torch_dtype"] = c.pop("dtype")
    rope = c.pop("rope_parameters", None)
    if rope is not None:
        c["rope_theta"] = rope.pop("rope_theta")
        c["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    file.write_text(json.dumps(c, indent=2))
