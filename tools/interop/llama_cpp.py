"""Continues prompts in llama.cpp with a GGUF adapter made here, and compares the texts with those of `peft generate`.

    peft export --model BASE.gguf --adapter ADAPTER --out lora.gguf
    peft generate --model BASE.gguf --adapter ADAPTER --input ROWS --max-new-tokens 40 --temperature 0 --output OURS
    python tools/interop/llama_cpp.py BASE.gguf lora.gguf ROWS OURS [TOKENS]     (environment: xllamacpp, llama.cpp's library as a package)

ROWS are JSON lines with "prompt". llama.cpp rounds activations to 8 bits where the base is quantised, so that a few texts may part at a near-tie;
with a base in F32 none should. Prints the texts that differ, and how many are equal with the adapter and without it.
"""

import json
import sys

import xllamacpp


def continuations(base, lora, prompts, tokens):
    params = xllamacpp.CommonParams()
    params.model.path = base
    params.n_ctx, params.n_parallel, params.warmup = 1024, 1, False
    if lora is not None:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = lora, 1.0
        params.lora_adapters = [adapter]
    server = xllamacpp.Server(params)
    ask = lambda prompt: server.handle_completions({"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False})
    return [ask(prompt)["choices"][0]["text"].strip() for prompt in prompts]


def main(base, lora, rows, ours, tokens="40"):
    prompts = [json.loads(line)["prompt"] for line in open(rows, encoding="utf-8")]
    own = [json.loads(line)["text"].strip() for line in open(ours, encoding="utf-8")]
    adapted, plain = (continuations(base, each, prompts, int(tokens)) for each in (lora, None))
    for here, there in zip(own, adapted, strict=True):
        if here != there:
            print(f"here  {here!r}\nthere {there!r}")
    print(f"{sum(map(str.__eq__, own, adapted))} of {len(own)} texts equal llama.cpp's with the adapter, {sum(map(str.__eq__, own, plain))} its texts without")


main(*sys.argv[1:])
