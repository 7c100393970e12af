import * as z from "zod";
import { llamaFamily, llamaFields } from "./llama-decoder.js";
import { windowFields, windowOf } from "./qwen-window.js";

const size = z.number().int().positive();

const config = z.looseObject({
  ...llamaFields,
  vocab_size: size.default(151936),
  intermediate_size: size.default(22016),
  num_key_value_heads: size.nullish().default(32),
  head_dim: size.nullish().default(128),
  max_position_embeddings: size.default(32768),
  attention_bias: z.boolean().default(false),
  ...windowFields,
});

/** Qwen3 (Yang et al. 2025, arXiv:2505.09388), as transformers' Qwen3Model computes it: queries and keys are normalised in each head. */
export const qwen3 = llamaFamily("Qwen3", { qwen3: "Qwen3" }, config, (c) => ({
  qkvBias: c.attention_bias,
  outputBias: c.attention_bias,
  mlpBias: false,
  headNorms: true,
  window: windowOf(c),
}));
