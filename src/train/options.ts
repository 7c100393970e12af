import * as z from "zod";
import { baseDtypeOption } from "../programs/base-dtype.js";
import { SCHEDULE_TYPES } from "./schedule.js";

const count = z.number().int().positive();
const whole = z.number().int().min(0);

/** How to train, in Hugging Face's names. Each option is stated once, here: flags, YAML keys, types and help come from it. */
export const trainingOptions = z.strictObject({
  epochs: z.number().positive().default(3).describe("passes over the training rows"),
  min_steps: count
    .nullable()
    .default(null)
    .describe("take at least this many optimiser steps: a small training set is passed over more often"),
  max_steps: count.nullable().default(null).describe("take this many optimiser steps, whatever epochs and min_steps say"),
  batch_size: count.default(32).describe("rows in a batch"),
  max_tokens_per_batch: count.nullable().default(null).describe("tokens in a batch, padding not counted, in place of batch_size"),
  gradient_accumulation_steps: count.default(1).describe("batches in an optimiser step"),
  learning_rate: z.number().positive().nullable().default(null).describe("peak learning rate; null for one that suits the method"),
  weight_decay: z.number().min(0).default(0).describe("decoupled weight decay; biases and norms are exempt"),
  adam_beta1: z.number().min(0).lt(1).default(0.9).describe("AdamW's decay of the gradients' mean"),
  adam_beta2: z.number().min(0).lt(1).default(0.999).describe("AdamW's decay of the gradients' square"),
  adam_epsilon: z.number().positive().default(1e-8).describe("added to AdamW's denominator"),
  lr_scheduler_type: z.enum(SCHEDULE_TYPES).default("linear").describe("how the learning rate falls"),
  warmup_ratio: z.number().min(0).max(1).default(0.06).describe("share of the steps over which the learning rate climbs"),
  max_grad_norm: z.number().min(0).default(1).describe("gradients are scaled down to this norm; 0 for no limit"),
  max_length: count.nullable().default(null).describe("longest text in tokens; null for what the model takes"),
  train_on_prompt: z.boolean().default(false).describe("language models: learn all tokens of a row, not only what the model is to say"),
  last_turn_only: z.boolean().default(false).describe("language models: of a conversation learn only the assistant's last turn"),
  on_truncation: z
    .enum(["cut", "error"])
    .default("cut")
    .describe("texts longer than the limit: cut them, passing over those with nothing left to learn, or end with an error"),
  eval_steps: count.nullable().default(null).describe("optimiser steps between evaluations; null for once an epoch"),
  eval_on_start: z.boolean().default(false).describe("evaluate before the first step too"),
  save_steps: count.nullable().default(null).describe("optimiser steps between checkpoints; null for once an epoch"),
  early_stopping_patience: count
    .nullable()
    .default(null)
    .describe("stop after this many evaluations without a better result, and keep the best"),
  group_by_length: z.boolean().default(true).describe("put rows of similar length into a batch"),
  dropout: z
    .union([z.enum(["off", "model"]), z.number().min(0).lt(1)])
    .default("off")
    .describe("the model's own dropout: off, as its config says, or one rate everywhere"),
  recompute: z
    .boolean()
    .default(false)
    .describe("compute each layer a second time in the backward pass instead of keeping its values: much less memory, slower"),
  base_dtype: baseDtypeOption,
  seed: whole.default(0).describe("same seed, same machine, same threads: the same losses"),
});

/** Training options with all defaults filled in. */
export type TrainingOptions = z.infer<typeof trainingOptions>;
