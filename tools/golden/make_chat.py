"""Makes src/data/fixtures/chat/: golden.jsonl and pieces.json, from the templates (*.jinja) that stand there.

    /path/to/python tools/golden/make_chat.py    # transformers 5.17, tokenizers 0.23, jinja2 3.1

golden.jsonl: the conversations, then a line for each template: its tokenizer, special tokens and cases. A case has messages, what `apply_chat_template(tokenize=False)` makes of them with and
without the generation prompt (or {"error": the template's own message}), and, where the row is one to learn from, the ids of the text and which of the tokens
bear loss: those that overlap with what the template's line in TEMPLATES says the assistant's turns are, by the fast tokenizer's offsets.
pieces.json: a tiny tokenizer of Llama 2's kind (Prepend and Replace, byte fallback, BOS by the post-processor). The other tokenizer, "bytes", is the byte-level one in
src/data/fixtures/golden/gpt2.
"""

import json
import tempfile
from pathlib import Path

import jinja2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

FIXTURES = Path(__file__).resolve().parents[2] / "src" / "data" / "fixtures"
OUT = FIXTURES / "chat"
CHATML = ["<|im_start|>", "<|im_end|>"]
CORPUS = [
    "Where is my hat? It is on the shelf. Is it new? Yes, it is new. Who has the film? Nobody has it. You answer kindly.",
    "USER: ASSISTANT: INST SYS user assistant system model Instruction Response thinking about the hat on the shelf",
]


def turn(before="", after="", strip=False):
    """What is learned of an assistant's message; `before` is what the generation prompt leaves open."""
    return lambda content, last: before + (content.strip() if strip else content) + after


