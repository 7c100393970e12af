"""Adds the cases of decoders to test/golden/peft/cases: Hugging Face PEFT's adapters on the bases there, made as make_peft_random.py makes others.

    python tools/golden/make_peft_decoders.py [--only REGEX]

(environment: torch transformers==5.17.0 peft==0.21.0.) The bases llama-4, mistral-6 and qwen3-3 are some that random_bases.py has drawn.
"""

import argparse
import re

import torch
import transformers
from make_peft_random import TAGS, TEXTS, WORDS, Maker
from make_peft_variants import GOLDEN
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, VeraConfig


def cases(make):
    lora = lambda **fields: (LoraConfig, {"r": 3, "lora_alpha": 4} | fields)
    prefix = lambda **fields: (PrefixTuningConfig, {"num_virtual_tokens": 4} | fields)
    prompt = lambda **fields: (PromptTuningConfig, {"num_virtual_tokens": 5} | fields)
    encoder = lambda **fields: (PromptEncoderConfig, {"num_virtual_tokens": 4, "encoder_hidden_size": 7} | fields)
    text = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Is this good?", "tokenizer_name_or_path": "the base's"}
    make("gpt2-dora", "gpt2", WORDS, lora(use_dora=True, target_modules=["c_attn", "mlp.c_proj"], rank_pattern={"c_attn": 2}))
    make("gpt2-lora-all", "gpt2", WORDS, lora(target_modules="all-linear", use_rslora=True, lora_bias=True, bias="all"), stored="bin")
    make("gpt2-lora-wte", "gpt2", WORDS, lora(modules_to_save=["wte"], layers_to_transform=[1], layers_pattern="h", target_modules=["c_attn"]), note="input embeddings from the file, the output matrix the base's")
    make("gpt2-vera", "gpt2", WORDS, (VeraConfig, {"r": 5, "projection_prng_key": 3, "target_modules": ["c_attn", "c_fc", "c_proj"]}))
    make("gpt2-prefix-projection", "gpt2", WORDS, prefix(prefix_projection=True, encoder_hidden_size=6))
    make("gpt2-ptuning-lstm", "gpt2", WORDS, encoder(encoder_reparameterization_type="LSTM", encoder_num_layers=2))
    make("gpt2-text-lora", "gpt2", TEXTS, lora(), note="the score head reads the last token")
    make("gpt2-tags-prompt", "gpt2", TAGS, prompt(**text))
    make("llama-ia3", "llama", WORDS, (IA3Config, {}))
    make("llama-ptuning", "llama", WORDS, encoder())
    make("llama-lora-lm_head", "llama", WORDS, lora(target_modules=["k_proj", "down_proj"], modules_to_save=["lm_head"]), note="the output matrix from the file, the input embeddings the base's", dtype=torch.bfloat16)
    make("llama-text-prefix", "llama", TEXTS, prefix(modules_to_save=["input_layernorm"]))
    make("llama-text-prompt", "llama", TEXTS, prompt(prompt_tuning_init="SAMPLE_VOCAB"))
    make("llama-tags-dora", "llama", TAGS, lora(use_dora=True, target_modules=r".*layers\.1\..*(q|o|up)_proj"))
    make("llama-4-lora-saved", "llama-4", WORDS, lora(target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"]), note="untied, in shards, bfloat16")
    make("mistral-6-prefix", "mistral-6", WORDS, prefix(), note="sliding window shorter than texts; in shards, bfloat16")
    make("mistral-6-prompt", "mistral-6", WORDS, prompt(**text))
    make("mistral-6-lora-all", "mistral-6", WORDS, lora(target_modules="all-linear", exclude_modules=["gate_proj"], init_lora_weights="pissa", r=2))
    make("mistral-6-vera-drawn", "mistral-6", WORDS, (VeraConfig, {"r": 6, "save_projection": False, "target_modules": ["q_proj", "v_proj", "up_proj"]}))
    make("mistral-6-text-ia3", "mistral-6", TEXTS, (IA3Config, {}))
    make("qwen2-ia3", "qwen2", WORDS, (IA3Config, {}), note="PEFT's default layers: queries, values, down_proj")
    make("qwen2-prefix", "qwen2", WORDS, prefix())
    make("qwen3-3-lora-all", "qwen3-3", WORDS, lora(target_modules="all-linear", use_dora=True), note="grouped queries, biases, tied embeddings, bfloat16", dtype=torch.float16)
    make("qwen3-3-prefix-projection", "qwen3-3", WORDS, prefix(prefix_projection=True))
    make("qwen3-3-ptuning", "qwen3-3", WORDS, encoder())
    make("gpt2-lora-tables", "gpt2", WORDS, lora(target_modules=["wte", "wpe", "c_attn"], rank_pattern={"wpe": 2}), note="tied: the output matrix stays the base's")
    make("gpt2-text-dora-wte", "gpt2", TEXTS, lora(target_modules=["wte", "mlp.c_fc"], use_dora=True, use_rslora=True))
    make("llama-lora-embed", "llama", WORDS, lora(target_modules=["embed_tokens", "q_proj"]), note="tied; the file holds a copy of the base's embeddings too")
    make("llama-4-lora-embed-head", "llama-4", WORDS, lora(target_modules=["embed_tokens", "lm_head"], use_dora=True), note="untied, both adapted, copies of both in the file")
    make("qwen3-3-lora-head", "qwen3-3", WORDS, lora(target_modules=["lm_head", "v_proj"]), note="tied: the output matrix has an update of its own")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    only = parser.parse_args().only
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    maker = Maker(GOLDEN)

    def make(name, base, *case, **files):
        if only is None or re.search(only, name):
            maker.make(name, base, base.split("-")[0], *case, **files)

    cases(make)
    raise SystemExit(len(maker.failed) > 0)


if __name__ == "__main__":
    main()
