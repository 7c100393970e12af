import * as z from "zod";
import { modelPlaces } from "../io/catalogue.js";
import { baseDtypeOption } from "../programs/base-dtype.js";

/** Flags of the verbs that use a model with or without an adapter. */
export const modelFlags = {
  model: z.string().default("minilm").describe(`base model: ${modelPlaces}`),
  adapter: z.string().nullable().default(null).describe("adapter: a folder or a hub id"),
  task: z.string().nullable().default(null).describe("the Hub's name of the task; the adapter names it"),
  map: z.record(z.string(), z.string()).default({}).describe("columns to rename: text=utterance,label=intent"),
  max_length: z.number().int().positive().nullable().default(null).describe("longest text in tokens; the model's limit by default"),
  base_dtype: baseDtypeOption,
  threads: z.number().int().positive().nullable().default(null).describe("threads that a run may use; all cores by default"),
};

/** Flags of the verbs that write texts. */
export const languageModelFlags = {
  model: z.string().describe(`language model: ${modelPlaces}`),
  system: z.string().nullable().default(null).describe("what a system message before the conversation says"),
  base_dtype: modelFlags.base_dtype,
  threads: modelFlags.threads,
};
