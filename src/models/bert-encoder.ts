import * as z from "zod";
import type { Value } from "../core/graph.js";
import { normal } from "../core/initializer.js";
import { activation } from "../ops/activation.js";
import { add, tanh } from "../ops/elementwise.js";
import { gather } from "../ops/movement.js";
import type { ModelBuilder } from "./builder.js";
import type { Head } from "./family.js";
import { type MaskedHeadPaths, maskedHead } from "./masked-head.js";

const size = z.number().int().positive();

/** The config fields that BERT and its descendants share, with transformers' defaults. */
export const bertFields = {
  vocab_size: size.default(30522),
  hidden_size: size.default(768),
  num_hidden_layers: size.default(12),
  num_attention_heads: size.default(12),
  intermediate_size: size.default(3072),
  hidden_act: z.string().default("gelu"),
  hidden_dropout_prob: z.number().default(0.1),
  attention_probs_dropout_prob: z.number().default(0.1),
  classifier_dropout: z.number().nullable().default(null),
  max_position_embeddings: size.default(512),
  type_vocab_size: size.default(2),
  initializer_range: z.number().default(0.02),
  layer_norm_eps: z.number().default(1e-12),
  tie_word_embeddings: z.boolean().default(true),
};

/** What the encoder and the heads read of a config. */
export type BertFields = z.infer<z.ZodObject<typeof bertFields>>;

/** The token-classification head of BERT and its descendants: dropout and one linear layer. */
export const tokenHead: Head<BertFields> = {
  modules: ["classifier"],
  output: "classifier.weight",
  layered: () => ({ indices: { classifier: 1 }, layers: 1, activation: null, pooler: false }),
  build: (m, hidden, outputs, c) =>
    m.linear("classifier", m.dropout("classifier", hidden, headDropout(c)), "head", outputs, { init: normal(c.initializer_range) }),
};

/** The masked-language-model head of BERT and its descendants, which name its parts in their own ways. */
export function bertMaskedHead(
  backbone: string,
  paths: Omit<MaskedHeadPaths, "backbone">,
  activation: (c: BertFields) => string,
): Head<BertFields> {
  return maskedHead({ ...paths, backbone }, (c) => ({
    activation: activation(c),
    eps: c.layer_norm_eps,
    initializer_range: c.initializer_range,
    tie_word_embeddings: c.tie_word_embeddings,
  }));
}

/** The dropout in heads: `classifier_dropout`, else that of hidden states. */
export function headDropout(c: BertFields): number {
  return c.classifier_dropout ?? c.hidden_dropout_prob;
}

/** The first token's hidden state [L, D] through a linear layer and tanh. A checkpoint without it gets a fresh one. */
export function pooler(m: ModelBuilder, prefix: string, hidden: Value, c: BertFields): Value {
  return tanh(m.linear(`${prefix}.pooler.dense`, hidden, "pooler", c.hidden_size, { init: normal(c.initializer_range) }));
}

/** Embeddings and layers under `prefix` ("bert", "roberta"): token ids → [T, D], or [B, D] for `rows` (see ModelFamily.encode). */
export function bertEncoder(m: ModelBuilder, prefix: string, c: BertFields, rows?: Value): Value {
  const e = `${prefix}.embeddings`;
  const words = m.tokens(`${e}.word_embeddings`, c.vocab_size, c.hidden_size);
  const types = m.embedding(`${e}.token_type_embeddings`, c.type_vocab_size, c.hidden_size, m.batch.typeIds);
  const positions = m.embedding(`${e}.position_embeddings`, c.max_position_embeddings, c.hidden_size, m.batch.positions);
  let h = m.layerNorm(`${e}.LayerNorm`, add(add(words, types), positions), c.layer_norm_eps);
  h = m.embedded(prefix, m.dropout(e, h, c.hidden_dropout_prob));
  for (let i = 0; i < c.num_hidden_layers; i++)
    h = layer(m, `${prefix}.encoder.layer.${i}`, c, i, m.layerInput(h), i === c.num_hidden_layers - 1 ? rows : undefined);
  return h;
}

/** One layer: attention, then the MLP, each added to its input and normalised after the sum. h [T, D] → [T, D], or [B, D] for `rows`. */
function layer(m: ModelBuilder, L: string, c: BertFields, i: number, h: Value, rows?: Value): Value {
  const a = `${L}.attention`;
  const wanted = rows === undefined ? h : gather(h, rows);
  const q = m.linear(`${a}.self.query`, wanted, "query", c.hidden_size);
  const k = m.linear(`${a}.self.key`, h, "key", c.hidden_size);
  const v = m.linear(`${a}.self.value`, h, "value", c.hidden_size);
  const context = m.attention(`${a}.self`, i, q, k, v, { heads: c.num_attention_heads, dropout: c.attention_probs_dropout_prob });
  const attended = m.dropout(
    `${a}.output`,
    m.linear(`${a}.output.dense`, context, "attention-output", c.hidden_size),
    c.hidden_dropout_prob,
  );
  const x = m.sublayer(`${a}.output`, "attention", i, attended, wanted, (sum) =>
    m.layerNorm(`${a}.output.LayerNorm`, sum, c.layer_norm_eps),
  );
  const up = activation(c.hidden_act)(m.linear(`${L}.intermediate.dense`, x, "up", c.intermediate_size));
  const down = m.dropout(`${L}.output`, m.linear(`${L}.output.dense`, up, "down", c.hidden_size), c.hidden_dropout_prob);
  return m.sublayer(`${L}.output`, "mlp", i, down, x, (sum) => m.layerNorm(`${L}.output.LayerNorm`, sum, c.layer_norm_eps));
}
