import * as z from "zod";
import type { Value } from "../core/graph.js";
import { normal, zeros } from "../core/initializer.js";
import { tanh } from "../ops/elementwise.js";
import { concat, expand, reshape, slice, transpose } from "../ops/movement.js";
import { dense } from "./dense.js";
import type { ParamScope, PeftMethod } from "./method.js";
import { type PromptPlan, promptFields, promptFormat, promptPlan, virtualTokens } from "./prompt-format.js";

const config = z.strictObject({
  num_virtual_tokens: virtualTokens.default(20),
  prefix_projection: z.boolean().default(false).describe("train a small network that computes the prefix instead of the prefix itself"),
  encoder_hidden_size: z.number().int().positive().nullable().default(null).describe("width of that network; the model's by default"),
  init_weights: z.enum(["zero"]).nullable().default(null).describe('"zero" starts with a prefix of zeros; null at random'),
  ...promptFields,
});

/** Prefix tuning's config: the fields of `adapter_config.json`. */
export type PrefixTuningConfig = z.infer<typeof config>;

interface PrefixPlan {
  readonly sizes: PromptPlan;
  /** Whether the projection is trained; a published file holds its result only. */
  readonly projected: boolean;
}

/** Prefix tuning: trained keys and values in front of each layer's own (Li & Liang 2021, arXiv:2101.00190, §4). The texts' positions start at N. */
export const prefixTuning: PeftMethod<PrefixTuningConfig, PrefixPlan> = {
  name: "prefix-tuning",
  config,
  presets: { prefix: {} },
  learningRate: 1e-2,
  layout: (c) => ({ virtualTokens: 0, positionOffset: c.num_virtual_tokens }),

  plan(sites, c, origin) {
    const { heads, headDim } = sites.attentions[0]!;
    return { sizes: promptPlan(sites, c, heads * headDim, heads), projected: c.prefix_projection && origin === "user" };
  },

  keyValue({ layer, heads, headDim }, { key, value }, p, plan, c) {
    const N = c.num_virtual_tokens;
    const batch = key.shape[0]!;
    // [N, 2L, heads, K] with layer l's keys at 2l and its values at 2l+1
    const rows = reshape(prefix(p, plan, c), [N, 2 * plan.sizes.num_layers, heads, headDim]);
    const part = (at: number): Value => expand(transpose(slice(rows, 1, at, at + 1), [1, 2, 0, 3]), [batch, heads, N, headDim]);
    return {
      key: concat([part(2 * layer), key], 2),
      value: concat([part(2 * layer + 1), value], 2),
    };
  },

  files: {
    ...promptFormat("PREFIX_TUNING"),
    publish: (c, { sizes }) => ({ ...c, ...sizes, encoder_hidden_size: c.encoder_hidden_size ?? sizes.token_dim }),
  },
};

/** All layers' keys and values as published, [N, 2·L·D]. */
function prefix(p: ParamScope, { sizes, projected }: PrefixPlan, c: PrefixTuningConfig): Value {
  const { token_dim: D, num_layers: L } = sizes;
  const out = 2 * L * D;
  const shared = p.shared();
  if (!projected) return shared.param("prompt_embeddings", [c.num_virtual_tokens, out], c.init_weights === "zero" ? zeros : normal(1));
  const width = c.encoder_hidden_size ?? D;
  const embedding = shared.param("prompt_encoder.embedding.weight", [c.num_virtual_tokens, D], normal(1));
  const hidden = tanh(dense(shared, "prompt_encoder.transform.0", embedding, width));
  return shared.publish(
    "prompt_embeddings",
    dense(shared, "prompt_encoder.transform.2", hidden, out, c.init_weights === "zero" ? zeros : undefined),
  );
}
