import * as z from "zod";
import { llamaFields } from "./llama-decoder.js";

const size = z.number().int().positive();

/** The config fields that Qwen2 and Qwen3 share, with transformers' defaults; the last ones say which layers see the last tokens only. */
export const qwenFields = {
  ...llamaFields,
  vocab_size: size.default(151936),
  intermediate_size: size.default(22016),
  num_key_value_heads: size.nullish().default(32),
  max_position_embeddings: size.default(32768),
  use_sliding_window: z.boolean().default(false),
  sliding_window: size.nullable().default(4096),
  max_window_layers: z.number().int().min(0).default(28),
  layer_types: z.array(z.string()).nullish(),
};

/** Tokens that each layer's attention sees: by `layer_types`, else from layer `max_window_layers` on. */
export function windowOf(c: z.infer<z.ZodObject<typeof qwenFields>>): (layer: number) => number | null {
  const width = c.use_sliding_window ? c.sliding_window : null;
  return (layer) => ((c.layer_types == null ? layer >= c.max_window_layers : c.layer_types[layer] === "sliding_attention") ? width : null);
}
