import * as z from "zod";
import { llamaFamily } from "./llama-decoder.js";
import { qwenFields, windowOf } from "./qwen-fields.js";

const config = z.looseObject({
  ...qwenFields,
});

/** Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671), as transformers' Qwen2Model computes them: biases on queries, keys and values. */
export const qwen2 = llamaFamily("Qwen2", { qwen2: "Qwen2" }, config, (c) => ({
  qkvBias: true,
  outputBias: false,
  mlpBias: false,
  headNorms: false,
  rescalesQueries: true,
  window: windowOf(c),
}));
