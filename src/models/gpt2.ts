import * as z from "zod";
import type { Value } from "../core/graph.js";
import { ModelError } from "../errors.js";
import { activation } from "../ops/activation.js";
import { add } from "../ops/elementwise.js";
import { gather, slice } from "../ops/movement.js";
import type { ModelBuilder } from "./builder.js";
import { causalHead, eachTokenHead, lastTokenHead } from "./causal-heads.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";

const size = z.number().int().positive();

const config = z.looseObject({
  vocab_size: size.default(50257),
  n_positions: size.default(1024),
  n_embd: size.default(768),
  n_layer: size.default(12),
  n_head: size.default(12),
  n_inner: size.nullish(),
  activation_function: z.string().default("gelu_new"),
  resid_pdrop: z.number().default(0.1),
  embd_pdrop: z.number().default(0.1),
  attn_pdrop: z.number().default(0.1),
  classifier_dropout: z.number().nullish(),
  layer_norm_epsilon: z.number().default(1e-5),
  initializer_range: z.number().default(0.02),
  scale_attn_weights: z.boolean().default(true),
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
  add_cross_attention: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
});

type Gpt2Config = z.infer<typeof config>;

/** GPT-2 (Radford et al. 2019), as transformers' GPT2Model computes it; its matrices are stored as [in, out]. */
export const gpt2: ModelFamily<Gpt2Config> = {
  model_types: ["gpt2"],
  classes: { gpt2: "GPT2" },
  prefix: "transformer",

  parse(json) {
    const c = parseConfig("GPT-2", config, json);
    const odd = [
      ...(c.scale_attn_weights ? [] : ["scale_attn_weights: false"]),
      ...(c.scale_attn_by_inverse_layer_idx ? ["scale_attn_by_inverse_layer_idx: true"] : []),
      ...(c.add_cross_attention ? ["add_cross_attention: true"] : []),
    ];
    if (odd.length > 0) throw new ModelError(`config.json asks for what is not supported in GPT-2 models: ${odd.join(", ")}`);
    if (c.n_embd % c.n_head !== 0) throw new ModelError(`n_embd ${c.n_embd} is not a multiple of n_head ${c.n_head}`);
    activation(c.activation_function);
    return c;
  },

  limits: (c) => ({ maxPositions: c.n_positions, firstPosition: 0, vocabSize: c.vocab_size }),

  causal: true,
  encode(m, c, rows) {
    const words = m.tokens("transformer.wte", c.vocab_size, c.n_embd);
    const positions = m.embedding("transformer.wpe", c.n_positions, c.n_embd, m.batch.positions);
    let h = m.embedded("transformer", m.dropout("transformer.drop", add(words, positions), c.embd_pdrop));
    for (let i = 0; i < c.n_layer; i++) h = layer(m, c, i, m.layerInput(h), i === c.n_layer - 1 ? rows : undefined);
    return m.layerNorm("transformer.ln_f", h, c.layer_norm_epsilon);
  },

  normEpsilon: () => 1e-12,
  headDropout: (c) => c.classifier_dropout ?? 0.1,

  heads: {
    "text-generation": { ...causalHead("transformer", "transformer.wte"), headClass: "LMHeadModel" },
    "text-classification": lastTokenHead(),
    "token-classification": eachTokenHead("classifier", (c) => c.classifier_dropout ?? 0.1),
  },
};

/** One layer: attention, then the MLP, each on its input's norm and added to the input. h [T, D] → [T, D], or [B, D] for `rows`. */
function layer(m: ModelBuilder, c: Gpt2Config, i: number, h: Value, rows?: Value): Value {
  const L = `transformer.h.${i}`;
  const D = c.n_embd;
  const transposed = true;
  const pick = (x: Value): Value => (rows === undefined ? x : gather(x, rows));

  const x = m.layerNorm(`${L}.ln_1`, h, c.layer_norm_epsilon);
  const merged = m.linear(`${L}.attn.c_attn`, x, "query-key-value", 3 * D, { transposed });
  const [q, k, v] = [0, 1, 2].map((part) => slice(merged, 1, part * D, (part + 1) * D)) as [Value, Value, Value];
  const context = m.attention(`${L}.attn`, i, pick(q), k, v, { heads: c.n_head, dropout: c.attn_pdrop, causal: true });
  const attended = m.linear(`${L}.attn.c_proj`, context, "output-projection", D, { transposed });
  const y = m.sublayer(`${L}.attention_adapters`, "attention", i, m.dropout(`${L}.attn`, attended, c.resid_pdrop), pick(h), (sum) => sum);

  const z = m.layerNorm(`${L}.ln_2`, y, c.layer_norm_epsilon);
  const up = activation(c.activation_function)(m.linear(`${L}.mlp.c_fc`, z, "up", c.n_inner ?? 4 * D, { transposed }));
  const down = m.dropout(`${L}.mlp`, m.linear(`${L}.mlp.c_proj`, up, "down", D, { transposed }), c.resid_pdrop);
  return m.sublayer(`${L}.output_adapters`, "mlp", i, down, y, (sum) => sum);
}
