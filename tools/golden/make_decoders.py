"""Writes test/golden/decoders: tiny random language models of several families and rope types, with the logits that transformers gives.

Run with transformers 5.17.0 from the project's root: python tools/golden/make_decoders.py
The tokenizer is that of test/golden/peft/bases/llama; each row is computed alone, in float32, without padding.
"""
import json, os
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

OUT = "test/golden/decoders"
tok = AutoTokenizer.from_pretrained("test/golden/peft/bases/llama")
common = dict(vocab_size=311, hidden_size=24, intermediate_size=30, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=160, initializer_range=0.25)
scaled = dict(rope_theta=5000.0, factor=4.0, original_max_position_embeddings=40)
configs = {
    "mistral-window": MistralConfig(**common, sliding_window=5, tie_word_embeddings=False),
    "qwen2-window": Qwen2Config(**common, use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=False),
    "qwen3": Qwen3Config(**common, head_dim=10, tie_word_embeddings=True, attention_bias=True),
    "llama-biases-llama3": LlamaConfig(**common, attention_bias=True, mlp_bias=True,
                                       rope_parameters=dict(rope_type="llama3", low_freq_factor=1.0, high_freq_factor=4.0, **scaled)),
    "llama-yarn": LlamaConfig(**common, rope_parameters=dict(rope_type="yarn", **scaled)),
    "llama-linear": LlamaConfig(**common, rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=3.0)),
}
rows = [json.loads(line) for line in open("test/golden/peft/cases/llama-lora-qv/input.jsonl", encoding="utf-8")]
for name, config in configs.items():
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    for path, p in model.named_parameters():
        if "norm" in path: p.data.add_(0.2 * torch.randn_like(p))
        if path.endswith("bias"): p.data.normal_(0, 0.2)
    folder = f"{OUT}/{name}"
    model.save_pretrained(folder)
    os.path.exists(f"{folder}/generation_config.json") and os.remove(f"{folder}/generation_config.json")
    with open(f"{folder}/expected.jsonl", "w") as out:
        for row in rows:
            prompt = tok(row["prompt"])["input_ids"]
            completion = tok(row["completion"], add_special_tokens=False)["input_ids"]
            with torch.no_grad(): logits = model(torch.tensor([prompt + completion])).logits[0]
            logs = torch.log_softmax(logits, -1)
            logprob = sum(logs[len(prompt) - 1 + i, t].item() for i, t in enumerate(completion))
            numbers = [float(f"{x:.8g}") for x in logits[len(prompt) - 1].tolist()]
            out.write(json.dumps({"logprob": round(logprob, 6), "tokens": len(completion), "logits": numbers}) + "\n")
