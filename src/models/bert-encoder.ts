import type { Value } from "../core/graph.js";
import { activation } from "../ops/activation.js";
import { add } from "../ops/elementwise.js";
import { gather } from "../ops/movement.js";
import type { ModelBuilder } from "./builder.js";

/** The config fields that BERT's encoder and its descendants' read. */
export interface BertEncoderConfig {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly intermediate_size: number;
  readonly hidden_act: string;
  readonly hidden_dropout_prob: number;
  readonly attention_probs_dropout_prob: number;
  readonly max_position_embeddings: number;
  readonly type_vocab_size: number;
  readonly layer_norm_eps: number;
}

/** Embeddings and layers under `prefix` ("bert", "roberta"): token ids → [T, D], or [B, D] for `rows` (see ModelFamily.encode). */
export function bertEncoder(m: ModelBuilder, prefix: string, c: BertEncoderConfig, rows?: Value): Value {
  const e = `${prefix}.embeddings`;
  const words = m.tokens(`${e}.word_embeddings`, c.vocab_size, c.hidden_size);
  const types = m.embedding(`${e}.token_type_embeddings`, c.type_vocab_size, c.hidden_size, m.batch.typeIds);
  const positions = m.embedding(`${e}.position_embeddings`, c.max_position_embeddings, c.hidden_size, m.batch.positions);
  let h = m.layerNorm(`${e}.LayerNorm`, add(add(words, types), positions), c.layer_norm_eps);
  h = m.dropout(e, h, c.hidden_dropout_prob);
  for (let i = 0; i < c.num_hidden_layers; i++)
    h = layer(m, `${prefix}.encoder.layer.${i}`, c, i, h, i === c.num_hidden_layers - 1 ? rows : undefined);
  return h;
}

/** One layer: attention, then the MLP, each added to its input and normalised after the sum. h [T, D] → [T, D], or [B, D] for `rows`. */
function layer(m: ModelBuilder, L: string, c: BertEncoderConfig, i: number, h: Value, rows?: Value): Value {
  const a = `${L}.attention`;
  const wanted = rows === undefined ? h : gather(h, rows);
  const q = m.linear(`${a}.self.query`, wanted, "query", c.hidden_size);
  const k = m.linear(`${a}.self.key`, h, "key", c.hidden_size);
  const v = m.linear(`${a}.self.value`, h, "value", c.hidden_size);
  const context = m.attention(`${a}.self`, i, c.num_attention_heads, q, k, v, c.attention_probs_dropout_prob);
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
