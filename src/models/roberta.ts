import * as z from "zod";
import { normal } from "../core/initializer.js";
import { activation } from "../ops/activation.js";
import { tanh } from "../ops/elementwise.js";
import { bertEncoder, bertFields, bertMaskedHead, headDropout, pooler, tokenHead } from "./bert-encoder.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";

const config = z.looseObject({
  ...bertFields,
  vocab_size: z.number().int().positive().default(50265),
  pad_token_id: z.number().int().min(0).default(1),
});

type RobertaConfig = z.infer<typeof config>;

/** RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-R and CamemBERT, as transformers' RobertaModel computes them: positions start at pad_token_id + 1. */
export const roberta: ModelFamily<RobertaConfig> = {
  model_types: ["roberta", "xlm-roberta", "camembert"],
  classes: { roberta: "Roberta", "xlm-roberta": "XLMRoberta", camembert: "Camembert" },
  prefix: "roberta",

  parse(json) {
    const c = parseConfig("RoBERTa", config, json);
    activation(c.hidden_act);
    return c;
  },

  limits: (c) => ({
    maxPositions: c.max_position_embeddings - c.pad_token_id - 1,
    firstPosition: c.pad_token_id + 1,
    vocabSize: c.vocab_size,
  }),

  encode: (m, c, rows) => bertEncoder(m, "roberta", c, rows),

  pool: (m, hidden, c) => pooler(m, "roberta", hidden, c),
  normEpsilon: (c) => c.layer_norm_eps,
  headDropout,

  heads: {
    "text-classification": {
      modules: ["classifier"],
      output: "classifier.out_proj.weight",
      layered: () => ({
        indices: { "classifier.dense": 1, "classifier.out_proj": 4 },
        layers: 2,
        activation: "tanh",
        pooler: false,
      }),
      build(m, hidden, outputs, c) {
        const init = normal(c.initializer_range);
        const rate = headDropout(c);
        const dense = tanh(m.linear("classifier.dense", m.dropout("classifier.dense", hidden, rate), "head", c.hidden_size, { init }));
        return m.linear("classifier.out_proj", m.dropout("classifier.out_proj", dense, rate), "head", outputs, { init });
      },
    },
    "token-classification": tokenHead,
    "fill-mask": bertMaskedHead(
      "roberta",
      {
        modules: ["lm_head"],
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: "lm_head.decoder",
      },
      () => "gelu", // RobertaLMHead has it in its code, whatever hidden_act says
    ),
  },

  aliases: (path) => (path === "lm_head.decoder.bias" ? ["lm_head.bias"] : []),
};
