import * as z from "zod";
import { llamaFamily, llamaFields } from "./llama-decoder.js";
import { windowFields, windowOf } from "./qwen-window.js";

const size = z.number().int().positive();

const config = z.looseObject({
  ...llamaFields,
  vocab_size: size.default(151936),
  intermediate_size: size.default(22016),
  num_key_value_heads: size.nullish().default(32),
  max_position_embeddings: size.default(32768),
  ...windowFields,
});

/** Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671), as transformers' Qwen2Model computes them: biases on queries, keys and values. */
export const qwen2 = llamaFamily("Qwen2", { qwen2: "Qwen2" }, config, (c) => ({
  qkvBias: true,
  outputBias: false,
  mlpBias: false,
  headNorms: false,
  window: windowOf(c),
}));
