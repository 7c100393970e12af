import * as z from "zod";
import { normal } from "../core/initializer.js";
import { activation } from "../ops/activation.js";
import { tanh } from "../ops/elementwise.js";
import { bertEncoder } from "./bert-encoder.js";
import { parseConfig } from "./config.js";
import type { ModelFamily } from "./family.js";

const size = z.number().int().positive();

const config = z.looseObject({
  vocab_size: size.default(50265),
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
  pad_token_id: z.number().int().min(0).default(1),
});

type RobertaConfig = z.infer<typeof config>;

/** RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-R and CamemBERT, as transformers' RobertaModel computes them: positions start at pad_token_id + 1. */
export const roberta: ModelFamily<RobertaConfig> = {
  model_types: ["roberta", "xlm-roberta", "camembert"],
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

  heads: {
    "text-classification": {
      modules: ["classifier"],
      output: "classifier.out_proj",
      build(m, hidden, outputs, c) {
        const init = normal(c.initializer_range);
        const rate = c.classifier_dropout ?? c.hidden_dropout_prob;
        const dense = tanh(m.linear("classifier.dense", m.dropout("classifier.dense", hidden, rate), "head", c.hidden_size, { init }));
        return m.linear("classifier.out_proj", m.dropout("classifier.out_proj", dense, rate), "head", outputs, { init });
      },
    },
    "token-classification": {
      modules: ["classifier"],
      output: "classifier",
      build: (m, hidden, outputs, c) =>
        m.linear("classifier", m.dropout("classifier", hidden, c.classifier_dropout ?? c.hidden_dropout_prob), "head", outputs, {
          init: normal(c.initializer_range),
        }),
    },
  },
};
