import * as z from "zod";
import { maxAbsDifference } from "../core/matrix.js";
import { parseOptions } from "../core/options.js";
import { readRows } from "../data/read-rows.js";
import { NumericError } from "../errors.js";
import { modelPlaces } from "../io/catalogue.js";
import { directory } from "../io/directory.js";
import { isRecord } from "../io/json.js";
import { withoutAdapter } from "../programs/adapter.js";
import { type BaseModel, openBaseModel } from "../programs/base-model.js";
import { mergedWeights, unmergedWeights } from "../programs/merge.js";
import { outputDifference, sampleRows } from "../programs/merge-check.js";
import { configWithHead, configWithoutHead, modelFiles, storedWeights, weightDtypes } from "../programs/model-files.js";
import { newFolder, writeFolder } from "./folder.js";
import { type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";

const folders = {
  adapter: z.string().describe("adapter: a folder or a hub id"),
  task: z.string().nullable().default(null).describe("the Hub's name of the task; the adapter names it"),
  out: z.string().describe("folder for the checkpoint: a new one, or an empty one"),
  dtype: z.enum(weightDtypes).default("base").describe("how weights are stored: as the base's, or all as f32, f16 or bf16"),
  threads: z.number().int().positive().nullable().default(null).describe("threads that a run may use; all cores by default"),
};

/** What `merge` may be told. */
export const mergeOptions = z.strictObject({
  model: z.string().default("minilm").describe(`base model: ${modelPlaces}`),
  ...folders,
  data: z.string().nullable().default(null).describe("rows on which merged and unmerged outputs are compared; sample texts by default"),
  map: z.record(z.string(), z.string()).default({}).describe("columns to rename: text=utterance,label=intent"),
  tolerance: z.number().positive().default(1e-4).describe("largest difference of outputs that merging may make, rounding to a dtype aside"),
});

/** What `unmerge` may be told. */
export const unmergeOptions = z.strictObject({
  model: z.string().describe("the merged checkpoint: a folder or a hub id"),
  ...folders,
  base: z
    .string()
    .nullable()
    .default(null)
    .describe("the original base model, to compare with and to take what the adapter had replaced from"),
});

type Loading = Pick<LoadOptions, "onProgress" | "signal">;
type Given<O extends z.ZodType> = Omit<z.input<O>, "model"> & { readonly model?: string | LoadedModel | undefined } & Loading;

/** A merged checkpoint. */
export interface Merged {
  readonly out: string;
  /** The largest difference of outputs between the base with the adapter and the checkpoint as it was written. */
  readonly max_abs_difference: number;
  /** The same before the weights were rounded to the stored dtypes; null where nothing was rounded. */
  readonly before_rounding: number | null;
  /** Rows on which they were compared. */
  readonly rows: number;
  /** Linear layers that the adapter changed. */
  readonly layers: number;
  /** The dtypes of the stored weights. */
  readonly dtypes: readonly string[];
}

/**
 * Merges an adapter into its base model and writes an ordinary checkpoint, which needs neither Peft.js nor PEFT. Outputs are compared first:
 * nothing is left behind when they differ by more than the tolerance (NumericError). Throws as `loadModel` and `loadAdapter` do, ConfigError
 * for adapters that cannot be merged, and FileError for a folder that holds files.
 */
export async function merge({ model: given, onProgress, signal, ...rest }: Given<typeof mergeOptions>): Promise<Merged> {
  const job = parseOptions("option", mergeOptions, { ...rest, ...(typeof given === "string" ? { model: given } : {}) });
  const loading = { onProgress, signal, threads: job.threads ?? undefined };
  const folder = await newFolder(job.out);
  let opened: LoadedModel | undefined;
  try {
    const rows = job.data === null ? sampleRows : await readRows(job.data, { map: job.map });
    if (typeof given !== "object") opened = await loadModel(job.model, loading);
    const model = typeof given === "object" ? given : opened!;
    const adapter = await loadAdapter(model, job.adapter, { ...loading, task: job.task ?? undefined });
    const weights = mergedWeights(model, adapter);
    await writeFolder(
      folder.temporary,
      await modelFiles(model, { weights, config: configWithHead(model, adapter.head), dtype: job.dtype }),
    );
    const dtypes = [...new Set([...storedWeights(model, weights, job.dtype).values()].map(({ dtype }) => dtype))].sort();
    const { runtime } = model;
    const written = await openBaseModel(directory(folder.temporary), { id: job.out, runtime });
    const after = await outputDifference([model, adapter], [written, withoutAdapter(written, adapter.head.task)], rows);
    const rounded = dtypes.some((dtype) => dtype !== "F32" && dtype !== "F64");
    const before = rounded
      ? await outputDifference([model, adapter], [await openBaseModel(model.files, { id: job.out, runtime, weights }), adapter.head], rows)
      : null;
    const exact = before ?? after;
    if (!(exact <= job.tolerance) || !Number.isFinite(after)) {
      throw new NumericError(`merged and unmerged outputs differ by up to ${exact}, more than ${job.tolerance}; nothing was written`, {
        hint: "large outputs differ more in float32: if these are, allow for it with a larger tolerance",
      });
    }
    await folder.finish();
    const { layers } = weights;
    return { out: job.out, max_abs_difference: after, before_rounding: before, rows: rows.rows.length, layers: layers.length, dtypes };
  } finally {
    await opened?.close();
    await folder.drop();
  }
}

/** A base model from which an adapter was taken out again. */
export interface Unmerged {
  readonly out: string;
  /** Linear layers that were computed back. */
  readonly layers: number;
  /** Weights that were taken from the original base. */
  readonly from_base: number;
  /** Weights of the adapter's head, left out. */
  readonly dropped: readonly string[];
  /** The largest difference between a weight computed back and the original's; null without an original. */
  readonly max_abs_difference: number | null;
}

/**
 * Takes an adapter out of a checkpoint into which it was merged, and writes the base model. Throws as `merge` does, ConfigError for adapters
 * whose merge cannot be undone, and WeightError for weights that only the original base can tell.
 */
export async function unmerge({ model: given, onProgress, signal, ...rest }: Given<typeof unmergeOptions>): Promise<Unmerged> {
  const job = parseOptions("option", unmergeOptions, { ...rest, model: typeof given === "object" ? given.id : given });
  const loading = { onProgress, signal, threads: job.threads ?? undefined };
  const folder = await newFolder(job.out);
  const opened: LoadedModel[] = [];
  const open = async (name: string): Promise<LoadedModel> => {
    const model = await loadModel(name, loading);
    opened.push(model);
    return model;
  };
  try {
    const merged = typeof given === "object" ? given : await open(job.model);
    const original = job.base === null ? undefined : await open(job.base);
    const adapter = await loadAdapter(merged, job.adapter, { ...loading, task: job.task ?? undefined });
    const weights = unmergedWeights(merged, adapter, original);
    const json = weights.dropped.length > 0 ? configWithoutHead(merged) : merged.json;
    const config = original?.json ?? json;
    await writeFolder(folder.temporary, await modelFiles(merged, { weights, config: isRecord(config) ? config : {}, dtype: job.dtype }));
    const written = await openBaseModel(directory(folder.temporary), { id: job.out, runtime: merged.runtime });
    const difference = original === undefined ? null : await weightDifference(written, original, weights.layers);
    await folder.finish();
    const { layers, fromOriginal, dropped } = weights;
    return { out: job.out, layers: layers.length, from_base: fromOriginal.length, dropped, max_abs_difference: difference };
  } finally {
    for (const model of opened) await model.close();
    await folder.drop();
  }
}

/** The largest difference between two models' linear layers. */
async function weightDifference(a: BaseModel, b: BaseModel, layers: readonly string[]): Promise<number> {
  let most = 0;
  for (const path of layers.flatMap((layer) => [`${layer}.weight`, `${layer}.bias`])) {
    const shape = a.shape(path);
    if (shape === undefined) continue;
    most = Math.max(most, maxAbsDifference((await a.read(path, shape)).data, (await b.read(path, shape)).data));
  }
  return most;
}
