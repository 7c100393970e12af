import * as z from "zod";
import { llamaFamily, llamaFields } from "./llama-decoder.js";

const config = z.looseObject({ ...llamaFields, attention_bias: z.boolean().default(false), mlp_bias: z.boolean().default(false) });

/** Llama (Touvron et al. 2023, arXiv:2307.09288) and models of its kind such as SmolLM2, as transformers' LlamaModel computes them. */
export const llama = llamaFamily("Llama", { llama: "Llama" }, config, (c) => ({
  qkvBias: c.attention_bias,
  outputBias: c.attention_bias,
  mlpBias: c.mlp_bias,
  headNorms: false,
  window: () => null,
}));
