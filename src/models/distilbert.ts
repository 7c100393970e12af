import * as z from "zod";
import type { Value } from "../core/graph.js";
import { normal } from "../core/initializer.js";
import { activation } from "../ops/activation.js";
import { add, relu } from "../ops/elementwise.js";
import { gather } from "../ops/movement.js";
import type { ModelBuilder } from "./builder.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";
import { maskedHead } from "./masked-head.js";

const size = z.number().int().positive();

const config = z.looseObject({
  vocab_size: size.default(30522),
  dim: size.default(768),
  n_layers: size.default(6),
  n_heads: size.default(12),
  hidden_dim: size.default(3072),
  activation: z.string().default("gelu"),
  dropout: z.number().default(0.1),
  attention_dropout: z.number().default(0.1),
  seq_classif_dropout: z.number().default(0.2),
  max_position_embeddings: size.default(512),
  initializer_range: z.number().default(0.02),
  tie_word_embeddings: z.boolean().default(true),
});

type DistilBertConfig = z.infer<typeof config>;

/** transformers' DistilBertModel has this epsilon in its code, not in its config. */
const eps = 1e-12;

/** DistilBERT (Sanh et al. 2019, arXiv:1910.01108), as transformers' DistilBertModel computes it: no segments, no pooler. */
export const distilbert: ModelFamily<DistilBertConfig> = {
  model_types: ["distilbert"],
  classes: { distilbert: "DistilBert" },
  prefix: "distilbert",

  parse(json) {
    const c = parseConfig("DistilBERT", config, json);
    activation(c.activation);
    return c;
  },

  limits: (c) => ({ maxPositions: c.max_position_embeddings, firstPosition: 0, vocabSize: c.vocab_size }),

  encode(m, c, rows) {
    const e = "distilbert.embeddings";
    const words = m.tokens(`${e}.word_embeddings`, c.vocab_size, c.dim);
    const positions = m.embedding(`${e}.position_embeddings`, c.max_position_embeddings, c.dim, m.batch.positions);
    let h = m.embedded("distilbert", m.dropout(e, m.layerNorm(`${e}.LayerNorm`, add(words, positions), eps), c.dropout));
    for (let i = 0; i < c.n_layers; i++) h = layer(m, c, i, m.layerInput(h), i === c.n_layers - 1 ? rows : undefined);
    return h;
  },

  normEpsilon: () => eps,
  headDropout: (c) => c.dropout,

  heads: {
    "text-classification": {
      modules: ["pre_classifier", "classifier"],
      output: "classifier.weight",
      layered: () => ({ indices: { pre_classifier: 1, classifier: 4 }, layers: 2, activation: "relu", pooler: false }),
      build(m, hidden, outputs, c) {
        const init = normal(c.initializer_range);
        const x = relu(m.linear("pre_classifier", hidden, "head", c.dim, { init }));
        return m.linear("classifier", m.dropout("classifier", x, c.seq_classif_dropout), "head", outputs, { init });
      },
    },
    "token-classification": {
      modules: ["classifier"],
      output: "classifier.weight",
      layered: () => ({ indices: { classifier: 1 }, layers: 1, activation: null, pooler: false }),
      build: (m, hidden, outputs, c) =>
        m.linear("classifier", m.dropout("classifier", hidden, c.dropout), "head", outputs, { init: normal(c.initializer_range) }),
    },
    "fill-mask": maskedHead<DistilBertConfig>(
      {
        modules: ["vocab_transform", "vocab_layer_norm", "vocab_projector"],
        dense: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: "vocab_projector",
        backbone: "distilbert",
      },
      (c) => ({ ...c, eps }),
    ),
  },
};

/** One layer: attention, then the MLP, each added to its input and normalised after the sum. h [T, D] → [T, D], or [B, D] for `rows`. */
function layer(m: ModelBuilder, c: DistilBertConfig, i: number, h: Value, rows?: Value): Value {
  const L = `distilbert.transformer.layer.${i}`;
  const a = `${L}.attention`;
  const wanted = rows === undefined ? h : gather(h, rows);
  const q = m.linear(`${a}.q_lin`, wanted, "query", c.dim);
  const k = m.linear(`${a}.k_lin`, h, "key", c.dim);
  const v = m.linear(`${a}.v_lin`, h, "value", c.dim);
  const context = m.attention(a, i, q, k, v, { heads: c.n_heads, dropout: c.attention_dropout });
  const attended = m.linear(`${a}.out_lin`, context, "attention-output", c.dim);
  const x = m.sublayer(`${L}.attention_adapters`, "attention", i, attended, wanted, (sum) => m.layerNorm(`${L}.sa_layer_norm`, sum, eps));
  const up = activation(c.activation)(m.linear(`${L}.ffn.lin1`, x, "up", c.hidden_dim));
  const down = m.dropout(`${L}.ffn`, m.linear(`${L}.ffn.lin2`, up, "down", c.dim), c.dropout);
  return m.sublayer(`${L}.output_adapters`, "mlp", i, down, x, (sum) => m.layerNorm(`${L}.output_layer_norm`, sum, eps));
}
