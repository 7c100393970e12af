import * as z from "zod";
import type { Value } from "../core/graph.js";
import { normal } from "../core/initializer.js";
import { ModelError } from "../errors.js";
import { activation } from "../ops/activation.js";
import { add, tanh } from "../ops/elementwise.js";
import { gather } from "../ops/movement.js";
import type { ModelBuilder } from "./builder.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";

const size = z.number().int().positive();

const config = z.looseObject({
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
  position_embedding_type: z.string().nullish(),
  is_decoder: z.boolean().default(false),
});

type BertConfig = z.infer<typeof config>;

/** BERT (Devlin et al. 2018, arXiv:1810.04805), as transformers' BertModel and BertForSequenceClassification compute it. */
export const bert: ModelFamily<BertConfig> = {
  model_types: ["bert"],
  prefix: "bert",

  parse(json) {
    const c = parseConfig("bert", config, json);
    if ((c.position_embedding_type ?? "absolute") !== "absolute") {
      throw new ModelError(`position_embedding_type "${c.position_embedding_type}" is not supported`, {
        hint: "transformers 5 dropped it too; only absolute positions work",
      });
    }
    if (c.is_decoder) throw new ModelError("a BERT with is_decoder is not supported");
    if (c.hidden_size % c.num_attention_heads !== 0) {
      throw new ModelError(`hidden_size ${c.hidden_size} is not a multiple of num_attention_heads ${c.num_attention_heads}`);
    }
    activation(c.hidden_act);
    return c;
  },

  limits: (c) => ({ maxPositions: c.max_position_embeddings, vocabSize: c.vocab_size }),

  encode(m, c, rows) {
    const e = "bert.embeddings";
    const words = m.embedding(`${e}.word_embeddings`, c.vocab_size, c.hidden_size, m.batch.ids);
    const types = m.embedding(`${e}.token_type_embeddings`, c.type_vocab_size, c.hidden_size, m.batch.typeIds);
    const positions = m.embedding(`${e}.position_embeddings`, c.max_position_embeddings, c.hidden_size, m.batch.positions);
    let h = m.layerNorm(`${e}.LayerNorm`, add(add(words, types), positions), c.layer_norm_eps);
    h = m.dropout(e, h, c.hidden_dropout_prob);
    for (let i = 0; i < c.num_hidden_layers; i++) h = layer(m, c, i, h, i === c.num_hidden_layers - 1 ? rows : undefined);
    return h;
  },

  heads: {
    "text-classification": {
      modules: ["classifier"],
      output: "classifier",
      build(m, hidden, outputs, c) {
        const init = normal(c.initializer_range);
        const pooled = tanh(m.linear("bert.pooler.dense", hidden, "pooler", c.hidden_size, { init }));
        return m.linear("classifier", m.dropout("classifier", pooled, c.classifier_dropout ?? c.hidden_dropout_prob), "head", outputs, {
          init,
        });
      },
    },
  },

  aliases: (path) => {
    const legacy = path.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
    return legacy === path ? [] : [legacy];
  },
};

/** One layer: attention, then the MLP, each added to its input and normalised after the sum. h [T, D] → [T, D], or [B, D] for `rows`. */
function layer(m: ModelBuilder, c: BertConfig, i: number, h: Value, rows?: Value): Value {
  const L = `bert.encoder.layer.${i}`;
  const a = `${L}.attention`;
  const wanted = rows === undefined ? h : gather(h, rows);
  const q = m.linear(`${a}.self.query`, wanted, "query", c.hidden_size);
  const k = m.linear(`${a}.self.key`, h, "key", c.hidden_size);
  const v = m.linear(`${a}.self.value`, h, "value", c.hidden_size);
  const context = m.attention(`${a}.self`, i, c.num_attention_heads, q, k, v, c.attention_probs_dropout_prob);
  const attended = m.linear(`${a}.output.dense`, context, "attention-output", c.hidden_size);
  const x = m.sublayer(`${a}.output`, "attention", i, m.dropout(`${a}.output`, attended, c.hidden_dropout_prob), wanted, (sum) =>
    m.layerNorm(`${a}.output.LayerNorm`, sum, c.layer_norm_eps),
  );
  const up = activation(c.hidden_act)(m.linear(`${L}.intermediate.dense`, x, "up", c.intermediate_size));
  const down = m.linear(`${L}.output.dense`, up, "down", c.hidden_size);
  return m.sublayer(`${L}.output`, "mlp", i, m.dropout(`${L}.output`, down, c.hidden_dropout_prob), x, (sum) =>
    m.layerNorm(`${L}.output.LayerNorm`, sum, c.layer_norm_eps),
  );
}
