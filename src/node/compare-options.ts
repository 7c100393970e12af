import * as z from "zod";
import { dropOrder } from "../compare/plan.js";
import { trainingOptions } from "../train/options.js";
import { defaultGridFactor, defaultWattsPerCore } from "./meters.js";
import { trainJobOptions } from "./train-options.js";

const { model, data, map, task, threads } = trainJobOptions.shape;
const { epochs, min_steps, max_steps, batch_size, max_length } = trainingOptions.shape;
const positive = z.number().int().positive();

/** All that `compare` may be told. Flags, YAML keys, types and help come from this one record. */
export const compareOptions = z.strictObject({
  model,
  data,
  eval: z
    .string()
    .nullable()
    .default(null)
    .describe("rows to judge on, never trained on; without them a fifth of the training rows is held out"),
  map,
  task,
  methods: z
    .union([z.array(z.string()), z.string()])
    .default("lora,seq_bn,prefix,prompt,p-tuning,bitfit,ia3,head,full")
    .describe("methods to compare, as train's --method takes them"),
  seeds: positive.default(3).describe("seeds for each method: 0, 1, …"),
  train_sizes: z
    .union([z.array(z.union([positive, z.literal("all")])), positive, z.string()])
    .default("all")
    .describe("training rows to learn from, for learning curves: 50,200,1000,all"),
  budget: z.string().nullable().default(null).describe(`time that a call may take, such as 30m or 1h30m; ${dropOrder}`),
  group: z
    .string()
    .nullable()
    .default(null)
    .describe("column of the evaluation rows whose values part them into groups: metrics of each, and gaps"),
  out: z
    .string()
    .default("peft-comparison")
    .describe("folder for the report, all adapters and what is needed to go on after an interruption"),
  epochs,
  min_steps: min_steps.default(60).describe(min_steps.description!),
  max_steps,
  batch_size,
  max_length,
  search_rows: z
    .number()
    .int()
    .min(0)
    .default(512)
    .describe(
      "training rows for the search of each method's learning rate (1 and 3 times its default, then 10 or 0.3 times, by the loss on a quarter of them)",
    ),
  resamples: positive.default(1000).describe("bootstrap resamples behind each interval"),
  watts_per_core: z.number().positive().default(defaultWattsPerCore).describe("watts of a busy core, where energy must be estimated"),
  grid_factor: z
    .number()
    .min(0)
    .default(defaultGridFactor)
    .describe("grams of CO2 for a kilowatt-hour; by default the world's mean (IEA 2019)"),
  threads,
});

/** What a caller may leave out has a default. */
export type CompareOptions = z.input<typeof compareOptions>;
