import * as z from "zod";
import { normal } from "../core/initializer.js";
import { ModelError } from "../errors.js";
import { activation } from "../ops/activation.js";
import { bertEncoder, bertFields, bertMaskedHead, headDropout, pooler, tokenHead } from "./bert-encoder.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";

const config = z.looseObject({
  ...bertFields,
  position_embedding_type: z.string().nullish(),
  is_decoder: z.boolean().default(false),
});

type BertConfig = z.infer<typeof config>;

/** BERT (Devlin et al. 2018, arXiv:1810.04805), as transformers' BertModel and BertForSequenceClassification compute it. */
export const bert: ModelFamily<BertConfig> = {
  model_types: ["bert"],
  classes: { bert: "Bert" },
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

  limits: (c) => ({ maxPositions: c.max_position_embeddings, firstPosition: 0, vocabSize: c.vocab_size }),

  encode: (m, c, rows) => bertEncoder(m, "bert", c, rows),

  pool: (m, hidden, c) => pooler(m, "bert", hidden, c),
  normEpsilon: (c) => c.layer_norm_eps,
  headDropout,

  heads: {
    "text-classification": {
      modules: ["classifier"],
      output: "classifier.weight",
      layered: () => ({ indices: { classifier: 1 }, layers: 1, activation: null, pooler: true }),
      build: (m, hidden, outputs, c) =>
        m.linear("classifier", m.dropout("classifier", pooler(m, "bert", hidden, c), headDropout(c)), "head", outputs, {
          init: normal(c.initializer_range),
        }),
    },
    "token-classification": tokenHead,
    "fill-mask": bertMaskedHead(
      "bert",
      {
        modules: ["cls"],
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        decoder: "cls.predictions.decoder",
      },
      (c) => c.hidden_act,
    ),
  },

  aliases: (path) => {
    const legacy = path.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
    const tied = path === "cls.predictions.decoder.bias" ? ["cls.predictions.bias"] : [];
    return legacy === path ? tied : [legacy];
  },
};
