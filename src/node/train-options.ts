import * as z from "zod";
import { modelPlaces } from "../io/catalogue.js";
import { trainingOptions } from "../train/options.js";

/** All that `train` may be told: what to train on what, besides how. Flags, YAML keys, types and help come from this one record. */
export const trainJobOptions = z.strictObject({
  model: z.string().default("minilm").describe(`base model: ${modelPlaces}`),
  data: z.string().describe("training rows: a .jsonl, .csv or .parquet file, or hf:dataset/id[:config][:split]"),
  eval: z.string().nullable().default(null).describe("rows to evaluate on; without them a tenth of the training rows is held out"),
  group: z
    .string()
    .nullable()
    .default(null)
    .describe("column of the rows to evaluate on whose values part them into groups: the model card tells how far metrics differ"),
  map: z.record(z.string(), z.string()).default({}).describe("columns to rename: text=utterance,label=intent"),
  task: z.string().nullable().default(null).describe("the Hub's name of the task; null for what the data's columns say"),
  method: z.string().default("lora").describe("fine-tuning method"),
  set: z.record(z.string(), z.unknown()).default({}).describe("fields of the method's config: r=16, target_modules=query,value"),
  adapter: z
    .record(z.string(), z.string())
    .default({})
    .describe("adapters that stay frozen below the trained one, from the bottom, or that fuse composes: en=adapters/en"),
  out: z.string().describe("folder for the adapter"),
  ...trainingOptions.shape,
  threads: z.number().int().positive().nullable().default(null).describe("threads that a run may use; null for all cores"),
  resume: z
    .union([z.boolean(), z.string()])
    .default(false)
    .describe("go on from the newest checkpoint in the output folder, or from the one named"),
});

/** What a caller may leave out has a default. */
export type TrainJobOptions = z.input<typeof trainJobOptions>;
