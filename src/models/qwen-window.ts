import * as z from "zod";

const size = z.number().int().positive();

/** The config fields by which Qwen models say which layers see the last tokens only. */
export const windowFields = {
  use_sliding_window: z.boolean().default(false),
  sliding_window: size.nullable().default(4096),
  max_window_layers: z.number().int().min(0).default(28),
  layer_types: z.array(z.string()).nullish(),
};

/** Tokens that each layer's attention sees: by `layer_types`, else from layer `max_window_layers` on. */
export function windowOf(c: z.infer<z.ZodObject<typeof windowFields>>): (layer: number) => number | null {
  const width = c.use_sliding_window ? c.sliding_window : null;
  return (layer) => ((c.layer_types == null ? layer >= c.max_window_layers : c.layer_types[layer] === "sliding_attention") ? width : null);
}