# name: tokenizer, special tokens, further special tokens (a trailing "~" for one that swallows white space behind it), what is learned of a turn
TEMPLATES = {
    "chatml": ("bytes", {"eos_token": "<|im_end|>"}, CHATML, turn(after="<|im_end|>")),
    "inst-folding": ("pieces", {"bos_token": "<s>", "eos_token": "</s>"}, [], turn(" ", " </s>", strip=True)),
    "headers": ("bytes", {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, ["<|start_header_id|>", "<|end_header_id|>"], turn(after="<|eot_id|>", strip=True)),
    "inst-strict": ("pieces", {"bos_token": "<s>", "eos_token": "</s>"}, ["[INST]", "[/INST]"], turn(" ", "</s>", strip=True)),
    "zephyr": ("pieces", {"bos_token": "<s>", "eos_token": "</s>"}, [], turn(after="</s>")),
    "turns-renamed": ("pieces", {"bos_token": "<bos>", "eos_token": "<eos>"}, ["<start_of_turn>", "<end_of_turn>"], turn(after="<end_of_turn>", strip=True)),
    "closing-eos": ("pieces", {"bos_token": "<s>", "eos_token": "<|endoftext|>"}, ["<|assistant|>~", "<|end|>~", "<|user|>~", "<|system|>~"], turn(after="<|end|>")),
    "default-system": ("bytes", {"eos_token": "<|im_end|>"}, CHATML, turn(after="<|im_end|>")),
    "wide-bars": ("bytes", {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}, ["<｜User｜>", "<｜Assistant｜>"], turn(after="<｜end▁of▁sentence｜>")),
    "speakers": ("pieces", {"bos_token": "<s>", "eos_token": "</s>"}, [], turn(" ", "</s>", strip=True)),
    "plain": ("bytes", {"eos_token": "<|endoftext|>"}, [], turn(after="<|endoftext|>")),
    "plain-endless": ("bytes", {"eos_token": "<|endoftext|>"}, [], None),
    "first-default": ("bytes", {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}, CHATML, turn(after="<|im_end|>")),
    "reasoning": ("bytes", {"eos_token": "<|im_end|>"}, CHATML, lambda content, last: f"<think>\n\n</think>\n\n{content}<|im_end|>" if last else None),
    "turn-tokens": ("bytes", {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>"}, ["<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"], turn(after="<|END_OF_TURN_TOKEN|>", strip=True)),
    "marked": ("bytes", {"eos_token": "<|im_end|>"}, CHATML, turn(after="<|im_end|>")),
    "constructs": ("bytes", {"bos_token": "<s>", "eos_token": "</s>"}, [], None),
}

USER, ASSISTANT, SYSTEM = ((lambda role: lambda content, **more: {"role": role, "content": content, **more})(role) for role in ("user", "assistant", "system"))
FOUR = [USER("Where is my hat?"), ASSISTANT("It is on the shelf."), USER("Is it new?"), ASSISTANT("Yes – naïvely said.")]
CONVERSATIONS = {
    "two": [USER("Who has the film?"), ASSISTANT("Nobody has it.\nAsk 北京!")],
    "four": FOUR,
    "system": [SYSTEM("You answer kindly."), *FOUR],
    "spaces": [USER("  Where is\tmy hat? \n"), ASSISTANT("On the shelf,\n  or \"there\".  ")],
    "same role": [USER("Where is my hat?"), USER("Is it new?"), ASSISTANT("Yes.")],
    "thought": [USER("Is it new?"), ASSISTANT("<think>\n thinking about the hat  \n</think>\n\nYes, it is."), USER("Who has it?"), ASSISTANT("<think>\n\nhm  \n\n</think>\n\n\nNobody.")],
    "fields": [USER("Is it new?", extra={"b": [1, 2.5, None, True], "a": "ü\"\n</x>"}), ASSISTANT("Yes.", extra="so"), USER("And?", extra=[{"k": []}, {}])],
}
# Conversations that are compared as texts only.
UNTRAINED = {"same role", "thought", "fields"}
# Rows that cannot be learned from: what stands before a turn is not what stands before it in the whole.
AMBIGUOUS = {("inst-strict", "system")}


def pieces():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in special]
    data["pre_tokenizer"] = None
    data["normalizer"] = json.loads(Tokenizer.from_str(json.dumps(data)).to_str())["normalizer"]
    made = Tokenizer.from_str(json.dumps(data))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    (OUT / "pieces.json").write_text(json.dumps(json.loads(made.to_str()), ensure_ascii=False) + "\n")


def config_of(special, further, template):
    tokens = [
        {"__type": "AddedToken", "content": name.removesuffix("~"), "lstrip": False, "rstrip": name.endswith("~"), "normalized": False, "single_word": False, "special": True}
        for name in further
    ]
    return {"tokenizer_class": "PreTrainedTokenizerFast", **special, "additional_special_tokens": tokens, "chat_template": template}


def rendered(tokenizer, messages, **options):
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}
    except TypeError:
        return {"error": ""}


def learned(tokenizer, messages, text, part):
    """The ids of a text, and 1 for each token that overlaps with a turn."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans, at = [], 0
    for i, message in enumerate(messages):
        said = part(message["content"], i == len(messages) - 1) if message["role"] == "assistant" else None
        if said is None:
            continue
        start = text.index(said, at)
        at = start + len(said)
        spans.append((start, at))
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    return {"ids": ids, "trained": [int(any(start < end and a < end and b > start for start, end in spans)) for a, b in offsets], "said": [text[a:b] for a, b in spans]}


def main():
    pieces()
    sources = {"pieces": OUT / "pieces.json", "bytes": FIXTURES / "golden" / "gpt2" / "tokenizer.json"}
    golden = []
    for name, (kind, special, further, part) in TEMPLATES.items():
        config = config_of(special, further, (OUT / f"{name}.jinja").read_text())
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tokenizer.json").write_text(sources[kind].read_text())
            (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
            tokenizer = AutoTokenizer.from_pretrained(folder)
        cases = []
        for title, messages in CONVERSATIONS.items():
            text = rendered(tokenizer, messages)
            case = {"title": title, "text": text, "prompt": rendered(tokenizer, messages, add_generation_prompt=True)}
            if isinstance(text, str) and part is not None and title not in UNTRAINED and ((name, title) not in AMBIGUOUS and (name != "reasoning" or len(messages) == 2)):
                case |= learned(tokenizer, messages, text, part)
            cases.append(case)
        del config["chat_template"]
        golden.append({"name": name, "tokenizer": kind, "config": config, "cases": cases})
    lines = [json.dumps({"conversations": CONVERSATIONS}, ensure_ascii=False), *(json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in golden)]
    (OUT / "golden.jsonl").write_text("\n".join(lines) + "\n")


main()
