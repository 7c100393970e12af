import * as z from "zod";
import type { Value } from "../core/graph.js";
import { kaimingUniform, normal } from "../core/initializer.js";
import { relu } from "../ops/elementwise.js";
import { bidirectionalLstm } from "../ops/lstm.js";
import { dense } from "./dense.js";
import type { ParamScope, PeftMethod } from "./method.js";
import { type PromptPlan, promptFields, promptFormat, virtualTokens, virtualTokensPlan } from "./prompt-format.js";

const config = z.strictObject({
  num_virtual_tokens: virtualTokens.default(20),
  encoder_reparameterization_type: z
    .enum(["MLP", "LSTM"])
    .default("MLP")
    .describe("network that computes the virtual tokens while training"),
  encoder_hidden_size: z.number().int().positive().nullable().default(null).describe("width of that network; the model's by default"),
  encoder_num_layers: z.number().int().positive().default(2).describe("layers of the LSTM; the MLP always has three"),
  encoder_dropout: z.number().min(0).lt(1).default(0).describe("dropout between the LSTM's layers; the MLP has none"),
  ...promptFields,
});

/** P-tuning's config: the fields of `adapter_config.json`. */
export type PTuningConfig = z.infer<typeof config>;

interface PTuningPlan {
  readonly sizes: PromptPlan;
  /** Whether the encoder is trained; a published file holds its result only. */
  readonly encoded: boolean;
}

/** P-tuning: virtual tokens [N, D] computed by a small trained network (Liu et al. 2021, arXiv:2103.10385, §3.2). PEFT's PromptEncoder. */
export const pTuning: PeftMethod<PTuningConfig, PTuningPlan> = {
  name: "p-tuning",
  config,
  learningRate: 5e-3,
  layout: (c) => ({ virtualTokens: c.num_virtual_tokens, positionOffset: 0 }),
  plan: (sites, c, origin) => ({
    sizes: virtualTokensPlan(sites, c, origin),
    encoded: origin === "user",
  }),

  tokens({ width: D }, p, { encoded }, c) {
    if (!encoded) return p.param("prompt_embeddings", [c.num_virtual_tokens, D], normal(1));
    const hidden = c.encoder_hidden_size ?? D;
    const embedding = p.param("prompt_encoder.embedding.weight", [c.num_virtual_tokens, D], normal(1));
    return p.publish(
      "prompt_embeddings",
      c.encoder_reparameterization_type === "MLP" ? mlp(p, embedding, hidden) : lstm(p, embedding, hidden, c),
    );
  },

  files: {
    ...promptFormat("P_TUNING"),
    publish: (c, { sizes }) => ({ ...c, ...sizes, encoder_hidden_size: c.encoder_hidden_size ?? sizes.token_dim }),
  },
};

/** Linear, ReLU, Linear, ReLU, Linear. */
function mlp(p: ParamScope, x: Value, hidden: number): Value {
  const D = Number(x.shape[1]);
  const first = relu(dense(p, "prompt_encoder.mlp_head.0", x, hidden));
  return dense(p, "prompt_encoder.mlp_head.4", relu(dense(p, "prompt_encoder.mlp_head.2", first, hidden)), D);
}

/** A bidirectional LSTM, then Linear, ReLU, Linear. */
function lstm(p: ParamScope, x: Value, hidden: number, c: PTuningConfig): Value {
  const D = Number(x.shape[1]);
  let h = x;
  for (let layer = 0; layer < c.encoder_num_layers; layer++) {
    if (layer > 0) h = p.dropout(h, c.encoder_dropout);
    const from = Number(h.shape[1]);
    const direction = (suffix: string): { readonly [K in "input" | "recurrent" | "inputBias" | "recurrentBias"]: Value } => {
      // torch draws all of an LSTM's weights from ±1/√hidden
      const param = (name: string, shape: readonly number[]): Value =>
        p.param(`prompt_encoder.lstm_head.${name}_l${layer}${suffix}`, shape, kaimingUniform(hidden), { decay: !name.startsWith("bias") });
      return {
        input: param("weight_ih", [4 * hidden, from]),
        recurrent: param("weight_hh", [4 * hidden, hidden]),
        inputBias: param("bias_ih", [4 * hidden]),
        recurrentBias: param("bias_hh", [4 * hidden]),
      };
    };
    h = bidirectionalLstm(h, direction(""), direction("_reverse"));
  }
  return dense(p, "prompt_encoder.mlp_head.2", relu(dense(p, "prompt_encoder.mlp_head.0", h, 2 * hidden)), D);
}
