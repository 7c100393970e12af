import * as z from "zod";
import { llamaFamily, llamaFields } from "./llama-decoder.js";

const size = z.number().int().positive();

const config = z.looseObject({
  ...llamaFields,
  intermediate_size: size.default(14336),
  num_key_value_heads: size.nullish().default(8),
  max_position_embeddings: size.default(131072),
  sliding_window: size.nullable().default(4096),
});

/** Mistral (Jiang et al. 2023, arXiv:2310.06825), as transformers' MistralModel computes it: attention through a sliding window. */
export const mistral = llamaFamily("Mistral", { mistral: "Mistral" }, config, (c) => ({
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  headNorms: false,
  window: () => c.sliding_window,
}));
