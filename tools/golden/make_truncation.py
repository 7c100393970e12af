"""Makes src/data/fixtures/golden/truncation.json: what transformers' tokenizers give for texts and pairs at several max_lengths.

    /path/to/python tools/golden/make_truncation.py    # transformers 5.17, tokenizers 0.23

Reads the tokenizers in src/data/fixtures/golden/<name>/. Each case: [text, pair or null, max_length or null, add_special_tokens, ids, type ids],
or the
string "too short" in place of the ids where max_length cannot hold the special tokens: there Rust's subtraction wraps and nothing is truncated. `decoded` holds ids and the text that `decode` makes of them.
"""

import json
from pathlib import Path

from transformers import AutoTokenizer

FIXTURES = Path(__file__).resolve().parents[2] / "src" / "data" / "fixtures" / "golden"
SHORT = "Where is it?"
LONG = "My parcel was sent back although nobody rang, and the tracking page says that I refused it."
ODD = "Café naïve  \t Ελλάδα 北京 🎉 don't"
SPECIAL = "before [SEP] after </s> and <mask> [MASK]  end <|endoftext|> x"
PAIRS = [
    (SHORT, None), (LONG, None), (ODD, None), (SPECIAL, None), ("", None), (" ", None),
    (SHORT, LONG), (LONG, SHORT), (LONG, LONG), (LONG, LONG + " Twice."), (LONG + " Twice.", LONG), (SHORT, ""), ("", SHORT), (ODD, SPECIAL), ("", ""),
]
LENGTHS = [None, 40, 21, 20, 11, 6, 5, 4, 3, 2, 1]


def cases(tokenizer):
    for text, pair in PAIRS:
        for length in LENGTHS:
            for specials in [True, False]:
                if not specials and length not in (None, 11, 3):
                    continue
                options = {} if length is None else {"truncation": True, "max_length": length}
                encoded = tokenizer(text, pair, add_special_tokens=specials, return_token_type_ids=True, **options)
                ids, types = encoded["input_ids"], encoded["token_type_ids"]
                added = tokenizer.num_special_tokens_to_add(bool(pair)) if specials else 0
                if length is not None and length < added:
                    yield [text, pair, length, specials, "too short", []]
                else:
                    yield [text, pair, length, specials, ids, types]


golden = {}
for folder in sorted(path for path in FIXTURES.iterdir() if (path / "tokenizer.json").exists()):
    print(folder.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    decoded = [[ids, skip, tokenizer.decode(ids, skip_special_tokens=skip)]
               for text in (SHORT, LONG, ODD, SPECIAL) for ids in [tokenizer(text)["input_ids"]] for skip in (False, True)]
    golden[folder.name] = {"cases": list(cases(tokenizer)), "decoded": decoded}
lines = ",\n".join(
    f"{json.dumps(name)}: {{\"decoded\": {json.dumps(part['decoded'])},\n\"cases\": [\n" + ",\n".join(map(json.dumps, part["cases"])) + "\n]}"
    for name, part in golden.items()
)
(FIXTURES / "truncation.json").write_text("{\n" + lines + "\n}\n")
