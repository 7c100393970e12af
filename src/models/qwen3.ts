import * as z from "zod";
import { llamaFamily } from "./llama-decoder.js";
import { qwenFields, windowOf } from "./qwen-fields.js";

const size = z.number().int().positive();

const config = z.looseObject({
  ...qwenFields,
  head_dim: size.nullish().default(128),
  attention_bias: z.boolean().default(false),
});

/** Qwen3 (Yang et al. 2025, arXiv:2505.09388), as transformers' Qwen3Model computes it: queries and keys are normalised in each head. */
export const qwen3 = llamaFamily("Qwen3", { qwen3: "Qwen3" }, config, (c) => ({
  qkvBias: c.attention_bias,
  outputBias: c.attention_bias,
  mlpBias: false,
  headNorms: true,
  rescalesQueries: true,
  window: windowOf(c),
}));
