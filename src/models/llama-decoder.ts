import * as z from "zod";
import type { Value } from "../core/graph.js";
import { ModelError } from "../errors.js";
import { activation } from "../ops/activation.js";
import { mul } from "../ops/elementwise.js";
import { gather, reshape } from "../ops/movement.js";
import { type Angles, rotary, rotaryAngles } from "../ops/rotary.js";
import type { ModelBuilder } from "./builder.js";
import { causalHead, eachTokenHead, lastTokenHead } from "./causal-heads.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";
import { rope, ropeFields } from "./rope.js";

const size = z.number().int().positive();

/** The config fields that Llama and its descendants share, with transformers' defaults. */
export const llamaFields = {
  vocab_size: size.default(32000),
  hidden_size: size.default(4096),
  intermediate_size: size.default(11008),
  num_hidden_layers: size.default(32),
  num_attention_heads: size.default(32),
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.string().default("silu"),
  max_position_embeddings: size.default(2048),
  initializer_range: z.number().default(0.02),
  rms_norm_eps: z.number().default(1e-6),
  attention_dropout: z.number().nullish(),
  classifier_dropout: z.number().nullish(),
  tie_word_embeddings: z.boolean().default(false),
  ...ropeFields,
};

/** What the decoder reads of a config, whatever its family calls it. */
export interface DecoderConfig extends z.infer<z.ZodObject<typeof llamaFields>> {
  /** Biases of the query, key and value projections. */
  readonly qkvBias: boolean;
  /** Bias of the attention's output projection. */
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** Whether queries and keys are normalised in each head. */
  readonly headNorms: boolean;
  /** Whether published recipes that rescale layers take queries here and not keys: PEFT's table for IA3. */
  readonly rescalesQueries?: boolean;
  /** Tokens that a layer's attention sees; null for all. */
  window(layer: number): number | null;
}

/** What a family adds to its config's fields. */
export type DecoderTraits = Omit<DecoderConfig, keyof typeof llamaFields>;

/** A family of Llama's kind: its types, its config's schema and what is its own. */
export function llamaFamily<C extends z.infer<z.ZodObject<typeof llamaFields>>>(
  name: string,
  types: Readonly<Record<string, string>>,
  schema: z.ZodType<C>,
  traits: (config: C) => DecoderTraits,
): ModelFamily<DecoderConfig> {
  return {
    model_types: Object.keys(types),
    classes: types,
    prefix: "model",

    parse(json) {
      const fields = parseConfig(name, schema, json);
      const c = { ...fields, ...traits(fields) };
      const { heads, kvHeads, headDim } = sizes(c);
      if (heads % kvHeads !== 0) throw new ModelError(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
      if (headDim % 2 !== 0) throw new ModelError(`head_dim ${headDim} is odd: rotary positions turn pairs`);
      activation(c.hidden_act);
      rope(c, headDim);
      return c;
    },

    limits: (c) => ({ maxPositions: c.max_position_embeddings, firstPosition: 0, vocabSize: c.vocab_size }),

    causal: true,
    encode,
    normEpsilon: () => 1e-12,
    headDropout: () => 0,

    heads: {
      "text-generation": causalHead("model", "model.embed_tokens"),
      "text-classification": lastTokenHead(),
      "token-classification": eachTokenHead("score", (c) => c.classifier_dropout ?? 0.1),
    },
  };
}

interface Sizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

function sizes(c: DecoderConfig): Sizes {
  const heads = c.num_attention_heads;
  return { heads, kvHeads: c.num_key_value_heads ?? heads, headDim: c.head_dim ?? Math.floor(c.hidden_size / heads) };
}

/** Embeddings, layers and the last norm under `model`: token ids → [T, D], or [B, D] for `rows` (see ModelFamily.encode). */
function encode(m: ModelBuilder, c: DecoderConfig, rows?: Value): Value {
  const { frequencies, scale } = rope(c, sizes(c).headDim);
  const angles = rotaryAngles(m.batch.positions, frequencies, scale);
  let h = m.embedded("model", m.tokens("model.embed_tokens", c.vocab_size, c.hidden_size));
  for (let i = 0; i < c.num_hidden_layers; i++)
    h = layer(m, c, i, m.layerInput(h), angles, i === c.num_hidden_layers - 1 ? rows : undefined);
  return m.rmsNorm("model.norm", h, c.rms_norm_eps);
}

/** One layer: attention, then the gated MLP, each on its input's norm and added to the input. h [T, D] → [T, D], or [B, D] for `rows`. */
function layer(m: ModelBuilder, c: DecoderConfig, i: number, h: Value, angles: Angles, rows?: Value): Value {
  const L = `model.layers.${i}`;
  const a = `${L}.self_attn`;
  const { heads, kvHeads, headDim } = sizes(c);
  const bias = c.qkvBias;
  const window = c.window(i);
  const pick = (x: Value): Value => (rows === undefined ? x : gather(x, rows));
  // the last token of each text sees all before it, so its row alone will do; not so through a window
  const early = window === null ? pick : (x: Value): Value => x;
  const late = window === null ? (x: Value): Value => x : pick;

  const x = m.rmsNorm(`${L}.input_layernorm`, h, c.rms_norm_eps);
  const q = headNorm(
    m,
    `${a}.q_norm`,
    c,
    m.linear(`${a}.q_proj`, early(x), "query", heads * headDim, { bias, rescaled: c.rescalesQueries }),
  );
  const k = headNorm(
    m,
    `${a}.k_norm`,
    c,
    m.linear(`${a}.k_proj`, x, "key", kvHeads * headDim, { bias, rescaled: c.rescalesQueries === true ? false : undefined }),
  );
  const v = m.linear(`${a}.v_proj`, x, "value", kvHeads * headDim, { bias });
  const turned = rotary(q, heads, { cos: early(angles.cos), sin: early(angles.sin) });
  const context = m.attention(a, i, turned, rotary(k, kvHeads, angles), v, {
    heads,
    kvHeads,
    dropout: c.attention_dropout ?? 0,
    causal: true,
    window,
  });
  const attended = m.linear(`${a}.o_proj`, late(context), "output-projection", c.hidden_size, { bias: c.outputBias });
  const y = m.sublayer(`${L}.attention_adapters`, "attention", i, attended, pick(h), (sum) => sum);

  const z = m.rmsNorm(`${L}.post_attention_layernorm`, y, c.rms_norm_eps);
  const gate = activation(c.hidden_act)(m.linear(`${L}.mlp.gate_proj`, z, "gate", c.intermediate_size, { bias: c.mlpBias }));
  const up = m.linear(`${L}.mlp.up_proj`, z, "up", c.intermediate_size, { bias: c.mlpBias });
  const down = m.linear(`${L}.mlp.down_proj`, mul(gate, up), "down", c.hidden_size, { bias: c.mlpBias });
  return m.sublayer(`${L}.output_adapters`, "mlp", i, down, y, (sum) => sum);
}

/** RMSNorm of each head's numbers, where the family has it: x [T, heads*K] → the same. */
function headNorm(m: ModelBuilder, path: string, c: DecoderConfig, x: Value): Value {
  if (!c.headNorms) return x;
  const [rows, width] = [x.shape[0]!, Number(x.shape[1])];
  const { headDim } = sizes(c);
  return reshape(m.rmsNorm(path, reshape(x, [rows, width / headDim, headDim]), c.rms_norm_eps), [rows, width]);
}
